import Checkpoint
import Glibc
import TensorEngine

/// The time embedding of one timestep as each residual block of a U-Net sees it.
public struct TimeEmbedding {
    let biases: [Tensor]
}

/// The denoiser of a latent diffusion model (LDM `UNetModel`, Rombach et al. 2022), split where the adapters of
/// DreamCache begin: ``encode`` holds none, ``decode`` (from the middle block's transformer on) holds all.
///
/// Golden: `eps.plain.*`.
public final class UNet {
    /// What the encoder hands to the decoder.
    public struct Features {
        let hidden: Tensor
        let skips: [Tensor]
    }

    private struct Stage {
        var residual: ResidualBlock?
        var transformer: SpatialTransformer?
        var resample: Weights?
        var firstText = 0
        var resampleDoubles = false
    }

    /// The geometry it was made with.
    public let configuration: UNetConfiguration
    /// All injection sites, middle block first.
    public let sites: [InjectionSite]
    private let engine: Engine
    private let timeIn, timeOut: Weights
    private let convIn: Weights
    private let encoder: [Stage]
    private let middle: (ResidualBlock, SpatialTransformer, ResidualBlock)
    private let middleFirstText: Int
    private let decoder: [Stage]
    private let normOut: NormWeights
    private let convOut: Weights

    /// Takes the parameters under `scope`, LDM's `model.diffusion_model.`.
    public init(_ scope: ParameterScope, _ configuration: UNetConfiguration, engine: Engine) throws(EngineError) {
        let layers = LayerMaker(engine: engine)
        self.engine = engine
        self.configuration = configuration
        let c0 = configuration.modelChannels
        let timeChannels = 4 * c0
        timeIn = try layers.linear(scope["time_embed.0"], inputs: c0, outputs: timeChannels)
        timeOut = try layers.linear(scope["time_embed.2"], inputs: timeChannels, outputs: timeChannels)
        convIn = try layers.convolution(scope["input_blocks.0.0"], inputs: configuration.inChannels, outputs: c0)

        var blockNumber = 0  // of spatial transformers, over the whole U-Net
        var texts = 0
        var sites: [InjectionSite] = []

        func residual(_ scope: ParameterScope, _ inputs: Int, _ outputs: Int) throws(EngineError) -> ResidualBlock {
            try ResidualBlock(
                scope, .unet, inputs: inputs, outputs: outputs, timeChannels: timeChannels,
                groups: configuration.normGroups, engine: engine)
        }
        func transformer(
            _ path: String, _ channels: Int, level: Int, canBeSite: (Int) -> Bool
        ) throws(EngineError) -> SpatialTransformer {
            let heads = configuration.heads.count(channels: channels, level: level)
            var site: InjectionSite?
            if canBeSite(blockNumber) {
                let found = InjectionSite(name: path, channels: channels, heads: heads, level: level)
                sites.append(found)
                site = found
            }
            blockNumber += 1
            texts += configuration.transformerDepth
            return try SpatialTransformer(
                scope[path], channels: channels, heads: heads, contextSize: configuration.contextSize,
                depth: configuration.transformerDepth, groups: configuration.normGroups, site: site, engine: engine)
        }

        var encoder: [Stage] = []
        var skipChannels = [c0]
        var channels = c0
        let levels = configuration.channelMultipliers.count
        for (level, multiplier) in configuration.channelMultipliers.enumerated() {
            for _ in 0..<configuration.residualBlocks {
                let path = "input_blocks.\(encoder.count + 1)"
                var stage = Stage(residual: try residual(scope[path][0], channels, c0 * multiplier), firstText: texts)
                channels = c0 * multiplier
                if configuration.attentionLevels.contains(level) {
                    stage.transformer = try transformer("\(path).1", channels, level: level) { _ in false }
                }
                encoder.append(stage)
                skipChannels.append(channels)
            }
            if level + 1 < levels {
                let scope = scope["input_blocks.\(encoder.count + 1).0.op"]
                encoder.append(
                    Stage(resample: try layers.convolution(scope, inputs: channels, outputs: channels, stride: 2)))
                skipChannels.append(channels)
            }
        }
        self.encoder = encoder

        middleFirstText = texts
        middle = (
            try residual(scope["middle_block.0"], channels, channels),
            try transformer("middle_block.1", channels, level: levels - 1) { _ in true },
            try residual(scope["middle_block.2"], channels, channels)
        )

        var decoder: [Stage] = []
        for (level, multiplier) in configuration.channelMultipliers.enumerated().reversed() {
            for index in 0...configuration.residualBlocks {
                let path = "output_blocks.\(decoder.count)"
                let skip = skipChannels.popLast() ?? 0
                var stage = Stage(
                    residual: try residual(scope[path][0], channels + skip, c0 * multiplier), firstText: texts)
                channels = c0 * multiplier
                var position = 1
                if configuration.attentionLevels.contains(level) {
                    stage.transformer = try transformer("\(path).1", channels, level: level) { $0 % 2 == 0 }
                    position = 2
                }
                if level > 0, index == configuration.residualBlocks {
                    stage.resample = try layers.convolution(
                        scope[path][position]["conv"], inputs: channels, outputs: channels)
                    stage.resampleDoubles = true
                }
                decoder.append(stage)
            }
        }
        self.decoder = decoder
        self.sites = sites
        normOut = try layers.norm(scope["out.0"], channels: c0)
        convOut = try layers.convolution(scope["out.2"], inputs: c0, outputs: configuration.outChannels)
    }

