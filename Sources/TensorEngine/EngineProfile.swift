/// Time and arithmetic of an engine's operations, by kind and shape. Give one to an engine to find out where time goes.
public final class EngineProfile {
    /// What one kind of operation on one shape has cost so far.
    public struct Entry: Sendable {
        /// How often it ran.
        public var calls = 0
        /// Time in all.
        public var seconds = 0.0
        /// Floating-point operations in all, a multiply and an add counted as two; 0 where memory, not arithmetic, bounds it.
        public var flops = 0.0
    }

    /// Costs by name, such as `convolution 3x3 [2, 64, 64, 320] -> 320`.
    public private(set) var entries: [String: Entry] = [:]

    /// An empty profile.
    public init() {}

    /// Floating-point operations of everything that ran.
    public var flops: Double { entries.values.reduce(0) { $0 + $1.flops } }

    func measure<R, E: Error>(
        _ name: @autoclosure () -> String, flops: Double = 0, _ work: () throws(E) -> R
    ) throws(E) -> R {
        let start = ContinuousClock.now
        let result = try work()
        var entry = entries[name(), default: Entry()]
        entry.calls += 1
        entry.seconds += (ContinuousClock.now - start) / .seconds(1)
        entry.flops += flops
        entries[name()] = entry
        return result
    }
}

extension Engine {
    /// Runs one operation, measured where a profile is kept.
    func measured<R>(
        _ name: @autoclosure () -> String, flops: @autoclosure () -> Double = 0, _ work: () throws(EngineError) -> R
    ) throws(EngineError) -> R {
        guard let profile else { return try work() }
        return try profile.measure(name(), flops: flops(), work)
    }
}
