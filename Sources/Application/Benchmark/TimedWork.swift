import Foundation
import TensorEngine

/// What one piece of work took.
public struct PartTime: Sendable {
    /// By which name it is asked for.
    public let name: String
    /// What it is.
    public let title: String
    /// The time of one repetition, or the shortest of several, which noise disturbs least.
    public let seconds: Double
    /// Floating-point operations of one repetition, a multiply and an add counted as two.
    public let flops: Double
    /// Speed against that of a large matrix product measured in the same run.
    public let shareOfCeiling: Double

    /// The least of several repetitions.
    public static func least(of repetitions: Int, _ repetition: () throws -> PartTime) throws -> PartTime {
        var best = try repetition()
        for _ in 1..<max(1, repetitions) {
            let next = try repetition()
            if next.seconds < best.seconds { best = next }
        }
        return best
    }

    /// Peak of the process's memory, in bytes (`VmHWM` of proc(5)).
    public static var peakMemory: Int { ProcessMemory.bytes(of: "VmHWM") }
}

/// Work that is ready to be timed: its first run makes primitives, lays out weights and fills the pool; the second is counted.
struct TimedWork {
    private let engine: Engine
    private let work: () throws -> [Float]
    /// Floating-point operations of one run.
    let flops: Double

    init(_ engine: Engine, _ work: @escaping () throws -> [Float]) throws {
        self.engine = engine
        self.work = work
        _ = try work()
        let counter = EngineProfile()
        engine.profile = counter
        defer { engine.profile = nil }
        _ = try work()
        flops = counter.flops
    }

    /// One run that nobody times.
    func run() throws -> [Float] { try work() }

    /// One timed run, whose costs by operation are added to `profile`.
    func measured(as name: String, title: String, profile: EngineProfile, ceiling: Double) throws -> PartTime {
        engine.profile = profile
        defer { engine.profile = nil }
        let start = ContinuousClock.now
        _ = try work()
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        return PartTime(
            name: name, title: title, seconds: seconds, flops: flops, shareOfCeiling: flops / seconds / ceiling)
    }
}

extension Engine {
    /// The speed of a large matrix product, in operations per second: no part is faster.
    func ceiling() throws -> Double {
        let size = 2048
        let weights = try weights(.linear, inputs: size, outputs: size, bias: nil) { buffer in
            for i in buffer.indices { buffer[i] = Float(i % 17) / 17 - 0.5 }
        }
        let x = try converted(
            try tensor((0..<size * size).map { Float($0 % 13) / 13 - 0.5 }, shape: [size, size]),
            to: activationType)
        var best = Double.infinity
        // The clock of a CPU that was idle rises within some tenths of a second.
        for _ in 0..<60 {
            let start = ContinuousClock.now
            _ = try product(x, weights, to: activationType)
            best = min(best, (ContinuousClock.now - start) / .seconds(1))
        }
        return 2 * pow(Double(size), 3) / best
    }
}