    // MARK: What is computed once

    /// Time embeddings of a schedule: sinusoids of the timestep (cosines, then sines; Vaswani et al. 2017 as in LDM),
    /// two maps with SiLU between, then each residual block's own map.
    public func timeEmbeddings(_ timesteps: [Double]) throws(EngineError) -> [TimeEmbedding] {
        let size = configuration.modelChannels
        let half = size / 2
        var sinusoids = [Float](repeating: 0, count: timesteps.count * size)
        for (row, timestep) in timesteps.enumerated() {
            for i in 0..<half {
                let frequency = Float(exp(-log(10000.0) * Double(i) / Double(half)))
                let angle = Float(timestep) * frequency
                sinusoids[row * size + i] = cos(angle)
                sinusoids[row * size + half + i] = sin(angle)
            }
        }
        let hidden = try engine.product(try engine.tensor(sinusoids, shape: [timesteps.count, size]), timeIn)
        let embedding = try engine.activate(
            try engine.product(try engine.activate(hidden, .silu), timeOut), .silu)
        var perBlock: [[Tensor]] = []
        for block in residualBlocks { perBlock.append(try block.timeBiases(embedding)) }
        return timesteps.indices.map { row in TimeEmbedding(biases: perBlock.map { $0[row] }) }
    }

    /// Keys and values of `context [n, tokens, contextSize]` for every transformer block.
    public func textKeys(_ context: Tensor) throws(EngineError) -> TextKeys {
        var blocks: [Tensor] = []
        for transformer in transformers { blocks += try transformer.textKeys(context) }
        return TextKeys(blocks: blocks)
    }

    /// Keys and values of one entry each as one batch.
    public func stacked(_ keys: [TextKeys]) throws(EngineError) -> TextKeys {
        var blocks: [Tensor] = []
        for index in 0..<(keys.first?.blocks.count ?? 0) {
            blocks.append(try engine.stacked(keys.map { $0.blocks[index] }))
        }
        return TextKeys(blocks: blocks)
    }

    /// Entries of the batch by index, in that order and as often.
    public func gathered(_ keys: TextKeys, _ indices: [Int]) throws(EngineError) -> TextKeys {
        var blocks: [Tensor] = []
        for block in keys.blocks { blocks.append(try engine.gathered(block, indices)) }
        return TextKeys(blocks: blocks)
    }

    /// What a site's self-attention makes of tokens that enter its block, such as those of a cache.
    ///
    /// - Parameter tokens: `[n, tokens, channels]`, float32, raw; each entry is normalised over its own tokens.
    /// - Returns: queries, keys and values side by side, `[n, tokens, 3 * channels]` in the type of products.
    /// - Throws: `EngineError.shapes` where the tokens are not the site's, or the U-Net has no such site.
    public func selfQKV(_ tokens: Tensor, at site: InjectionSite) throws(EngineError) -> Tensor {
        guard let transformer = transformers.first(where: { $0.site == site }),
            tokens.shape.count == 3, tokens.channels == site.channels
        else {
            throw .shapes(
                operation: "self-attention of \(site.name)", found: [tokens.shape],
                expected: "[n, tokens, \(site.channels)] at a site of this U-Net")
        }
        return try transformer.selfQKV(tokens)
    }

