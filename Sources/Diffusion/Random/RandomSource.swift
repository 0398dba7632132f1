/// Why bytes are not a generator's state.
public struct RandomStateError: Error, Equatable, CustomStringConvertible {
    /// What was found and what was expected.
    public var problem: String

    /// The problem.
    public var description: String { problem }
}

/// The generators a seed can be given to; the names are those of the manifest's `random`.
public enum RandomSource: String, Sendable, CaseIterable {
    /// `torch.Generator("cpu")`.
    case torchCPU = "torch-cpu"
    /// `torch.Generator("cuda")`, as graphical front ends use it.
    case philox
}

/// A seeded generator of either kind.
public enum RandomGenerator: Sendable, Equatable {
    /// PyTorch's generator on the CPU.
    case torchCPU(TorchGenerator)
    /// PyTorch's generator on CUDA devices.
    case philox(PhiloxGenerator)

    /// A fresh generator of the kind `source`.
    public init(_ source: RandomSource, seed: UInt64) {
        self =
            switch source {
            case .torchCPU: .torchCPU(TorchGenerator(seed: seed))
            case .philox: .philox(PhiloxGenerator(seed: seed))
            }
    }

    /// `torch.randn(count)` on that device: one draw.
    public mutating func randn(count: Int) -> [Float] {
        switch self {
        case .torchCPU(var generator):
            defer { self = .torchCPU(generator) }
            return generator.randn(count: count)
        case .philox(var generator):
            defer { self = .philox(generator) }
            return generator.randn(count: count)
        }
    }

    /// Everything the next draws depend on; begins with a tag that names the kind.
    public var state: [UInt8] {
        switch self {
        case .torchCPU(let generator): generator.state
        case .philox(let generator): generator.state
        }
    }

    /// The generator whose ``state`` was `state`.
    ///
    /// - Throws: ``RandomStateError`` when the bytes are no such state.
    public init(state: [UInt8]) throws(RandomStateError) {
        self =
            state.starts(with: PhiloxGenerator.magic)
            ? .philox(try PhiloxGenerator(state: state)) : .torchCPU(try TorchGenerator(state: state))
    }
}

extension [UInt8] {
    /// The integer whose bytes begin at `offset`, least significant first; the caller has checked the length.
    func littleEndian<Integer: FixedWidthInteger>(at offset: Int) -> Integer {
        self[offset..<(offset + MemoryLayout<Integer>.size)].reversed().reduce(0) { $0 << 8 | Integer($1) }
    }
}
