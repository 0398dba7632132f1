import ArgumentParser
import Diffusion
import DreamCache
import Foundation
import Glibc
import Application
import Spool
import TensorEngine

/// Looks at everything a working installation needs, and says of each thing whether it is well.
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Check the configuration, the models, the spool, its permissions and the CPU.")

    @OptionGroup var configuration: ConfigurationOptions

    @Flag(help: "Load the models; otherwise only their files are looked for.")
    var load = false

    @Flag(help: "Print JSON.")
    var json = false

    private struct Finding {
        let what: String
        let isWell: Bool
        let detail: String
    }

    func run() throws {
        try Terminal.run {
            let settings = try configuration.settings()
            var findings = [
                Finding(what: "configuration", isWell: true, detail: settings.file ?? "no file; defaults")
            ]
            findings += ComputePath.allCases.map { path in
                Finding(
                    what: "compute \(path.rawValue)", isWell: path != settings.compute || path.isSupported,
                    detail: (path == settings.compute ? "in use; " : "") + path.reason)
            }
            let obstacle = ConfinedDecoder.obstacle()
            findings.append(
                Finding(
                    what: "pictures", isWell: obstacle == nil,
                    detail: obstacle ?? "decoded in a process of their own, confined by seccomp"))
            findings += try Self.models(settings, load: load)
            findings += Self.preparedWeights(settings)
            findings += Self.spool(settings.spool)
            if json {
                Terminal.result(
                    .array(
                        findings.map {
                            .object(["what": .string($0.what), "well": .bool($0.isWell), "detail": .string($0.detail)])
                        }))
            } else {
                for finding in findings {
                    Terminal.result("\(finding.isWell ? "ok  " : "BAD ") \(finding.what): \(finding.detail)")
                }
            }
            if findings.contains(where: { !$0.isWell }) {
                throw Failure(code: .configuration, message: "not everything is well")
            }
        }
    }

    private static func models(_ settings: Settings, load: Bool) throws -> [Finding] {
        guard !settings.models.isEmpty else {
            return [Finding(what: "models", isWell: false, detail: "none configured; expected one under models")]
        }
        var findings: [Finding] = []
        for (name, files) in settings.models.sorted(by: { $0.key < $1.key }) {
            for path in [files.checkpoint, files.yaml, files.adapter].compactMap(\.self) {
                let isReadable = access(path, R_OK) == 0
                findings.append(
                    Finding(
                        what: "model \(name)", isWell: isReadable,
                        detail: isReadable ? path : "\(path): \(String(cString: strerror(errno)))"))
            }
            if files.adapter == nil {
                let detail = "\(files.selfReading.description): none is configured, the base itself reads the subject"
                findings.append(Finding(what: "model \(name) adapter", isWell: true, detail: detail))
            }
            if load {
                let summary = ModelSummary.load(files, compute: settings.compute)
                findings.append(Finding(what: "model \(name) loads", isWell: summary.isWell, detail: summary.text))
            }
        }
        return findings
    }

    private static func preparedWeights(_ settings: Settings) -> [Finding] {
        guard let folder = settings.preparedWeights else { return [] }
        if access(folder, R_OK | W_OK | X_OK) == 0 {
            return [Finding(what: "prepared weights", isWell: true, detail: folder)]
        }
        let isMissing = errno == ENOENT
        let reason = isMissing ? "not there yet; the first image makes it" : String(cString: strerror(errno))
        return [Finding(what: "prepared weights", isWell: isMissing, detail: "\(folder): \(reason)")]
    }

    private static func spool(_ configuration: SpoolConfiguration) -> [Finding] {
        let root = configuration.root
        var findings: [Finding] = []
        for folder in ["", "/drop/references", "/drop/datasets", "/drop/jobs", "/receipts", "/cache", "/out", "/lib"] {
            let path = root + folder
            let isWell = access(path, R_OK | W_OK | X_OK) == 0
            let reason = String(cString: strerror(errno))
            findings.append(
                Finding(
                    what: "spool", isWell: isWell || folder != "",
                    detail: isWell ? path : "\(path): \(reason)\(folder == "" ? "" : "; the daemon makes it")"))
        }
        if let free = try? FreeSpace.bytes(at: root) {
            findings.append(
                Finding(
                    what: "space", isWell: free >= configuration.minimumFreeBytes,
                    detail: "\(free >> 20) MB free, at least \(configuration.minimumFreeBytes >> 20) MB wanted"))
        }
        return findings
    }
}
