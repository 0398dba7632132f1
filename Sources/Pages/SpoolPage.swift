/// The page of a spool: what is at work, what waits and why, what is finished, what was refused.
public struct SpoolPage: Sendable, Equatable {
    /// The job at work.
    public struct Work: Sendable, Equatable {
        let job: String, subjects: String, prompt: String, words: String
        let done: Int, all: Int
        let preview: EmbeddedPicture?

        /// - Parameters:
        ///   - words: how far it is, in a sentence.
        ///   - share: how much of all is done, 0 to 1.
        public init(
            job: String, subjects: String, prompt: String, words: String, share: Double, preview: EmbeddedPicture?
        ) {
            (self.job, self.subjects, self.prompt, self.words, self.preview) = (job, subjects, prompt, words, preview)
            (done, all) = (Int((min(max(share, 0), 1) * 1000).rounded()), 1000)
        }
    }

    /// A job, or references, that wait.
    public struct Waiting: Sendable, Equatable {
        let name: String, subjects: String, pictures: String, reason: String

        /// Something that waits; a reason that is empty means its turn.
        public init(name: String, subjects: String, pictures: Int?, reason: String) {
            (self.name, self.subjects) = (name, subjects)
            self.pictures = pictures.map { $0 == 1 ? "1 picture" : "\($0) pictures" } ?? ""
            self.reason = reason.isEmpty ? "its turn" : reason
        }
    }

    /// A finished set.
    public struct FinishedSet: Sendable, Equatable {
        let subjects: String, prompt: String, count: String, time: String
        /// Addresses of its page and first picture, relative to the spool's root; nil when it was taken away.
        let link: String?, picture: String?

        /// - Parameters:
        ///   - job: the job's id, which is the name of its folder.
        ///   - picture: the file of its first picture; nil when the set was taken away.
        ///   - hasPage: whether `index.html` is in it; its folder is shown otherwise.
        public init(
            job: String, subjects: String, prompt: String, images: Int, time: String, picture: String?, hasPage: Bool
        ) {
            (self.subjects, self.prompt, self.time) = (subjects, prompt, time)
            count = images == 1 ? "1 picture" : "\(images) pictures"
            link = picture.map { _ in PageText.address(["out", job]) + (hasPage ? "/index.html" : "/") }
            self.picture = picture.map { PageText.address(["out", job, $0]) }
        }
    }

    /// A drop that was refused, or a job that failed.
    public struct Refusal: Sendable, Equatable {
        let name: String, reason: String, advice: String
        let faults: [String]

        /// - Parameters:
        ///   - faults: what is wrong in it, a sentence each.
        ///   - advice: what to do.
        public init(name: String, reason: String, faults: [String], advice: String) {
            (self.name, self.reason, self.faults, self.advice) = (name, reason, faults, advice)
        }
    }

    /// `idle`, `working`, `paused` or `stopped`.
    public var state: String
    /// Why it is paused.
    public var message: String?
    /// The job at work.
    public var work: Work?
    /// The first of what waits, and how many jobs wait in all.
    public var waiting: [Waiting] = [], waitingCount = 0
    /// The newest sets, newest first, and how many there are.
    public var finished: [FinishedSet] = [], finishedCount = 0
    /// The number of the newest archive page; nil when all sets are on this one.
    public var archive: Int?
    /// The newest refusals and failures, newest first.
    public var refused: [Refusal] = [], failed: [Refusal] = []

    /// A page of nothing yet.
    public init(state: String) { self.state = state }

    /// The page, in UTF-8.
    ///
    /// - Parameters:
    ///   - time: when it was made, as people read it.
    ///   - seconds: the same since 1970.
    public func html(time: String, seconds: Int) throws(PageError) -> String {
        struct Content: Sendable {
            let spool: SpoolPage
            let time: String, seconds: Int
            let more: Int?
            let older: String?
            let prefix = ""
        }
        let more = waitingCount - waiting.count
        return try PageLibrary.page(
            "spool",
            Content(
                spool: self, time: time, seconds: seconds, more: more > 0 ? more : nil,
                older: archive.map { "\(ArchivePage.folder)/\(ArchivePage.fileName($0))" }),
            title: "DreamCache: \(state)", hasScript: true)
    }
}

/// A page of finished sets, of those beyond the spool's own page.
public struct ArchivePage: Sendable {
    /// Sets a page.
    public static let size = 48
    /// The folder of these pages, beside the spool's own.
    public static let folder = "pages"

    /// The file of the page of that number, from 1; higher numbers hold newer sets.
    public static func fileName(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits + ".html"
    }

    let sets: [SpoolPage.FinishedSet]
    let number: Int
    let older: String?, newer: String?
    let prefix = "../"

    /// - Parameters:
    ///   - sets: newest first.
    ///   - hasNewer: whether there is a page of that number plus one.
    public init(_ sets: [SpoolPage.FinishedSet], number: Int, hasNewer: Bool) {
        (self.sets, self.number) = (sets, number)
        older = number > 1 ? Self.fileName(number - 1) : nil
        newer = hasNewer ? Self.fileName(number + 1) : nil
    }

    /// The page, in UTF-8.
    public func html() throws(PageError) -> String {
        try PageLibrary.page("archive", self, title: "Finished sets, page \(number)", hasScript: false)
    }
}
