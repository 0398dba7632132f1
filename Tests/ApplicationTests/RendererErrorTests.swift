import Checkpoint
import Diffusion
import DreamCache
import Foundation
import Raster
import Spool
import TensorEngine
import Testing

@testable import Application

/// What becomes of a job, by what went wrong.
@Suite struct RendererErrorTests {
    enum Kind: String, Sendable { case rejected, unavailable, transient, environment, stopped }

    struct Row: Sendable, CustomStringConvertible {
        let error: any Error
        let kind: Kind
        /// What the message names.
        let says: String
        var description: String { "\(error)" }
    }

    private static func file(_ cause: CheckpointError.Cause) -> CheckpointError {
        CheckpointError(path: "/m/sd.ckpt", cause: cause, place: "open", found: "this", expected: "that")
    }

    private static func inModel(_ cause: CheckpointError.Cause) -> DreamCacheError {
        .diffusion(.checkpoint(file(cause)))
    }

    static let machine: [Int32] = [
        EMFILE, ENFILE, EIO, ENOMEM, ENOSPC, EDQUOT, EROFS, EAGAIN, EINTR,
    ]

    static let rows: [Row] =
        machine.flatMap { code in
            [
                Row(error: inModel(.system(code: code)), kind: .environment, says: "sd.ckpt"),
                Row(
                    error: RasterError(
                        path: "/r/cat.png", cause: .system(code: code), place: "start the decoder", found: ""),
                    kind: .environment, says: "start the decoder"),
                Row(error: RendererError(errno: code, "write /x"), kind: .environment, says: "write /x"),
            ]
        } + [
            Row(error: inModel(.system(code: ENOENT)), kind: .unavailable, says: "sd.ckpt"),
            Row(error: inModel(.system(code: EACCES)), kind: .unavailable, says: "sd.ckpt"),
            Row(error: inModel(.truncated), kind: .unavailable, says: "sd.ckpt"),
            Row(error: inModel(.malformed), kind: .unavailable, says: "sd.ckpt"),
            Row(error: inModel(.refused), kind: .unavailable, says: "sd.ckpt"),
            Row(error: inModel(.notFinite), kind: .unavailable, says: "sd.ckpt"),
            Row(error: inModel(.outOfMemory), kind: .environment, says: "sd.ckpt"),
            Row(error: inModel(.stopped), kind: .stopped, says: ""),
            Row(error: file(.system(code: ENOSPC)), kind: .environment, says: "sd.ckpt"),
            Row(
                error: DreamCacheError.diffusion(
                    .configuration(path: "/m/x.json", field: "a", found: "b", expected: "c")), kind: .unavailable,
                says: "x.json"),
            Row(
                error: DreamCacheError.mismatch(path: "/m/a.pt", field: "adapter", found: "b", expected: "c"),
                kind: .unavailable, says: "a.pt"),
            Row(error: DreamCacheError.diffusion(.engine(.outOfMemory(byteCount: 9))), kind: .environment, says: "9"),
            Row(
                error: DreamCacheError.diffusion(.engine(.overLimit(byteCount: 5 << 20, held: 0, limit: 4 << 20))),
                kind: .environment, says: "5 MB"),
            Row(
                error: DreamCacheError.diffusion(.engine(.oneDNN(operation: "make", status: "out_of_memory"))),
                kind: .environment, says: "make"),
            // mprotect(2) refuses to make code executable.
            Row(
                error: DreamCacheError.diffusion(.engine(.oneDNN(operation: "make", status: "runtime_error"))),
                kind: .environment, says: "make"),
            Row(
                error: DreamCacheError.diffusion(.engine(.oneDNN(operation: "make", status: "unimplemented"))),
                kind: .unavailable, says: "make"),
            Row(error: DreamCacheError.diffusion(.engine(.stopped)), kind: .stopped, says: ""),
            Row(error: DreamCacheError.stopped, kind: .stopped, says: ""),
            Row(
                error: DreamCacheError.cache(path: "/s/cat.dcache", field: "data section", found: "b", expected: "c"),
                kind: .transient, says: "cat.dcache"),
            Row(
                error: DreamCacheError.preparedWeights(path: "/p/w.safetensors", found: "less"), kind: .environment,
                says: "w.safetensors"),
            Row(
                error: DreamCacheError.notFinite(what: "the latent at step 3", found: "NaN"), kind: .rejected,
                says: "the latent at step 3 is not finite (NaN)"),
            Row(
                error: DreamCacheError.request(field: "width", found: "7", expected: "8"), kind: .rejected,
                says: "width"),
            Row(
                error: RasterError(path: "/r/cat.png", cause: .corrupt, place: "row", found: "b", expected: "c"),
                kind: .rejected, says: "corrupt"),
            Row(error: CocoaError(.fileNoSuchFile), kind: .transient, says: ""),
            Row(error: RendererError.stopped, kind: .stopped, says: ""),
        ]

    @Test(arguments: rows) func decidesWhatBecomesOfTheJob(_ row: Row) {
        let error = RendererError(row.error)
        #expect(error.kind == row.kind.rawValue)
        #expect(row.says.isEmpty || error.description.contains(row.says), "\(error)")
    }

    /// A field of the manifest is named once.
    @Test func aFieldIsNamedOnce() {
        let error = RendererError(DreamCacheError.request(field: "width", found: "7", expected: "a multiple of 8"))
        #expect(error.description == "$.width: found 7, expected a multiple of 8")
    }

    /// A picture is named without the daemon's folders.
    @Test func aPictureIsNamedByItsLastPart() {
        let error = RasterError(path: "/spool/lib/7/cat.png", cause: .corrupt, place: "row", found: "b", expected: "c")
        guard case .rejected(let field, let message) = RendererError(error) else {
            Issue.record("not rejected")
            return
        }
        #expect(field == "cat.png" && !message.contains("/"), "\(message)")
    }
}
