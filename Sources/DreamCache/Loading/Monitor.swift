/// Reports that work goes on, and asks whether it is to stop. A watchdog waits some minutes for a report, and a person
/// who stops a program some seconds, whatever is hashed, converted or computed at that moment.
final class Monitor {
    private let progress: Pipeline.Progress
    private let shouldStop: () -> Bool
    private var current = (phase: "loading", step: 0, steps: 0)
    private var next = ContinuousClock.now
    /// The least time between two reports of one step.
    private static let interval = Duration.milliseconds(50)

    private init(_ progress: @escaping Pipeline.Progress, _ shouldStop: @escaping () -> Bool) {
        self.progress = progress
        self.shouldStop = shouldStop
    }

    /// Calls `body` with a monitor of these closures, which must not live longer than the call.
    static func watching<R, Failure>(
        _ progress: Pipeline.Progress, _ shouldStop: () -> Bool, _ body: (Monitor) throws(Failure) -> R
    ) throws(Failure) -> R {
        try withoutActuallyEscaping(progress) { progress throws(Failure) in
            try withoutActuallyEscaping(shouldStop) { shouldStop throws(Failure) in
                try body(Monitor(progress, shouldStop))
            }
        }
    }

    /// Tells nobody, and never stops.
    static var none: Monitor { Monitor({ _, _, _ in }, { false }) }

    /// A step begins.
    /// - Throws: `.stopped` where that was asked for.
    func begin(_ phase: String, _ step: Int = 0, of steps: Int = 0) throws(DreamCacheError) {
        if shouldStop() { throw .stopped }
        current = (phase, step, steps)
        progress(phase, step, steps)
        next = .now + Self.interval
    }

    /// The step goes on. To be called often; returns whether it is to end.
    func isInterrupted() -> Bool {
        let now = ContinuousClock.now
        guard now >= next else { return false }
        next = now + Self.interval
        progress(current.phase, current.step, current.steps)
        return shouldStop()
    }

    /// As `isInterrupted()`.
    /// - Throws: `.stopped`.
    func check() throws(DreamCacheError) {
        if isInterrupted() { throw .stopped }
    }
}
