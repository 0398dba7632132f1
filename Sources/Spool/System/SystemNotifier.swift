import CLinux
import Glibc

/// The sending side of sd_notify(3): one datagram to the socket that systemd names in `NOTIFY_SOCKET`.
public struct SystemNotifier: Sendable {
    private let address: String?

    /// A notifier for an address: a path, or `@name` in the abstract namespace; nil sends nothing.
    public init(address: String?) { self.address = address }

    /// The one the environment asks for.
    public static func fromEnvironment() -> SystemNotifier {
        SystemNotifier(address: getenv("NOTIFY_SOCKET").map { String(cString: $0) })
    }

    /// How often systemd wants to hear `WATCHDOG=1`, in seconds: half of `WATCHDOG_USEC`, or nil when it does not.
    public static func watchdogInterval() -> Double? {
        guard let value = getenv("WATCHDOG_USEC"), let microseconds = Double(String(cString: value)), microseconds > 0,
            getenv("WATCHDOG_PID").map({ String(cString: $0) == String(getpid()) }) ?? true
        else { return nil }
        return microseconds / 2e6
    }

    /// Sends a state; a supervisor that does not listen is no fault of ours.
    ///
    /// - Returns: whether it was sent.
    @discardableResult
    public func send(_ state: String) -> Bool {
        guard let address else { return false }
        let bytes = Array(state.utf8)
        return clinux_send_datagram(address, bytes, bytes.count) == 0
    }

    /// `RELOADING=1` with the time stamp that `Type=notify-reload` asks for.
    @discardableResult
    public func sendReloading() -> Bool {
        send("RELOADING=1\nMONOTONIC_USEC=\(Int(SpoolClock.system.monotonic() * 1e6))")
    }
}
