import ArgumentParser
import Checkpoint
import Diffusion
import Foundation
import Glibc
import Application
import Spool
import TensorEngine

/// The speed of every part on this machine.
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure the parts of a model with random weights; nothing is downloaded.",
        discussion: """
            Parts: \(Benchmark.Part.allCases.map { "\($0.rawValue) (\($0.title))" }.joined(separator: ", ")).

            --vision measures the networks that look at pictures instead, one picture each.

            With --interactive the names of parts are read from standard input, one per line. Each part is run once. A line \
            of JSON on standard output says how long it took, so that two programs can be measured in turn.
            """)

    @Option(help: "Geometry: sd21, sd15 or tiny.", completion: .list(RandomModel.Geometry.allCases.map(\.rawValue)))
    var geometry = "sd21"

    @Option(
        help: "Compute path: \(ComputePath.choices.joined(separator: ", ")).", completion: .list(ComputePath.choices))
    var compute = "auto"

    @Option(help: "Number of threads; one per core when 0.")
    var threads = 0

    @Option(help: "Repetitions of each part; the shortest time counts.")
    var repetitions = 3

    @Option(help: "Parts to measure, separated by commas; all when empty.")
    var parts = ""

    @Option(
        help: ArgumentHelp(
            "segmenter, or files and folders of encoders (DINO, DINOv2, CLIP), separated by commas, in place of parts.",
            valueName: "networks"))
    var vision = ""

    @Option(
        help: ArgumentHelp(
            "safetensors with the weights of U-Net and adapter, and inputs to run them on; see Tests/Benchmarks.",
            valueName: "file"), completion: .file(extensions: ["safetensors"]))
    var weights: String?

    @Option(
        help: ArgumentHelp(
            "safetensors to write the predictions of the parts unet, personal and step and the gradients of train to.",
            valueName: "file"),
        completion: .file(extensions: ["safetensors"]))
    var outputs: String?

    @Option(
        help: "What training keeps for the way back: everything or inputs.",
        completion: .list(KeptForBackward.allCases.map(\.rawValue)))
    var keep = KeptForBackward.everything.rawValue

    @Flag(help: "Measure the parts that standard input names.")
    var interactive = false

    @Flag(help: "Add the costs per operation and shape.")
    var profile = false

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let geometry = try RandomModel.Geometry(option: geometry)
        guard let path = compute == "auto" ? .best : ComputePath(rawValue: compute) else {
            throw ValidationError(
                "--compute: found '\(compute)', expected one of \(ComputePath.choices.joined(separator: ", "))")
        }
        guard let keeping = KeptForBackward(rawValue: keep) else {
            throw ValidationError("--keep: found '\(keep)', expected everything or inputs")
        }
        let named = try parts.split(separator: ",").map { try Self.part($0, in: "--parts") }
        let parts = named.isEmpty ? Benchmark.Part.allCases : named
        let networks = vision.split(separator: ",").map(String.init)
        if !networks.isEmpty, !self.parts.isEmpty || weights != nil || outputs != nil {
            throw ValidationError("--vision: found --parts, --weights or --outputs beside it, expected networks alone")
        }
        try Terminal.run {
            do {
                if networks.isEmpty {
                    let bench = try Benchmark(
                        geometry, path: path, threads: threads, weights: weights, keeping: keeping)
                    if let outputs { try write(outputs, bench, parts) }
                    try measure(
                        Bench(
                            title: geometry.rawValue, path: path, threads: bench.threads, ceiling: bench.ceiling,
                            profile: bench.profile, names: parts.map(\.rawValue)
                        ) { name in try bench.repetition(try Self.part(name, in: "standard input")) })
                } else {
                    let bench = try VisionBenchmark(path: path, threads: threads)
                    try measure(
                        Bench(
                            title: "vision", path: bench.path, threads: bench.threads, ceiling: bench.ceiling,
                            profile: bench.profile, names: networks, repetition: bench.repetition))
                }
            } catch { throw Failure(code: .failed, message: "\(error)") }
        }
    }

    /// What is measured, by names.
    private struct Bench {
        let title: String
        let path: ComputePath
        let threads: Int
        let ceiling: Double
        let profile: EngineProfile
        let names: [String]
        let repetition: (String) throws -> PartTime

        /// Of the whole; what is nil is left out.
        func json(parts: [JSON]? = nil, memory: Int? = nil, profile: [JSON]? = nil) -> JSON {
            .object([
                "geometry": .string(title), "compute": .string(path.rawValue), "threads": .integer(threads),
                "ceiling_gflop_per_second": .number(ceiling / 1e9), "parts": parts.map(JSON.array),
                "peak_memory_bytes": memory.map(JSON.integer), "profile": profile.map(JSON.array),
            ])
        }
    }

    private func measure(_ bench: Bench) throws {
        if interactive {
            try answer(bench)
        } else {
            try measureAll(bench)
        }
    }

    private static func part(_ name: some StringProtocol, in place: String) throws -> Benchmark.Part {
        guard let part = Benchmark.Part(rawValue: String(name)) else {
            let known = Benchmark.Part.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("\(place): found '\(name)', expected \(known)")
        }
        return part
    }

    private func write(_ path: String, _ bench: Benchmark, _ parts: [Benchmark.Part]) throws {
        var writer = SafetensorsWriter()
        for part in parts {
            for output in try bench.outputs(of: part) {
                writer.add(output.name, type: .f32, shape: output.shape, floats: output.values)
            }
        }
        try writer.write(toPath: path)
    }

    // MARK: On request

    private func answer(_ bench: Bench) throws {
        say(bench.json())
        while let line = readLine() { say(Self.entry(try bench.repetition(line))) }
    }

    /// A line that the reader at the other end of a pipe sees at once.
    private func say(_ json: JSON) {
        print(json.text(pretty: false))
        fflush(nil)
    }

    // MARK: All at once

    private func measureAll(_ bench: Bench) throws {
        if !json {
            Terminal.result(
                "\(bench.title) on \(bench.path.rawValue), \(bench.threads) threads; "
                    + "a large matrix product runs at \(Self.giga(bench.ceiling)) GFLOP/s")
            Terminal.result(Self.row("part", "seconds", "GFLOP", "GFLOP/s", "of ceiling"))
        }
        var entries: [JSON] = []
        for name in bench.names {
            let result = try PartTime.least(of: repetitions) { try bench.repetition(name) }
            entries.append(Self.entry(result))
            guard !json else { continue }
            Terminal.result(
                Self.row(
                    result.title, String(format: "%.4f", result.seconds), Self.giga(result.flops),
                    Self.giga(result.flops / result.seconds), String(format: "%.0f %%", result.shareOfCeiling * 100)))
        }
        let operations = bench.profile.entries.sorted { $0.value.seconds > $1.value.seconds }
        if json {
            let costs = operations.map { name, entry in
                JSON.object([
                    "operation": .string(name), "calls": .integer(entry.calls), "seconds": .number(entry.seconds),
                    "gflop": .number(entry.flops / 1e9),
                ])
            }
            Terminal.result(
                bench.json(parts: entries, memory: PartTime.peakMemory, profile: profile ? costs : nil))
            return
        }
        Terminal.result("peak memory \(PartTime.peakMemory >> 20) MB")
        guard profile else { return }
        Terminal.result(Self.row("operation, in all parts together", "seconds", "calls", "GFLOP/s", ""))
        for (name, entry) in operations {
            Terminal.result(
                Self.row(
                    name, String(format: "%.3f", entry.seconds), "\(entry.calls)",
                    entry.flops > 0 ? Self.giga(entry.flops / entry.seconds) : "", ""))
        }
    }

    private static func entry(_ result: PartTime) -> JSON {
        .object([
            "part": .string(result.name), "seconds": .number(result.seconds),
            "gflop": .number(result.flops / 1e9),
            "gflop_per_second": .number(result.flops / result.seconds / 1e9),
            "share_of_ceiling": .number(result.shareOfCeiling),
            "peak_memory_bytes": .integer(PartTime.peakMemory),
        ])
    }

    private static func giga(_ value: Double) -> String { String(format: "%.0f", value / 1e9) }

    private static func row(_ name: String, _ columns: String...) -> String {
        let widths = [10, 9, 9, 12]
        let cells = zip(columns, widths).map { String(repeating: " ", count: max(1, $1 - $0.count)) + $0 }
        return name + String(repeating: " ", count: max(1, 60 - name.count)) + cells.joined()
    }
}
