import Diffusion
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import DreamCache

/// Weights kept by one start for the next: what they change is the time.
@Suite final class PreparedWeightsTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("prepared-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(at: folder) }

    private func pipeline(_ path: ComputePath, adapter: Bool = false) throws -> Pipeline {
        try Pipeline(
            files: ModelFiles(
                checkpoint: Golden.path("tiny-sd2.ckpt"),
                adapter: adapter ? Golden.path("cross_attention-199999.pt") : nil),
            path: path, weightsFolder: folder.path)
    }

    private func image(_ pipeline: Pipeline) throws -> [UInt8] {
        var request = ImageRequest(prompt: "a backpack", seed: 7)
        request.steps = 2
        return try pipeline.generate(request).pixels
    }

    /// The files of weights in the folder.
    private func prepared() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".safetensors") }
    }

    /// New and kept packed weights.
    private func counts(_ pipeline: Pipeline) -> (new: Int, kept: Int) {
        var counts = (new: 0, kept: 0)
        pipeline.model.engine.forEachPackedWeights { if $2 { counts.new += 1 } else { counts.kept += 1 } }
        return counts
    }

    @Test(arguments: ComputePath.allCases)
    func theNextStartMakesNoneAnew(_ path: ComputePath) throws {
        try path.require()
        let first = try pipeline(path)
        let picture = try image(first)
        let made = counts(first)
        #expect(made.new > 50 && made.kept == 0)
        let file = try #require(try first.keepWeights())
        #expect(try first.keepWeights() == nil)
        #expect(try FileManager.default.attributesOfItem(atPath: file.path)[.size] as? Int ?? 0 > file.bytes)

        let second = try pipeline(path)
        #expect(try image(second) == picture)
        #expect(counts(second) == (0, made.new))
        #expect(try second.keepWeights() == nil)

        // Another adapter, other weights.
        let third = try pipeline(path, adapter: true)
        #expect(try image(third) == picture)
        #expect(counts(third).kept == 0)
        #expect(try #require(try third.keepWeights()).path != file.path)
        #expect(try prepared().count == 2)
    }

    /// A start that needs other parts of the model adds them.
    @Test func whatIsKeptStays() throws {
        let first = try pipeline(.openBLAS)
        let picture = try image(first)
        let drawn = try #require(try first.keepWeights())
        func encode(_ pipeline: Pipeline) throws {
            _ = try pipeline.makeCache(
                of: [try Raster.decode(path: Golden.path("reference.png"))], subject: "it", options: CacheOptions())
        }
        let second = try pipeline(.openBLAS)
        try encode(second)
        let both = try #require(try second.keepWeights())
        #expect(both.bytes > drawn.bytes)
        let third = try pipeline(.openBLAS)
        #expect(try image(third) == picture)
        try encode(third)
        #expect(counts(third).new == 0)
        // Asked to stop, it leaves the file as it is.
        let fourth = try pipeline(.oneDNNFP32)
        _ = try image(fourth)
        #expect(throws: DreamCacheError.self) { try fourth.keepWeights(shouldStop: { true }) }
        #expect(try prepared().count == 1)
    }

    @Test func aDamagedFileIsMadeAnew() throws {
        let first = try pipeline(.openBLAS)
        let picture = try image(first)
        let file = try #require(try first.keepWeights())
        for size in [0, 7, 1000, file.bytes] {
            #expect(truncate(file.path, size) == 0)
            let next = try pipeline(.openBLAS)
            #expect(try image(next) == picture)
            #expect(counts(next).kept == 0)
            #expect(try next.keepWeights()?.bytes == file.bytes)
        }
    }

    /// A flipped bit gives another picture and no error, unless the bytes are checked.
    @Test func flippedBitsAreNoticed() throws {
        let first = try pipeline(.openBLAS)
        let picture = try image(first)
        let file = try #require(try first.keepWeights())
        let url = URL(fileURLWithPath: file.path)
        let whole = try Data(contentsOf: url)
        for place in [whole.count - 1, whole.count / 2, whole.count - file.bytes] {
            var damaged = whole
            damaged[place] ^= 0x40
            try damaged.write(to: url)
            let next = try pipeline(.openBLAS)
            #expect(next.preparedWeightsDamage?.contains("SHA-256") == true)
            #expect(try image(next) == picture)
            #expect(counts(next).kept == 0)
            #expect(try next.keepWeights() != nil)
        }
        #expect(try Data(contentsOf: url) == whole)
        #expect(try pipeline(.openBLAS).preparedWeightsDamage == nil)
    }

    /// Reading gigabytes takes seconds: the same state of a file is checked once.
    @Test func aFileIsCheckedOnce() throws {
        let first = try pipeline(.openBLAS)
        _ = try image(first)
        let file = try #require(try first.keepWeights())
        let known = KnownFiles(folder: folder.path)
        func checks() throws -> Bool {
            var isChecked = false
            let path = file.path
            _ = try Pipeline(
                files: ModelFiles(checkpoint: Golden.path("tiny-sd2.ckpt")), path: .openBLAS, known: known,
                weightsFolder: URL(fileURLWithPath: path).deletingLastPathComponent().path,
                progress: { phase, _, _ in isChecked = isChecked || phase == "checking weights" })
            return isChecked
        }
        #expect(try checks())
        #expect(try !checks())
    }

    /// A file that is cut short while it is in use neither ends the process nor gives a picture.
    @Test func aFileCutShortWhileInUseIsAnError() throws {
        let first = try pipeline(.openBLAS)
        let picture = try image(first)
        let file = try #require(try first.keepWeights())
        #expect(try image(try pipeline(.openBLAS)) == picture)
        let second = try pipeline(.openBLAS)
        #expect(truncate(file.path, 4096) == 0)
        let error = try #require(throws: DreamCacheError.self) { try image(second) }
        guard case .preparedWeights(let path, _) = error else {
            Issue.record("\(error)")
            return
        }
        #expect(path == file.path)
    }

    @Test func whatAKilledWriterLeftIsSwept() throws {
        let left = folder.appendingPathComponent("abc.safetensors.4711.part")
        try Data(count: 100).write(to: left)
        // One that is being written is locked.
        let busy = folder.appendingPathComponent("abc.safetensors.4712.part")
        try Data(count: 100).write(to: busy)
        let descriptor = open(busy.path, O_RDONLY)
        try #require(flock(descriptor, LOCK_EX | LOCK_NB) == 0)
        defer { close(descriptor) }
        _ = try pipeline(.openBLAS)
        #expect(!FileManager.default.fileExists(atPath: left.path))
        #expect(FileManager.default.fileExists(atPath: busy.path))
    }

    @Test func aFolderThatIsNotThereIsAnErrorAndNoMore() throws {
        try FileManager.default.removeItem(at: folder)
        let pipeline = try pipeline(.openBLAS)
        let picture = try image(pipeline)
        let error = #expect(throws: DreamCacheError.self) { try pipeline.keepWeights() }
        #expect("\(error.map { "\($0)" } ?? "")".contains(folder.path))
        #expect(try image(pipeline) == picture)
    }
}
