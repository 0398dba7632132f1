import Bytes
import CConfinement
import Foundation
import Glibc
import Raster
import Spool

/// Pictures come from strangers, and libpng and libjpeg are large C libraries: their work is done in a process of its own
/// that can read the one file and write its pixels, and nothing else (seccomp(2) and resource limits, `confinement_begin`).
/// Whatever a picture does to its decoder (crash it, keep it busy, fill its memory, take it over), the picture is refused
/// by name and the daemon lives on.
///
/// The process is this program started anew under the name `dreamcache-decoder`: there is no further file to install, and
/// none that could be of another version. It costs about 20 ms a picture.
public enum ConfinedDecoder {
    private static let programName = "dreamcache-decoder"
    /// Memory beyond what the program has when it has read the file: the pixels of the largest picture allowed, twice, and
    /// the coefficients of a progressive JPEG.
    private static let memory: UInt64 = 1 << 30
    /// Processor time for a picture of next to nothing, and for each mebibyte of its file: several times what a slow
    /// machine needs.
    private static let seconds = 10, secondsPerMebibyte = 1
    /// Time in all, on a machine that has other things to do; less than a watchdog waits.
    private static let patience = 120.0
    /// Exit status of a decoder that could not be confined (EX_OSERR).
    private static let unconfined: Int32 = 71

    /// Reads a PNG or JPEG file as `Raster.decode(path:limits:)` does, in a process of its own.
    ///
    /// - Throws: `.rejected` naming the file, `.environment` where the machine is at fault, `.unavailable` where the kernel
    ///   does not confine processes, `.stopped`.
    public static func decode(
        path: String, limits: Raster.Limits = Raster.Limits(), shouldStop: () -> Bool = { false }
    ) throws(RendererError) -> Raster {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else { throw systemError("open", path) }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0 else { throw systemError("fstat", path) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw RendererError(
                RasterError(
                    path: path, cause: .unsupported, place: "file type", found: "something that is no regular file",
                    expected: "a regular file"))
        }
        let budget = seconds + secondsPerMebibyte * min(Int(status.st_size) >> 20, limits.fileSize >> 20)
        let process = try DecoderProcess(
            file: file, name: programName, argument: String(budget), patience: patience, path: path)

        // Fewer bytes than asked for mean that the process has ended. What it says is not believed: it may be the picture
        // that speaks.
        func answer(_ count: Int) throws(RendererError) -> [UInt8] {
            let bytes = try process.read(count, shouldStop)
            guard bytes.count == count else { throw failure(process.wait(), budget, path) }
            return bytes
        }
        let nonsense = rejected("a picture whose decoder answers nonsense", path)
        guard let header = Header(try answer(Header.size)) else { throw nonsense }
        switch header.kind {
        case .picture(let width, let height, let channels):
            guard (1...limits.side).contains(width), (1...limits.side).contains(height),
                width * height <= limits.pixels, channels == 3 || channels == 4
            else { throw nonsense }
            let pixels = try answer(width * height * channels)
            guard try process.read(1, shouldStop).isEmpty else { throw nonsense }
            let ending = process.wait()
            guard ending == .exited(0) else { throw failure(ending, budget, path) }
            return Raster(width: width, height: height, channels: channels, pixels: pixels)
        case .error(let cause, let length):
            guard length <= 4096 else { throw nonsense }
            let parts = String(decoding: try answer(length), as: UTF8.self)
                .split(separator: "\0", omittingEmptySubsequences: false)
            guard parts.count == 3 else { throw nonsense }
            throw RendererError(
                RasterError(
                    path: path, cause: cause, place: String(parts[0]), found: String(parts[1]),
                    expected: String(parts[2])))
        }
    }

    private static func failure(_ ending: DecoderProcess.Ending, _ budget: Int, _ path: String) -> RendererError {
        switch ending {
        case .signalled(SIGXCPU): rejected("a picture that takes more than \(budget) s of processor time", path)
        // Only the machine's owner, or its want of memory, sends this.
        case .signalled(SIGKILL): .environment(message: "the decoder of \(name(path)) was killed")
        case .signalled(SIGSYS): rejected("a picture that makes its decoder ask for what it may not have", path)
        case .signalled(let number): rejected("a picture that ends its decoder by signal \(number)", path)
        case .exited(unconfined): .unavailable(message: "this kernel does not let the decoder of pictures be confined")
        case .exited(let status): .transient(message: "the decoder of \(name(path)) ended with status \(status)")
        }
    }

    /// A path's last part: the folders are the daemon's own.
    private static func name(_ path: String) -> String { URL(fileURLWithPath: path).lastPathComponent }

    /// Why no picture can be decoded so on this machine, or nil where one can.
    public static func obstacle() -> String? {
        let path = NSTemporaryDirectory() + "dreamcache-\(getpid()).png"
        defer { unlink(path) }
        do {
            try Data(Raster(width: 1, height: 1, color: (0, 0, 0)).encodedPNG()).write(to: URL(fileURLWithPath: path))
            _ = try decode(path: path)
            return nil
        } catch { return "\(error)" }
    }

    fileprivate static func rejected(_ found: String, _ path: String) -> RendererError {
        RendererError(
            RasterError(path: path, cause: .corrupt, place: "picture", found: found, expected: "a sound one"))
    }

    fileprivate static func systemError(_ operation: String, _ path: String) -> RendererError {
        let code = errno
        return RendererError(
            RasterError(
                path: path, cause: .system(code: code), place: operation,
                found: "\(String(cString: strerror(code))) (errno \(code))"))
    }

