import CKernels

extension Engine {
    /// A copy of its own memory.
    public func copy(_ x: Tensor) throws(EngineError) -> Tensor {
        let y = try empty(x.shape, x.elementType)
        try measured("copy \(x.shape)") {
            kernels_copy(x.bytes, y.bytes, Int64(x.count * x.elementType.byteCount))
        }
        return y
    }

    /// `x` in the type asked for; `x` itself where it has that type.
    public func converted(_ x: Tensor, to type: ElementType) throws(EngineError) -> Tensor {
        if x.elementType == type { return x }
        let y = try empty(x.shape, type)
        try measured("convert \(x.shape)") {
            switch type {
            case .bfloat16: kernels_f32_to_bf16(x.floats, y.bytes.assumingMemoryBound(to: UInt16.self), Int64(x.count))
            case .float32: kernels_bf16_to_f32(x.bytes.assumingMemoryBound(to: UInt16.self), y.floats, Int64(x.count))
            }
        }
        return y
    }

    /// `[n, ..., a]` and `[m, ..., b]` to `[n, ..., a + b]`, float32: each entry of `a` with the entry of `b` that `entries`
    /// names for it.
    public func concatenated(_ a: Tensor, _ b: Tensor, entries: [Int]) throws(EngineError) -> Tensor {
        guard a.shape.dropLast().dropFirst() == b.shape.dropLast().dropFirst(), a.shape.first == entries.count,
            a.elementType == .float32, b.elementType == .float32
        else {
            throw .shapes(
                operation: "concatenate \(entries)", found: [a.shape, b.shape],
                expected: "equal sizes but the channels, an entry of the second for each of the first")
        }
        let y = try empty(a.shape.dropLast() + [a.channels + b.channels])
        try measured("concatenate \(y.shape)") { () throws(EngineError) in
            for (position, entry) in entries.enumerated() {
                let (from, beside) = (try a.slice(position..<position + 1), try b.slice(entry..<entry + 1))
                kernels_concat_rows(
                    from.floats, Int64(a.channels), beside.floats, Int64(b.channels),
                    try y.slice(position..<position + 1).floats, Int64(from.rows))
            }
        }
        return y
    }

    /// Backward of ``concatenated(_:_:entries:)``: the channels `range` of the gradient (float32), those of the first operand or
    /// of the second. Where several entries continue one of the second operand, its gradient is the sum of theirs.
    public func concatenatedGradient(_ gradient: Tensor, channels range: Range<Int>) throws(EngineError) -> Tensor {
        guard range.lowerBound >= 0, range.upperBound <= gradient.channels, gradient.elementType == .float32 else {
            throw .shapes(
                operation: "gradient of concatenate, channels \(range)", found: [gradient.shape],
                expected: "at least as many channels, in float32")
        }
        let part = try empty(gradient.shape.dropLast() + [range.count])
        try measured("concatenate gradient \(part.shape)") {
            kernels_copy_columns(
                gradient.floats + range.lowerBound, Int64(gradient.channels), part.floats, Int64(range.count),
                Int64(gradient.rows))
        }
        return part
    }

    /// Copies `[1, ...]` tensors of one shape and one type, one after the other, into a batch `[count, ...]`.
    /// - Throws: `EngineError.shapes` where there is none, or two differ.
    public func stacked(_ tensors: [Tensor]) throws(EngineError) -> Tensor {
        guard let first = tensors.first,
            tensors.allSatisfy({ $0.shape == first.shape && $0.shape.first == 1 && $0.elementType == first.elementType }
            )
        else {
            throw .shapes(operation: "stack", found: tensors.map(\.shape), expected: "equal shapes [1, ...]")
        }
        let y = try empty([tensors.count] + first.shape.dropFirst(), first.elementType)
        let size = first.count * first.elementType.byteCount
        for (index, tensor) in tensors.enumerated() { kernels_copy(tensor.bytes, y.bytes + index * size, Int64(size)) }
        return y
    }

    /// Copies entries of the first dimension: entry i of the result `[indices.count, ...]` is entry `indices[i]` of `x`.
    /// An entry may be named several times, or never.
    /// - Throws: `EngineError.shapes` where there is no such entry.
    public func gathered(_ x: Tensor, _ indices: [Int]) throws(EngineError) -> Tensor {
        let y = try empty([indices.count] + x.shape.dropFirst(), x.elementType)
        try measured("gather \(y.shape)") { () throws(EngineError) in
            for (position, index) in indices.enumerated() {
                let from = try x.slice(index..<index + 1)
                let to = try y.slice(position..<position + 1)
                kernels_copy(from.bytes, to.bytes, Int64(from.count * from.elementType.byteCount))
            }
        }
        return y
    }

    /// One entry as often as asked; `x` itself where it has as many.
    public func repeated(_ x: Tensor, count: Int) throws(EngineError) -> Tensor {
        if x.shape.first == count { return x }
        guard x.shape.first == 1 else {
            throw .shapes(operation: "repeat \(count) times", found: [x.shape], expected: "[1, ...]")
        }
        return try gathered(x, Array(repeating: 0, count: count))
    }
}
