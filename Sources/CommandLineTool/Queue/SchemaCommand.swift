import ArgumentParser
import Spool

/// The JSON Schemas of what users write and of what the daemon writes for them.
struct SchemaCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "schema", abstract: "Print a JSON Schema (2020-12): that of a job manifest, when none is named.")

    /// The documents that have one.
    enum Document: String, ExpressibleByArgument, CaseIterable {
        case manifest, receipt, status, progress
    }

    @Argument(help: "manifest, receipt (receipts/*.json), status (status.json) or progress (a job's progress.json).")
    var document = Document.manifest

    @Flag(help: "Accepted for uniformity: the output is JSON in any case.")
    var json = false

    func run() {
        switch document {
        case .manifest: Terminal.result(JobManifest.jsonSchema)
        case .receipt: Terminal.result(SpoolSchemas.receipt.document(titled: "DreamCache receipt"))
        case .status: Terminal.result(SpoolSchemas.status.document(titled: "DreamCache daemon status"))
        case .progress: Terminal.result(SpoolSchemas.progress.document(titled: "DreamCache job progress"))
        }
    }
}
