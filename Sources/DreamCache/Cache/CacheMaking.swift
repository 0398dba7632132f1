import Checkpoint
import Diffusion
import Raster
import TensorEngine

/// References to a cache.
extension Pipeline {
    /// All that a cache made with these options depends on besides the pixels.
    public func cacheIdentity(_ options: CacheOptions) -> String {
        options.identity(modelHash: featureHash, imageSize: imageSize)
    }

    /// Encodes pictures into a `.dcache`; see ``makeCache(of:subject:options:report:progress:shouldStop:)``.
    public func makeCache(
        of pictures: [Raster], subject: String, options: CacheOptions, progress: Progress = { _, _, _ in },
        shouldStop: () -> Bool = { false }
    ) throws -> SafetensorsWriter {
        let references = pictures.enumerated().map { index, picture in Reference(name: "\(index)") { picture } }
        return try makeCache(
            of: references, subject: subject, options: options, progress: progress, shouldStop: shouldStop)
    }

    /// Encodes references into a `.dcache`, one at a time: each is read, cut out where the options say so, and encoded before
    /// the next is read. An alpha channel is composited onto white.
    ///
    /// - Parameter report: given what was made of each reference, in order.
    /// - Returns: what writes the file: `write(to:path:)`.
    /// - Throws: `DreamCacheError`, and what loading or reporting throws.
    public func makeCache(
        of references: [Reference], subject: String, options: CacheOptions,
        report: (ReferenceReport) throws -> Void = { _ in }, progress: Progress = { _, _, _ in },
        shouldStop: () -> Bool = { false }
    ) throws -> SafetensorsWriter {
        guard !references.isEmpty else {
            throw DreamCacheError.request(field: "references", found: "no pictures", expected: "at least one")
        }
        return try watched(progress, shouldStop) { monitor throws(any Error) in
            try makeCache(of: references, subject: subject, options: options, report, monitor)
        }
    }

    private func makeCache(
        of references: [Reference], subject: String, options: CacheOptions, _ report: (ReferenceReport) throws -> Void,
        _ monitor: Monitor
    ) throws -> SafetensorsWriter {
        model.engine.beginPhase()
        let text = try textKeys(of: options.effectivePrompt)
        let time = try timeEmbeddings([Double(ReferencePass.timestep)])[0]
        let pass = ReferencePass(model, trainingSchedule)
        var features: [[InjectionSite: [Float]]] = []
        var foregrounds: [[InjectionSite: [Float]]?] = []
        var sketches: [SubjectSketch?] = []
        var hashes: [String] = []
        var remarks: [String] = []
        let cutOuts = CutOutMaker(path: model.engine.path)
        for (index, source) in references.enumerated() {
            try monitor.begin("encoding", index, of: references.count)
            let (reference, facts) = try cutOuts.prepared(
                try source.load(), name: source.name, background: options.background,
                progress: { try? monitor.begin("cutting out", $0, of: $1) }, shouldStop: monitor.isInterrupted)
            try report(facts)
            remarks += facts.remarks.map { "\(source.name): \($0)" }
            model.engine.beginPhase()
            let picture = reference.fitted(toSquare: imageSize, mode: options.fit)
            let foreground = try foreground(of: reference, name: source.name, options)
            hashes.append(picture.pixelHash + (foreground.map { "+" + $0.mask.pixelHash } ?? ""))
            let result = try pass(
                pixels: picture.normalised, side: imageSize, text: text, time: time, options: options)
            var tokens = result.features
            let downscale = model.configuration.autoencoder.downscale
            let shown =
                foreground ?? Foreground(reference, side: imageSize, fit: options.fit)
                ?? Foreground(onWhite: picture.compositedOnWhite())
            sketches.append(
                shown.flatMap { shown in
                    let side = imageSize / downscale
                    return SubjectSketch(
                        latent: result.latent, shares: shown.shares(of: downscale), height: side, width: side,
                        channels: model.configuration.autoencoder.latentChannels)
                })
            foregrounds.append(
                shown.flatMap { shown in
                    if shown.isEmpty { return nil }
                    return Dictionary(
                        uniqueKeysWithValues: tokens.keys.map { site in
                            (site, shown.shares(at: site, downscale: downscale, onlyKept: foreground != nil))
                        })
                })
            if let foreground {
                for (site, all) in tokens { tokens[site] = foreground.kept(all, at: site, downscale: downscale) }
            }
            for (site, values) in tokens {
                try DreamCacheError.checkFinite(values, "what reference \(index + 1) leaves at \(site.name)")
            }
            try checkMappings()
            features.append(tokens)
        }
        try monitor.begin("encoding", references.count, of: references.count)
        var metadata: [FeatureCache.Key: String] = [
            .formatVersion: "1", .subject: subject, .baseModel: featureHash, .cacheMode: options.mode.rawValue,
            .timestep: String(ReferencePass.timestep), .prompt: options.effectivePrompt,
            .seed: String(options.seed), .preprocessing: options.preprocessing(imageSize),
            .tokens: options.tokens.rawValue, .background: options.backgroundText,
            .references: hashes.joined(separator: ","), .creator: "DreamCache for Linux \(Version.current)",
        ]
        if !remarks.isEmpty { metadata[.remarks] = remarks.joined(separator: "\n") }
        return try FeatureCache.writer(
            features: features, foregrounds: foregrounds, sketches: sketches, metadata: metadata,
            type: options.elementType)
    }

    /// The mask by which tokens are dropped; nil where all are kept.
    private func foreground(
        of reference: Raster, name: String, _ options: CacheOptions
    ) throws(DreamCacheError) -> Foreground? {
        guard options.tokens == .foreground else { return nil }
        guard let foreground = Foreground(reference, side: imageSize, fit: options.fit) else {
            throw .raster(
                RasterError(
                    path: name, cause: .unsupported, place: "alpha",
                    found: "a picture without alpha channel or mask",
                    expected: "one with either, since cache.tokens is foreground"))
        }
        if foreground.isEmpty {
            throw .raster(
                RasterError(
                    path: name, cause: .unsupported, place: "mask", found: "a mask without foreground",
                    expected: "some pixels that show the subject"))
        }
        return foreground
    }
}
