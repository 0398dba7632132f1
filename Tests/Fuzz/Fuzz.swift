import Foundation

#if PICTURES
    import FuzzPictures
    private typealias Reader = PictureReader
#else
    import FuzzReaders
    private typealias Reader = FuzzReader
#endif

/// Coverage-guided fuzzing (libFuzzer with AddressSanitizer) of everything that reads bytes from outside. `make fuzz`
/// builds it; the environment variable FUZZ_READER says which reader is fed.
private let reader: Reader = {
    let name = ProcessInfo.processInfo.environment["FUZZ_READER"] ?? ""
    guard let reader = Reader(rawValue: name) else {
        fatalError("FUZZ_READER: found '\(name)', expected one of \(Reader.allCases.map(\.rawValue))")
    }
    return reader
}()

/// libFuzzer's entry point.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    reader.feed(UnsafeRawBufferPointer(start: data, count: size))
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
