import ArgumentParser
import Spool

/// The manifest's JSON Schema.
struct SchemaCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "schema", abstract: "Print the JSON Schema (2020-12) of a job manifest.")

    @Flag(help: "Accepted for uniformity: the output is JSON in any case.")
    var json = false

    func run() { Terminal.result(JobManifest.jsonSchema) }
}
