import Diffusion
import Spool
import Testing

@testable import Application

/// The spool's words in the method's.
@Suite struct ManifestReadingTests {
    /// Nothing else of a request is lost where its sampler is named.
    @Test func aRequestKeepsAllElse() throws {
        let text = #"{"subject": "dog", "prompt": "x", "scheduler": "DDIM", "output": {"attention": true}}"#
        let manifest = try JobManifest.parse(Array(text.utf8))
        let request = RenderRequest(
            job: "j", manifest: manifest, image: manifest.plan(image: 0, seed: 3),
            caches: [CacheUse(subject: "dog", imageScale: manifest.imageScale, path: "/s/dog")],
            initialImage: InitialImage(path: "/s/a.png", sha256: "ab"), output: "/s/o.png", identity: "i",
            attention: AttentionRequest(
                references: [], overlay: "/s/o.attention.png", maps: "/s/o.attention.safetensors"))
        #expect(request.naming(nil) == request)
    }

    /// Every sampler that a manifest can name is another one, can run, and is named again in what is recorded.
    @Test func everySamplerOfAManifestRuns() throws {
        let choices = Scheduler.allCases.map { SamplerChoice($0) }
        #expect(Set(choices).count == Scheduler.allCases.count)
        #expect(Set(choices.map(\.sampler)) == Set(SamplerKind.allCases))
        for (scheduler, choice) in zip(Scheduler.allCases, choices) {
            let sampler = try Sampler(ScheduleConfiguration().selecting(choice), steps: 6)
            #expect(Scheduler.allCases.first { SamplerChoice($0) == choice } == scheduler)
            guard choice.sigmas != nil else { continue }
            // A spread that a name promises changes the run.
            let plain = try Sampler(
                ScheduleConfiguration().selecting(SamplerChoice(choice.sampler, algorithm: choice.algorithm)), steps: 6)
            #expect(sampler.sigmas != plain.sigmas, "\(scheduler.rawValue)")
        }
    }

    @Test(arguments: [
        ("dpm++_2m", SamplerKind.dpmSolverMultistep, nil, nil), ("DPM++ 2M", .dpmSolverMultistep, nil, nil),
        (
            "DPM++ 2M SDE Karras", .dpmSolverMultistep, DPMSolverAlgorithm.sdeDPMSolverPlusPlus,
            SamplerChoice.Sigmas.karras
        ),
        ("dpmpp_2m_sde_gpu", .dpmSolverMultistep, .sdeDPMSolverPlusPlus, nil), ("k_euler", .euler, nil, nil),
        ("heun_karras", .heun, nil, .karras), ("LMS Exponential", .lms, nil, .exponential),
        ("DPM++ SDE", .dpmSolverSDE, nil, nil), ("uni_pc_bh2", .uniPC, nil, nil), ("PLMS", .pndm, nil, nil),
        ("Euler A", .eulerAncestral, nil, nil), ("DEISMultistepScheduler", .deis, nil, nil),
    ])
    func theNamesPeopleUse(
        name: String, sampler: SamplerKind, algorithm: DPMSolverAlgorithm?, sigmas: SamplerChoice.Sigmas?
    ) throws {
        let choice = SamplerChoice(try #require(Scheduler(named: name)))
        #expect(choice == SamplerChoice(sampler, algorithm: algorithm, sigmas: sigmas))
    }

    /// A record without a sampler in its manifest gets the configured one's name.
    @Test func theConfiguredSamplerIsRecorded() throws {
        let manifest = try JobManifest.parse(Array(#"{"subject": "dog", "prompt": "x"}"#.utf8))
        let request = RenderRequest(
            job: nil, manifest: manifest, image: manifest.plan(image: 0, seed: 1), caches: [], output: "/x")
        #expect(request.naming(nil).manifest.scheduler == .ddim)
        let heun = SamplerChoice(.heun, sigmas: .karras)
        #expect(request.naming(heun).manifest.scheduler?.rawValue == "HeunDiscreteScheduler Karras")
    }
}
