import Diffusion
import TensorEngine

/// The guided prediction for one prompt: everything that does not change from step to step is given, or computed when it is
/// made.
///
/// The branches of guidance run as one batch. The encoder half of the U-Net holds no adapter, so branches under one prompt
/// share it: two passes through the encoder serve three branches, and one up to where it first reads the text.
final class Denoiser {
    /// What one evaluation of the schedule computes.
    struct Step {
        /// In the order of the batch, personal ones first.
        let branches: [Guidance.Branch]
        /// The subjects, in the order of falling scale; nil for the plain model.
        let subject: SubjectMemory?
    }

    /// What steps whose branches differ in weight alone have in common.
    private struct Batch {
        let subject: SubjectMemory?
        let branches: [Guidance.Branch]
        /// For each branch the entry of the encoder's batch that it continues.
        let encoderIndex: [Int]
        let encoderText, decoderText: TextKeys
        let tap: SubjectTap?

        func serves(_ step: Step) -> Bool {
            subject === step.subject
                && branches.elementsEqual(step.branches) {
                    $0.isPrompted == $1.isPrompted && $0.groups == $1.groups
                }
        }
    }

    private let model: StableDiffusion
    private let steps: [(weights: [Double], batch: Batch)]
    private let times: [TimeEmbedding]
    /// How often the decoder half of the U-Net was evaluated so far.
    private(set) var evaluations = 0

    /// - Parameters:
    ///   - steps: one for each evaluation of the schedule.
    ///   - prompt: keys and values of the prompt, of one entry; `negative` those of the negative prompt, of as many tokens.
    ///   - times: the embeddings of the schedule's timesteps.
    init(
        _ model: StableDiffusion, steps: [Step], prompt: TextKeys, negative: TextKeys, times: [TimeEmbedding]
    ) throws(EngineError) {
        self.model = model
        self.times = times
        var batches: [Batch] = []
        var planned: [(weights: [Double], batch: Batch)] = []
        for step in steps {
            let batch: Batch
            if let made = batches.first(where: { $0.serves(step) }) {
                batch = made
            } else {
                batch = try Self.batch(step, model, prompt: prompt, negative: negative)
                batches.append(batch)
            }
            planned.append((step.branches.map(\.weight), batch))
        }
        self.steps = planned
    }

    /// The same guidance at every step.
    ///
    /// - Parameters:
    ///   - subject: nil for the plain model.
    ///   - scales: image scales of the subject's groups, falling.
    convenience init(
        _ model: StableDiffusion, subject: SubjectMemory?, scales: [Double], prompt: TextKeys,
        negative: TextKeys, guidance: Guidance, times: [TimeEmbedding]
    ) throws(EngineError) {
        let step = Step(branches: guidance.branches(scales: subject == nil ? [] : scales), subject: subject)
        try self.init(
            model, steps: times.map { _ in step }, prompt: prompt, negative: negative, times: times)
    }

    private static func batch(
        _ step: Step, _ model: StableDiffusion, prompt: TextKeys, negative: TextKeys
    ) throws(EngineError) -> Batch {
        var kinds: [Bool] = []  // of the encoder's entries: under the prompt or not
        var index: [Int] = []
        for branch in step.branches {
            if let found = kinds.firstIndex(of: branch.isPrompted) {
                index.append(found)
            } else {
                index.append(kinds.count)
                kinds.append(branch.isPrompted)
            }
        }
        let encoderText = try model.unet.stacked(kinds.map { $0 ? prompt : negative })
        return Batch(
            subject: step.subject, branches: step.branches, encoderIndex: index, encoderText: encoderText,
            decoderText: try model.unet.gathered(encoderText, index),
            tap: step.subject.map { SubjectTap($0, groups: step.branches.filter(\.isPersonal).map(\.groups)) })
    }

    /// The memory that the first step reads.
    var firstSubject: SubjectMemory? { steps.first?.batch.subject }

    /// The guided prediction of `latent` (`[channels, h, w]`) at step `step`.
    func predict(_ latent: [Float], height: Int, width: Int, step: Int) throws(EngineError) -> [Float] {
        let (weights, batch) = steps[step]
        let time = times[step]
        let x = try model.latentTensor(latent, height: height, width: width)
        let features = try model.unet.encode(x, time: time, text: batch.encoderText)
        batch.tap?.evaluation = (step, steps.count)
        let output = try model.unet.decode(
            features, entries: batch.encoderIndex, time: time, text: batch.decoderText, tap: batch.tap,
            tappedRows: batch.branches.count(where: \.isPersonal))
        evaluations += batch.branches.count
        var sum = [Double](repeating: 0, count: latent.count)
        for (weight, prediction) in zip(weights, model.predictions(output)) {
            for i in sum.indices { sum[i] += weight * Double(prediction[i]) }
        }
        return sum.map(Float.init)
    }
}
