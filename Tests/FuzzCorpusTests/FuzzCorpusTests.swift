import Foundation
import FuzzReaders
import Testing

/// The inputs that fuzzing found worth keeping, one for each way through a reader, fed again: none may crash it. Each file
/// of `Tests/FuzzCorpus/<reader>` is one.
@Suite(.serialized) struct FuzzCorpusTests {
    private static let corpus = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("FuzzCorpus")

    @Test(arguments: FuzzReader.allCases) func everyReaderSurvivesItsCorpus(_ reader: FuzzReader) throws {
        let folder = Self.corpus.appendingPathComponent(reader.rawValue)
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
        #expect(names.count >= 10)
        for name in names {
            try Data(contentsOf: folder.appendingPathComponent(name)).withUnsafeBytes { reader.feed($0) }
        }
    }
}
