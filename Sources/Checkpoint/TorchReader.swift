/// Reads what `torch.save` writes since torch 1.6: a zip of stored entries, `<root>/data.pkl` and `<root>/data/<key>`.
/// `torch.jit.save` writes the same, with modules in place of the dict, and code, which is not looked at.
struct TorchReader {
    let memory: Memory
    let path: String

    /// The checkpoint, or what is wrong with it.
    func read() throws(CheckpointError) -> Checkpoint {
        let archive = try ZipArchive(memory: memory, path: path)
        let root = try root(of: archive)
        try checkByteOrder(archive, root: root)
        let pickleRange = try archive.range(of: "\(root)/data.pkl")
        let pickle = UnsafeRawBufferPointer(rebasing: memory.bytes[pickleRange])
        var machine = PickleMachine(bytes: pickle, path: path)
        guard pickle.count > PickleMachine.maximumSize || crc32(pickle) == archive.entries["\(root)/data.pkl"]?.checksum
        else {
            throw error(.malformed, "zip entry \(root)/data.pkl", "another checksum", "the one in the zip's directory")
        }
        let index: Int
        let members: [(String, PickleMachine.Value)]
        switch try machine.run() {
        case .dict(let top): (index, members) = (top, stateDict(machine, top: top))
        case .object(let top): (index, members) = (top, try attributes(machine, top: top))
        default: throw error(.unsupported, "data.pkl", "something else at the top", "a dict, such as a state_dict")
        }
        var ranges: [String: Range<Int>] = [:]
        var tensors: [String: StoredTensor] = [:]
        for (name, value) in members {
            guard case .tensor(let tensor) = value else { continue }
            tensors[name] = try stored(name, machine.tensors[tensor], machine, archive, root, &ranges)
        }
        guard !tensors.isEmpty else {
            throw error(.unsupported, "data.pkl", "no tensors", "a dict of tensors, or one under state_dict")
        }
        return Checkpoint(
            path: path, format: .torchZip, tensors: tensors, metadata: scalars(machine, top: index), memory: memory,
            dataRange: 0..<memory.bytes.count)
    }

    /// The one folder that all entries of the archive lie in; torch names it after the file.
    private func root(of archive: ZipArchive) throws(CheckpointError) -> String {
        let roots = archive.entries.keys.filter { $0.hasSuffix("/data.pkl") }.map { String($0.dropLast(9)) }
        guard let root = roots.first, roots.count == 1 else {
            throw error(
                .unsupported, "zip", roots.isEmpty ? "no data.pkl" : "\(roots.count) data.pkl",
                "one, as torch.save writes")
        }
        return root
    }

    /// torch names the byte order since 2.1; everything before was written little-endian.
    private func checkByteOrder(_ archive: ZipArchive, root: String) throws(CheckpointError) {
        let name = "\(root)/byteorder"
        guard archive.entries[name] != nil else { return }
        let text = String(decoding: memory.bytes[try archive.range(of: name)].prefix(16), as: UTF8.self)
        guard text == "little" else {
            throw error(.unsupported, "zip entry \(name)", "\"\(text)\"", "\"little\"")
        }
    }

    /// Keys and values of the `state_dict` under the top-level dict, or of the top-level dict itself; in a textual inversion
    /// of AUTOMATIC1111's those of `string_to_param`, with that name and a dot before them.
    private func stateDict(_ machine: PickleMachine, top: Int) -> [(String, PickleMachine.Value)] {
        let members = members(machine, top)
        if case .dict(let inner)? = members.last(where: { $0.0 == "string_to_param" })?.1 {
            return self.members(machine, inner).map { ("string_to_param." + $0, $1) }
        }
        guard case .dict(let inner)? = members.last(where: { $0.0 == "state_dict" })?.1 else { return members }
        return self.members(machine, inner)
    }

