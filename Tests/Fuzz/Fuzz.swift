import Checkpoint
import DreamCache
import Foundation
import Raster
import Spool

/// Coverage-guided fuzzing (libFuzzer with AddressSanitizer) of everything that reads bytes from outside. `make fuzz`
/// builds it; the environment variable FUZZ_READER says which reader is fed. An input may be refused or accepted; what it
/// must not do is crash, hang or run away with memory.
private enum Reader: String, CaseIterable {
    case manifest, dcache, checkpoint, image, metadata

    static let chosen: Reader = {
        let name = ProcessInfo.processInfo.environment["FUZZ_READER"] ?? ""
        guard let reader = Reader(rawValue: name) else {
            fatalError("FUZZ_READER: found '\(name)', expected one of \(allCases.map(\.rawValue))")
        }
        return reader
    }()

    func feed(_ bytes: UnsafeRawBufferPointer) {
        switch self {
        case .manifest: _ = try? JobManifest.parse([UInt8](bytes))
        case .image:
            var limits = Raster.Limits()
            limits.pixels = 1 << 20
            _ = try? Raster.decode([UInt8](bytes), path: "input", limits: limits)
        case .metadata: _ = try? ImageMetadata.read([UInt8](bytes), path: "input")
        case .checkpoint:
            Self.withFile(bytes) { path in
                guard let file = try? Checkpoint.open(path) else { return }
                for tensor in file.tensors.values where tensor.count < 1 << 20 { _ = tensor.floats() }
            }
        case .dcache: Self.withFile(bytes) { _ = try? FeatureCache.open($0) }
        }
    }

    /// Readers that map their file get one in memory.
    private static func withFile(_ bytes: UnsafeRawBufferPointer, _ body: (String) -> Void) {
        let descriptor = memoryFile
        ftruncate(descriptor, 0)
        _ = pwrite(descriptor, bytes.baseAddress, bytes.count, 0)
        body("/proc/self/fd/\(descriptor)")
    }

    private static let memoryFile: Int32 = {
        let path = "/dev/shm/dreamcache-fuzz-\(getpid())"
        let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        unlink(path)
        return descriptor
    }()
}

/// libFuzzer's entry point.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    Reader.chosen.feed(UnsafeRawBufferPointer(start: data, count: size))
    return 0
}

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ argc: UnsafeMutablePointer<CInt>,
    _ argv: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ callback: @convention(c) (UnsafePointer<UInt8>, Int) -> CInt
) -> CInt

/// What SwiftPM links as `main` of this executable; libFuzzer's own main does no more.
@_cdecl("Fuzz_main")
public func fuzzMain(_ argc: CInt, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> CInt {
    var (count, arguments) = (argc, argv)
    return runDriver(&count, &arguments) { fuzzOneInput($0, $1) }
}
