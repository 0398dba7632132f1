import Diffusion
import TensorEngine

/// The guided prediction for one prompt: everything that does not change from step to step is given, or computed when it is
/// made.
///
/// The branches of guidance run as one batch. The encoder half of the U-Net holds no adapter, so branches under one prompt
/// share it: two passes through the encoder serve three branches, and one up to where it first reads the text.
final class Denoiser {
    private let model: StableDiffusion
    private let subject: SubjectTap?
    private let branches: [Guidance.Branch]
    private let times: [TimeEmbedding]
    private let encoderText: TextKeys
    private let decoderText: TextKeys
    /// For each branch the entry of the encoder's batch that it continues.
    private let encoderIndex: [Int]

    /// - Parameters:
    ///   - prompt: keys and values of the prompt, of one entry; `negative` those of the negative prompt.
    ///   - times: the embeddings of the schedule's timesteps.
    ///   - subject: nil for the plain model.
    ///   - scales: image scales of the subject's groups, falling.
    init(
        _ model: StableDiffusion, subject: SubjectMemory?, scales: [Double], prompt: TextKeys,
        negative: TextKeys, guidance: Guidance, times: [TimeEmbedding]
    ) throws(EngineError) {
        self.model = model
        let branches = guidance.branches(scales: subject == nil ? [] : scales)
        self.branches = branches
        self.subject = subject.map { SubjectTap($0, groups: branches.filter(\.isPersonal).map(\.groups)) }
        self.times = times

        var kinds: [Bool] = []  // of the encoder's entries: under the prompt or not
        var index: [Int] = []
        for branch in branches {
            if let found = kinds.firstIndex(of: branch.isPrompted) {
                index.append(found)
            } else {
                index.append(kinds.count)
                kinds.append(branch.isPrompted)
            }
        }
        encoderIndex = index
        encoderText = try model.unet.stacked(kinds.map { $0 ? prompt : negative })
        decoderText = try model.unet.gathered(encoderText, index)
    }

    /// The guided prediction of `latent` (`[channels, h, w]`) at step `step`.
    func predict(_ latent: [Float], height: Int, width: Int, step: Int) throws(EngineError) -> [Float] {
        let time = times[step]
        let x = try model.latentTensor(latent, height: height, width: width)
        let features = try model.unet.encode(x, time: time, text: encoderText)
        let output = try model.unet.decode(
            features, entries: encoderIndex, time: time, text: decoderText, tap: subject,
            tappedRows: branches.count(where: \.isPersonal))
        var sum = [Double](repeating: 0, count: latent.count)
        for (branch, prediction) in zip(branches, model.predictions(output)) {
            for i in sum.indices { sum[i] += branch.weight * Double(prediction[i]) }
        }
        return sum.map(Float.init)
    }
}
