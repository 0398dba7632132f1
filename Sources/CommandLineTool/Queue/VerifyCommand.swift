import ArgumentParser
import Application
import DreamCache
import Spool

/// The oracle.
struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Check that the spool is whole: states, sets, hashes, caches, keys, receipts.",
        discussion: """
            Everything that is wrong is listed, whatever else is wrong. With --repair, what can be made again is made \
            again or prepared for it, as the daemon does when it starts and when it comes upon damage; what is \
            somebody's goes to lib/rejected. That needs the daemon to be stopped.
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
