/// What the spool itself knows of a job: `job.json` in its folder, replaced as a whole at each change.
public struct JobRecord: Sendable, Equatable {
    /// The job.
    public let id: JobID
    /// Order of acceptance.
    public let sequence: Int
    /// The key of the receipt, hence the name it was dropped under.
    public let drop: String
    /// When it was accepted.
    public let accepted: String
    /// The seed of image 0: the manifest's, or the one chosen.
    public let seed: Int
    /// SHA-256 of the manifest as dropped.
    public let manifestDigest: String
    /// The attempts made at it.
    public var attempts = Attempts()
    /// The references and caches it is bound to, in the manifest's order; set when it first starts.
    public var caches: [Binding] = []
    /// The data set it is bound to, where it trains on one; set when it first starts.
    public var dataset: Dataset?
    /// The picture it begins with, where its manifest names one; set when it first starts.
    public var initialImage: InitialImage?
    /// The user who dropped it.
    public var owner: UInt32 = 0
    /// What the pictures done were made with (`RenderedImage.identity`); nil before the first.
    public var identity: String?
    /// What a pilot has chosen for it; nil before the first picture, and where none is asked for.
    public var tuning: Tuning?
    /// Why its set was begun anew, each time.
    public var restarts: [String] = []
    /// The images done, in order: the first `images.count` of the set. Not in `job.json`, see `ImagePages`.
    public var images: [Image] = []
    /// The contact sheet, once made.
    public var grid: Image?
    /// Why there is no contact sheet although one was asked for.
    public var gridError: String?
    /// The page, once made.
    public var page: Image?
    /// Why there is no page although one was asked for.
    public var pageError: String?
    /// Why it last failed.
    public var lastError: String?

    /// How often a job was tried.
    public struct Attempts: Sendable, Equatable {
        /// In all.
        public var total = 0
        /// Since it last got further; a long job that power cuts interrupt thrice is no poison.
        public var fruitless = 0
        /// How far it was when the last attempt began.
        public var mark = Mark()

        /// No attempts.
        public init() {}

        /// The count with one more, begun at a given point.
        public func begun(at point: Mark) -> Attempts {
            var next = self
            if point > mark { next.fruitless = 0 }
            next.mark = point
            next.total += 1
            next.fruitless += 1
            return next
        }
    }

    /// How far a job is.
    public struct Mark: Sendable, Equatable, Comparable {
        /// Images done.
        public var images: Int
        /// Steps of the next one kept in a checkpoint.
        public var step: Int

        /// A point.
        public init(images: Int = 0, step: Int = 0) {
            self.images = images
            self.step = step
        }

        /// By images, then steps.
        public static func < (a: Mark, b: Mark) -> Bool { (a.images, a.step) < (b.images, b.step) }
    }

    /// A subject as a job is bound to it, however often it is dropped anew.
    public struct Binding: Sendable, Equatable {
        /// The subject.
        public let subject: String
        /// Digest of the set of references.
        public let references: String
        /// Key of the cache; nil until it is made.
        public var cache: String?
    }

    /// The picture a job begins with, as the job is bound to it.
    public struct InitialImage: Sendable, Equatable {
        /// The subject it was dropped as.
        public let subject: String
        /// Digest of the set of references it is in.
        public let references: String
        /// Its file's name in that set.
        public let file: String
        /// SHA-256 of the file.
        public let sha256: String
    }

    /// A data set as a job is bound to it, however often it is dropped anew.
    public struct Dataset: Sendable, Equatable {
        /// The name it was dropped as.
        public let name: String
        /// The digest of its files.
        public let digest: String
    }

    /// An image that is done.
    public struct Image: Sendable, Equatable {
        /// Its file's name.
        public let file: String
        /// SHA-256 and size of the file.
        public let sha256: String, bytes: Int
        /// Its seed.
        public let seed: Int
        /// The renderer's report.
        public let report: RenderedImage
        /// The files that go with it.
        public var beside: [File] = []
        /// Candidates that were kept although they were not chosen.
        public var others: [Other] = []

        /// All of its files.
        var files: [File] { [File(name: file, sha256: sha256, bytes: bytes)] + beside + others.map(\.file) }
        /// The name of the picture that shows what it read, if there is one.
        var overlay: String? { beside.first { $0.name == AttentionRequest.fileNames(beside: file).overlay }?.name }

        /// A candidate that was not chosen.
        public struct Other: Sendable, Equatable {
            /// Its number.
            public let candidate: Int
            /// Its file, in ``Selection/folder``.
            public let file: File
        }
    }

