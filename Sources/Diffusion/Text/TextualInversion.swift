import Checkpoint
import Foundation

/// Where textual inversions are: a file, or a folder of files.
public struct EmbeddingFile: Sendable, Hashable {
    /// The file, safetensors or torch, or the folder.
    public var path: String
    /// The word that stands for it in prompts; nil is the file's own name and the one it gives itself.
    public var word: String?

    /// A file or folder.
    public init(path: String, word: String? = nil) {
        self.path = path
        self.word = word
    }
}

/// A textual inversion (Gal et al. 2022, arXiv 2208.01618): a word and the vectors it stands for.
///
/// Source of the formats: AUTOMATIC1111's `string_to_param` and `emb_params`; diffusers' `learned_embeds`, a tensor under the
/// word itself (`loaders/textual_inversion.py`). Proved by `Tests/Fixtures/families`.
struct TextualInversion {
    let words: [String]
    let vectors: [[Float]]

    private static let extensions: Set<String> = ["safetensors", "pt", "bin", "ckpt"]

    /// All of some files and folders; a folder's in the order of their names.
    ///
    /// - Parameter width: of the text encoder; nil takes any.
    static func all(_ files: [EmbeddingFile], width: Int?) throws(DiffusionError) -> [TextualInversion] {
        var inversions: [TextualInversion] = []
        for file in try Self.files(files) { inversions += try read(file, width: width) }
        return inversions
    }

    /// The files, those of folders one by one.
    static func files(_ files: [EmbeddingFile]) throws(DiffusionError) -> [EmbeddingFile] {
        var all: [EmbeddingFile] = []
        for file in files {
            guard try ModelPath.isFolder(file.path) else {
                all.append(file)
                continue
            }
            let known = try ModelPath.names(in: file.path)
                .filter { extensions.contains(URL(fileURLWithPath: $0).pathExtension.lowercased()) }.sorted()
            guard !known.isEmpty else {
                throw .configuration(
                    path: file.path, field: "embeddings", found: "no .safetensors, .pt, .bin or .ckpt in it",
                    expected: "textual inversions")
            }
            all += known.map { EmbeddingFile(path: DiffusersFolder.join(file.path, $0)) }
        }
        return all
    }

    /// The ids of each word: those of its vectors, counted on from the first.
    static func words(_ inversions: [TextualInversion], firstIdentifier: Int) -> [String: [Int32]] {
        var words: [String: [Int32]] = [:]
        var next = firstIdentifier
        for inversion in inversions {
            let identifiers = inversion.vectors.indices.map { Int32(clamping: next + $0) }
            for word in inversion.words { words[word] = identifiers }
            next += inversion.vectors.count
        }
        return words
    }

    private static func read(_ file: EmbeddingFile, width: Int?) throws(DiffusionError) -> [TextualInversion] {
        let checkpoint: Checkpoint
        do { checkpoint = try Checkpoint.open(file.path) } catch { throw .checkpoint(error) }
        let stem = URL(fileURLWithPath: file.path).deletingPathExtension().lastPathComponent
        let names = checkpoint.tensors.keys.sorted()
        if names.contains("clip_g") || names.contains("clip_l") {
            throw .configuration(
                path: file.path, field: "embeddings", found: "a textual inversion of Stable Diffusion XL",
                expected: "one of Stable Diffusion 1 or 2")
        }
        let own = names.filter { $0.hasPrefix("string_to_param.") || $0 == "emb_params" }
        var inversions: [TextualInversion] = []
        for name in own.isEmpty ? names : own {
            guard let tensor = checkpoint.tensors[name] else { continue }
            // AUTOMATIC1111's word is the file's name; diffusers', what the file says.
            let given = own.isEmpty ? [name, stem] : [stem] + [checkpoint.metadata["name"]].compactMap { $0 }
            let words = file.word.map { [$0] } ?? (own.isEmpty && names.count > 1 ? [name] : given)
            inversions.append(
                TextualInversion(words: words, vectors: try vectors(tensor, name, file.path, width: width)))
        }
        guard !inversions.isEmpty else {
            throw .configuration(
                path: file.path, field: "embeddings", found: "no tensors", expected: "a textual inversion")
        }
        return inversions
    }

    private static func vectors(
        _ tensor: StoredTensor, _ name: String, _ path: String, width: Int?
    ) throws(DiffusionError) -> [[Float]] {
        let size = tensor.shape.last ?? 0
        guard (1...2).contains(tensor.shape.count), size > 0, (1...75).contains(tensor.count / size),
            width.map({ $0 == size }) ?? true
        else {
            throw .configuration(
                path: path, field: "embeddings: tensor \(name)", found: "shape \(tensor.shape)\(maker(size))",
                expected: "1 to 75 vectors of \(width.map { "\($0)\(maker($0))" } ?? "one width")")
        }
        let values = tensor.floats()
        guard values.allSatisfy(\.isFinite) else {
            throw .configuration(
                path: path, field: "embeddings: tensor \(name)", found: "a number that is not finite",
                expected: "finite ones")
        }
        return (0..<tensor.count / size).map { Array(values[$0 * size..<($0 + 1) * size]) }
    }

    private static func maker(_ width: Int) -> String {
        switch width {
        case 768: " (Stable Diffusion 1)"
        case 1024: " (Stable Diffusion 2)"
        default: ""
        }
    }
}
