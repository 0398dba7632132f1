import CLinux
import Glibc

/// The two clocks the spool reads, as values, so that tests can turn them.
///
/// Decisions are made by `monotonic` alone; `wall` is only written down for people to read.
public struct SpoolClock: Sendable {
    /// Seconds since some fixed moment; never goes back, not even when the machine's time is set.
    public let monotonic: @Sendable () -> Double
    /// Seconds since 1970, UTC.
    public let wall: @Sendable () -> Double

    /// Two clocks.
    public init(monotonic: @escaping @Sendable () -> Double, wall: @escaping @Sendable () -> Double) {
        self.monotonic = monotonic
        self.wall = wall
    }

    /// The machine's.
    public static let system = SpoolClock(monotonic: { read(CLOCK_MONOTONIC) }, wall: { read(CLOCK_REALTIME) })

    private static func read(_ clock: clockid_t) -> Double {
        var time = timespec()
        clock_gettime(clock, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
