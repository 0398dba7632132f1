import ArgumentParser
import Service

/// A model to try the program with.
struct RandomModelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "random-model",
        abstract: "Write a model of random weights to try the program with; its pictures are noise.")

    @Argument(help: "Folder to write into; it is made.")
    var folder: String

    @Option(help: "Geometry: sd21, sd15 (5 GB each) or tiny.")
    var geometry = "tiny"

    func validate() throws {
        guard RandomModel.Geometry(rawValue: geometry) != nil else {
            throw ValidationError("--geometry: found '\(geometry)', expected sd21, sd15 or tiny")
        }
    }

    func run() throws {
        try Terminal.run {
            let geometry = RandomModel.Geometry(rawValue: geometry) ?? .tiny
            do { try RandomModel.write(geometry, into: folder) } catch {
                throw Failure(code: .failed, message: "\(error)")
            }
            Terminal.result("\(folder)/\(RandomModel.checkpointName)")
            Terminal.result("\(folder)/\(RandomModel.adapterName)")
        }
    }
}
