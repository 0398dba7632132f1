import Application
import ArgumentParser
import Checkpoint
import DreamCache

/// What is done with adapters.
struct AdapterCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "adapter", abstract: "Make adapters.", subcommands: [Create.self])

    /// An adapter out of the base itself.
    struct Create: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "create", abstract: "Make an adapter of a model's own self-attention, without training.",
            discussion: """
                A model without an adapter reads subjects so anyway (adapter: self), and better: exactly, and with the \
                reference's background told from the subject. The file holds what linear maps can do of it, in the shape \
                that the method's authors gave theirs. It is what training begins with, and convert makes a .pt of it.
                """)

        @Argument(help: "Name of a configured model, or the path of a checkpoint.")
        var model: String

        @Option(help: "The safetensors file to make.")
        var out: String

        @Option(help: "How much of what is read comes from the subject, 0 to 1.")
        var weight = SelfAdapter.weight

        @Option(help: "F32, F16 or BF16.")
        var type = "F32"

        @OptionGroup var configuration: ConfigurationOptions

        func run() throws {
            guard let type = StoredElementType(rawValue: type), [.f16, .bf16, .f32].contains(type) else {
                throw ValidationError("--type: found '\(type)', expected F32, F16 or BF16")
            }
            guard (0...1).contains(weight) else {
                throw ValidationError("--weight: found \(weight), expected a number from 0 to 1")
            }
            try Terminal.run {
                let settings = try configuration.settings(ModelOptions.overrides(ofModel: model))
                guard let name = settings.defaultModel, let files = settings.models[name] else {
                    throw Failure(
                        code: .configuration, message: "model: found '\(model)', expected a configured model or a path")
                }
                do { try SelfAdapter.write(for: files, to: out, weight: weight, type: type) } catch {
                    throw Failure(code: .failed, message: "\(error)")
                }
                Terminal.result(out)
            }
        }
    }
}
