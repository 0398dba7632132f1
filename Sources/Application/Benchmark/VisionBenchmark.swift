import Foundation
import Raster
import TensorEngine
import Vision

/// Measures the networks that look at pictures: the segmenter, and encoders of which a person has the weights. One picture
/// of the network's own size, already decoded and prepared.
public final class VisionBenchmark {
    /// The name that stands for the segmenter that ships with the program.
    public static let segmenter = "segmenter"

    /// Who computes: in fp32, as these networks always do.
    public let path: ComputePath
    private var prepared: [String: (title: String, work: TimedWork)] = [:]
    /// The speed of a large matrix product on this path, in operations per second.
    public let ceiling: Double
    /// Costs by operation over all timed repetitions.
    public let profile = EngineProfile()
    /// Number of threads.
    public var threads: Int { Engine.threadCount }

    /// - Parameters:
    ///   - path: who computes; of a bfloat16 path its library, in fp32.
    ///   - threads: their number; one per core when 0.
    public init(path: ComputePath, threads: Int) throws {
        try ThreadProbe.set(threads)
        self.path = path.inFloat32
        ceiling = try Engine(path: self.path).ceiling()
    }

    /// The time of one picture in a network: `segmenter`, or a file or folder that `ImageEncoder` reads.
    public func repetition(_ network: String) throws -> PartTime {
        let (title, work) = try prepared[network] ?? prepare(network)
        prepared[network] = (title, work)
        return try work.measured(as: network, title: title, profile: profile, ceiling: ceiling)
    }

    private func prepare(_ network: String) throws -> (String, TimedWork) {
        func values(side: Int) -> [Float] { (0..<side * side * 3).map { sin(Float($0) * 0.01) } }
        if network == Self.segmenter {
            let segmenter = try Segmenter(path: path)
            let pixels = values(side: Segmenter.side)
            return (
                "segmenter, U-2-Net small",
                try TimedWork(segmenter.engine) {
                    try segmenter.saliency(ofInput: pixels).likelihoods
                }
            )
        }
        let encoder = try ImageEncoder(network, compute: path)
        let pixels = values(side: encoder.preparation.side)
        return (encoder.name, try TimedWork(encoder.engine) { try encoder.features(ofPixels: pixels) })
    }
}
