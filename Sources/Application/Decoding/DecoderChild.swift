import CConfinement
import Foundation
import Glibc
import Raster

extension ConfinedDecoder {
    /// Memory beyond what the program has when it has read the file: the pixels of the largest picture allowed, and what
    /// its decoder may hold of it (`Raster.Limits`), with room to spare.
    private static let memory: UInt64 = 1 << 30

    /// If the program was started as a decoder, decodes standard input to standard output and ends the process.
    /// Otherwise returns at once. To be called before anything else.
    public static func serveIfAsked() {
        let arguments = CommandLine.arguments
        guard arguments.first == programName, arguments.count == 2, let request = DecoderRequest(argument: arguments[1])
        else { return }
        // The libraries prepare themselves before the confinement: that takes system calls which decoding does not
        // need, and no byte of the picture has been read yet.
        Raster.prepareDecoders()
        let file = standardInput(limit: request.limits.fileSize)
        let seconds = UInt32(clamping: request.processorSeconds)
        guard let size = addressSpace(), confinement_begin(size + memory, seconds) == 0 else { _exit(unconfined) }
        do throws(RasterError) {
            if request.asksForDescription {
                let text = Array(try PictureDescription(file, path: "", limits: request.limits).text.utf8)
                write(DecoderHeader(.description(textLength: text.count)).bytes + text)
                _exit(0)
            }
            let picture = try Raster.decode(file, path: "", limits: request.limits, neededSide: request.neededSide)
            write(
                DecoderHeader(.picture(width: picture.width, height: picture.height, channels: picture.channels)).bytes)
            write(picture.pixels)
        } catch {
            let text = Array([error.place, error.found, error.expected].joined(separator: "\0").utf8)
            write(DecoderHeader(.error(error.cause, textLength: text.count)).bytes + text)
        }
        _exit(0)
    }

    /// The bytes of the file, one more than allowed where there are too many.
    private static func standardInput(limit: Int) -> [UInt8] {
        var status = stat()
        guard fstat(0, &status) == 0 else { return [] }
        return [UInt8](unsafeUninitializedCapacity: min(Int(status.st_size), limit + 1)) { buffer, done in
            while done < buffer.count {
                let count = read(0, buffer.baseAddress.map { $0 + done }, buffer.count - done)
                if count < 0, errno == EINTR { continue }
                if count <= 0 { return }
                done += count
            }
        }
    }

    /// Bytes of address space the process has.
    private static func addressSpace() -> UInt64? {
        guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8),
            let pages = text.split(separator: " ").first.flatMap({ UInt64($0) })
        else { return nil }
        return pages * UInt64(sysconf(Int32(_SC_PAGESIZE)))
    }

    private static func write(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { bytes in
            var rest = bytes
            while !rest.isEmpty {
                let count = Glibc.write(1, rest.baseAddress, rest.count)
                // Nobody listens any more.
                guard count > 0 else { _exit(1) }
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            }
        }
    }
}
