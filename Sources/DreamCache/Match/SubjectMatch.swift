import Diffusion
import Raster
import TensorEngine

/// What the base model itself sees in a picture, by which a subject is found again without any other network: the tokens that
/// enter one injection site in a reference pass, as in a cache.
///
/// Where each token of the subject is compared with all tokens of another picture, the greatest cosine says how much of the
/// subject is there (after diffusion features, Tang et al. 2023, and masked maximum similarity). The features are the base
/// model's own: they say how the model sees a subject, and are no DINO or CLIP.
public struct MatchTokens: Sendable {
    /// `[tokens, width]`.
    public let tokens: [Float]
    /// Channels of a token.
    public let width: Int
    /// Of each token, whether its cell of the picture shows the subject: by alpha, else where it is not white.
    public let foreground: [Bool]
}

extension Pipeline {
    /// The site whose tokens tell subjects apart best: the last of those at half the latent's resolution. Coarser ones know
    /// kinds of things rather than things.
    public var matchSite: InjectionSite? {
        let sites = model.unet.sites
        return sites.last { $0.level == 1 } ?? sites.last
    }

    /// The tokens of a picture, encoded as a reference is: the same noise, timestep and prompt as caches have.
    ///
    /// - Throws: `DreamCacheError`.
    public func matchTokens(
        of picture: Raster, options: CacheOptions = CacheOptions(), progress: Progress = { _, _, _ in },
        shouldStop: () -> Bool = { false }
    ) throws(DreamCacheError) -> MatchTokens {
        try watched(progress, shouldStop) { monitor throws(DreamCacheError) in
            try monitor.begin("scoring")
            return try matchTokens(of: picture, options)
        }
    }

    private func matchTokens(of picture: Raster, _ options: CacheOptions) throws(DreamCacheError) -> MatchTokens {
        guard let site = matchSite else {
            throw .request(field: "model", found: "a U-Net without injection sites", expected: "one of them at least")
        }
        model.engine.beginPhase()
        let text = try textKeys(of: options.effectivePrompt)
        let time = try timeEmbeddings([Double(ReferencePass.timestep)])[0]
        let fitted = picture.fitted(toSquare: imageSize, mode: options.fit)
        let pass = ReferencePass(model, trainingSchedule)
        let features = try pass(pixels: fitted.normalised, side: imageSize, text: text, time: time, options: options)
            .features
        let tokens = features[site] ?? []
        try DreamCacheError.checkFinite(tokens, "what a picture leaves at \(site.name)")
        let cell = model.configuration.autoencoder.downscale << site.level
        let mask = Foreground(picture, side: imageSize, fit: options.fit)?.mask ?? fitted
        return MatchTokens(
            tokens: tokens, width: site.channels, foreground: Self.shown(in: mask, cell: cell))
    }

    /// Of each cell, whether more than half of it is anything but white.
    private static func shown(in mask: Raster, cell: Int) -> [Bool] {
        let across = (mask.width + cell - 1) / cell
        var counts = [Int](repeating: 0, count: across * ((mask.height + cell - 1) / cell))
        for y in 0..<mask.height {
            for x in 0..<mask.width {
                let pixel = 3 * (y * mask.width + x)
                if mask.pixels[pixel..<pixel + 3].contains(where: { $0 < 250 }) {
                    counts[y / cell * across + x / cell] += 1
                }
            }
        }
        return counts.map { 2 * $0 > cell * cell }
    }
}
