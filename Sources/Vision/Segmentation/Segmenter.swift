import Checkpoint
import TensorEngine

/// Tells the subject of a photo from its background. Belongs to one thread, as its engine does.
public final class Segmenter {
    /// Name and version of network and weights, for what depends on the masks.
    public static let version = "u2netp-2"
    /// Width and height of the picture it looks at, in pixels.
    public static let side = 320

    package let engine: Engine
    private let network: U2Net

    /// - Parameters:
    ///   - path: who computes, always in fp32: of a bfloat16 path its library.
    ///   - weights: path of the network's weights; nil takes those that ship with the program.
    /// - Throws: `VisionError` naming what is missing or does not fit.
    public init(path: ComputePath = .best, weights: String? = nil) throws(VisionError) {
        let file = InstalledFile("u2netp.safetensors", of: "Vision")
        guard let weights = weights ?? file.path else {
            throw .missing(name: "u2netp.safetensors", candidates: file.candidates)
        }
        let engine = try onEngine { () throws(EngineError) in try Engine(path: path.inFloat32) }
        let checkpoint: Checkpoint
        do { checkpoint = try Checkpoint.open(weights) } catch { throw .checkpoint(error) }
        network = try U2Net(checkpoint, engine: engine)
        self.engine = engine
    }

    /// How likely each pixel shows the subject.
    ///
    /// - Parameters:
    ///   - pixels: `[side, side, 3]`, sRGB values of 8 bits, of the whole upright photo squashed to the square (Lanczos).
    ///   - progress: told how many stages of how many are done.
    ///   - shouldStop: asked before each stage.
    /// - Throws: `VisionError.stopped`, or what the engine cannot do.
    public func saliency(
        of pixels: [UInt8], progress: (_ step: Int, _ steps: Int) -> Void = { _, _ in },
        shouldStop: () -> Bool = { false }
    ) throws(VisionError) -> SaliencyMap {
        let count = Self.side * Self.side * 3
        guard pixels.count == count else {
            throw .size(found: "\(pixels.count) values", expected: "\(Self.side)x\(Self.side) of RGB, \(count)")
        }
        return try saliency(ofInput: Self.normalised(pixels), progress: progress, shouldStop: shouldStop)
    }

    /// As the network's input: `[side, side, 3]`.
    package func saliency(
        ofInput values: [Float], progress: (_ step: Int, _ steps: Int) -> Void = { _, _ in },
        shouldStop: () -> Bool = { false }
    ) throws(VisionError) -> SaliencyMap {
        let x = try onEngine { () throws(EngineError) in
            try engine.tensor(values, shape: [1, Self.side, Self.side, 3])
        }
        let y = try network(x) { stage throws(VisionError) in
            if shouldStop() { throw .stopped }
            progress(stage, U2Net.stages)
        }
        progress(U2Net.stages, U2Net.stages)
        return SaliencyMap(width: Self.side, height: Self.side, likelihoods: engine.floats(y))
    }

    /// Gives the memory of earlier looks back, which the next would use again.
    public func trimMemory() { engine.trimMemory() }

    /// Divided by the greatest value, then by ImageNet's mean and deviation, as the authors' code does it.
    static func normalised(_ pixels: [UInt8]) -> [Float] {
        let mean: [Float] = [0.485, 0.456, 0.406], deviation: [Float] = [0.229, 0.224, 0.225]
        // A picture that is black all over stays so.
        let greatest = Float(max(1, pixels.max() ?? 1))
        // The few values there are, once.
        let table = (0..<3).map { c in (0...255).map { (Float($0) / greatest - mean[c]) / deviation[c] } }
        return [Float](unsafeUninitializedCapacity: pixels.count) { buffer, count in
            for i in pixels.indices { buffer[i] = table[i % 3][Int(pixels[i])] }
            count = pixels.count
        }
    }
}

extension ComputePath {
    /// The path of the same library that computes in fp32.
    package var inFloat32: ComputePath {
        switch self {
        case .oneDNNBF16, .oneDNNFP32: .oneDNNFP32
        case .openBLASBF16, .openBLAS: .openBLAS
        }
    }
}
