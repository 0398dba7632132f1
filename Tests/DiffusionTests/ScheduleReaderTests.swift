import Diffusion
import Foundation
import Testing

/// What is read from diffusers' `scheduler_config.json`.
@Suite struct ScheduleReaderTests {
    private func read(_ text: String) throws -> (configuration: ScheduleConfiguration, unknownKeys: [String]) {
        try ScheduleConfiguration.read(json: Data(text.utf8), path: "scheduler_config.json")
    }

    /// Stable Diffusion 2.1's own file, in what it says.
    @Test func readsStableDiffusion() throws {
        let read = try read(
            """
            {"_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", "beta_end": 0.012,
             "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": false, "num_train_timesteps": 1000,
             "prediction_type": "v_prediction", "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1,
             "trained_betas": null, "sparkle": 3}
            """)
        var expected = ScheduleConfiguration()
        expected.predictionType = .vPrediction
        #expect(read.configuration == expected)
        #expect(read.unknownKeys == ["sparkle"])
        // Another sampler keeps what the file says and takes its own default for what the file leaves open.
        let euler = try Sampler(read.configuration.selecting(SamplerChoice(.euler)), steps: 5)
        #expect(euler.timesteps == [999, 749.25, 499.5, 249.75, 0])
    }

    @Test func namesTheKeyThatIsWrong() throws {
        let cases: [(text: String, field: String, problem: String)] = [
            ("", "the file", "not a JSON object"), ("[]", "the file", "not a JSON object"),
            ("{}", "_class_name", "is missing"),
            (#"{"_class_name": 3}"#, "_class_name", "is 3; expected a scheduler"),
            (#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#, "_class_name", "flow matching"),
            (#"{"_class_name": "DDIMScheduler", "beta_start": "0.1"}"#, "beta_start", "is '0.1'; expected a number"),
            (
                #"{"_class_name": "DDIMScheduler", "beta_schedule": "sigmoid"}"#, "beta_schedule",
                "'sigmoid'; expected one of"
            ),
            (#"{"_class_name": "DDIMScheduler", "clip_sample": 1}"#, "clip_sample", "is 1; expected true or false"),
            (#"{"_class_name": "DDIMScheduler", "steps_offset": 1.5}"#, "steps_offset", "expected a whole number"),
            (#"{"_class_name": "DDIMScheduler", "steps_offset": 1e300}"#, "steps_offset", "expected a whole number"),
            (#"{"_class_name": "DDIMScheduler", "trained_betas": [0.1, "x"]}"#, "trained_betas", "is 'x'"),
            (#"{"_class_name": "DDIMScheduler", "trained_betas": [0.1]}"#, "trained_betas", "has 1 numbers"),
            (#"{"_class_name": "DDIMScheduler", "num_train_timesteps": 0}"#, "num_train_timesteps", "is 0"),
            (
                #"{"_class_name": "UniPCMultistepScheduler", "disable_corrector": [0.5]}"#, "disable_corrector",
                "not whole"
            ),
            (
                #"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": "low"}"#, "lambda_min_clipped",
                "'low'"
            ),
        ]
        for example in cases {
            let error = #expect(throws: ScheduleError.self, "\(example.text)") { try read(example.text) }
            #expect(error?.path == "scheduler_config.json")
            #expect(error?.field == example.field, "\(error?.description ?? "")")
            #expect(error?.problem.contains(example.problem) == true, "\(error?.description ?? "")")
        }
    }

    /// A class we do not have names a sampler only; the betas beside it are the model's.
    @Test func aClassWeLackDoesNotBlockAModel() throws {
        for name in ["KDPM2DiscreteScheduler", "DPMSolverSinglestepScheduler", "SomethingNewScheduler"] {
            let read = try read(
                """
                {"_class_name": "\(name)", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
                 "prediction_type": "v_prediction", "timestep_spacing": "trailing", "steps_offset": 1}
                """
            ).configuration
            #expect(read.sampler == .ddim)
            #expect((read.betaStart, read.betaEnd) == (0.00085, 0.012))
            #expect(read.betaSchedule == .scaledLinear)
            #expect(read.predictionType == .vPrediction)
            #expect(read.timestepSpacing == .trailing)
        }
        let deis = try read(
            #"{"_class_name": "DEISMultistepScheduler", "algorithm_type": "deis", "solver_type": "logrho"}"#
        ).configuration
        #expect(deis.sampler == .deis)
        #expect(deis.selecting(SamplerChoice(.dpmSolverMultistep)).algorithmType == .dpmSolverPlusPlus)
    }

    /// An option we do not have stops the samplers that know it, not the model.
    @Test func optionsBelongToSamplers() throws {
        let cases: [(text: String, field: String, other: SamplerKind)] = [
            (#"{"_class_name": "DDIMScheduler", "thresholding": true}"#, "thresholding", .euler),
            (#"{"_class_name": "PNDMScheduler"}"#, "skip_prk_steps", .ddim),
            (#"{"_class_name": "PNDMScheduler", "skip_prk_steps": false}"#, "skip_prk_steps", .ddim),
            (#"{"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}"#, "timestep_type", .ddim),
            (#"{"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": true}"#, "use_beta_sigmas", .ddim),
        ]
        for example in cases {
            let configuration = try read(example.text).configuration
            let error = #expect(throws: ScheduleError.self) { try Sampler(configuration, steps: 5) }
            #expect(error?.field == example.field)
            #expect(error?.problem.contains("not supported") == true)
            _ = try Sampler(configuration.selecting(SamplerChoice(example.other)), steps: 5)
        }
    }
}
