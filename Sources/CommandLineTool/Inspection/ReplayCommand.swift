import ArgumentParser
import Application
import Foundation

/// An image back to the manifest it was made from.
struct ReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay", abstract: "Print the manifest that makes a generated image again.")

    @Argument(
        help: "A PNG or JPEG that DreamCache made with full metadata.",
        completion: .file(extensions: ["png", "jpg", "jpeg"]))
    var image: String

    @Flag(help: "Print JSON, as this command always does.")
    var json = false

    func run() throws {
        try Terminal.run {
            do { Terminal.result(try FileDescription.manifest(ofImage: image)) } catch {
                throw Failure(code: .failed, message: "\(error)")
            }
        }
    }
}
