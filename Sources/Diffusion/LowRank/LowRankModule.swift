import Checkpoint
import Glibc

/// The update of one map, as a file has it: which tensors there are says which kind it is.
///
/// | kind | tensors | update |
/// |---|---|---|
/// | LoRA, LoCon (Hu et al. 2021) | down, up | up down |
/// | the same with a core | down, mid, up | sum over m, n of mid[m, n] up[., m] down[n, .] |
/// | LoHa (Hyeon-Woo et al. 2021) | w1a, w1b, w2a, w2b, t1, t2 | (w1a w1b) * (w2a w2b), element by element |
/// | LoKr (Edalati et al. 2022) | w1 or w1a, w1b; w2 or w2a, w2b, t2 | the Kronecker product of w1 and w2 |
/// | full | diff | diff |
///
/// With a magnitude (DoRA, Liu et al. 2024) the updated weight is then given these norms.
///
/// Source of names and layouts: kohya-ss sd-scripts; LyCORIS `functional/`; PEFT. Proved by `Tests/Fixtures/lora`.
struct LowRankModule {
    /// A tensor's place in the update.
    enum Role: String, CaseIterable {
        case down, mid, up, t1, t2, diff, alpha
        case w1 = "lokr_w1"
        case w1a = "lokr_w1_a"
        case w1b = "lokr_w1_b"
        case w2 = "lokr_w2"
        case w2a = "lokr_w2_a"
        case w2b = "lokr_w2_b"
        case hadamard1a = "hada_w1_a"
        case hadamard1b = "hada_w1_b"
        case hadamard2a = "hada_w2_a"
        case hadamard2b = "hada_w2_b"
        case magnitude = "dora_scale"
        case peftMagnitude = "lora_magnitude_vector"
    }

    /// How the names of the parts end; longer ones first where one is another's end.
    static let endings: [(String, Role)] = [
        (".lora_down.weight", .down), (".lora_up.weight", .up), (".lora_mid.weight", .mid),
        (".lora_A.default.weight", .down), (".lora_B.default.weight", .up), (".lora_A.weight", .down),
        (".lora_B.weight", .up), (".lora_linear_layer.down.weight", .down), (".lora_linear_layer.up.weight", .up),
        (".lora.down.weight", .down), (".lora.up.weight", .up), ("_lora.down.weight", .down), ("_lora.up.weight", .up),
        (".hada_w1_a", .hadamard1a), (".hada_w1_b", .hadamard1b), (".hada_w2_a", .hadamard2a),
        (".hada_w2_b", .hadamard2b), (".hada_t1", .t1), (".hada_t2", .t2), (".lokr_w1", .w1), (".lokr_w1_a", .w1a),
        (".lokr_w1_b", .w1b), (".lokr_w2", .w2), (".lokr_w2_a", .w2a), (".lokr_w2_b", .w2b), (".lokr_t2", .t2),
        (".diff", .diff), (".dora_scale", .magnitude), (".lora_magnitude_vector.default.weight", .peftMagnitude),
        (".lora_magnitude_vector.weight", .peftMagnitude), (".lora_magnitude_vector", .peftMagnitude),
        (".alpha", .alpha),
    ]

    var tensors: [Role: StoredTensor] = [:]
    /// The numerator of the scale, where the file or a configuration says it.
    var alpha: Double?
    /// Whether the scale is alpha / sqrt(rank) (rsLoRA) instead of alpha / rank.
    var usesRootOfRank = false
    /// The rank of a configuration, for the kind whose tensors do not show it.
    var configuredRank: Int?
    /// How the file names it.
    var spelling: String

    // MARK: Shape

    /// Rows and the numbers of one of them, or nil where the tensors fit no kind.
    var size: (rows: Int, inputs: Int)? {
        guard tensors.values.allSatisfy({ !$0.shape.isEmpty && !$0.shape.contains(0) }) else { return nil }
        if let diff = tensors[.diff] { return (diff.shape[0], diff.count / diff.shape[0]) }
        if let down = tensors[.down], let up = tensors[.up] { return pairSize(down, up) }
        if let a1 = tensors[.hadamard1a], let b1 = tensors[.hadamard1b], let a2 = tensors[.hadamard2a],
            let b2 = tensors[.hadamard2b]
        {
            guard let first = factorSize(a1, b1, core: tensors[.t1]),
                let second = factorSize(a2, b2, core: tensors[.t2]), first == second
            else { return nil }
            return first
        }
        guard let first = kroneckerSize(.w1, .w1a, .w1b, core: nil),
            let second = kroneckerSize(.w2, .w2a, .w2b, core: tensors[.t2])
        else { return nil }
        let (rows, overflow) = first.rows.multipliedReportingOverflow(by: second.rows)
        let (inputs, more) = first.inputs.multipliedReportingOverflow(by: second.inputs)
        return overflow || more ? nil : (rows, inputs)
    }

