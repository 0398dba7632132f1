import ArgumentParser
import Foundation
import Application
import Spool

/// What is in a file.
struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Describe a .dcache, a checkpoint, an adapter, a generated image or a photo.")

    @Argument(help: "The file; its kind is told by its content.", completion: .file())
    var file: String

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        try Terminal.run {
            do {
                let description = try FileDescription(path: file)
                if json { Terminal.result(description.json) } else { Terminal.result(description.text) }
            } catch { throw Failure(code: .failed, message: "\(error)") }
        }
    }
}
