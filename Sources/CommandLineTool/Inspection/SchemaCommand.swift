import Application
import ArgumentParser
import Spool
import Training

/// The JSON Schemas of what users write and of what the daemon writes for them.
struct SchemaCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "schema", abstract: "Print the JSON Schema (2020-12) of a job manifest, or of another document.")

    /// The documents that have one.
    enum Document: String, ExpressibleByArgument, CaseIterable {
        case manifest, training, receipt, status, progress
    }

    @Argument(
        help: """
            manifest, training (a manifest of that kind), receipt (receipts/*.json), status (status.json) or progress (a job's \
            progress.json).
            """)
    var document = Document.manifest

    @Flag(help: "Print JSON, as this command always does.")
    var json = false

    func run() throws {
        try Terminal.run { Terminal.result(schema) }
    }

    private var schema: JSON {
        switch document {
        case .manifest: JobManifest.jsonSchema
        case .training:
            JobManifest.trainingSchema(settings: TrainingSettings.manifestSchema).document(
                titled: "DreamCache training manifest")
        case .receipt: SpoolSchemas.receipt.document(titled: "DreamCache receipt")
        case .status: SpoolSchemas.status.document(titled: "DreamCache daemon status")
        case .progress: SpoolSchemas.progress.document(titled: "DreamCache job progress")
        }
    }
}
