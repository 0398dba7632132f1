import ArgumentParser
import Service

/// A model to try the program with.
struct RandomModelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "random-model",
        abstract: "Write a small model of random weights to try the program with; its pictures are noise.")

    @Argument(help: "Folder to write into; it is made.")
    var folder: String

    func run() throws {
        try Terminal.run {
            do { try RandomModel.write(into: folder) } catch { throw Failure(code: .failed, message: "\(error)") }
            Terminal.result("\(folder)/\(RandomModel.checkpointName)")
            Terminal.result("\(folder)/\(RandomModel.adapterName)")
        }
    }
}
