import Diffusion
import Raster

/// A subject found again by its cache alone: the cache holds what ``MatchTokens`` of its photos would say.
extension FeatureCache {
    /// What each reference left at a site.
    public func matchTokens(at site: InjectionSite) -> [MatchTokens] {
        references(at: site).map { reference in
            let count = reference.tokens.count / max(site.channels, 1)
            return MatchTokens(
                tokens: reference.tokens, width: site.channels,
                foreground: reference.foreground.map { $0.map { $0 > 0.5 } }
                    ?? [Bool](repeating: true, count: count))
        }
    }

    /// How its pictures were encoded; a picture that is compared with it is encoded likewise.
    public var options: CacheOptions {
        var options = CacheOptions()
        options.mode = self[.cacheMode].flatMap(CacheOptions.Mode.init(rawValue:)) ?? options.mode
        options.prompt = self[.prompt]
        options.seed = self[.seed].flatMap { UInt64($0) } ?? options.seed
        let fit = self[.preprocessing]?.split(separator: " ").first.map(String.init)
        options.fit = fit.flatMap(Raster.Fit.init(rawValue:)) ?? options.fit
        return options
    }
}