    /// Names and values of a TorchScript module's attributes and those of the modules in it, named as `state_dict()` names
    /// them. A module that several hold is taken once.
    private func attributes(
        _ machine: PickleMachine, top: Int
    ) throws(CheckpointError) -> [(String, PickleMachine.Value)] {
        var result: [(String, PickleMachine.Value)] = []
        var waiting = [(prefix: "", depth: 0, cell: top)]
        var seen: Set<Int> = [top]
        while let (prefix, depth, cell) = waiting.popLast() {
            guard depth <= Self.maximumDepth else {
                throw error(.malformed, "data.pkl", "modules nested deeper than \(Self.maximumDepth)", "fewer levels")
            }
            for (name, value) in members(machine, cell) {
                if case .object(let inner) = value {
                    if seen.insert(inner).inserted { waiting.append((prefix + name + ".", depth + 1, inner)) }
                } else {
                    result.append((prefix + name, value))
                }
            }
        }
        return result
    }

    /// More than any model nests its modules; names get longer with every level.
    private static let maximumDepth = 64

    private func members(_ machine: PickleMachine, _ index: Int) -> [(String, PickleMachine.Value)] {
        let cell = machine.cells[index]
        return stride(from: 0, to: cell.count - 1, by: 2).compactMap { position in
            guard case .string(let key) = cell[position] else { return nil }
            return (key, cell[position + 1])
        }
    }

    private func scalars(_ machine: PickleMachine, top: Int) -> [String: String] {
        var result: [String: String] = [:]
        for (key, value) in members(machine, top) {
            switch value {
            case .int(let number): result[key] = "\(number)"
            case .float(let number): result[key] = "\(number)"
            case .bool(let flag): result[key] = "\(flag)"
            case .string(let text): result[key] = text
            default: break
            }
        }
        return result
    }

    /// The tensor over its record of the archive, every index checked to lie inside.
    private func stored(
        _ name: String, _ tensor: PickleMachine.Tensor, _ machine: PickleMachine, _ archive: ZipArchive, _ root: String,
        _ ranges: inout [String: Range<Int>]
    ) throws(CheckpointError) -> StoredTensor {
        let place = "tensor \(name)"
        let storage = machine.storages[tensor.storage]
        let entry = "\(root)/data/\(storage.key)"
        let range: Range<Int>
        if let known = ranges[entry] {
            range = known
        } else {
            range = try archive.range(of: entry)
            ranges[entry] = range
        }
        let size = storage.type.byteCount
        guard range.count % size == 0, storage.count == range.count / size else {
            throw error(
                .malformed, "zip entry \(entry)", "\(range.count) bytes",
                "\(storage.count) elements of \(storage.type.rawValue)")
        }
        let extent = "offset \(tensor.offset), shape \(tensor.shape) and strides \(tensor.strides)"
        guard let count = elementCount(tensor.shape), count <= storage.count, tensor.offset >= 0,
            let last = lastIndex(tensor), count == 0 || last < storage.count
        else {
            throw error(.malformed, place, extent, "a view inside its storage of \(storage.count) elements")
        }
        let begin = count == 0 ? range.lowerBound : range.lowerBound + tensor.offset * size
        let end = count == 0 ? begin : range.lowerBound + (last + 1) * size
        return StoredTensor(
            name: name, elementType: storage.type, shape: tensor.shape, strides: tensor.strides, count: count,
            memory: memory, range: begin..<end)
    }

    /// The largest index into the storage, or nil when a stride is negative or the sum overflows.
    private func lastIndex(_ tensor: PickleMachine.Tensor) -> Int? {
        var last = tensor.offset
        for (extent, stride) in zip(tensor.shape, tensor.strides) {
            guard stride >= 0 else { return nil }
            if extent == 0 { continue }
            let (step, overflow) = stride.multipliedReportingOverflow(by: extent - 1)
            let (sum, carry) = last.addingReportingOverflow(step)
            guard !overflow, !carry else { return nil }
            last = sum
        }
        return last
    }

    private func error(
        _ cause: CheckpointError.Cause, _ place: String, _ found: String, _ expected: String
    ) -> CheckpointError {
        CheckpointError(path: path, cause: cause, place: place, found: found, expected: expected)
    }
}
