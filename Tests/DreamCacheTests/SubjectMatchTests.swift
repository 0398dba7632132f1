import Diffusion
import DreamCache
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

/// The base model's own view of a picture, on the model that ships.
@Suite struct SubjectMatchTests {
    private static let root = Golden.fixtures.deletingLastPathComponent().deletingLastPathComponent()

    @Test func aCutOutFindsItselfAndKnowsItsForeground() throws {
        let folder = Self.root.appendingPathComponent("Tools/demo-model/model").path
        let pipeline = try Pipeline(files: ModelFiles(checkpoint: folder), path: .openBLAS)
        #expect(pipeline.matchSite?.name == "output_blocks.2.1")
        let picture = try Raster.decode(
            path: Golden.fixtures.appendingPathComponent("demo-subjects/crown.png").path)
        let seen = try pipeline.matchTokens(of: picture)
        #expect(seen.width == 96 && seen.tokens.count == 256 * 96 && seen.foreground.count == 256)
        // A subject in the middle: corners are ground.
        #expect(seen.foreground.contains(true) && !seen.foreground[0] && !seen.foreground[255])
        #expect(try pipeline.matchTokens(of: picture).tokens == seen.tokens)
    }
}