    /// What there is, for messages.
    var shapes: String {
        tensors.sorted { $0.key.rawValue < $1.key.rawValue }.map { "\($0.key.rawValue) \($0.value.shape)" }
            .joined(separator: ", ")
    }

    private func pairSize(_ down: StoredTensor, _ up: StoredTensor) -> (Int, Int)? {
        guard down.shape.count >= 2, up.shape.count >= 2, up.count == up.shape[0] * up.shape[1] else { return nil }
        guard let mid = tensors[.mid] else {
            return down.shape[0] == up.shape[1] ? (up.shape[0], down.count / down.shape[0]) : nil
        }
        guard mid.shape.count >= 2, mid.shape[0] == up.shape[1], mid.shape[1] == down.shape[0],
            down.count == down.shape[0] * down.shape[1]
        else { return nil }
        return (up.shape[0], down.shape[1] * (mid.count / (mid.shape[0] * mid.shape[1])))
    }

    /// Of a b, or of a core between a turned a and b.
    private func factorSize(_ a: StoredTensor, _ b: StoredTensor, core: StoredTensor?) -> (rows: Int, inputs: Int)? {
        guard a.shape.count == 2, b.shape.count >= 2 else { return nil }
        guard let core else { return a.shape[1] == b.shape[0] ? (a.shape[0], b.count / b.shape[0]) : nil }
        guard core.shape.count >= 2, core.shape[0] == a.shape[0], core.shape[1] == b.shape[0], b.shape.count == 2 else {
            return nil
        }
        return (a.shape[1], b.shape[1] * (core.count / (core.shape[0] * core.shape[1])))
    }

    private func kroneckerSize(_ whole: Role, _ a: Role, _ b: Role, core: StoredTensor?) -> (rows: Int, inputs: Int)? {
        if let tensor = tensors[whole] {
            return tensor.shape.count >= 2 ? (tensor.shape[0], tensor.count / tensor.shape[0]) : nil
        }
        guard let a = tensors[a], let b = tensors[b] else { return nil }
        return factorSize(a, b, core: core)
    }

    // MARK: Values

    /// The rank that alpha is divided by; nil where there is none.
    private var rank: Int? {
        if let down = tensors[.down] { return down.shape[0] }
        if let factor = tensors[.hadamard1b] ?? tensors[.w1b] ?? tensors[.w2b] { return factor.shape[0] }
        return configuredRank
    }

    /// alpha / rank, or 1 where either is not said.
    var scale: Double {
        guard let alpha, let rank, rank > 0 else { return 1 }
        return alpha / (usesRootOfRank ? Double(rank).squareRoot() : Double(rank))
    }

    /// Adds `factor` times the update to `values`, `[rows, inputs]`, and gives them the norms of a magnitude.
    ///
    /// - Parameter weight: how strongly it is added; with a magnitude of LyCORIS', how far the norms go instead.
    func apply(to values: UnsafeMutableBufferPointer<Float>, rows: Int, inputs: Int, weight: Double) {
        let factor = Float(tensors[.magnitude] == nil ? weight * scale : scale)
        if let down = tensors[.down], let up = tensors[.up], tensors[.mid] == nil {
            let (down, up) = (down.floats(), up.floats())
            let rank = up.count / max(1, rows)
            down.withUnsafeBufferPointer { down in
                for output in 0..<rows {
                    for r in 0..<rank {
                        let factor = factor * up[output * rank + r]
                        let row = output * inputs
                        for i in 0..<inputs { values[row &+ i] += factor * down[r &* inputs &+ i] }
                    }
                }
            }
        } else {
            let update = update()
            for i in 0..<min(update.count, values.count) { values[i] += factor * update[i] }
        }
        if let magnitude = tensors[.peftMagnitude] {
            Self.setNorms(of: values, rows: rows, inputs: inputs, to: magnitude, weight: 1, isOfRowsAlone: true)
        } else if let magnitude = tensors[.magnitude] {
            Self.setNorms(of: values, rows: rows, inputs: inputs, to: magnitude, weight: weight)
        }
    }

    private func update() -> [Float] {
        if let diff = tensors[.diff] { return diff.floats() }
        if let down = tensors[.down], let up = tensors[.up], let mid = tensors[.mid] {
            return Self.cored(mid, rows: up, turned: false, columns: down)
        }
        if let a1 = tensors[.hadamard1a], let b1 = tensors[.hadamard1b], let a2 = tensors[.hadamard2a],
            let b2 = tensors[.hadamard2b]
        {
            let (first, second) = (
                Self.product(a1, b1, core: tensors[.t1]), Self.product(a2, b2, core: tensors[.t2])
            )
            return zip(first, second).map { $0 * $1 }
        }
        return kronecker()
    }

