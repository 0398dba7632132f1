import Bytes
import DreamCache
import Evaluation
import Raster
import Spool
import TensorEngine
import Vision

/// A configured encoder in memory.
final class LoadedEncoder {
    let encoder: ImageEncoder
    /// Its weights and how it prepares pictures, in a word: equal words, equal scores.
    let identity: String
    private let measure: Measure
    /// What it sees in the photos it was shown last.
    private var photos: [(path: String, state: FileIdentity?, features: Features)] = []
    private static let remembered = 64

    fileprivate init(_ encoder: ImageEncoder, sha256: String) {
        self.encoder = encoder
        measure = Measure(encoder)
        identity = "\(encoder.name)|\(encoder.preparation.description)|\(sha256)"
    }

    /// The cosine of a picture and a prompt.
    func text(_ prompt: String, _ picture: Raster) throws -> Double {
        let features = try encoder.features(of: prompt)
        return Features(rows: features, width: features.count).found(in: try measure.features(picture))
    }

    /// The mean cosine of a picture and photos, as `dreamcache evaluate` has it under the protocol dreambooth.
    ///
    /// - Parameter read: reads a photo.
    func likeness(of picture: Raster, to paths: [String], read: (String) throws -> Raster) throws -> Double {
        let seen = try measure.features(picture)
        let found = try paths.map { try features(ofPhoto: $0, read).found(in: seen) }
        return found.reduce(0, +) / Double(max(found.count, 1))
    }

    private func features(ofPhoto path: String, _ read: (String) throws -> Raster) throws -> Features {
        let state = FileIdentity(path: path)
        if let known = photos.first(where: { $0.path == path && $0.state == state && state != nil }) {
            return known.features
        }
        let features = try measure.reference(try read(path))
        if photos.count >= Self.remembered { photos.removeFirst() }
        photos.append((path, state, features))
        return features
    }
}

/// The encoder in memory: one at a time, for as long as one image after another is judged by it. Belongs to the renderer's
/// thread.
struct EncoderShelf {
    private var loaded: (path: String, compute: ComputePath, state: FileIdentity?, encoder: LoadedEncoder)?

    /// The encoder of a path, loaded anew where its file has changed.
    ///
    /// - Throws: `RendererError`: `.unavailable` where its files are missing or damaged.
    mutating func encoder(
        _ path: String, compute: ComputePath, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) -> LoadedEncoder {
        if let loaded, loaded.path == path, loaded.compute == compute, loaded.state != nil,
            loaded.state == FileIdentity(path: loaded.encoder.encoder.path)
        {
            return loaded.encoder
        }
        loaded = nil
        func report() { progress(RenderProgress(phase: "loading the encoder", step: 0, steps: 1)) }
        report()
        do {
            let encoder = try ImageEncoder(path, compute: compute)
            let state = FileIdentity(path: encoder.path)
            let sha256: String
            do throws(FileError) {
                sha256 = try Bytes.sha256(ofFile: encoder.path) {
                    report()
                    return !shouldStop()
                }
            } catch {
                if shouldStop() { throw RendererError.stopped }
                throw RendererError(errno: error.code, "read \(encoder.path)")
            }
            let made = LoadedEncoder(encoder, sha256: sha256)
            loaded = (path, compute, state, made)
            return made
        } catch { throw RendererError(error) }
    }

    /// Gives its memory back.
    mutating func clear() { loaded = nil }
}
