import ArgumentParser
import Foundation
import Service
import Spool
import TensorEngine

/// The speed of every part on this machine.
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure every part of a model with random weights; nothing is downloaded.")

    @Option(help: "Geometry: sd21, sd15 or tiny.")
    var geometry = "sd21"

    @Option(help: "Who computes: auto, onednn-bf16, onednn-fp32 or openblas.")
    var compute = "auto"

    @Option(help: "Threads that compute; one a core when 0.")
    var threads = 0

    @Option(help: "Repetitions of each part; the least time counts.")
    var repetitions = 3

    @Flag(help: "Add the costs by operation and shape.")
    var profile = false

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        guard let geometry = Benchmark.Geometry(rawValue: geometry) else {
            throw ValidationError("--geometry: found '\(geometry)', expected sd21, sd15 or tiny")
        }
        guard let path = compute == "auto" ? .best : ComputePath(rawValue: compute) else {
            throw ValidationError("--compute: found '\(compute)', expected auto, onednn-bf16, onednn-fp32 or openblas")
        }
        try Terminal.run {
            do { try measure(geometry, path) } catch { throw Failure(code: .failed, message: "\(error)") }
        }
    }

    private func measure(_ geometry: Benchmark.Geometry, _ path: ComputePath) throws {
        let bench = try Benchmark(geometry, path: path, threads: threads, repetitions: repetitions)
        if !json {
            Terminal.result(
                "\(geometry.rawValue) on \(path.rawValue); a large matrix product runs at \(Self.giga(bench.ceiling)) GFLOP/s"
            )
            Terminal.result(Self.row("part", "seconds", "GFLOP", "GFLOP/s", "of ceiling"))
        }
        var parts: [JSON] = []
        try bench.run { part in
            if json {
                parts.append(
                    .object([
                        "part": .string(part.part), "seconds": .number(part.seconds),
                        "gflop": .number(part.flops / 1e9),
                        "gflop_per_second": .number(part.flops / part.seconds / 1e9),
                        "share_of_ceiling": .number(part.shareOfCeiling),
                    ]))
            } else {
                Terminal.result(
                    Self.row(
                        part.part, String(format: "%.3f", part.seconds), Self.giga(part.flops),
                        Self.giga(part.flops / part.seconds), String(format: "%.0f %%", part.shareOfCeiling * 100)))
            }
        }
        let entries = bench.profile.entries.sorted { $0.value.seconds > $1.value.seconds }
        if json {
            let operations = entries.map { name, entry in
                JSON.object([
                    "operation": .string(name), "calls": .integer(entry.calls), "seconds": .number(entry.seconds),
                    "gflop": .number(entry.flops / 1e9),
                ])
            }
            Terminal.result(
                .object([
                    "geometry": .string(geometry.rawValue), "compute": .string(path.rawValue),
                    "ceiling_gflop_per_second": .number(bench.ceiling / 1e9), "parts": .array(parts),
                    "peak_memory_bytes": .integer(Benchmark.peakMemory),
                    "profile": profile ? .array(operations) : nil,
                ]))
            return
        }
        Terminal.result("peak memory \(Benchmark.peakMemory >> 20) MB")
        guard profile else { return }
        Terminal.result(Self.row("operation, in all parts together", "seconds", "calls", "GFLOP/s", ""))
        for (name, entry) in entries {
            Terminal.result(
                Self.row(
                    name, String(format: "%.3f", entry.seconds), "\(entry.calls)",
                    entry.flops > 0 ? Self.giga(entry.flops / entry.seconds) : "", ""))
        }
    }

    private static func giga(_ value: Double) -> String { String(format: "%.0f", value / 1e9) }

    private static func row(_ name: String, _ columns: String...) -> String {
        let widths = [10, 9, 9, 12]
        let cells = zip(columns, widths).map { String(repeating: " ", count: max(1, $1 - $0.count)) + $0 }
        return name + String(repeating: " ", count: max(1, 60 - name.count)) + cells.joined()
    }
}
