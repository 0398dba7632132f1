/// Evaluates a pickle to plain values. Nothing is imported and nothing is called: the few globals a checkpoint needs
/// are known by name, those that carry only hyper-parameters become inert values, all others are refused.
///
/// The opcodes are those of CPython's pickle protocols 2 to 5 (Lib/pickletools.py) that torch.save and Lightning
/// write. Containers live in `cells` and refer to each other by index, so that neither nesting nor cycles made by a
/// hostile file can overflow the stack here or when the values are released.
struct PickleMachine {
    /// A value; `list`, `tuple` and `dict` are indices into `cells`.
    enum Value: Equatable {
        case none
        case bool(Bool)
        case int(Int)
        case float(Double)
        case string(String)
        case list(Int)
        case tuple(Int)
        /// Keys and values alternate in the cell.
        case dict(Int)
        case global(PickleGlobal)
        /// An index into `storages`.
        case storage(Int)
        /// An index into `tensors`.
        case tensor(Int)
        /// A module of a TorchScript archive; names and values of its attributes alternate in the cell.
        case object(Int)
        /// Something that is known to be harmless and of no interest.
        case inert
    }

    /// What a persistent id stands for: a record of the archive.
    struct Storage: Equatable {
        let type: StoredElementType
        let key: String
        let count: Int
    }

    /// A view of a storage, in elements; not yet checked against its extent.
    struct Tensor {
        let storage: Int
        let offset: Int
        let shape: [Int]
        let strides: [Int]
    }

    /// More than any checkpoint's pickle, and little enough that its values fit in memory.
    static let maximumSize = 32 << 20
    private static let maximumTensors = 1 << 20
    private static let maximumDimensions = 16

    private(set) var cells: [[Value]] = []
    private(set) var storages: [Storage] = []
    private(set) var tensors: [Tensor] = []

    private let bytes: UnsafeRawBufferPointer
    private let path: String
    private var position = 0
    private var opcodePosition = 0
    private var stack: [Value] = []
    private var marks: [Int] = []
    private var memo: [UInt32: Value] = [:]
    private var elementsHeld = 0

    init(bytes: UnsafeRawBufferPointer, path: String) {
        self.bytes = bytes
        self.path = path
    }

    /// Runs to STOP and returns the value on the stack.
    mutating func run() throws(CheckpointError) -> Value {
        guard bytes.count <= Self.maximumSize else {
            throw error(.unsupported, found: "\(bytes.count) bytes", expected: "at most \(Self.maximumSize)")
        }
        while true {
            opcodePosition = position
            let code = try u8()
            guard let opcode = PickleOpcode(rawValue: code) else {
                throw error(
                    .refused, found: "opcode 0x\(String(code, radix: 16))", expected: "an opcode of a torch checkpoint")
            }
            if opcode == .stop { return try pop() }
            try execute(opcode)
        }
    }

    /// An error at the present opcode.
    private func error(_ cause: CheckpointError.Cause, found: String, expected: String) -> CheckpointError {
        CheckpointError(
            path: path, cause: cause, place: "data.pkl at byte \(opcodePosition)", found: found, expected: expected)
    }

    // MARK: Opcodes

    private mutating func execute(_ opcode: PickleOpcode) throws(CheckpointError) {
        switch opcode {
        case .proto: try checkProtocol()
        case .frame: _ = try take(8)
        case .stop: break
        case .mark: marks.append(stack.count)
        case .pop: if marks.last == stack.count { marks.removeLast() } else { _ = try pop() }
        case .popMark: _ = try popMark()
        case .dup: stack.append(try top())

        case .none: stack.append(.none)
        case .newTrue: stack.append(.bool(true))
        case .newFalse: stack.append(.bool(false))
        case .binInt: stack.append(.int(Int(Int32(truncatingIfNeeded: try unsigned(4)))))
        case .binInt1: stack.append(.int(Int(try u8())))
        case .binInt2: stack.append(.int(Int(try unsigned(2))))
        case .long1: stack.append(try long(Int(try u8())))
        case .binFloat: stack.append(.float(Double(bitPattern: try unsigned(8).byteSwapped)))
        case .shortBinUnicode: stack.append(try text(Int(try u8())))
        case .binUnicode: stack.append(try text(try length(4)))
        case .binUnicode8: stack.append(try text(try length(8)))
        case .shortBinString: stack.append(try text(Int(try u8())))
        case .binString: stack.append(try text(try length(4)))
        case .shortBinBytes: try skipBytes(Int(try u8()))
        case .binBytes: try skipBytes(try length(4))
        case .binBytes8: try skipBytes(try length(8))

        case .emptyTuple: stack.append(.tuple(try cell([])))
        case .tuple: stack.append(.tuple(try cell(popMark())))
        case .tuple1: stack.append(.tuple(try cell(pop(1))))
        case .tuple2: stack.append(.tuple(try cell(pop(2))))
        case .tuple3: stack.append(.tuple(try cell(pop(3))))
        case .emptyList, .emptySet: stack.append(.list(try cell([])))
        case .list, .frozenSet: stack.append(.list(try cell(popMark())))
        case .emptyDict: stack.append(.dict(try cell([])))
        case .dict: stack.append(.dict(try cell(pairs(try popMark()))))
        case .append: try extend(with: try pop(1))
        case .appends, .addItems: try extend(with: try popMark())
        case .setItem: try extend(with: try pairs(try pop(2)))
        case .setItems: try extend(with: try pairs(try popMark()))

        case .binGet: try recall(UInt32(try u8()))
        case .longBinGet: try recall(UInt32(truncatingIfNeeded: try unsigned(4)))
        case .binPut: memo[UInt32(try u8())] = try top()
        case .longBinPut: memo[UInt32(truncatingIfNeeded: try unsigned(4))] = try top()
        case .memoize: memo[UInt32(truncatingIfNeeded: memo.count)] = try top()

        case .global: try global(module: try line(), name: try line())
        case .stackGlobal: try stackGlobal()
        case .reduce, .newObject:
            let operands = try pop(2)
            stack.append(try apply(operands[0], to: operands[1]))
        case .build:
            // An object's state: the attributes of a script's module, which hold its tensors; the `_metadata` of a state
            // dict or attributes of hyper-parameters, which hold none.
            let state = try pop()
            if case .object(let index) = try top(), case .dict(let attributes) = state {
                try count(cells[attributes])
                cells[index] += cells[attributes]
            }
        case .binPersistentId: stack.append(.storage(try storage(try pop())))
        }
    }