    private var residualBlocks: [ResidualBlock] {
        encoder.compactMap(\.residual) + [middle.0, middle.2] + decoder.compactMap(\.residual)
    }

    private var transformers: [SpatialTransformer] {
        encoder.compactMap(\.transformer) + [middle.1] + decoder.compactMap(\.transformer)
    }

    // MARK: The two halves of an evaluation

    /// The encoder, and the middle block up to its transformer: `x [n, h, w, inChannels]` under n entries of text, or one under
    /// all of them, `[1, h, w, inChannels]`, which is computed once as far as they agree.
    public func encode(_ x: Tensor, time: TimeEmbedding, text: TextKeys) throws(EngineError) -> Features {
        var hidden = try engine.product(x, convIn)
        var skips = [hidden]
        var biases = time.biases[...]
        for stage in encoder {
            hidden = try run(stage, hidden, &biases, text, tap: nil, tappedRows: 0)
            skips.append(hidden)
        }
        hidden = try middle.0(hidden, timeBias: biases.popFirst())
        for index in skips.indices { skips[index] = try engine.repeated(skips[index], count: text.count) }
        return Features(hidden: try engine.repeated(hidden, count: text.count), skips: skips)
    }

    /// The rest, to the prediction `[n, h, w, outChannels]`, float32.
    ///
    /// - Parameters:
    ///   - entries: for each entry of the batch that of `features` which it continues; one for each if nil.
    ///   - text: of this batch.
    ///   - tappedRows: so many entries, the first, go through `tap` at the injection sites.
    public func decode(
        _ features: Features, entries: [Int]? = nil, time: TimeEmbedding, text: TextKeys,
        tap: (any InjectionTap)? = nil, tappedRows: Int = 0
    ) throws(EngineError) -> Tensor {
        var biases = time.biases[(encoder.count(where: { $0.residual != nil }) + 1)...]
        let entries = entries ?? Array(0..<text.count)
        // A copy in any case: transformers add in place, and the features may be continued again.
        var hidden = try engine.gathered(features.hidden, entries)
        hidden = try middle.1(hidden, text: text.blocks[middleFirstText...], tap: tap, tappedRows: tappedRows)
        hidden = try middle.2(hidden, timeBias: biases.popFirst())
        var skips = features.skips
        for stage in decoder {
            guard let skip = skips.popLast() else { break }
            // What the encoder halved, rounding up, must come back to the size of what it skips to.
            hidden = try run(
                stage, try engine.concatenated(hidden, skip, entries: entries), &biases, text, tap: tap,
                tappedRows: tappedRows, next: skips.last)
        }
        let normed = try engine.groupNorm(
            hidden, normOut, groups: configuration.normGroups, epsilon: 1e-5, silu: true)
        return try engine.product(normed, convOut)
    }

    private func run(
        _ stage: Stage, _ x: Tensor, _ biases: inout ArraySlice<Tensor>, _ text: TextKeys, tap: (any InjectionTap)?,
        tappedRows: Int, next: Tensor? = nil
    ) throws(EngineError) -> Tensor {
        var hidden = x
        if let residual = stage.residual { hidden = try residual(hidden, timeBias: biases.popFirst()) }
        if let transformer = stage.transformer {
            hidden = try transformer(
                hidden, text: text.blocks[stage.firstText...], tap: tap, tappedRows: tappedRows)
        }
        if let resample = stage.resample {
            hidden =
                stage.resampleDoubles
                ? try engine.product(
                    ofUpsampled: hidden, height: next?.shape[1], width: next?.shape[2], resample)
                : try engine.product(hidden, resample)
        }
        return hidden
    }

    // MARK: Training

