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
    }
}
