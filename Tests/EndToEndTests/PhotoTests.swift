import Foundation
import Raster
import Spool
import Testing

/// One rule for what is a picture: what the daemon looks at when something is dropped, what the command line decodes, and
/// what the confined decoder does.
@Suite struct PhotoRuleTests {
    private static let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Fixtures")

    private static let files: [URL] = ["Photos", "Raster", "demo-subjects"].flatMap { folder in
        let found = try? FileManager.default.contentsOfDirectory(
            at: fixtures.appending(path: folder), includingPropertiesForKeys: nil)
        return (found ?? []).filter { ImageFormat.isPictureName($0.lastPathComponent) }
            .sorted { $0.path < $1.path }
    }

    /// The decoder as the daemon starts it: by its name, with its settings in one argument.
    private func confined(_ file: URL) throws -> Data {
        let process = Process()
        process.executableURL = URL(filePath: "/bin/bash")
        process.arguments = [
            "-c", "exec -a dreamcache-decoder \"$0\" 10,67108864,16384,200000000,50000000,367001600,0,0 < \"$1\"",
            Workplace.programs.appending(path: "dreamcache").path, file.path,
        ]
        process.environment = ["OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "SWIFT_BACKTRACE": "enable=no"]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let answer = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        try #require(process.terminationReason == .exit && process.terminationStatus == 0, "\(file.lastPathComponent)")
        return answer
    }

    /// No decoder of any format asks for a system call that it may not make, and each gives the same pixels.
    @Test func everyFormatIsDecodedUnderConfinement() throws {
        #expect(!Self.files.isEmpty)
        for file in Self.files {
            let raster = try Raster.decode(path: file.path)
            let answer = try confined(file)
            #expect(answer.count == 16 + raster.pixels.count, "\(file.lastPathComponent)")
            #expect(answer.dropFirst(16).elementsEqual(raster.pixels), "\(file.lastPathComponent)")
        }
    }

    @Test func theSpoolTakesWhatTheDecoderTakes() throws {
        let limits = SpoolConfiguration.ReferenceLimits()
        for file in Self.files {
            let whole = [UInt8](try Data(contentsOf: file))
            // Whole, with what phones append, cut off, and damaged at the front.
            let cut = Array(whole.prefix(whole.count * 2 / 3)), damaged = [7] + whole.dropFirst()
            for bytes in [whole, whole + [1, 2, 3], cut, damaged] {
                let isTaken = (try? ImageFile.examine(bytes, limits: limits)) != nil
                let isDecoded = (try? Raster.decode(bytes, path: "x")) != nil
                #expect(isTaken == isDecoded, "\(file.lastPathComponent), \(bytes.count) of \(whole.count) bytes")
            }
        }
        for name in ["a GIF image", "a TIFF or raw camera image", "a BMP image"] {
            let beginnings = ["a GIF image": "GIF89a......", "a BMP image": "BM.........."]
            let bytes = Array((beginnings[name] ?? "II*\0........").utf8)
            #expect(throws: ImageFile.Fault.notAnImage(found: name)) { try ImageFile.examine(bytes, limits: limits) }
            #expect(throws: RasterError.self) { try Raster.decode(bytes, path: "x") }
        }
    }
}
