/// A JSON scanner for safetensors headers: objects, strings and arrays of natural numbers, nothing else, because the
/// format has nothing else. It never recurses on input and sees duplicate keys, which general parsers hide.
struct HeaderScanner {
    let bytes: UnsafeRawBufferPointer
    let path: String
    private var position = 0

    init(bytes: UnsafeRawBufferPointer, path: String) {
        self.bytes = bytes
        self.path = path
    }

    /// An error at the present byte.
    func error(found: String, expected: String) -> CheckpointError {
        CheckpointError(
            path: path, cause: .malformed, place: "header at byte \(position)", found: found, expected: expected)
    }

    /// An object; `member` is called after each key and its colon, and must consume the value.
    mutating func object(
        _ member: (inout HeaderScanner, String) throws(CheckpointError) -> Void
    ) throws(CheckpointError) {
        try expect("{")
        if next() == UInt8(ascii: "}") {
            position += 1
            return
        }
        while true {
            let key = try string()
            try expect(":")
            try member(&self, key)
            guard next() == UInt8(ascii: ",") else { return try expect("}") }
            position += 1
        }
    }

    /// An array of natural numbers that fit Int.
    mutating func integers() throws(CheckpointError) -> [Int] {
        try expect("[")
        if next() == UInt8(ascii: "]") {
            position += 1
            return []
        }
        var values: [Int] = []
        while true {
            values.append(try integer())
            guard next() == UInt8(ascii: ",") else {
                try expect("]")
                return values
            }
            position += 1
        }
    }

    /// The end of the header: nothing but white space may follow the object.
    mutating func end() throws(CheckpointError) {
        if next() != nil { throw error(found: describeNext(), expected: "the end of the header") }
    }

    /// A string, with JSON's escapes, of valid UTF-8.
    mutating func string() throws(CheckpointError) -> String {
        try expect("\"")
        var content: [UInt8] = []
        while true {
            guard position < bytes.count else { throw error(found: "the end of the header", expected: "\"") }
            let byte = bytes[position]
            if byte < 0x20 { throw error(found: "a control character in a string", expected: "an escape") }
            position += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let text = String(validating: content, as: UTF8.self) else {
                    throw error(found: "a string that is not UTF-8", expected: "UTF-8")
                }
                return text
            case UInt8(ascii: "\\"): content.append(contentsOf: String(try escaped()).utf8)
            default: content.append(byte)
            }
        }
    }

    private mutating func escaped() throws(CheckpointError) -> Unicode.Scalar {
        guard position < bytes.count else { throw error(found: "the end of the header", expected: "an escape") }
        let byte = bytes[position]
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            let high = try hexadecimal()
            if let scalar = Unicode.Scalar(high) { return scalar }
            // A surrogate: only a high one followed by an escaped low one makes a character.
            guard high < 0xdc00, bytes.count - position >= 2, bytes[position] == UInt8(ascii: "\\"),
                bytes[position + 1] == UInt8(ascii: "u")
            else { throw error(found: "half of a surrogate pair", expected: "both halves") }
            position += 2
            let low = try hexadecimal()
            guard (0xdc00..<0xe000).contains(low),
                let scalar = Unicode.Scalar(0x10000 + (high - 0xd800) << 10 + low - 0xdc00)
            else { throw error(found: "half of a surrogate pair", expected: "both halves") }
            return scalar
        default: throw error(found: "the escape \\\(Unicode.Scalar(byte))", expected: "one of JSON's")
        }
    }

    private mutating func hexadecimal() throws(CheckpointError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard position < bytes.count, let digit = Character(Unicode.Scalar(bytes[position])).hexDigitValue else {
                throw error(found: "an incomplete \\u escape", expected: "four hexadecimal digits")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }

    private mutating func integer() throws(CheckpointError) -> Int {
        var value = 0
        var digits = 0
        let first = next()
        while position < bytes.count, case let digit = bytes[position] &- UInt8(ascii: "0"), digit < 10 {
            let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = tens.addingReportingOverflow(Int(digit))
            guard !overflow, !carry else { throw error(found: "a number beyond 2^63", expected: "a smaller one") }
            value = sum
            digits += 1
            position += 1
        }
        guard digits == 1 || digits > 1 && first != UInt8(ascii: "0") else {
            throw error(found: digits == 0 ? describeNext() : "a leading zero", expected: "a natural number")
        }
        return value
    }

    /// The next byte that is not white space, not consumed; nil at the end.
    private mutating func next() -> UInt8? {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0a, 0x0d: position += 1
            default: return bytes[position]
            }
        }
        return nil
    }

    private mutating func expect(_ character: Unicode.Scalar) throws(CheckpointError) {
        guard next() == UInt8(ascii: character) else { throw error(found: describeNext(), expected: "\(character)") }
        position += 1
    }

    private func describeNext() -> String {
        guard position < bytes.count else { return "the end of the header" }
        let byte = bytes[position]
        return byte > 0x20 && byte < 0x7f ? "\(Unicode.Scalar(byte))" : "byte \(byte)"
    }
}
