/// What a name in a drop folder says.
public enum DropName {
    /// Whether a name is one for a subject, model or file: `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`.
    public static func isPlain(_ name: String) -> Bool {
        isPlain(name.utf8)
    }

    /// Whether the bytes of a name are those of a plain one.
    static func isPlain(_ bytes: some Collection<UInt8>) -> Bool {
        guard let first = bytes.first, bytes.count <= 64, isAlphanumeric(first) else { return false }
        return bytes.allSatisfy(isPlain)
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        isAlphanumeric(byte) || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "-")
    }

    /// Whether a name is left alone: hidden, or one that copying programs give to what they have not finished.
    public static func isIgnored(_ name: String) -> Bool {
        name.hasPrefix(".") || name.hasSuffix("~")
            || [".part", ".partial", ".filepart", ".tmp"].contains { name.hasSuffix($0) }
    }

    /// The name as receipts and claims write it: equal for plain names, percent-encoded and cut where it is not, so that
    /// any bytes a file system allows become a file name of at most 160 bytes.
    static func key(_ name: SpoolPath.Name) -> String {
        let bytes = name.bytes
        var key = ""
        for (index, byte) in bytes.enumerated() {
            if isPlain(byte), index > 0 || byte != UInt8(ascii: ".") {
                key.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                key += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
        return key.utf8.count <= 160 ? key : key.prefix(140) + "..." + Digest.sha256(bytes).prefix(16)
    }
}