    /// A file of a set.
    public struct File: Sendable, Equatable {
        /// Its path in the set.
        public let name: String
        /// SHA-256 and size of the file.
        public let sha256: String, bytes: Int
    }
}

extension JobRecord {
    /// The record as it is written.
    var json: JSON {
        .object([
            "version": .integer(1), "id": .string(id.text), "sequence": .integer(sequence), "drop": .string(drop),
            "accepted": .string(accepted), "seed": .integer(seed), "manifest_sha256": .string(manifestDigest),
            "attempts": .object([
                "total": .integer(attempts.total), "fruitless": .integer(attempts.fruitless),
                "images": .integer(attempts.mark.images), "step": .integer(attempts.mark.step),
            ]),
            "caches": .array(
                caches.map {
                    .object([
                        "subject": .string($0.subject), "references": .string($0.references),
                        "cache": $0.cache.map { .string($0) },
                    ])
                }),
            "init_image": initialImage.map {
                .object([
                    "subject": .string($0.subject), "references": .string($0.references), "file": .string($0.file),
                    "sha256": .string($0.sha256),
                ])
            },
            "dataset": dataset.map { .object(["name": .string($0.name), "sha256": .string($0.digest)]) },
            "owner": .integer(Int(owner)), "identity": identity.map { .string($0) },
            "tuning": tuning?.record,
            "restarts": restarts.isEmpty ? nil : .array(restarts.map { .string($0) }),
            "grid": grid?.json, "grid_error": gridError.map { .string($0) },
            "page": page?.json, "page_error": pageError.map { .string($0) },
            "last_error": lastError.map { .string($0) },
        ]).sealed
    }

    /// The record read back; nil when anything of it is not as it is written.
    init?(_ json: JSON) {
        guard json.isIntact, json["version"]?.integer == 1, let id = json["id"]?.string.flatMap(JobID.init),
            let sequence = json["sequence"]?.integer, let drop = json["drop"]?.string,
            let accepted = json["accepted"]?.string, let seed = json["seed"]?.integer,
            (0...JobManifest.maximumSeed).contains(seed), let digest = json["manifest_sha256"]?.string,
            let attempts = json["attempts"], let total = attempts["total"]?.integer,
            let fruitless = attempts["fruitless"]?.integer, let images = attempts["images"]?.integer,
            let step = attempts["step"]?.integer, let caches = json["caches"]?.array
        else { return nil }
        self.init(
            id: id, sequence: sequence, drop: drop, accepted: accepted, seed: seed, manifestDigest: digest)
        let count = 0..<1 << 32
        guard [total, fruitless, images, step].allSatisfy(count.contains), (0..<1 << 48).contains(sequence) else {
            return nil
        }
        self.attempts.total = total
        self.attempts.fruitless = fruitless
        self.attempts.mark = Mark(images: images, step: step)
        lastError = json["last_error"]?.string
        owner = json["owner"]?.integer.flatMap(UInt32.init(exactly:)) ?? Ownership.unknown
        identity = json["identity"]?.string
        tuning = json["tuning"].flatMap(Tuning.init)
        restarts = (json["restarts"]?.array ?? []).compactMap(\.string)
        gridError = json["grid_error"]?.string
        pageError = json["page_error"]?.string
        for entry in caches {
            guard let subject = entry["subject"]?.string, let references = entry["references"]?.string,
                DropName.isPlain(subject), DropName.isPlain(references),
                entry["cache"]?.string.map(DropName.isPlain) ?? true
            else { return nil }
            self.caches.append(Binding(subject: subject, references: references, cache: entry["cache"]?.string))
        }
        if let initial = json["init_image"] {
            guard let subject = initial["subject"]?.string, let references = initial["references"]?.string,
                let file = initial["file"]?.string, let sha256 = initial["sha256"]?.string,
                [subject, references, file].allSatisfy(DropName.isPlain)
            else { return nil }
            initialImage = InitialImage(subject: subject, references: references, file: file, sha256: sha256)
        }
        if let dataset = json["dataset"] {
            guard let name = dataset["name"]?.string, let digest = dataset["sha256"]?.string, DropName.isPlain(name),
                Digest.isDigest(digest)
            else { return nil }
            self.dataset = Dataset(name: name, digest: digest)
        }
        if let grid = json["grid"] {
            guard let image = Image(grid) else { return nil }
            self.grid = image
        }
        if let page = json["page"] {
            guard let image = Image(page) else { return nil }
            self.page = image
        }
    }

