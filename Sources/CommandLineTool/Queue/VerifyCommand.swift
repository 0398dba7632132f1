import ArgumentParser
import Application
import DreamCache
import Spool

/// Checks the spool, and repairs it where asked.
struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Check that the spool is whole: its states, sets, hashes, caches, keys and receipts.",
        discussion: """
            The command lists everything that is wrong. With --repair, which needs the daemon to be stopped, it makes \
            again what can be made again, or leaves that to the daemon's next start. What belongs to a user is never \
            deleted; it goes to lib/rejected.

            Exit codes: 0 whole, 1 errors are left, 75 a daemon is running.
            """)

    @OptionGroup var configuration: ConfigurationOptions

    @Flag(help: "Repair what can be repaired.")
    var repair = false

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        try Terminal.run {
            let (client, _) = try configuration.client()
            let isSound = { (path: String) in (try? FeatureCache.open(path)) != nil }
            let left: [Finding]
            if repair {
                let repair = try onSpool { () throws(SpoolError) in try client.repair(isSound: isSound) }
                left = repair.left
                report(repair)
            } else {
                left = try onSpool { () throws(SpoolError) in try client.verify(isSound: isSound) }
                if json { Terminal.result(.array(left.map(\.json))) } else { left.forEach { Terminal.result("\($0)") } }
            }
            let errors = left.count { $0.level == .error }
            if errors > 0 { throw Failure(code: .failed, message: "\(errors) things are wrong") }
            if !json { Terminal.result("the spool is whole") }
        }
    }

    private func report(_ repair: Repair) {
        guard !json else {
            return Terminal.result(
                .object([
                    "repaired": .array(repair.repaired.map(\.json)), "left": .array(repair.left.map(\.json)),
                    "refusals": .array(repair.refusals.map { .string($0) }),
                ]))
        }
        for finding in repair.repaired { Terminal.result("repaired: \(finding.path): \(finding.message)") }
        for finding in repair.left {
            let isLost = finding.level == .error
            Terminal.result(isLost ? "cannot be repaired: \(finding.path): \(finding.message)" : "\(finding)")
        }
        for refusal in repair.refusals { Terminal.note(refusal) }
    }
}
