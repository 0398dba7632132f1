import Diffusion
import TensorEngine

/// Records what one picture reads of its subjects' caches while it is denoised: at every site the attention of the evaluation
/// under the prompt, in the mean over heads and recorded steps.
final class AttentionRecorder {
    private let interval: Int
    private let latent: (height: Int, width: Int)
    private var maps: [InjectionSite: AttentionMap] = [:]
    /// The sites of this step; empty where it is not recorded.
    private var missing: Set<InjectionSite> = []
    private let sites: [InjectionSite]
    private(set) var steps = 0

    /// Most cells along a side of the picture; finer sites are pooled.
    static let maximalCells = 32

    /// - Parameters:
    ///   - latent: its size.
    ///   - interval: every how many steps are recorded, from the first on.
    init(_ sites: [InjectionSite], latent: (height: Int, width: Int), interval: Int) {
        (self.sites, self.latent, self.interval) = (sites, latent, max(1, interval))
    }

    /// A step begins.
    func begin(step: Int) {
        missing = step % interval == 0 ? Set(sites) : []
        if !missing.isEmpty { steps += 1 }
    }

    /// Whether the attention at this site is to be given to ``add(_:at:engine:)``: the first one of a recorded step, whose first
    /// entry is under the prompt and reads all subjects.
    func wants(_ site: InjectionSite) -> Bool { missing.contains(site) }

    func add(_ kept: KeptAttention, keys: Int, at site: InjectionSite, engine: Engine) throws(EngineError) {
        missing.remove(site)
        var map = maps.removeValue(forKey: site) ?? AttentionMap(cells: cells(of: site).numbers, keyCount: keys)
        try engine.addAttention(kept, entry: 0, to: &map)
        maps[site] = map
    }

    private func cells(of site: InjectionSite) -> (numbers: [Int32], size: AttentionReading.Size) {
        let full = AttentionReading.Size(site, latent)
        var pool = 1
        while max(full.height, full.width) > Self.maximalCells * pool { pool *= 2 }
        let size = AttentionReading.Size(
            height: (full.height + pool - 1) / pool, width: (full.width + pool - 1) / pool)
        let numbers = (0..<full.count).map { Int32($0 / full.width / pool * size.width + $0 % full.width / pool) }
        return (numbers, size)
    }

    /// What was recorded.
    ///
    /// - Parameters:
    ///   - references: the caches' references in the order in which the memory has them.
    ///   - side: of the latent of a reference.
    func reading(_ references: [(subject: String, index: Int, tokens: (InjectionSite) -> Int)], side: Int)
        -> AttentionReading
    {
        let found = sites.compactMap { site -> AttentionReading.Site? in
            guard let map = maps[site] else { return nil }
            let means = map.means
            var first = 0
            let parts = references.map { reference in
                let count = reference.tokens(site)
                defer { first += count }
                let grid = AttentionReading.Size(site, (side, side))
                return AttentionReading.Part(
                    subject: reference.subject, reference: reference.index, tokens: count,
                    grid: grid.count == count ? grid : nil,
                    weights: (0..<map.cellCount).flatMap { cell in
                        means[(cell * map.keyCount + first)..<(cell * map.keyCount + first + count)]
                    })
            }
            return AttentionReading.Site(name: site.name, cells: cells(of: site).size, parts: parts)
        }
        return AttentionReading(sites: found, steps: steps)
    }
}

extension AttentionReading.Size {
    /// Tokens at a site of a latent.
    fileprivate init(_ site: InjectionSite, _ latent: (height: Int, width: Int)) {
        func halved(_ side: Int) -> Int { (side + (1 << site.level) - 1) >> site.level }
        self.init(height: halved(latent.height), width: halved(latent.width))
    }
}