    private mutating func checkProtocol() throws(CheckpointError) {
        let version = try u8()
        guard (2...5).contains(version) else {
            throw error(.unsupported, found: "pickle protocol \(version)", expected: "2 to 5")
        }
    }

    private mutating func recall(_ index: UInt32) throws(CheckpointError) {
        guard let value = memo[index] else {
            throw error(.malformed, found: "memo \(index), which was never stored", expected: "a stored one")
        }
        stack.append(value)
    }

    private mutating func global(module: String, name: String) throws(CheckpointError) {
        guard let known = PickleGlobal(module: module, name: name) else {
            throw error(
                .refused, found: "global \(module).\(name)",
                expected: "only the tensors, containers and hyper-parameters of a checkpoint (nothing was executed)")
        }
        stack.append(.global(known))
    }

    /// A global whose module and name are on the stack.
    private mutating func stackGlobal() throws(CheckpointError) {
        let names = try pop(2)
        guard case .string(let module) = names[0], case .string(let name) = names[1] else {
            throw error(.malformed, found: "a global without names", expected: "module and name")
        }
        try global(module: module, name: name)
    }

    /// What calling `function` would have made.
    private mutating func apply(_ function: Value, to arguments: Value) throws(CheckpointError) -> Value {
        guard case .tuple(let index) = arguments else {
            throw error(.malformed, found: "a call without a tuple of arguments", expected: "a tuple")
        }
        let arguments = cells[index]
        switch function {
        case .global(.rebuildTensor):
            guard tensors.count < Self.maximumTensors else {
                throw error(.unsupported, found: "another tensor", expected: "at most \(Self.maximumTensors)")
            }
            guard arguments.count >= 4, case .storage(let storage) = arguments[0], case .int(let offset) = arguments[1],
                let shape = integers(arguments[2]), let strides = integers(arguments[3]), shape.count == strides.count
            else {
                throw error(
                    .malformed, found: "a tensor of other arguments", expected: "storage, offset, shape and strides")
            }
            tensors.append(Tensor(storage: storage, offset: offset, shape: shape, strides: strides))
            return .tensor(tensors.count - 1)
        case .global(.rebuildParameter):
            guard let first = arguments.first, case .tensor = first else {
                throw error(.malformed, found: "a parameter without a tensor", expected: "a tensor")
            }
            return first
        case .global(.orderedDict):
            // Python 2 pickled the items as an argument: a list of pairs.
            var items: [Value] = []
            if case .list(let list)? = arguments.first {
                for item in cells[list] {
                    guard case .tuple(let pair) = item, cells[pair].count == 2 else { continue }
                    items += cells[pair]
                }
            }
            return .dict(try cell(items))
        case .global(.scriptClass): return .object(try cell([]))
        case .global(.inert), .inert: return .inert
        default: throw error(.refused, found: "a call of something that is no function", expected: "a known function")
        }
    }

    /// `("storage", torch.HalfStorage, "17", "cpu", 4096)`: type, record and element count.
    private mutating func storage(_ id: Value) throws(CheckpointError) -> Int {
        guard case .tuple(let index) = id, cells[index].count >= 5, cells[index][0] == .string("storage"),
            case .global(.storage(let type)) = cells[index][1], case .string(let key) = cells[index][2],
            case .int(let count) = cells[index][4], count >= 0
        else {
            throw error(.malformed, found: "another persistent id", expected: "storage, type, key, location and count")
        }
        storages.append(Storage(type: type, key: key, count: count))
        return storages.count - 1
    }