    /// ``decode(_:entries:time:text:tap:tappedRows:)`` of one entry in training, with the way back from the prediction to the
    /// lowest site of `mix`. Up to there it runs as in ``decode(_:entries:time:text:tap:tappedRows:)``; the encoder, the text
    /// and the skips get no gradient.
    ///
    /// - Parameter keeping: what is kept for the way back.
    /// - Returns: the prediction `[1, h, w, outChannels]` and the way back.
    public func decode(
        _ features: Features, time: TimeEmbedding, text: TextKeys, training mix: TrainedMix,
        keeping: KeptForBackward = .everything
    ) throws(EngineError) -> TrainedPrediction {
        var biases = time.biases[(encoder.count(where: { $0.residual != nil }) + 1)...]
        var steps: [Backward] = []

        // Runs a part: with its way back from the lowest site on, without below.
        func run(
            _ x: Tensor, _ part: @escaping (Tensor) throws(EngineError) -> Differentiable
        ) throws(EngineError) -> Tensor {
            let whole = try keeping.run(x, part)
            steps.append(whole.backward)
            return whole.result
        }
        func run(_ transformer: SpatialTransformer, _ x: Tensor, firstText: Int) throws(EngineError) -> Tensor {
            let isTrained = transformer.site.map(mix.sites.contains) ?? false
            let keys = text.blocks[firstText...]
            guard !steps.isEmpty || isTrained else {
                return try transformer(x, text: keys, tap: nil, tappedRows: 0)
            }
            let isLowest = steps.isEmpty
            return try run(x) { x throws(EngineError) in
                try transformer.forward(x, text: keys, mix: mix, isLowest: isLowest)
            }
        }
        func run(_ residual: ResidualBlock, _ x: Tensor) throws(EngineError) -> Tensor {
            let bias = biases.popFirst()
            if steps.isEmpty { return try residual(x, timeBias: bias) }
            return try run(x) { x throws(EngineError) in try residual.forward(x, timeBias: bias) }
        }

        // A copy: transformers below the lowest site add in place.
        var hidden = try run(middle.1, try engine.copy(features.hidden), firstText: middleFirstText)
        hidden = try run(middle.2, hidden)
        var skips = features.skips
        for stage in decoder {
            guard let skip = skips.popLast() else { break }
            hidden = try join(hidden, skip, &steps)
            if let residual = stage.residual { hidden = try run(residual, hidden) }
            if let transformer = stage.transformer {
                hidden = try run(transformer, hidden, firstText: stage.firstText)
            }
            if let resample = stage.resample { hidden = try double(hidden, resample, to: skips.last, &steps) }
        }
        let (normed, kept) = try engine.groupNormKept(
            hidden, normOut, groups: configuration.normGroups, epsilon: 1e-5, silu: true)
        return TrainedPrediction(
            prediction: try engine.product(normed, convOut), engine: engine, convOut: convOut, kept: kept, steps: steps)
    }

    /// Joins a skip in training; backward takes the first channels and drops the skip's.
    private func join(_ hidden: Tensor, _ skip: Tensor, _ steps: inout [Backward]) throws(EngineError) -> Tensor {
        let channels = hidden.channels
        if !steps.isEmpty {
            steps.append(
                Backward { [engine] gradient throws(EngineError) in
                    try engine.concatenatedGradient(gradient, channels: 0..<channels)
                })
        }
        return try engine.concatenated(hidden, skip, entries: [0])
    }

    /// Doubles a picture to the size of the next skip in training.
    private func double(
        _ hidden: Tensor, _ weights: Weights, to next: Tensor?, _ steps: inout [Backward]
    ) throws(EngineError) -> Tensor {
        let shape = hidden.shape
        if !steps.isEmpty {
            steps.append(
                Backward { [engine] gradient throws(EngineError) in
                    try engine.productGradient(byUpsampledInput: gradient, of: shape, weights)
                })
        }
        return try engine.product(ofUpsampled: hidden, height: next?.shape[1], width: next?.shape[2], weights)
    }
}

/// A prediction in training, and the way back from it to the lowest trained site.
public struct TrainedPrediction {
    /// `[1, h, w, outChannels]`, float32.
    public let prediction: Tensor
    fileprivate let engine: Engine
    fileprivate let convOut: Weights
    fileprivate let kept: KeptGroupNorm
    fileprivate var steps: [Backward]

    /// Takes the gradient by the prediction (float32) back, and adds up the gradients of what is trained. What forward has kept
    /// is given back on the way, so this runs once.
    public mutating func backward(_ gradient: Tensor) throws(EngineError) {
        var inner = try engine.groupNormGradient(try engine.productGradient(byInput: gradient, convOut), of: kept)
        while let step = steps.popLast() { inner = try step(inner) }
    }
}
