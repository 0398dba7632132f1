import Raster
import Spool
import Testing

/// Readers of bytes nobody vouches for: images as dropped, and the spool's own files as a bad disk returns them.
@Suite struct UntrustedBytesTests {
    private static let limits = SpoolConfiguration.ReferenceLimits()

    @Test func wholeImagesAreToldApart() throws {
        let png = try ImageFile.examine(Pictures.png(width: 9), limits: Self.limits)
        #expect((png.format, png.width, png.height) == (.png, 9, 8))
        let jpeg = try ImageFile.examine(Pictures.jpeg(), limits: Self.limits)
        #expect((jpeg.format, jpeg.width, jpeg.height) == (.jpeg, 8, 8))
    }

    /// Receipts and the log show names and texts of others; `cat` of one must not act upon a terminal.
    @Test func whatActsOnATerminalIsEscapedInEveryDocument() throws {
        let text = "\u{1B}[2J\u{9B}\u{7F}\u{202E}gnp.a\u{2066}\u{2028}\u{200F} ä\u{301}👩\u{200D}🚀"
        let written = JSON.string(text).text(pretty: false)
        #expect(
            written == #""\u001b[2J\u009b\u007f\u202egnp.a\u2066\u2028\u200f ä\#u{301}👩\#u{200D}🚀""#)
        #expect(try JSONReader.read(Array(written.utf8)).string == text)
    }

    /// What cameras append after the end of the picture does no harm.
    @Test func bytesAfterTheEndAreNobodysBusiness() throws {
        for whole in [Pictures.jpeg(), Pictures.png()] {
            let more = try ImageFile.examine(whole + [1, 2, 3], limits: Self.limits)
            #expect(try more == ImageFile.examine(whole, limits: Self.limits))
        }
    }

    @Test func everyCutIsNoticed() {
        for image in [Pictures.png(payload: Array(0..<60)), Pictures.jpeg(payload: Array(0..<60))] {
            for count in 2..<image.count {
                let error = #expect(throws: ImageFile.Fault.self) {
                    try ImageFile.examine(Array(image[..<count]), limits: Self.limits)
                }
                if case .incomplete? = error { continue }
                Issue.record("cut to \(count) of \(image.count): \(String(describing: error))")
            }
        }
    }

    @Test func damagedImagesAreSurvived() {
        let random = TestRandom(5).next
        var (read, refused) = (0, 0)
        for round in 0..<30_000 {
            var bytes = round % 2 == 0 ? Pictures.png(payload: Array(0..<40)) : Pictures.jpeg(payload: Array(0..<40))
            for _ in 0...Int(random() % 3) {
                bytes[Int(random() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random())
            }
            if random() % 4 == 0 { bytes.removeLast(Int(random() % UInt64(bytes.count))) }
            do throws(ImageFile.Fault) {
                let image = try ImageFile.examine(bytes, limits: Self.limits)
                let sides = 1...Self.limits.side
                if !sides.contains(image.width) || !sides.contains(image.height)
                    || image.width * image.height > Self.limits.pixels
                {
                    Issue.record("accepted: \(image)")
                }
                read += 1
            } catch { refused += 1 }
        }
        // Both happen: the reader is reached, and damage is noticed.
        #expect(read > 1_000 && refused > 1_000, "\(read) read, \(refused) refused")
    }

    @Test func aCheckpointComesBackOnlyUndamaged() throws {
        let checkpoint = CheckpointFile(identity: "i", step: 7, state: Array(0..<200))
        #expect(CheckpointFile(checkpoint.bytes) == checkpoint)
        let header = try #require(checkpoint.bytes.firstIndex(of: UInt8(ascii: "\n")))
        for index in header + 1..<checkpoint.bytes.count {
            var bytes = checkpoint.bytes
            bytes[index] ^= 1
            #expect(CheckpointFile(bytes) == nil)
        }
        for count in 0..<checkpoint.bytes.count { #expect(CheckpointFile(Array(checkpoint.bytes[..<count])) == nil) }
        let random = TestRandom(6).next
        for _ in 0..<20_000 {
            var bytes = checkpoint.bytes
            for _ in 0...2 { bytes[Int(random() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random()) }
            _ = CheckpointFile(bytes)
        }
    }

    /// A job's record with any byte of it changed is read as it was, or the job is quarantined; a daemon starts either way.
    @Test func damagedRecordsNeverStopAStart() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "cat", "prompt": "x", "seed": 1}"#)
        try spool.settle(turns: 5)
        spool.crash()
        let id = try spool.receipt("job.json").id
        let files = ["lib/jobs/queued/\(id)/job.json", "lib/subjects/dog.json"]
        let originals = try files.map { try spool.read($0) }
        let random = TestRandom(8).next
        for round in 0..<150 {
            var bytes = originals[round % 2]
            bytes[Int(random() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random())
            if random() % 5 == 0 { bytes.removeLast(Int(random() % UInt64(bytes.count))) }
            try Files.write(bytes, spool.path(files[round % 2]))
            try spool.start()
            _ = try spool.daemon.turn()
            spool.crash()
            #expect(try spool.client.list().count == 1)
            // Back to where it was, for the next round.
            for state in ["failed", "quarantine", "active", "retry"] where spool.exists("lib/jobs/\(state)/\(id)") {
                Files.remove(spool.path("lib/jobs/\(state)/\(id)/reason.json"))
                _ = try SystemCalls(root: spool.root).rename(
                    "lib/jobs/\(state)/\(id.text)".path, to: "lib/jobs/queued/\(id.text)".path)
            }
            for (file, original) in zip(files, originals) { try Files.write(original, spool.path(file)) }
        }
    }
}

extension String {
    fileprivate var path: SpoolPath { SpoolPath(self) }
}
