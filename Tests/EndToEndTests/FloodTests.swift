import Foundation
import Testing

extension DaemonTests {
    /// Manifests by the ten thousand, dropped while the daemon's process is stopped: the kernel's queue of events
    /// overflows, and each is accepted exactly once all the same.
    @Suite struct Floods {
        static let count = Workplace.isFullCampaign ? 50_000 : 500

        @Test func everyManifestIsAcceptedExactlyOnce() throws {
            // All are cleared away at the end only: ext4 leaves the inodes of deleted files alone for minutes, and looking
            // past hundreds of thousands of them took half of a run that followed another's removal.
            var places: [Workplace] = []
            for run in 1...(Workplace.isFullCampaign ? 3 : 1) {
                let place = try Workplace()
                places.append(place)
                try flood(place, run)
            }
        }

        private func flood(_ place: Workplace, _ run: Int) throws {
            let daemon = try place.startDaemon()
            daemon.signal(SIGSTOP)
            try place.eventually("the daemon is stopped") {
                try String(contentsOfFile: "/proc/\(daemon.pid)/stat", encoding: .utf8).contains(") T ")
            }
            let staging = place.path("staging")
            try FileManager.default.createDirectory(atPath: staging, withIntermediateDirectories: false)
            let text = #"{"subject": "nobody", "prompt": "x", "seed": 1}"#
            for number in 0..<Self.count {
                let name = "\(staging)/\(number).json"
                // Foundation would sync each.
                let file = try #require(fopen(name, "w"))
                fputs(text, file)
                fclose(file)
                #expect(rename(name, place.path("spool/drop/jobs/\(number).json")) == 0)
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("spool/receipts")).isEmpty)

            let start = ContinuousClock.now
            daemon.signal(SIGCONT)
            func names(_ folder: String) throws -> [String] {
                try FileManager.default.contentsOfDirectory(atPath: place.path("spool/\(folder)"))
            }
            try place.eventually("all are answered", within: 300) {
                usleep(200_000)
                return try names("receipts").count >= Self.count && names("drop/jobs").isEmpty
            }
            let seconds = (ContinuousClock.now - start) / .seconds(1)
            print("campaign flood: run \(run), \(Self.count) manifests in \(seconds) s")
            if Workplace.isFullCampaign { #expect(seconds < 60) }
            #expect(daemon.stop() == 0)
            let queued = Set(try names("lib/jobs/queued"))
            #expect(queued.count == Self.count)
            var answered: Set<String> = []
            for number in 0..<Self.count {
                let receipt = try JSONSerialization.jsonObject(
                    with: Data(contentsOf: URL(fileURLWithPath: place.path("spool/receipts/\(number).json.json"))))
                answered.insert((receipt as? [String: Any])?["id"] as? String ?? "")
            }
            #expect(answered == queued)
            for state in ["active", "retry", "done", "failed", "quarantine"] {
                #expect(try names("lib/jobs/\(state)").isEmpty)
            }
            #expect(try names("lib/tmp").isEmpty)
        }

        static let refusals = Workplace.isFullCampaign ? 10_000 : 120

        /// Drops of a dozen kinds, all of which are refused.
        private func dropWhatIsRefused(_ place: Workplace, _ tag: String) throws {
            let jobs = place.path("spool/drop/jobs") + "/", references = place.path("spool/drop/references") + "/"
            func write(_ path: String, _ text: String) throws {
                let file = try #require(fopen(path, "w"))
                fputs(text, file)
                fclose(file)
            }
            for number in 0..<Self.refusals {
                let name = "\(tag)-\(number)"
                switch number % 12 {
                case 0: try write(jobs + name + ".txt", "1")
                case 1: try write(jobs + name + ".json", "[]")
                case 2: try write(jobs + "none-" + name + ".cancel", "")
                case 3: symlink("/dev/zero", jobs + name + ".json")
                case 4: try write(jobs + name + ".json", #"{"subject": dog}"#)
                case 5: try write(jobs + name + ".json", #"{"subject": "dog", "prompt": "x", "model": "\#(name)"}"#)
                case 6: mkdir(jobs + name + ".json", 0o755)
                case 7: try write(references + name + ".png", "GIF89a")
                case 8: mkfifo(references + name, 0o644)
                case 9:
                    mkdir(references + "." + name, 0o755)
                    try write(references + "." + name + "/a.png", "x")
                    try write(references + "." + name + "/.ready", "")
                    rename(references + "." + name, references + name)
                case 10: try write(jobs + name + "\u{1B}\u{E9}.json", "{}")
                default: try write(jobs + name + ".json", #"{"subject": "dog", "prompt": "x", "seed": -1}"#)
                }
            }
        }

        /// However much is refused: a stop is obeyed within 20 s at any moment, memory does not grow, and what is kept goes when the
        /// configuration says so.
        @Test func refusalsLeaveNothingThatGrows() throws {
            let place = try Workplace(configuration: "retention:\n  receipts_days: 0\n  rejected_days: 0")
            func names(_ folder: String) throws -> [String] {
                try FileManager.default.contentsOfDirectory(atPath: place.path("spool/\(folder)"))
            }
            func memory(_ daemon: Daemon) throws -> Int {
                let status = try String(contentsOfFile: "/proc/\(daemon.pid)/status", encoding: .utf8)
                let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("RssAnon:") })
                return line.split(separator: " ").compactMap { Int($0) }.first ?? 0
            }
            let daemon = try place.startDaemon()
            var kilobytes = [try memory(daemon)]
            for batch in 0..<3 {
                try dropWhatIsRefused(place, "\(batch)")
                try place.eventually("all are answered", within: 1200) {
                    usleep(200_000)
                    return try ["drop/jobs", "drop/references", "lib/claims/jobs", "lib/claims/references"].allSatisfy {
                        try names($0).isEmpty
                    }
                }
                #expect(try names("receipts").count == (batch + 1) * Self.refusals)
                kilobytes.append(try memory(daemon))
            }
            print(
                "campaign flood: \(Self.refusals) refusals a batch, KiB of memory before and after each: \(kilobytes)")
            // The allocator's pools fill up at first; what is kept for each drop would show in the last batch too.
            #expect(kilobytes[3] - kilobytes[2] < 2048)

            try dropWhatIsRefused(place, "stop")
            usleep(UInt32.random(in: 0..<500_000))
            let start = ContinuousClock.now
            #expect(daemon.stop() == 0)
            let seconds = (ContinuousClock.now - start) / .seconds(1)
            print("campaign flood: a stop among them takes \(seconds) s")
            #expect(seconds < 20)

            // An hour passes in three seconds, and what is old enough goes.
            let later = try place.startDaemon(environment: [
                "LD_PRELOAD": Workplace.faultShim, "DREAMCACHE_TEST_HASTE": "1000",
            ])
            try place.eventually("what is kept is gone", within: 1200) {
                try names("receipts").isEmpty && names("lib/rejected").isEmpty && names("drop/jobs").isEmpty
            }
            #expect(later.stop() == 0)
            for folder in ["lib/tmp", "lib/trash", "lib/leftovers"] { #expect(try names(folder).isEmpty, "\(folder)") }
            #expect(try place.dreamcache("verify").status == 0)
        }
    }
}
