import Foundation
import Golden
import Testing

extension DaemonTests {
    /// Every error at every call on the files that a model is made of: the real daemon, the demonstration model, and a clock
    /// that runs ten times as fast, since what waits for the machine waits for ten seconds.
    @Suite struct ModelErrors {
        static let model = Golden.fixtures.deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Tools/demo-model/model").path
        static let errors: [Int32] = [EIO, EMFILE, ENFILE, ENOMEM, ENOENT, EACCES]

        struct Fault: Sendable, CustomStringConvertible {
            /// The number of the call, from 1, and what it is in a run that nobody disturbs.
            let number: Int, call: String
            let error: Int32
            /// It fails from then on, until the job is seen to be held.
            let lasts: Bool
            var description: String {
                "\(String(cString: strerror(error))) at call \(number)\(lasts ? " and on" : ""), \(call)"
            }
        }

        struct Run {
            /// The picture, and the calls on the model's files, a line each.
            let picture: Data, calls: [String]
            var faults: [String] = []
        }

        /// One daemon that makes one picture of one photo.
        private func run(_ fault: Fault?) throws -> Run {
            let place = try Workplace()
            let yaml = try String(contentsOfFile: place.path("config.yaml"), encoding: .utf8)
            let models = try #require(yaml.range(of: "models:"))
            _ = try place.write(
                "config.yaml",
                yaml[..<models.lowerBound] + """
                    models:
                      demo:
                        checkpoint: \(Self.model)
                        adapter: \(Self.model)/adapter.safetensors
                    threads: 1
                    """)
            try FileManager.default.createDirectory(
                atPath: place.path("spool/drop/references/turtle"), withIntermediateDirectories: true)
            try FileManager.default.createDirectory(
                atPath: place.path("spool/drop/jobs"), withIntermediateDirectories: true)
            let photo = Golden.fixtures.appendingPathComponent("demo-subjects/turtle.png").path
            try FileManager.default.copyItem(atPath: photo, toPath: place.path("spool/drop/references/turtle/a.png"))
            _ = try place.write("spool/drop/references/turtle/.ready", "")
            _ = try place.write(
                "spool/drop/jobs/job.json",
                #"{"subject": "turtle", "prompt": "a turtle on the beach", "seed": 5, "num_inference_steps": 1}"#)
            let lasting = try place.write("lasting", "")
            var environment = [
                "LD_PRELOAD": Workplace.faultShim, "DREAMCACHE_TEST_FILES": Self.model,
                "DREAMCACHE_TEST_TRACE": place.path("calls"), "DREAMCACHE_TEST_HASTE": "10",
            ]
            if let fault {
                environment["DREAMCACHE_TEST_FAIL"] = "\(fault.number):\(fault.error):\(fault.lasts ? lasting : "")"
            }
            let daemon = try Daemon(
                configuration: place.path("config.yaml"), log: place.path("daemon.log"), environment: environment)
            func names(_ folder: String) -> [String] {
                (try? FileManager.default.contentsOfDirectory(atPath: place.path("spool/\(folder)"))) ?? []
            }
            if fault?.lasts == true {
                // Calls whose answer is not needed may fail for as long as they like.
                try place.eventually("it is held, or done all the same") {
                    place.receipt("turtle").contains("waiting to be encoded: ")
                        || place.receipt("job.json").contains("held: ") || names("out").count == 1
                }
                unlink(lasting)
            }
            try place.eventually("the set is there, or never will be") {
                names("out").count == 1 || !names("lib/jobs/failed").isEmpty || !names("lib/jobs/quarantine").isEmpty
                    || place.receipt("turtle").contains("rejected") || !daemon.isRunning
            }
            var faults: [String] = []
            let id = names("out").first ?? ""
            let picture = (try? place.images(place.path("spool/out/\(id)"))) ?? []
            if picture.count != 1 { faults.append("\(place.receipt("turtle"))\(place.receipt("job.json"))") }
            let result = try? String(contentsOfFile: place.path("spool/out/\(id)/result.json"), encoding: .utf8)
            if result?.contains(#""attempts": 1,"#) != true { faults.append("an attempt was consumed") }
            // A job does not wait for a subject that is held, and may be done before the subject is: an encoding that is
            // under way is counted, one that ended is not.
            func subject() -> String {
                (try? String(contentsOfFile: place.path("spool/lib/subjects/turtle.json"), encoding: .utf8)) ?? ""
            }
            try place.eventually("the subject is encoded, or never will be") {
                subject().contains(#""state": "ready""#) || place.receipt("turtle").contains("rejected")
                    || !daemon.isRunning
            }
            if !subject().contains(#""attempts": 0,"#) { faults.append("an encoding was counted: \(subject())") }
            if daemon.stop() != 0 { faults.append("the daemon's end") }
            let calls = try String(contentsOfFile: place.path("calls"), encoding: .utf8)
            return Run(
                picture: picture.first ?? Data(), calls: calls.split(separator: "\n").map(String.init), faults: faults)
        }

        @Test func everyErrorAtEveryCallOnAModelsFiles() async throws {
            let clean = try run(nil)
            #expect(clean.faults == [])
            #expect(clean.calls.count > 100)
            var cases: [Fault] = []
            for (index, call) in clean.calls.enumerated() {
                for (number, error) in Self.errors.enumerated() {
                    // The short version takes some, of all kinds of calls and errors.
                    guard Workplace.isFullCampaign || (index * Self.errors.count + number) % 241 == 7 else { continue }
                    cases.append(
                        Fault(
                            number: index + 1, call: call.replacing(Self.model, with: ""), error: error,
                            lasts: (index + number) % 2 == 0))
                }
            }
            let chosen = Workplace.share(of: cases)
            let found = await withTaskGroup(of: [String].self) { group in
                let share = 4
                for offset in 0..<share {
                    group.addTask {
                        stride(from: offset, to: chosen.count, by: share).flatMap { index -> [String] in
                            do {
                                let run = try run(chosen[index])
                                let isSame = run.picture == clean.picture
                                return (run.faults + (isSame ? [] : ["another picture"])).map {
                                    "\(chosen[index]): \($0)"
                                }
                            } catch { return ["\(chosen[index]): \(error)"] }
                        }
                    }
                }
                return await group.reduce(into: []) { $0 += $1 }
            }
            print(
                "campaign errno model: \(chosen.count) of \(cases.count) cases at \(clean.calls.count) calls, \(found.count) faults"
            )
            #expect(found.prefix(10) == [])
        }
    }
}
