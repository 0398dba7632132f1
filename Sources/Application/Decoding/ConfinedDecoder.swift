import Bytes
import Foundation
import Glibc
import Raster
import Spool

/// Pictures come from strangers, and the libraries that know their formats are large and written in C and C++. So they
/// work in a process of their own. It can read the one file and write its pixels, and nothing else (seccomp(2) and
/// resource limits, `confinement_begin`). Whatever a picture does to its decoder (crash it, keep it busy, fill its
/// memory, take it over), the picture is refused by name and the daemon lives on.
///
/// The process is this program started anew under the name `dreamcache-decoder`: there is no further file to install,
/// and none that could be of another version. It costs about 20 ms per picture.
public enum ConfinedDecoder {
    static let programName = "dreamcache-decoder"
    /// Processor time that is allowed for any picture, and for each mebibyte of its file: several times what a slow
    /// machine needs.
    private static let seconds = 10, secondsPerMebibyte = 1
    /// Time that is allowed in all, on a machine that has other work; less than a watchdog waits.
    private static let patience = 120.0
    /// Exit status of a decoder that could not be confined (EX_OSERR).
    static let unconfined: Int32 = 71

    /// Reads a picture as `Raster.decode(path:limits:neededSide:)` does, in a process of its own.
    ///
    /// - Parameter neededSide: how large a square the picture will be fitted into; a very large one is then read at a
    ///   reduced size.
    /// - Throws: `.rejected` naming the file, `.environment` where the machine is at fault, `.unavailable` where the kernel
    ///   does not confine processes, `.stopped`.
    public static func decode(
        path: String, limits: Raster.Limits = Raster.Limits(), neededSide: Int? = nil,
        shouldStop: () -> Bool = { false }
    ) throws(RendererError) -> Raster {
        let answer = try answer(
            path, limits, neededSide: neededSide, asksForDescription: false, shouldStop: shouldStop)
        guard case .picture(let picture) = answer else { throw nonsense(path) }
        return picture
    }

    /// What a picture's file says of it, as `PictureDescription` reads it, in a process of its own.
    /// - Throws: as `decode(path:limits:neededSide:shouldStop:)`.
    public static func describe(
        path: String, limits: Raster.Limits = Raster.Limits()
    ) throws(RendererError) -> PictureDescription {
        let answer = try answer(path, limits, neededSide: nil, asksForDescription: true, shouldStop: { false })
        guard case .description(let description) = answer else { throw nonsense(path) }
        return description
    }

    private enum Answer {
        case picture(Raster)
        case description(PictureDescription)
    }

    private static func answer(
        _ path: String, _ limits: Raster.Limits, neededSide: Int?, asksForDescription: Bool, shouldStop: () -> Bool
    ) throws(RendererError) -> Answer {
        let file = try RegularFile.open(path).mapError { RendererError(RasterError($0, path)) }.get()
        defer { file.close() }
        let budget = seconds + secondsPerMebibyte * min(file.size >> 20, limits.fileSize >> 20)
        let request = DecoderRequest(
            processorSeconds: budget, limits: limits, neededSide: neededSide, asksForDescription: asksForDescription)
        let process = try DecoderProcess(
            file: file.descriptor, name: programName, argument: request.argument, patience: patience, path: path)

        // Fewer bytes than asked for mean that the process has ended. Its own words are not trusted: a picture may have
        // taken it over.
        func bytes(_ count: Int) throws(RendererError) -> [UInt8] {
            let bytes = try process.read(count, shouldStop)
            guard bytes.count == count else { throw failure(process.wait(), budget, path) }
            return bytes
        }
        func text(_ length: Int) throws(RendererError) -> String {
            guard length <= 4096 else { throw nonsense(path) }
            return String(decoding: try bytes(length), as: UTF8.self)
        }
        func finish() throws(RendererError) {
            guard try process.read(1, shouldStop).isEmpty else { throw nonsense(path) }
            let ending = process.wait()
            guard ending == .exited(0) else { throw failure(ending, budget, path) }
        }
        guard let header = DecoderHeader(try bytes(DecoderHeader.size)) else { throw nonsense(path) }
        switch header.kind {
        case .picture(let width, let height, let channels):
            guard (1...limits.side).contains(width), (1...limits.side).contains(height),
                width * height <= limits.pixels, channels == 3 || channels == 4
            else { throw nonsense(path) }
            let pixels = try bytes(width * height * channels)
            try finish()
            return .picture(Raster(width: width, height: height, channels: channels, pixels: pixels))
        case .description(let length):
            guard let description = PictureDescription(text: try text(length)) else { throw nonsense(path) }
            try finish()
            return .description(description)
        case .error(let cause, let length):
            let parts = try text(length).split(separator: "\0", omittingEmptySubsequences: false)
            guard parts.count == 3 else { throw nonsense(path) }
            throw RendererError(
                RasterError(
                    path: path, cause: cause, place: String(parts[0]), found: String(parts[1]),
                    expected: String(parts[2])))
        }
    }

    private static func nonsense(_ path: String) -> RendererError {
        rejected("a picture whose decoder answers nonsense", path)
    }

    private static func failure(_ ending: DecoderProcess.Ending, _ budget: Int, _ path: String) -> RendererError {
        switch ending {
        case .signalled(SIGXCPU): rejected("a picture that takes more than \(budget) s of processor time", path)
        // The kernel sends this where memory runs out, or the machine's owner. A decoder that was taken over can send it to
        // itself: the queue refuses references that are in trouble while all other work goes on.
        case .signalled(SIGKILL): .environment(message: "the decoder of \(name(path)) was killed")
        case .signalled(SIGSYS): rejected("a picture that makes its decoder ask for what it may not have", path)
        case .signalled(let number): rejected("a picture that ends its decoder by signal \(number)", path)
        case .exited(unconfined): .unavailable(message: "this kernel does not let the decoder of pictures be confined")
        case .exited(let status): .transient(message: "the decoder of \(name(path)) ended with status \(status)")
        }
    }

    /// A path's last part: the folders are the daemon's own.
    private static func name(_ path: String) -> String { URL(fileURLWithPath: path).lastPathComponent }

    /// Why this machine cannot decode pictures in confinement; nil where it can.
    public static func obstacle() -> String? {
        let path = NSTemporaryDirectory() + "dreamcache-\(getpid()).png"
        defer { unlink(path) }
        do {
            try Data(Raster(width: 1, height: 1, color: (0, 0, 0)).encodedPNG()).write(to: URL(fileURLWithPath: path))
            _ = try decode(path: path)
            return nil
        } catch { return "\(error)" }
    }

    static func rejected(_ found: String, _ path: String) -> RendererError {
        RendererError(
            RasterError(path: path, cause: .corrupt, place: "picture", found: found, expected: "a sound one"))
    }

    static func systemError(_ operation: String, _ path: String) -> RendererError {
        RendererError(RasterError(.system(call: operation, code: errno), path))
    }
}