    // MARK: - In the process

    /// Where the program was started as a decoder: decodes what is at standard input to standard output, and ends. To be
    /// called before anything else; returns at once in every other case.
    public static func serveIfAsked() {
        let arguments = CommandLine.arguments
        guard arguments.first == programName, arguments.count == 2, let budget = UInt32(arguments[1]) else { return }
        // Reading does no harm yet, and asks the kernel for more than decoding does.
        let limits = Raster.Limits()
        let file = try? FileHandle.standardInput.read(upToCount: limits.fileSize + 1)
        guard let size = addressSpace(), confinement_begin(size + memory, budget) == 0 else { _exit(unconfined) }
        do throws(RasterError) {
            let picture = try Raster.decode([UInt8](file ?? Data()), path: "", limits: limits)
            write(Header(.picture(width: picture.width, height: picture.height, channels: picture.channels)).bytes)
            write(picture.pixels)
        } catch {
            let text = Array([error.place, error.found, error.expected].joined(separator: "\0").utf8)
            write(Header(.error(error.cause, textLength: text.count)).bytes + text)
        }
        _exit(0)
    }

    /// Bytes of address space the process has.
    private static func addressSpace() -> UInt64? {
        guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8),
            let pages = text.split(separator: " ").first.flatMap({ UInt64($0) })
        else { return nil }
        return pages * UInt64(sysconf(Int32(_SC_PAGESIZE)))
    }

    private static func write(_ bytes: [UInt8]) {
        // On an error nobody listens any more.
        do throws(FileError) { try writeAll(bytes, to: STDOUT_FILENO, path: "standard output") } catch { _exit(1) }
    }

    /// What comes before the pixels or the words: four numbers of 32 bits.
    private struct Header {
        enum Kind {
            case picture(width: Int, height: Int, channels: Int)
            case error(RasterError.Cause, textLength: Int)
        }

        static let size = 16
        let kind: Kind

        init(_ kind: Kind) { self.kind = kind }

        init?(_ bytes: [UInt8]) {
            guard bytes.count == Self.size else { return nil }
            let numbers = (0..<4).map { index in
                bytes[4 * index..<4 * index + 4].reversed().reduce(0) { $0 << 8 | Int($1) }
            }
            let cause: RasterError.Cause
            switch numbers[0] {
            case 0:
                kind = .picture(width: numbers[1], height: numbers[2], channels: numbers[3])
                return
            case 1: cause = .truncated
            case 2: cause = .corrupt
            case 3: cause = .unsupported
            case 4: cause = .tooLarge
            case 5: cause = .metadata
            case 6: cause = .system(code: Int32(truncatingIfNeeded: numbers[1]))
            default: return nil
            }
            kind = .error(cause, textLength: numbers[2])
        }

        var bytes: [UInt8] {
            let numbers: [Int] =
                switch kind {
                case .picture(let width, let height, let channels): [0, width, height, channels]
                case .error(.truncated, let length): [1, 0, length, 0]
                case .error(.corrupt, let length): [2, 0, length, 0]
                case .error(.unsupported, let length): [3, 0, length, 0]
                case .error(.tooLarge, let length): [4, 0, length, 0]
                case .error(.metadata, let length): [5, 0, length, 0]
                case .error(.system(let code), let length): [6, Int(code), length, 0]
                }
            return numbers.flatMap { number in (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) } }
        }
    }
}

/// A running decoder, as its parent sees it. It does not outlive this object.
private final class DecoderProcess {
    enum Ending: Equatable {
        case exited(Int32)
        case signalled(Int32)
    }

    private let process: pid_t
    private let output: Int32
    private let path: String
    private let deadline: ContinuousClock.Instant
    private var ending: Ending?

    init(file: Int32, name: String, argument: String, patience: Double, path: String) throws(RendererError) {
        var output: Int32 = -1
        process = confinement_spawn(name, argument, file, &output)
        self.output = output
        self.path = path
        deadline = .now + .seconds(patience)
        guard process > 0 else {
            let failure = ConfinedDecoder.systemError("start the decoder", path)
            ending = .exited(1)
            throw failure
        }
    }

    deinit {
        if ending == nil {
            kill(process, SIGKILL)
            _ = wait()
        }
        if output >= 0 { close(output) }
    }

    /// The next bytes, fewer where there are no more.
    func read(_ count: Int, _ shouldStop: () -> Bool) throws(RendererError) -> [UInt8] {
        var failure: RendererError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, done in
            while done < count {
                // Before every piece: a decoder that was taken over may send a byte now and then, for ever.
                if shouldStop() { failure = .stopped }
                if ContinuousClock.now > deadline {
                    failure = ConfinedDecoder.rejected("a picture whose decoder does not come to an end", path)
                }
                if failure != nil { return }
                var event = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
                if poll(&event, 1, 100) <= 0 { continue }
                let got = Glibc.read(output, buffer.baseAddress.map { $0 + done }, count - done)
                if got < 0, errno == EINTR { continue }
                if got <= 0 { return }
                done += got
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// Waits for its end.
    func wait() -> Ending {
        if let ending { return ending }
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        // wait(2)'s macros, which Swift does not see.
        let number = status & 0x7F
        let ending: Ending = number == 0 ? .exited(status >> 8 & 0xFF) : .signalled(number)
        self.ending = ending
        return ending
    }
}
