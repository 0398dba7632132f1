import Bytes
import Crypto

extension SystemCalls {
    /// The SHA-256 of a file of the spool's own, in lower-case hexadecimal, and its size.
    func digest(of path: SpoolPath) throws(SpoolError) -> (sha256: String, bytes: Int) {
        var hash = SHA256()
        let count = try stream(path) { (piece) throws(SpoolError) in hash.update(bufferPointer: piece) }
        return (hexadecimal(hash.finalize()), count)
    }
}

/// SHA-256 in the form the spool writes it.
enum Digest {
    static func sha256(_ bytes: [UInt8]) -> String { Bytes.sha256(bytes) }

    static func sha256(_ text: String) -> String { Bytes.sha256(text.utf8) }

    /// Whether a text is a SHA-256 as the spool writes it.
    static func isDigest(_ text: String) -> Bool {
        text.utf8.count == 64 && text.utf8.allSatisfy { "0123456789abcdef".utf8.contains($0) }
    }
}