    /// The images as the layout before this one kept them, inside the record; nil when there are none.
    static func inlineImages(_ json: JSON) -> [Image]? {
        json["images"]?.array.map { $0.compactMap(Image.init) }
    }

    /// A new job's record.
    init(
        id: JobID, sequence: Int, drop: String, accepted: String, seed: Int, manifestDigest: String, owner: UInt32 = 0
    ) {
        self.id = id
        self.sequence = sequence
        self.drop = drop
        self.accepted = accepted
        self.seed = seed
        self.manifestDigest = manifestDigest
        self.owner = owner
    }
}

extension JobRecord.Image {
    /// The image as records and `result.json` write it.
    var json: JSON {
        .object([
            "file": .string(file), "sha256": .string(sha256), "bytes": .integer(bytes), "seed": .integer(seed),
            "seconds": JSON(
                .object(report.seconds.sorted { $0.key < $1.key }.map { .init($0.key, .number($0.value)) })),
            "metadata": JSON(
                .object(report.metadata.sorted { $0.key < $1.key }.map { .init($0.key, .string($0.value)) })),
            "attention": report.attention?.json,
            "beside": beside.isEmpty
                ? nil
                : .array(
                    beside.map {
                        .object([
                            "file": .string($0.name), "sha256": .string($0.sha256), "bytes": .integer($0.bytes),
                        ])
                    }),
            "candidates": report.choice.map { choice in
                .array(choice.candidates.enumerated().map { json($1, number: $0, of: choice) })
            },
        ])
    }

    private func json(_ candidate: Choice.Candidate, number: Int, of choice: Choice) -> JSON {
        let other = others.first { $0.candidate == number }
        return .object([
            "seed": .integer(candidate.seed), "scores": Choice.json(candidate.scores),
            "chosen": number == choice.best ? .bool(true) : nil,
            "file": other.map { .string($0.file.name) },
            "sha256": other.map { .string($0.file.sha256) }, "bytes": other.map { .integer($0.file.bytes) },
        ])
    }

    /// The choice and the kept files of `candidates`; nil where anything is not as it is written.
    private static func choice(_ entries: [JSON]) -> (Choice, others: [Other])? {
        let candidates = entries.compactMap(Choice.Candidate.init)
        guard candidates.count == entries.count,
            let best = entries.firstIndex(where: { $0["chosen"]?.bool == true })
        else { return nil }
        var others: [Other] = []
        for (number, entry) in entries.enumerated() {
            guard let path = entry["file"]?.string else { continue }
            let name = String(path.dropFirst(Selection.folder.count + 1))
            guard path == "\(Selection.folder)/\(name)", DropName.isPlain(name),
                let sha256 = entry["sha256"]?.string, let bytes = entry["bytes"]?.integer, bytes >= 0
            else { return nil }
            others.append(
                Other(candidate: number, file: JobRecord.File(name: path, sha256: sha256, bytes: bytes)))
        }
        return (Choice(best: best, candidates: candidates), others)
    }

    init?(_ json: JSON) {
        guard let file = json["file"]?.string, DropName.isPlain(file), let sha256 = json["sha256"]?.string,
            let bytes = json["bytes"]?.integer, bytes >= 0, let seed = json["seed"]?.integer,
            let seconds = json["seconds"]?.members, let metadata = json["metadata"]?.members
        else { return nil }
        self.file = file
        self.sha256 = sha256
        self.bytes = bytes
        self.seed = seed
        var report = RenderedImage(
            seconds: Dictionary(seconds.map { ($0.name, $0.value.number ?? 0) }, uniquingKeysWith: { $1 }),
            metadata: Dictionary(metadata.map { ($0.name, $0.value.string ?? "") }, uniquingKeysWith: { $1 }))
        report.attention = json["attention"].map { AttentionReport($0) }
        for entry in json["beside"]?.array ?? [] {
            guard let name = entry["file"]?.string, DropName.isPlain(name), let sha256 = entry["sha256"]?.string,
                let bytes = entry["bytes"]?.integer, bytes >= 0
            else { return nil }
            beside.append(JobRecord.File(name: name, sha256: sha256, bytes: bytes))
        }
        if let entries = json["candidates"]?.array {
            guard let (choice, others) = Self.choice(entries) else { return nil }
            report.choice = choice
            self.others = others
        }
        self.report = report
    }
}