    // MARK: Containers

    /// A new cell.
    private mutating func cell(_ values: [Value]) throws(CheckpointError) -> Int {
        try count(values)
        cells.append(values)
        return cells.count - 1
    }

    /// Every element was pushed by an opcode of at least one byte. A pickle with more elements than bytes copies
    /// copies, to use up memory.
    private mutating func count(_ values: [Value]) throws(CheckpointError) {
        elementsHeld += values.count
        guard elementsHeld <= bytes.count else {
            throw error(
                .malformed, found: "more elements than bytes", expected: "a pickle that was not made to explode")
        }
    }

    private func pairs(_ values: [Value]) throws(CheckpointError) -> [Value] {
        guard values.count.isMultiple(of: 2) else {
            throw error(.malformed, found: "a key without a value", expected: "keys and values")
        }
        return values
    }

    private mutating func extend(with values: [Value]) throws(CheckpointError) {
        switch try top() {
        case .list(let index), .dict(let index):
            try count(values)
            cells[index] += values
        case .inert: break
        default: throw error(.malformed, found: "items for something that is no container", expected: "a list or dict")
        }
    }

    private func integers(_ value: Value) -> [Int]? {
        guard case .tuple(let index) = value, cells[index].count <= Self.maximumDimensions else { return nil }
        var result: [Int] = []
        for element in cells[index] {
            guard case .int(let number) = element else { return nil }
            result.append(number)
        }
        return result
    }

    // MARK: Stack

    private var floor: Int { marks.last ?? 0 }

    private func top() throws(CheckpointError) -> Value {
        guard stack.count > floor, let value = stack.last else { throw underflow }
        return value
    }

    private mutating func pop() throws(CheckpointError) -> Value {
        let value = try top()
        stack.removeLast()
        return value
    }

    private mutating func pop(_ count: Int) throws(CheckpointError) -> [Value] {
        guard stack.count - floor >= count else { throw underflow }
        defer { stack.removeLast(count) }
        return Array(stack.suffix(count))
    }

    private mutating func popMark() throws(CheckpointError) -> [Value] {
        guard let mark = marks.popLast() else {
            throw error(.malformed, found: "no mark on the stack", expected: "one")
        }
        defer { stack.removeSubrange(mark...) }
        return Array(stack[mark...])
    }

    private var underflow: CheckpointError {
        error(.malformed, found: "an empty stack", expected: "operands")
    }

    // MARK: Operands

    private mutating func take(_ count: Int) throws(CheckpointError) -> UnsafeRawBufferPointer {
        guard count <= bytes.count - position else {
            throw error(.truncated, found: "\(bytes.count - position) bytes", expected: "\(count) more")
        }
        defer { position += count }
        return UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
    }

    private mutating func u8() throws(CheckpointError) -> UInt8 { try take(1)[0] }

    private mutating func unsigned(_ count: Int) throws(CheckpointError) -> UInt64 {
        try take(count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    private mutating func length(_ count: Int) throws(CheckpointError) -> Int {
        let value = try unsigned(count)
        guard let length = Int(exactly: value) else {
            throw error(.malformed, found: "a length of \(value)", expected: "one inside the file")
        }
        return length
    }

    private mutating func text(_ count: Int) throws(CheckpointError) -> Value {
        guard let text = String(validating: try take(count), as: UTF8.self) else {
            throw error(.malformed, found: "a string that is not UTF-8", expected: "UTF-8")
        }
        return .string(text)
    }

    /// Bytes objects hold pickled hyper-parameters or NumPy scalars, never tensors of a state dict.
    private mutating func skipBytes(_ count: Int) throws(CheckpointError) {
        _ = try take(count)
        stack.append(.inert)
    }

    /// Two's complement, little-endian; a number beyond 64 bits (a random state) is of no interest.
    private mutating func long(_ count: Int) throws(CheckpointError) -> Value {
        let digits = try take(count)
        guard count <= 8 else { return .inert }
        let magnitude = digits.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let unused = 64 - 8 * count
        return .int(count == 0 ? 0 : Int(Int64(bitPattern: magnitude << UInt64(unused)) >> Int64(unused)))
    }

    private mutating func line() throws(CheckpointError) -> String {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[position...])
        // Names are short: a missing line end is found without reading the file to its end each time.
        guard let end = rest.prefix(1024).firstIndex(of: UInt8(ascii: "\n")),
            let line = String(validating: rest[..<end], as: UTF8.self)
        else { throw error(.malformed, found: "a global without a line end", expected: "module and name, a line each") }
        position += end + 1
        return line
    }
}
