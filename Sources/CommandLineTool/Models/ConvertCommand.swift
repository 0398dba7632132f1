import ArgumentParser
import Checkpoint
import Diffusion
import DreamCache
import Foundation

/// Model files into other formats.
struct ConvertCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "convert", abstract: "Convert a checkpoint or an adapter to another format or precision.",
        discussion: """
            An adapter is converted between the authors' .pt and safetensors with ModelSpec metadata; the output's \
            extension says which. A checkpoint, be it a file or a diffusers folder, becomes safetensors in the precision \
            of --type.
            """)

    @Argument(help: "The checkpoint or adapter; its kind is told by its content.", completion: .file())
    var input: String

    @Argument(help: "The file to write; for a diffusers folder, the folder.", completion: .file())
    var output: String

    @Option(
        help: "F16, BF16 or F32. When not given, an adapter keeps its own, and a checkpoint becomes F16.",
        completion: .list(["F16", "BF16", "F32"]))
    var type: String?

    @Option(
        help: """
            Base of an adapter whose file does not name it: \
            \(BaseArchitecture.allCases.map(\.rawValue).joined(separator: ", ")).
            """,
        completion: .list(BaseArchitecture.allCases.map(\.rawValue)))
    var architecture: String?

    @Option(help: "Title of an adapter.")
    var title: String?

    @Option(help: "Variant of a folder's weights, such as fp16.")
    var variant: String?

    func run() throws {
        let elementType = try type.map { name in
            guard let type = StoredElementType(rawValue: name), [.f16, .bf16, .f32].contains(type) else {
                throw ValidationError("--type: found '\(name)', expected F16, BF16 or F32")
            }
            return type
        }
        let base = try architecture.map { name in
            guard let base = BaseArchitecture(rawValue: name) else {
                let known = BaseArchitecture.allCases.map(\.rawValue).joined(separator: ", ")
                throw ValidationError("--architecture: found '\(name)', expected one of \(known)")
            }
            return base
        }
        try Terminal.run {
            do { try convert(elementType, base) } catch let error as DreamCacheError {
                throw Failure(code: .failed, message: "\(error)")
            } catch let error as CheckpointError { throw Failure(code: .failed, message: "\(error)") }
            Terminal.result(output)
        }
    }

    private func convert(_ type: StoredElementType?, _ base: BaseArchitecture?) throws {
        var isFolder: ObjCBool = false
        let isFile = FileManager.default.fileExists(atPath: input, isDirectory: &isFolder) && !isFolder.boolValue
        if isFile, try Checkpoint.open(input).tensors.keys.contains(where: { $0.contains(".attn_mem.") }) {
            let adapter = try AdapterFile(path: input)
            if output.hasSuffix(".pt") {
                try adapter.writeTorch(to: output, type: type)
            } else {
                try adapter.writeSafetensors(to: output, architecture: base, title: title, type: type)
            }
        } else {
            try Conversion.checkpoint(input, to: output, type: type ?? .f16, variant: variant)
        }
    }
}
