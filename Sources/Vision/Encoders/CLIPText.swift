import Bytes
import Checkpoint
import Diffusion
import Foundation
import TensorEngine

/// The text half of a CLIP: the state of a text's last token, projected to where its pictures lie.
struct CLIPText {
    private let encoder: TextEncoder
    private let projection: Weights
    private let engine: Engine
    private let files: EncoderFiles
    private let vocabularySize: Int

    init(
        _ store: ParameterStore, _ configuration: TextEncoderConfiguration, projected: Int, files: EncoderFiles,
        engine: Engine
    ) throws(EngineError) {
        self.engine = engine
        self.files = files
        vocabularySize = configuration.vocabularySize
        let isTransformers = configuration.naming == .transformers
        encoder = try TextEncoder(
            isTransformers ? store["text_model"] : store.scoped(""), configuration, engine: engine)
        projection = try LinearMaker(engine: engine)(
            store.scoped(""), weight: isTransformers ? "text_projection.weight" : "text_projection", bias: nil,
            inputs: configuration.width, outputs: projected, isTransposed: !isTransformers)
    }

    /// The features of ids that begin and end with the tokens for it; what follows the end does not count.
    func features(of tokens: [Int32]) throws(EngineError) -> [Float] {
        let length = min(tokens.count, encoder.configuration.contextLength)
        // The end token has the greatest id, as the authors' code has it.
        let end = tokens[..<length].indices.max { (tokens[$0], -$0) < (tokens[$1], -$1) } ?? 0
        let states = try encoder.encode(Array(tokens[..<length]))
        let row = try states.reshaped([length, encoder.configuration.width]).slice(end..<end + 1)
        return engine.floats(try engine.product(row, projection))
    }

    /// The tokenizer that belongs to the weights: the folder's own, or CLIP's.
    func tokenizer() throws(VisionError) -> Tokenizer {
        let folder = URL(fileURLWithPath: files.folder)
        var hasOwn = false
        do throws(FileError) {
            for name in ["tokenizer.json", "vocab.json"] where !hasOwn {
                hasOwn = try FilePresence.of(folder.appendingPathComponent(name).path) == .file
            }
        } catch { throw .checkpoint(CheckpointError(error)) }
        do throws(TokenizerError) {
            if case .clip = files.kind {
                return hasOwn
                    ? try Tokenizer(diffusersFolder: folder)
                    : try Tokenizer.clip(cleaning: .transformers, padding: .endOfText)
            }
            return try Tokenizer.clip()
        } catch { throw .tokenizer(error) }
    }

    /// The ids of a text, cut where it is longer than what was trained.
    func tokens(of text: String, _ tokenizer: Tokenizer) throws(VisionError) -> [Int32] {
        guard Int(tokenizer.endOfText) < vocabularySize else {
            throw .unsupported(
                path: files.weights.path, found: "a vocabulary of \(vocabularySize) tokens",
                expected: "that of the tokenizer, whose last token is \(tokenizer.endOfText)")
        }
        return tokenizer.encode(text, contextLength: encoder.configuration.contextLength)
    }
}
