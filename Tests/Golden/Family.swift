import Checkpoint
import Foundation

/// A tiny random model of one family in Tests/Fixtures/families, and what diffusers computes from it.
package struct Family: Sendable, CustomStringConvertible {
    /// `sd1`, `sd2` or `sd2v`.
    package let name: String

    /// All that there are.
    package static let all = ["sd1", "sd2", "sd2v"].map(Family.init)
    /// The prompts of `text.*`; the first two are prompt and negative prompt of the runs.
    package static let prompts = ["a photo of a backpack, on the beach", "A dragon's 3 cafés, painted!", ""]

    package init(_ name: String) { self.name = name }

    package var description: String { name }

    /// The folder of a family's files.
    package var root: URL { Golden.fixtures.appendingPathComponent("families/\(name)") }
    /// The model as a diffusers folder.
    package var folder: String { root.appendingPathComponent("folder").path }

    /// The path of another file of the family.
    package func path(_ file: String) -> String { root.appendingPathComponent(file).path }

    /// The tensors of one of the family's files.
    package func tensors(_ file: String = "expected.safetensors") throws -> [String: StoredTensor] {
        try Checkpoint.open(path(file)).tensors
    }
}

/// The generator's input: sin(rate * i + phase).
package func wave(_ count: Int, rate: Double = 0.7, phase: Double = 0.3) -> [Float] {
    (0..<count).map { Float(sin(Double($0) * rate + phase)) }
}
