import Diffusion
import DreamCache
import Spool
import Synchronization

// The spool's words for prompts, scales and samplers in the method's. Both modules have types of their own for them, since
// neither knows the other: a manifest's are read and written, the method's are computed with.

extension PromptReading {
    /// As a manifest asks for it.
    init(_ manifest: JobManifest) {
        self.init(
            mode: Mode(rawValue: manifest.promptMode.rawValue) ?? .chunks,
            syntax: Syntax(rawValue: manifest.promptSyntax.rawValue) ?? .plain)
    }
}

extension ScaleSchedule {
    /// As a manifest has it.
    init(_ scale: ImageScale) { self.init(start: scale.start, end: scale.end, from: scale.from, to: scale.to) }
}

extension SamplerChoice {
    /// As a manifest names it.
    init(_ scheduler: Scheduler) {
        let sampler: SamplerKind =
            switch scheduler.method {
            case .ddim: .ddim
            case .ddpm: .ddpm
            case .pndm: .pndm
            case .euler: .euler
            case .eulerAncestral: .eulerAncestral
            case .heun: .heun
            case .lms: .lms
            case .dpmSolverMultistep, .dpmSolverMultistepSDE: .dpmSolverMultistep
            case .dpmSolverSDE: .dpmSolverSDE
            case .deis: .deis
            case .unipcMultistep: .uniPC
            case .lcm: .lcm
            case .tcd: .tcd
            }
        let sigmas: Sigmas? =
            switch scheduler.sigmas {
            case .karras: .karras
            case .exponential: .exponential
            case nil: nil
            }
        self.init(
            sampler, algorithm: scheduler.method == .dpmSolverMultistepSDE ? .sdeDPMSolverPlusPlus : nil,
            sigmas: sigmas)
    }
}

/// What to know of a manifest's prompts before any model is loaded. The tokenizer that was used last is kept.
final class PromptNotes: Sendable {
    private let last = Mutex<(files: ModelFiles, tokenizer: Tokenizer)?>(nil)

    /// A note for each prompt, and the negative one, that is longer than the text encoder reads at once; none where the
    /// model's tokenizer cannot be read, which its own loading will say.
    func notes(on manifest: JobManifest, of files: ModelFiles) -> [String] {
        let prompts =
            manifest.prompts.enumerated().map { (manifest.prompts.count == 1 ? "prompt" : "prompts[\($0)]", $1) }
            + [("negative_prompt", manifest.negativePrompt)]
        let long = prompts.filter { $1.utf8.count > 75 }
        guard !long.isEmpty, let tokenizer = tokenizer(of: files) else { return [] }
        return long.compactMap { field, prompt in
            tokenizer.note(on: prompt, reading: PromptReading(manifest)).map { "\(field): \($0)" }
        }
    }

    private func tokenizer(of files: ModelFiles) -> Tokenizer? {
        last.withLock { last in
            if let last, last.files == files { return last.tokenizer }
            guard let tokenizer = try? files.tokenizer() else { return nil }
            last = (files, tokenizer)
            return tokenizer
        }
    }
}

extension Pipeline {
    /// What was made of an image's prompts where they are longer than the text encoder reads at once, for `result.json`.
    func promptNotes(of request: RenderRequest) -> [String: String] {
        let length = model.configuration.text.contextLength
        var notes: [String: String] = [:]
        for (key, prompt) in [
            ("prompt_note", request.image.prompt), ("negative_prompt_note", request.manifest.negativePrompt),
        ] {
            notes[key] = model.tokenizer.note(
                on: prompt, reading: PromptReading(request.manifest), contextLength: length)
        }
        return notes
    }
}

extension RenderRequest {
    /// The request with a sampler in its manifest: the model's configured one, or DDIM, where the manifest names none.
    func naming(_ configured: SamplerChoice?) -> RenderRequest {
        var request = self
        let named = Scheduler.allCases.first { SamplerChoice($0) == configured }
        request.manifest.scheduler = manifest.scheduler ?? named ?? .ddim
        return request
    }
}