    private func kronecker() -> [Float] {
        func half(_ whole: Role, _ a: Role, _ b: Role, core: StoredTensor?) -> [Float] {
            if let tensor = tensors[whole] { return tensor.floats() }
            guard let a = tensors[a], let b = tensors[b] else { return [] }
            return Self.product(a, b, core: core)
        }
        guard let outer = kroneckerSize(.w1, .w1a, .w1b, core: nil),
            let inner = kroneckerSize(.w2, .w2a, .w2b, core: tensors[.t2])
        else { return [] }
        let (w1, w2) = (half(.w1, .w1a, .w1b, core: nil), half(.w2, .w2a, .w2b, core: tensors[.t2]))
        var result = [Float](repeating: 0, count: w1.count * w2.count)
        let width = outer.inputs * inner.inputs
        for i in 0..<outer.rows {
            for j in 0..<outer.inputs {
                for k in 0..<inner.rows {
                    let row = (i * inner.rows + k) * width + j * inner.inputs
                    for l in 0..<inner.inputs {
                        result[row + l] = w1[i * outer.inputs + j] * w2[k * inner.inputs + l]
                    }
                }
            }
        }
        return result
    }

    /// a b, or the core between a turned a and b.
    private static func product(_ a: StoredTensor, _ b: StoredTensor, core: StoredTensor?) -> [Float] {
        if let core { return cored(core, rows: a, turned: true, columns: b) }
        let (rank, rows) = (a.shape[1], a.shape[0])
        let inputs = b.count / max(1, rank)
        let (left, right) = (a.floats(), b.floats())
        var result = [Float](repeating: 0, count: rows * inputs)
        for row in 0..<rows {
            for r in 0..<rank {
                let factor = left[row * rank + r]
                for i in 0..<inputs { result[row * inputs + i] += factor * right[r * inputs + i] }
            }
        }
        return result
    }

    /// sum over m, n of core[m, n, k] rows[o, m] columns[n, i], as [o, i, k].
    private static func cored(
        _ core: StoredTensor, rows: StoredTensor, turned: Bool, columns: StoredTensor
    ) -> [Float] {
        let (first, second) = (core.shape[0], core.shape[1])
        let taps = core.count / (first * second)
        let outputs = turned ? rows.shape[1] : rows.shape[0]
        let inputs = columns.count / second
        let (c, a, b) = (core.floats(), rows.floats(), columns.floats())
        // [first, inputs, taps]
        var half = [Float](repeating: 0, count: first * inputs * taps)
        for m in 0..<first {
            for n in 0..<second {
                for i in 0..<inputs {
                    let factor = b[n * inputs + i]
                    for k in 0..<taps { half[(m * inputs + i) * taps + k] += factor * c[(m * second + n) * taps + k] }
                }
            }
        }
        var result = [Float](repeating: 0, count: outputs * inputs * taps)
        for o in 0..<outputs {
            for m in 0..<first {
                let factor = turned ? a[m * outputs + o] : a[o * first + m]
                for i in 0..<inputs * taps { result[o * inputs * taps + i] += factor * half[m * inputs * taps + i] }
            }
        }
        return result
    }

    /// Each row, or each input over all rows and places of a convolution, by what the magnitude's shape says:
    /// W (weight (magnitude / |W| - 1) + 1).
    private static func setNorms(
        of values: UnsafeMutableBufferPointer<Float>, rows: Int, inputs: Int, to magnitude: StoredTensor,
        weight: Double,
        isOfRowsAlone: Bool = false
    ) {
        let norms = magnitude.floats()
        // [rows, 1, ...], or [1, inputs, ...]; PEFT has [rows] and [1, rows, 1, 1].
        let isOfRows =
            norms.count == rows && (magnitude.shape[0] == rows || isOfRowsAlone || !inputs.isMultiple(of: rows))
        let channels = isOfRows ? rows : norms.count
        let taps = isOfRows ? inputs : inputs / max(1, channels)
        func factor(_ index: Int, _ sum: Double) -> Float {
            Float(weight * (Double(norms[index]) / max(sum.squareRoot(), Double(Float.ulpOfOne)) - 1) + 1)
        }
        if isOfRows {
            for row in 0..<rows {
                let range = row * inputs..<(row + 1) * inputs
                let factor = factor(row, range.reduce(0) { $0 + Double(values[$1]) * Double(values[$1]) })
                for i in range { values[i] *= factor }
            }
            return
        }
        for channel in 0..<channels {
            let places = (0..<rows).flatMap { row in (0..<taps).map { row * inputs + channel * taps + $0 } }
            let factor = factor(channel, places.reduce(0) { $0 + Double(values[$1]) * Double(values[$1]) })
            for i in places { values[i] *= factor }
        }
    }

    /// Whether a magnitude, if there is one, has a number for each row or each input.
    func magnitudeFits(rows: Int, inputs: Int) -> Bool {
        guard let magnitude = tensors[.magnitude] ?? tensors[.peftMagnitude] else { return true }
        return magnitude.count == rows || magnitude.count > 0 && inputs.isMultiple(of: magnitude.count)
    }
}
