import Glibc
import Synchronization
import Testing

@testable import Spool

/// What the command line asks of a spool, beside a daemon that moves things.
@Suite struct ClientTests {
    private static let job = #"{"subject": "dog", "prompt": "x", "seed": 1}"#

    /// A drop that is taken, accepted and finished between any two of the client's looks is never unknown to it.
    @Test func whatIsDroppedIsKnownAtEveryMoment() throws {
        for moment in 0..<40 {
            let spool = try TestSpool()
            try spool.start()
            try spool.dropReferences("dog")
            try spool.dropManifest(Self.job)
            let calls = Mutex(0)
            let daemon = spool.daemon
            let client = try SpoolClient(
                root: spool.root,
                gate: SystemGate { _ in
                    let number = calls.withLock { count in
                        count += 1
                        return count
                    }
                    if number == moment { _ = try? daemon.turn() }
                    return .proceed
                })
            #expect(try client.standing(of: "job.json") != .unknown, "at call \(moment)")
        }
    }

    /// A view of the queue reads the jobs it shows, and no others.
    @Test(arguments: [(first: 2, last: 0), (first: 0, last: 3), (first: 2, last: 2), (first: 9, last: 9)])
    func aViewReadsTheJobsItShows(_ shown: (first: Int, last: Int)) throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        for number in 0..<8 {
            try spool.dropManifest(Self.job, "\(number).json")
            try spool.settle(turns: 2)
        }
        try Files.write([], spool.path("lib/jobs/done/.hidden"))
        let opened = Mutex<Set<String>>([])
        let client = try SpoolClient(
            root: spool.root,
            gate: SystemGate { call in
                if case .openForReading(let path) = call, path.lastName?.string == "job.json" {
                    _ = opened.withLock { $0.insert(path.string) }
                }
                return .proceed
            })
        let all = try client.list().map(\.id)
        let expected = shown.first + shown.last >= 8 ? all : Array(all.prefix(shown.first) + all.suffix(shown.last))
        opened.withLock { $0 = [] }
        let found = try client.extract(JobState.allCases, first: shown.first, last: shown.last)
        #expect(found.count == 8)
        #expect(found.jobs.map(\.id) == expected)
        #expect(found.jobs.allSatisfy { $0.done == 1 && $0.images == 1 && $0.drop != nil })
        #expect(opened.withLock { $0.count } == expected.count)
    }

    /// How many images are done is known from the last page of their records.
    @Test(arguments: [1, 64, 65, 130]) func imagesAreCountedByTheLastPage(_ count: Int) throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(
            #"{"subject": "dog", "prompt": "x", "num_images_per_prompt": \#(count), "seed": 1}"#)
        try spool.settle()
        let pages = Mutex(0)
        let client = try SpoolClient(
            root: spool.root,
            gate: SystemGate { call in
                if case .openForReading(let path) = call, path.parent.lastName?.string == "images" {
                    pages.withLock { $0 += 1 }
                }
                return .proceed
            })
        #expect(try client.list().map(\.done) == [count])
        #expect(pages.withLock { $0 } == 1)
    }

    /// The cost of a view after ten thousand jobs, printed by the campaign.
    @Test(.enabled(if: CampaignTests.isFull, "make campaign-watch")) func aViewAfterTenThousandJobs() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        for number in 0..<8 {
            try spool.dropManifest(Self.job, "\(number).json")
            try spool.settle(turns: 2)
        }
        let first = try #require(spool.names("lib/jobs/done").first)
        // Whole folders under earlier ids. That their records name another job only those that are shown would reveal.
        for number in 8..<10_000 {
            let digits = String(number)
            let id = "20200101-000000-" + String(repeating: "0", count: 16 - digits.count) + digits
            try Files.copy(spool.path("lib/jobs/done/" + first), to: spool.path("lib/jobs/done/\(id)"))
        }
        let client = try spool.client
        func view() throws {
            _ = (
                try client.isDaemonRunning(), try client.status(), try client.extract([.active], first: 20),
                try client.extract([.retry, .queued], first: 20),
                try client.extract([.done, .failed, .quarantine], last: 5)
            )
        }
        try view()
        let start = SpoolClock.system.monotonic()
        for _ in 0..<20 { try view() }
        let milliseconds = (SpoolClock.system.monotonic() - start) / 20 * 1000
        print("campaign watch: 10000 finished jobs, \(milliseconds) ms a view")
    }
}
