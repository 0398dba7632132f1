import CImageCodecs
import Checkpoint
import DreamCache
import FuzzPictures
import Glibc
import Spool

/// Everything that reads bytes from outside, as a fuzzer feeds it. An input may be refused or accepted; what it must not do
/// is crash, hang or run away with memory.
public enum FuzzReader: String, CaseIterable, Sendable {
    /// Job manifests.
    case manifest
    /// `.dcache` files.
    case dcache
    /// Checkpoints as they come: safetensors, or torch's zip with its pickle.
    case checkpoint
    /// The pickle of a torch file, its zip and checksum made to fit: no change is lost to a wrong checksum.
    case pickle
    /// Those of ``PictureReader``.
    case image, heic, avif, webp, colour, png, metadata
    /// The spool's own look at a dropped picture, before anything is decoded.
    case drop

    /// Feeds the reader.
    public func feed(_ bytes: UnsafeRawBufferPointer) {
        switch self {
        case .manifest: _ = try? JobManifest.parse([UInt8](bytes))
        case .image, .heic, .avif, .webp, .colour, .png, .metadata: PictureReader(rawValue: rawValue)?.feed(bytes)
        case .drop: _ = try? ImageFile.examine([UInt8](bytes), limits: .init())
        case .checkpoint: Self.withFile([UInt8](bytes)) { Self.open($0) }
        case .pickle: Self.withFile(Self.torch([UInt8](bytes))) { Self.open($0) }
        case .dcache: Self.withFile([UInt8](bytes)) { _ = try? FeatureCache.open($0) }
        }
    }

    private static func open(_ path: String) {
        guard let file = try? Checkpoint.open(path) else { return }
        for tensor in file.tensors.values where tensor.count < 1 << 20 { _ = tensor.floats() }
    }

    // MARK: - Making bytes fit

    /// A torch file of one pickle, with one record of 24 bytes.
    private static func torch(_ pickle: [UInt8]) -> [UInt8] {
        func little(_ value: Int, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
        }
        var (file, directory): ([UInt8], [UInt8]) = ([], [])
        for (name, content) in [("a/data.pkl", pickle), ("a/data/0", [UInt8](repeating: 1, count: 24))] {
            let checksum = content.withUnsafeBufferPointer { buffer in
                buffer.baseAddress.map { image_crc32($0, buffer.count) } ?? 0
            }
            // Flags, method 0 (stored), time and date, checksum, both sizes, lengths of name and extra field.
            let common =
                [UInt8](repeating: 0, count: 8) + little(Int(checksum), 4) + little(content.count, 4)
                + little(content.count, 4) + little(name.utf8.count, 2) + little(0, 2)
            directory +=
                little(0x0201_4b50, 4) + little(20, 2) + little(20, 2) + common + little(0, 10)
                + little(file.count, 4) + Array(name.utf8)
            file += little(0x0403_4b50, 4) + little(20, 2) + common + Array(name.utf8) + content
        }
        return file + directory + little(0x0605_4b50, 4) + little(0, 4) + little(2, 2) + little(2, 2)
            + little(directory.count, 4) + little(file.count, 4) + little(0, 2)
    }

    // MARK: - Files

    /// Readers that map their file get one in memory.
    private static func withFile(_ bytes: [UInt8], _ body: (String) -> Void) {
        let descriptor = memoryFile
        ftruncate(descriptor, 0)
        _ = pwrite(descriptor, bytes, bytes.count, 0)
        body("/proc/self/fd/\(descriptor)")
    }

    private static let memoryFile: Int32 = {
        let path = "/dev/shm/dreamcache-fuzz-\(getpid())"
        let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        unlink(path)
        return descriptor
    }()
}
