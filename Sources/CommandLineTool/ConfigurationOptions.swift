import ArgumentParser
import DreamCache
import Foundation
import Application
import TensorEngine

/// Which configuration, and which spool.
struct ConfigurationOptions: ParsableArguments {
    @Option(
        help: "Configuration file. Without it, /etc/dreamcache/dreamcached.yaml is read, or else etc/dreamcached.yaml.",
        completion: .file(extensions: ["yaml", "yml"]))
    var config: String?

    @Option(help: "Path of the spool, in place of the configured one.", completion: .directory)
    var spool: String?

    /// The configuration with further values of the command line on top. Ends the program with 78 if it cannot be used.
    func settings(_ overrides: [String: String] = [:]) throws -> Settings {
        var overrides = overrides
        overrides["spool.path"] = spool
        do { return try Settings(file: config, overrides: overrides) } catch {
            throw Failure(code: .configuration, message: "\(error)")
        }
    }
}

/// What all commands have that run a model in the foreground.
struct ForegroundOptions: ParsableArguments {
    @OptionGroup var model: ModelOptions
    @OptionGroup var configuration: ConfigurationOptions

    @Flag(help: "Print a JSON description of the result.")
    var json = false

    /// The configuration with the model that was chosen.
    func settings() throws -> Settings { try configuration.settings(try model.overrides()) }
}

/// Which model, and how it is run.
struct ModelOptions: ParsableArguments {
    @Option(help: "Name of a configured model, or the path of a checkpoint.", completion: .file())
    var model: String?

    @Option(
        help: "LDM yaml of the checkpoint that --model names.", completion: .file(extensions: ["yaml", "yml"]))
    var yaml: String?

    @Option(
        help: "Adapter for the checkpoint that --model names: a path, or self, which is the default.",
        completion: .file())
    var adapter: String?

    @Option(
        help: "Autoencoder to use in place of the one in the checkpoint that --model names.", completion: .file())
    var vae: String?

    @Option(
        help: "Compute path: \(ComputePath.choices.joined(separator: ", ")).", completion: .list(ComputePath.choices))
    var compute: String?

    @Option(help: "Number of threads; one per core when not given.")
    var threads: Int?

    /// What these options say, as configuration. A path becomes a model named after its file.
    func overrides() throws -> [String: String] {
        var overrides: [String: String] = [:]
        overrides["compute"] = compute
        overrides["threads"] = threads.map(String.init)
        guard let model else {
            guard yaml == nil, adapter == nil, vae == nil else {
                throw ValidationError("--yaml, --adapter and --vae need --model PATH")
            }
            return overrides
        }
        overrides.merge(Self.overrides(ofModel: model)) { $1 }
        if let name = overrides["model"], overrides["models.\(name).checkpoint"] != nil {
            overrides["models.\(name).yaml"] = yaml.map(Self.absolute)
            overrides["models.\(name).adapter"] = adapter.map { $0 == SelfReading.name ? $0 : Self.absolute($0) }
            overrides["models.\(name).vae"] = vae.map(Self.absolute)
        }
        return overrides
    }

    /// What choosing a model says, as configuration: the name of a configured one, or the path of a checkpoint.
    static func overrides(ofModel model: String) -> [String: String] {
        guard model.contains("/") || FileManager.default.fileExists(atPath: model) else { return ["model": model] }
        let name = Self.name(ofFile: model)
        return ["model": name, "models.\(name).checkpoint": Self.absolute(model)]
    }

    private static func absolute(_ path: String) -> String { URL(fileURLWithPath: path).path }

    private static func name(ofFile path: String) -> String {
        let base = URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
        return String(base.map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-" || $0 == "_") ? $0 : "-" })
    }
}
