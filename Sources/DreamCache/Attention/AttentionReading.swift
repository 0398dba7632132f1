import Checkpoint

/// What a picture read of its references (DreamCache, figure 5): for each site the attention from cells of the picture to the
/// cached tokens, in the mean over heads, over the tokens of a cell, and over the recorded steps.
public struct AttentionReading: Sendable {
    /// Rows and columns.
    public struct Size: Sendable, Hashable {
        /// Rows, and columns.
        public let height: Int, width: Int
        /// Cells.
        public var count: Int { height * width }
    }

    /// A site's attention to one reference.
    public struct Part: Sendable {
        /// The subject's name, and which of its references.
        public let subject: String, reference: Int
        /// Cached tokens.
        public let tokens: Int
        /// How they lie in the reference; nil where only some were kept.
        public let grid: Size?
        /// `[cells, tokens]`; over all references a cell's weights sum to 1.
        public let weights: [Float]

        /// How much each token was read by the whole picture: `[tokens]`, in the mean over cells.
        public var read: [Float] {
            var sums = [Float](repeating: 0, count: tokens)
            guard tokens > 0 else { return sums }
            for (index, weight) in weights.enumerated() { sums[index % tokens] += weight }
            let cells = Float(max(1, weights.count / tokens))
            return sums.map { $0 / cells }
        }

        /// How much each cell read of tokens that count so much: `[cells]`.
        public func reading(_ mask: [Float]) -> [Float] {
            guard tokens > 0, mask.count == tokens else { return [] }
            return (0..<(weights.count / tokens)).map { cell in
                var sum: Float = 0
                for j in 0..<tokens { sum += weights[cell * tokens + j] * mask[j] }
                return sum
            }
        }
    }

    /// One site.
    public struct Site: Sendable {
        /// Its name.
        public let name: String
        /// How the cells lie in the picture.
        public let cells: Size
        /// Its references.
        public let parts: [Part]
    }

    /// The sites, in the order of the U-Net.
    public let sites: [Site]
    /// Steps that were recorded.
    public let steps: Int

    /// Numbers of how well the subject was read.
    public struct Numbers: Sendable, Equatable {
        /// Share of the reading that falls on the subject in its references.
        public var localisation: Double
        /// Share that falls on their background: 1 less the localisation.
        public var leak: Double { 1 - localisation }
        /// Share of the subject's tokens that were read at least half as much as they are in the mean.
        public var coverage: Double
        /// How much of a reference the subject covers, in the mean: the localisation of a reading that is the same everywhere.
        public var area: Double
    }

    /// The numbers of a site.
    ///
    /// - Parameter mask: of a reference, how much of each token shows the subject, 0 to 1, for a grid; nil where that is not known.
    /// - Returns: nil where no mask is known.
    public func numbers(_ site: Site, mask: (Part, Size) -> [Float]?) -> Numbers? {
        var (total, inside, area, tokens) = (0.0, 0.0, 0.0, 0)
        var subject: [(read: Double, share: Double)] = []
        for part in site.parts {
            guard let grid = part.grid, let mask = mask(part, grid), mask.count == part.tokens else { continue }
            for (read, share) in zip(part.read, mask) {
                total += Double(read)
                inside += Double(read * share)
                area += Double(share)
                if share > 0.5 { subject.append((Double(read), Double(share))) }
            }
            tokens += part.tokens
        }
        guard total > 0, tokens > 0 else { return nil }
        let mean = subject.map(\.read).reduce(0, +) / Double(max(1, subject.count))
        let covered = subject.count { $0.read >= mean / 2 }
        return Numbers(
            localisation: inside / total, coverage: Double(covered) / Double(max(1, subject.count)),
            area: area / Double(tokens))
    }

    /// The maps as a safetensors file: `sites.<site>.<subject>.<reference>` as `[cell rows, cell columns, tokens]`, F32; metadata
    /// say how tokens lie.
    public func write(toPath path: String) throws(DreamCacheError) {
        var writer = SafetensorsWriter(metadata: [
            "dreamcache.attention_version": "1", "dreamcache.attention_steps": "\(steps)",
        ])
        for site in sites {
            for part in site.parts {
                let name = "sites.\(site.name).\(part.subject).\(part.reference)"
                writer.add(
                    name, type: .f32, shape: [site.cells.height, site.cells.width, part.tokens],
                    floats: part.weights)
                if let grid = part.grid { writer.metadata["\(name).grid"] = "\(grid.height)x\(grid.width)" }
            }
        }
        do { try writer.write(toPath: path) } catch { throw .diffusion(.checkpoint(error)) }
    }
}
