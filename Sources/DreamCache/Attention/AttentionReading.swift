import Checkpoint
import Raster

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
        /// Which of the references, in the order of the request's caches, and the name of its subject.
        public let reference: Int, subject: String
        /// Cached tokens.
        public let tokens: Int
        /// How they lie in the reference; nil where only some were kept.
        public let grid: Size?
        /// `[cells, tokens]`. An adapter's weights sum to 1 for each cell, over all references. A base without an adapter reads
        /// no background: what the weights lack to 1 would have been read there.
        public let weights: [Float]
        /// How much of each token's cell shows the subject, 0 to 1; nil where that is not known.
        public var foreground: [Float]?

        /// How much each token was read by the whole picture: `[tokens]`, in the mean over cells.
        public var read: [Float] {
            var sums = [Float](repeating: 0, count: tokens)
            guard tokens > 0 else { return sums }
            let cells = weights.count / tokens
            for cell in 0..<cells {
                for token in 0..<tokens { sums[token] += weights[cell * tokens + token] }
            }
            return sums.map { $0 / Float(max(1, cells)) }
        }

        /// How much each cell read of the subject: `[cells]`; of everything, where the subject's place is not known.
        public var subjectRead: [Float] {
            guard tokens > 0 else { return [] }
            let shares = foreground?.count == tokens ? foreground : nil
            return (0..<(weights.count / tokens)).map { cell in
                var sum: Float = 0
                for token in 0..<tokens { sum += weights[cell * tokens + token] * (shares?[token] ?? 1) }
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
        /// How many steps were recorded.
        public let steps: Int
        /// Its references.
        public var parts: [Part]

        /// How much each cell read of the subjects: `[cells]`.
        var subjectRead: [Float] { parts.map(\.subjectRead).sum }
    }

    /// The sites, in the order of the U-Net.
    public internal(set) var sites: [Site]
    /// Steps that were recorded.
    public var steps: Int { sites.map(\.steps).max() ?? 0 }

    /// Whether it is known where a reference shows the subject.
    public func isForegroundKnown(of reference: Int) -> Bool {
        sites.allSatisfy { $0.parts.allSatisfy { $0.reference != reference || $0.foreground != nil } }
    }

    /// Says where a reference shows the subject, by a mask of all of it. Where tokens were left out nothing is said.
    public mutating func setForeground(of reference: Int, by mask: Plane) {
        for site in sites.indices {
            for part in sites[site].parts.indices where sites[site].parts[part].reference == reference {
                guard let grid = sites[site].parts[part].grid else { continue }
                sites[site].parts[part].foreground = mask.shares(of: grid)
            }
        }
    }

    /// Numbers of how well the subject was read.
    public struct Numbers: Sendable, Equatable {
        /// Share of the reading that falls on the subject in its references.
        public var localisation: Double
        /// Share that falls on their background: 1 less the localisation.
        public var leak: Double { 1 - localisation }
        /// Share of the subject's tokens that were read at least half as much as they are in the mean.
        public var coverage: Double
        /// How much of the references the subject covers: the localisation of a reading that is the same everywhere.
        public var area: Double
        /// Of all that was read of the subject, the share that the picture's background read; nil where the picture's subject is
        /// not known.
        public var background: Double?
        /// How much of the picture is background: what ``background`` is where all of it reads alike.
        public var backgroundArea: Double?
    }

    /// The numbers of a site.
    ///
    /// - Parameter picture: where the picture shows its subject; nil where that is not known.
    /// - Returns: nil where it is known of no reference where it shows the subject.
    public func numbers(_ site: Site, picture: Plane? = nil) -> Numbers? {
        var (total, inside, area, tokens) = (0.0, 0.0, 0.0, 0)
        var subject: [Double] = []
        for part in site.parts {
            guard let shares = part.foreground, shares.count == part.tokens else { continue }
            for (read, share) in zip(part.read, shares) {
                total += Double(read)
                inside += Double(read * share)
                area += Double(share)
                if share >= 0.5 { subject.append(Double(read)) }
            }
            tokens += part.tokens
        }
        guard total > 0, tokens > 0 else { return nil }
        let mean = subject.reduce(0, +) / Double(max(1, subject.count))
        let covered = subject.count { $0 >= mean / 2 }
        var numbers = Numbers(
            localisation: inside / total, coverage: Double(covered) / Double(max(1, subject.count)),
            area: area / Double(tokens))
        let read = site.subjectRead
        if let picture = picture?.shares(of: site.cells), picture.count == read.count {
            let all = read.reduce(0) { $0 + Double($1) }
            let own = zip(read, picture).reduce(0) { $0 + Double($1.0 * $1.1) }
            numbers.background = all > 0 ? 1 - own / all : nil
            numbers.backgroundArea = 1 - picture.reduce(0) { $0 + Double($1) } / Double(picture.count)
        }
        return numbers
    }

    /// The maps as a safetensors file: `sites.<site>.<reference>` as `[cell rows, cell columns, tokens]`, and where it is known
    /// `foreground.<site>.<reference>` as `[tokens]`, all F16; references count from 0. The metadata have the version of this
    /// layout, `dreamcache.attention_version`; how many steps were recorded, `dreamcache.attention_steps`; the subject of each
    /// reference, `dreamcache.subject.<reference>`; and how a map's tokens lie in the reference, `sites.<site>.<reference>.grid`:
    /// rows x columns.
    public func writer() -> SafetensorsWriter {
        var writer = SafetensorsWriter(metadata: [
            "dreamcache.attention_version": "1", "dreamcache.attention_steps": "\(steps)",
        ])
        for site in sites {
            for part in site.parts {
                let name = "\(site.name).\(part.reference)"
                writer.add(
                    "sites.\(name)", type: .f16, shape: [site.cells.height, site.cells.width, part.tokens],
                    floats: part.weights)
                if let foreground = part.foreground, foreground.count == part.tokens {
                    writer.add("foreground.\(name)", type: .f16, shape: [part.tokens], floats: foreground)
                }
                writer.metadata["dreamcache.subject.\(part.reference)"] = part.subject
                if let grid = part.grid { writer.metadata["sites.\(name).grid"] = "\(grid.height)x\(grid.width)" }
            }
        }
        return writer
    }
}

extension Plane {
    /// The mean of the values in each cell.
    fileprivate func shares(of size: AttentionReading.Size) -> [Float] {
        resized(width: size.width, height: size.height).values.map { min(max($0, 0), 1) }
    }
}

extension [[Float]] {
    /// The sum of maps of one size.
    var sum: [Float] {
        guard var total = first else { return [] }
        for map in dropFirst() where map.count == total.count { for i in total.indices { total[i] += map[i] } }
        return total
    }

    /// The mean of maps of one size.
    var mean: [Float] { sum.map { $0 / Float(Swift.max(1, count)) } }
}
