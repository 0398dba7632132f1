import Foundation
import Golden
import Testing

extension DaemonTests {
    /// A real job killed at every denoising step: the real daemon, the tiny model, SIGKILL. Whatever the sampler remembers,
    /// and whatever noise it draws, the images and their attention are those of a run that nobody disturbed.
    @Suite struct StepKills {
        /// Where in a step the daemon is killed.
        enum Moment: Sendable, CaseIterable {
            /// A step is done and its checkpoint in place.
            case afterCheckpoint
            /// A step is done and its checkpoint is lost: the step is done again.
            case beforeCheckpoint
        }

        struct Run: Sendable, CustomStringConvertible {
            let scheduler: String, eta: Double, moment: Moment
            var description: String { "\(scheduler), eta \(eta), \(moment)" }
            /// Evaluations per image: PNDM evaluates its second timestep twice, as diffusers does.
            var evaluations: Int { scheduler == "PNDMScheduler" ? StepKills.steps + 1 : StepKills.steps }
        }

        static let steps = Workplace.isFullCampaign ? 10 : 4
        static let images = Workplace.isFullCampaign ? 2 : 1

        static let runs: [Run] = {
            if !Workplace.isFullCampaign {
                return [
                    Run(scheduler: "DPMSolverMultistepScheduler", eta: 0, moment: .afterCheckpoint),
                    Run(scheduler: "DDIMScheduler", eta: 1, moment: .beforeCheckpoint),
                ]
            }
            let samplers = [
                ("DDIMScheduler", 0.0), ("DDIMScheduler", 1), ("PNDMScheduler", 0), ("EulerDiscreteScheduler", 0),
                ("EulerAncestralDiscreteScheduler", 0), ("DPMSolverMultistepScheduler", 0),
                ("UniPCMultistepScheduler", 0), ("LCMScheduler", 0),
            ]
            return samplers.flatMap { name, eta in
                Moment.allCases.map { Run(scheduler: name, eta: eta, moment: $0) }
            }
        }()

        /// Steps done of the image at work, and images done, as the disk has it.
        private func kept(_ place: Workplace) throws -> (images: Int, step: Int) {
            let jobs = place.folder.appendingPathComponent("spool/lib/jobs/active")
            guard let id = try FileManager.default.contentsOfDirectory(atPath: jobs.path).first else { return (-1, -1) }
            let job = jobs.appendingPathComponent(id)
            func document(_ data: Data) throws -> [String: Any] {
                try JSONSerialization.jsonObject(with: data) as? [String: Any] ?? [:]
            }
            let page = try? Data(contentsOf: job.appendingPathComponent("images/0000.json"))
            let images = try page.map { try document($0)["images"] as? [Any] ?? [] } ?? []
            let checkpoint = try? Data(contentsOf: job.appendingPathComponent("checkpoint"))
            let head = try checkpoint.map { try document($0.prefix { $0 != UInt8(ascii: "\n") }) }
            return (images.count, head?["step"] as? Int ?? 0)
        }

        @Test(arguments: runs) func imagesAreThoseOfAnUndisturbedRun(_ run: Run) throws {
            let tests = DaemonTests()
            let place = try Workplace()
            let manifest = """
                {"subject": "cat", "prompt": "a backpack on the beach", "seed": 5, "num_inference_steps": \(Self.steps),
                 "num_images_per_prompt": \(Self.images), "scheduler": "\(run.scheduler)", "eta": \(run.eta),
                 "output": {"attention": true}}
                """
            func finished(_ name: String) throws -> [Data] {
                let daemon = try place.startDaemonAtWork()
                let done = try place.dreamcache("wait", name, "--timeout", "300")
                #expect(done.status == 0, "\(done.errors)")
                #expect(daemon.stop() == 0)
                return try place.images(done.output.trimmingCharacters(in: .whitespacesAndNewlines))
            }
            let first = try place.startDaemon()
            try tests.dropSubject("cat", place)
            try place.eventually("the cache") {
                FileManager.default.fileExists(atPath: place.path("spool/cache/cat.dcache"))
            }
            try place.drop(Data(manifest.utf8), as: "jobs/undisturbed.json")
            try place.eventually("it is taken") { !place.receipt("undisturbed.json").isEmpty }
            #expect(first.stop() == 0)
            let undisturbed = try finished("undisturbed")
            // Each with what it read of its reference.
            #expect(undisturbed.count == 2 * Self.images)

            try place.drop(Data(manifest.utf8), as: "jobs/killed.json")
            // A run of its own after each kill: the next step, or the first of the next image, and death again. Killed
            // before a checkpoint is in place, the last step of all has no next one that could be lost.
            let steps = Self.images * run.evaluations
            var kills = 0
            for number in 1...(run.moment == .afterCheckpoint ? steps : steps - 1) {
                let when = run.moment == .afterCheckpoint ? "after:1" : "before:2"
                let daemon = try Daemon(
                    configuration: place.path("config.yaml"), log: place.path("daemon.log"),
                    environment: ["LD_PRELOAD": Workplace.faultShim, "DREAMCACHE_TEST_KILL": when])
                try #require(daemon.exitStatus() == -SIGKILL)
                let (images, step) = try kept(place)
                try #require(images * run.evaluations + step == number, "\(images) images and \(step) steps are kept")
                #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("spool/out")).count == 1)
                kills += 1
            }
            let images = try finished("killed")
            #expect(images == undisturbed)
            #expect(try place.dreamcache("verify").status == 0)
            let differing = images.count - zip(images, undisturbed).count { $0 == $1 }
            print("campaign steps: \(run): \(kills) kills, \(differing) differing images")
        }
    }
}
