/// An image's unfinished state on disk: one line of JSON that says what it is of, then the renderer's bytes.
///
/// The digest of the bytes is SHA-256, which the spool needs anyway, in place of a CRC. Anything wrong means no
/// checkpoint: the image begins at step 0, which costs time and nothing else.
package struct CheckpointFile: Sendable, Equatable {
    /// Digest of all that decides the image's pixels; a checkpoint of another image is none.
    package let identity: String
    /// Steps done.
    package let step: Int
    /// The renderer's own bytes.
    package let state: [UInt8]

    static let name = "checkpoint"

    /// What an image of a job depends on.
    static func identity(of record: JobRecord, image: Int) -> String {
        let caches = record.caches.map { $0.cache ?? "" }
        let initial = record.initialImage.map { ["init_image " + $0.sha256] } ?? []
        let dataset = record.dataset.map { ["dataset " + $0.digest] } ?? []
        return Digest.sha256(
            ([record.manifestDigest, String(record.seed), String(image)] + caches + initial + dataset).joined(
                separator: "\n"))
    }

    package var bytes: [UInt8] {
        let header = JSON.object([
            "version": .integer(1), "identity": .string(identity), "step": .integer(step),
            "bytes": .integer(state.count),
            "sha256": .string(Digest.sha256(state)),
        ])
        return Array((header.text(pretty: false) + "\n").utf8) + state
    }

    package init(identity: String, step: Int, state: [UInt8]) {
        self.identity = identity
        self.step = step
        self.state = state
    }

    package init?(_ bytes: [UInt8]) {
        guard let end = bytes.firstIndex(of: UInt8(ascii: "\n")),
            let header = try? JSONReader.read(Array(bytes[..<end])),
            header["version"]?.integer == 1, let identity = header["identity"]?.string,
            let step = header["step"]?.integer, step >= 0, let digest = header["sha256"]?.string,
            header["bytes"]?.integer == bytes.count - end - 1
        else { return nil }
        let state = Array(bytes[(end + 1)...])
        guard Digest.sha256(state) == digest else { return nil }
        self.init(identity: identity, step: step, state: state)
    }
}
