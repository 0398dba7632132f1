import Diffusion
import Glibc
import TensorEngine

/// Records what one picture reads of its subjects' caches while it is denoised: at every site the attention of the evaluation
/// under the prompt, in the mean over heads and recorded steps.
///
/// It only informs. Where it cannot go on it keeps the reason (``fault``), and the picture is made without it.
final class AttentionRecorder {
    private let interval: Int
    private let latent: (height: Int, width: Int)
    private var maps: [InjectionSite: AttentionMap] = [:]
    /// The sites that are still to be recorded at this step; empty where it is not recorded.
    private var missing: Set<InjectionSite> = []
    private let sites: [InjectionSite]
    /// Why nothing more is recorded.
    private(set) var fault: EngineError?

    /// Most cells along a side of the picture; finer sites are pooled.
    static let maximalCells = 32
    /// Most numbers of a site's map: 32 MiB. Cells are pooled further where references are many.
    static let maximalNumbers = 1 << 23

    /// - Parameters:
    ///   - latent: its size.
    ///   - interval: every how many steps are recorded, from the first on.
    init(_ sites: [InjectionSite], latent: (height: Int, width: Int), interval: Int) {
        (self.sites, self.latent, self.interval) = (sites, latent, max(1, interval))
    }

    /// Whether a step is recorded.
    func records(step: Int) -> Bool { step % interval == 0 }

    /// A step begins.
    func begin(step: Int) { missing = records(step: step) && fault == nil ? Set(sites) : [] }

    /// Whether the attention at this site is to be added: the first one of a recorded step, whose first entry is under the
    /// prompt.
    func wants(_ site: InjectionSite) -> Bool { missing.contains(site) }

    /// Adds an attention to all cached tokens.
    func add(_ kept: KeptAttention, at site: InjectionSite, engine: Engine) {
        add(kept, logSums: nil, at: site, places: nil, engine: engine)
    }

    /// Adds an attention to some of the cached tokens, with the weights it has among all of them. What the others would have
    /// been read is left out: a base without an adapter does not read them.
    ///
    /// - Parameters:
    ///   - logSums: over these tokens, and over the others if there are any.
    ///   - places: where these tokens lie among all.
    func add(
        _ kept: KeptAttention, of logSums: (these: [Float], others: [Float]?), at places: [Int], site: InjectionSite,
        engine: Engine
    ) {
        guard let others = logSums.others else {
            return add(kept, logSums: nil, at: site, places: places, engine: engine)
        }
        let joint = zip(logSums.these, others).map { a, b in max(a, b) + log1p(exp(-abs(a - b))) }
        do throws(EngineError) {
            let tensor = try engine.tensor(joint, shape: kept.logSums.shape)
            add(kept, logSums: tensor, at: site, places: places, engine: engine)
        } catch { fault = error }
    }

    /// Where the tokens of a site's map lie among all; nil where it has all.
    private var places: [InjectionSite: [Int]] = [:]

    private func add(_ kept: KeptAttention, logSums: Tensor?, at site: InjectionSite, places: [Int]?, engine: Engine) {
        missing.remove(site)
        let keys = kept.keyCount
        var map =
            maps.removeValue(forKey: site)
            ?? AttentionMap(cells: cells(of: site, keys: keys).numbers, keyCount: keys)
        self.places[site] = places
        do throws(EngineError) {
            try engine.addAttention(kept, logSums: logSums, entry: 0, to: &map)
            maps[site] = map
        } catch {
            fault = error
            missing = []
        }
    }

    func cells(of site: InjectionSite, keys: Int) -> (numbers: [Int32], size: AttentionReading.Size) {
        let full = AttentionReading.Size(site, latent)
        func pooled(_ pool: Int) -> AttentionReading.Size {
            AttentionReading.Size(height: (full.height + pool - 1) / pool, width: (full.width + pool - 1) / pool)
        }
        var pool = 1
        while pooled(pool).count > 1,
            max(full.height, full.width) > Self.maximalCells * pool || pooled(pool).count * keys > Self.maximalNumbers
        { pool *= 2 }
        let size = pooled(pool)
        let numbers = (0..<full.count).map { Int32($0 / full.width / pool * size.width + $0 % full.width / pool) }
        return (numbers, size)
    }

    /// A reference: its number in the request and its subject, its tokens at a site, and how much of each shows the subject.
    struct Source {
        let number: Int, subject: String
        let tokens: (InjectionSite) -> Int
        let foreground: (InjectionSite) -> [Float]?
    }

    /// What was recorded.
    ///
    /// - Parameters:
    ///   - references: in the order in which the memory has them.
    ///   - side: of the latent of a reference.
    func reading(_ references: [Source], side: Int) -> AttentionReading {
        let found = sites.compactMap { site -> AttentionReading.Site? in
            guard let map = maps[site] else { return nil }
            let counts = references.map { $0.tokens(site) }
            let total = counts.reduce(0, +)
            guard let weights = weights(of: map, at: site, total: total) else { return nil }
            var first = 0
            let parts = zip(references, counts).map { reference, count in
                defer { first += count }
                let grid = AttentionReading.Size(site, (side, side))
                return AttentionReading.Part(
                    reference: reference.number, subject: reference.subject, tokens: count,
                    grid: grid.count == count ? grid : nil,
                    weights: (0..<map.cellCount).flatMap {
                        weights[($0 * total + first)..<($0 * total + first + count)]
                    },
                    foreground: reference.foreground(site))
            }
            return AttentionReading.Site(
                name: site.name, cells: cells(of: site, keys: map.keyCount).size, steps: map.added, parts: parts)
        }
        return AttentionReading(sites: found)
    }

    /// `[cells, total]`, with nothing for the tokens that were not read; nil where the tokens are others than were recorded.
    private func weights(of map: AttentionMap, at site: InjectionSite, total: Int) -> [Float]? {
        guard let places = places[site] else { return map.keyCount == total ? map.means : nil }
        guard places.count == map.keyCount, places.allSatisfy((0..<total).contains) else { return nil }
        let means = map.means
        var weights = [Float](repeating: 0, count: map.cellCount * total)
        for cell in 0..<map.cellCount {
            for (key, place) in places.enumerated() { weights[cell * total + place] = means[cell * map.keyCount + key] }
        }
        return weights
    }
}

extension AttentionReading.Size {
    /// Tokens at a site of a latent.
    fileprivate init(_ site: InjectionSite, _ latent: (height: Int, width: Int)) {
        func halved(_ side: Int) -> Int { (side + (1 << site.level) - 1) >> site.level }
        self.init(height: halved(latent.height), width: halved(latent.width))
    }
}
