import ArgumentParser
import Application

/// A model to try the program with.
struct RandomModelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "random-model",
        abstract: "Write a model of random weights to try the program with; its pictures are noise.")

    @Argument(help: "Folder to write into; it is made.", completion: .directory)
    var folder: String

    @Option(
        help: "Geometry: sd21, sd15 (5 GB each) or tiny.",
        completion: .list(RandomModel.Geometry.allCases.map(\.rawValue)))
    var geometry = "tiny"

    func validate() throws { _ = try RandomModel.Geometry(option: geometry) }

    func run() throws {
        let geometry = try RandomModel.Geometry(option: geometry)
        try Terminal.run {
            do { try RandomModel.write(geometry, into: folder) } catch {
                throw Failure(code: .failed, message: "\(error)")
            }
            Terminal.result("\(folder)/\(RandomModel.checkpointName)")
            Terminal.result("\(folder)/\(RandomModel.adapterName)")
        }
    }
}

extension RandomModel.Geometry {
    /// What `--geometry` names.
    init(option text: String) throws {
        guard let geometry = Self(rawValue: text) else {
            throw ValidationError("--geometry: found '\(text)', expected sd21, sd15 or tiny")
        }
        self = geometry
    }
}
