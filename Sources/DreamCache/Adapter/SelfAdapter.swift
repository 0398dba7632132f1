import Bytes
import Checkpoint
import Diffusion
import Raster
import TensorEngine

/// An adapter made of the base itself, without training: what ``SelfReading`` does with a separate softmax, as far as linear maps
/// of the raw cached tokens can do it. It is also what training begins with.
///
/// Two things that depend on the tokens become constants, taken from a sample of references: the spread of each GroupNorm's group,
/// and the spread of a token's channels before norm1. What they add to all keys alike cancels in the softmax; what they add to all
/// values alike becomes part of to_out's bias. So, with C the map that takes a token's mean away, A = diag(norm1 / s) C proj_in
/// diag(norm / spread):
///
///     to_q = attn1.to_q    to_k = attn1.to_k A    to_v = attn1.to_v A    to_out = attn1.to_out    norm2_mem = norm1
///     linear_cat = [(1 - w) I | w I]
public enum SelfAdapter {
    /// One tensor of an adapter's file.
    public typealias Parameter = (name: String, shape: [Int], values: [Float])

    /// The subject's share where nobody says another.
    public static let weight = 0.5

    /// The adapter's tensors, in the authors' names.
    ///
    /// - Parameters:
    ///   - store: the base's parameters, in LDM's names: what ``StableDiffusion/load(checkpoint:yaml:options:engine:inspect:)`` shows.
    ///   - sample: raw tokens of some references at every site, `[tokens, channels]` each.
    ///   - weight: the subject's share, 0 to 1.
    public static func parameters(
        of store: ParameterStore, _ unet: UNet, sample: [[InjectionSite: [Float]]], weight: Double = weight,
        engine: Engine
    ) throws(DreamCacheError) -> [Parameter] {
        try onEngine { () throws(EngineError) in
            var parameters: [Parameter] = []
            for site in unet.sites {
                let base = SiteParameters(store, site)
                let references = sample.compactMap { $0[site] }
                parameters += try base.adapter(
                    references, groups: unet.configuration.normGroups, weight: Float(weight), engine: engine
                ).map { ("diffusion_model.\(site.name).transformer_blocks.0.\($0.name)", $0.shape, $0.values) }
            }
            return parameters
        }
    }

    /// Makes the adapter of a model and writes it, as safetensors.
    ///
    /// - Parameters:
    ///   - files: the model; its LoRAs become part of the adapter.
    ///   - path: the file to make or to replace.
    ///   - weight: the subject's share, 0 to 1.
    ///   - type: F32, F16 or BF16.
    /// - Throws: `DreamCacheError` where the model cannot be loaded, or the file cannot be written.
    public static func write(
        for files: ModelFiles, to path: String, weight: Double = weight, type: StoredElementType = .f32
    ) throws(DreamCacheError) {
        let compute = ComputePath.oneDNNFP32.isSupported ? ComputePath.oneDNNFP32 : .openBLAS
        let engine = try onEngine { () throws(EngineError) in try Engine(path: compute) }
        var stores: [ParameterStore] = []
        let model = try onModel { () throws(DiffusionError) in
            try StableDiffusion.load(checkpoint: files.checkpoint, options: files.options, engine: engine) {
                stores.append($0)
            }
        }
        guard let store = stores.first else { return }
        let pipeline = try Pipeline(model: model, adapter: nil, modelHash: "", adapterHash: nil)
        let made = try parameters(
            of: store, model.unet, sample: try pipeline.sampleFeatures(), weight: weight, engine: engine)
        let metadata = [
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.architecture": model.configuration.architecture.map { $0.rawValue + AdapterFile.suffix },
            "modelspec.implementation": "DreamCache for Linux \(Version.current)",
            "modelspec.title": "DreamCache adapter of the base itself, weight \(weight)",
        ]
        var writer = SafetensorsWriter(metadata: metadata.compactMapValues { $0 })
        for parameter in made {
            try DreamCacheError.checkFinite(parameter.values, parameter.name)
            writer.add(parameter.name, type: type, shape: parameter.shape, floats: parameter.values)
        }
        let file = try onFile { () throws(FileError) in try AtomicFile(path) }
        do { try writer.write(to: file.descriptor, path: path) } catch { throw .diffusion(.checkpoint(error)) }
        try onFile { () throws(FileError) in try file.commit() }
    }

    /// Pictures whose features vary as those of references do: discs of pink noise, which has the spectrum of photographs, on
    /// white. With the demonstration model the spread of no group is further than 8 % from its mean over real references; that of
    /// noise that fills the picture is up to 33 % off, that of a blank one 33 %.
    static func samplePictures(side: Int, count: Int = 4) -> [Raster] {
        var generator = TorchGenerator(seed: 0)
        return (0..<count).map { _ in
            var octaves = [Float](repeating: 0, count: side * side * 3)
            // The sum of noise at every scale, each as strong as the other, falls with the frequency.
            var cell = side
            while cell >= 1 {
                let across = (side + cell - 1) / cell
                let noise = generator.randn(count: across * across * 3)
                for pixel in 0..<side * side {
                    let place = pixel / side / cell * across + pixel % side / cell
                    for c in 0..<3 { octaves[pixel * 3 + c] += noise[place * 3 + c] }
                }
                cell /= 2
            }
            return Raster(width: side, height: side, channels: 3, pixels: disc(of: octaves, side: side))
        }
    }

    private static func disc(of noise: [Float], side: Int) -> [UInt8] {
        let mean = noise.reduce(0, +) / Float(noise.count)
        let variance = noise.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Float(noise.count)
        let scale = 60 / max(variance.squareRoot(), 1e-6)
        let radius = side * 2 / 5
        return noise.indices.map { i in
            let (x, y) = (i / 3 % side - side / 2, i / 3 / side - side / 2)
            guard x * x + y * y < radius * radius else { return 255 }
            return UInt8(min(255, max(0, 127 + (noise[i] - mean) * scale)))
        }
    }
}

/// What self-attention at a site is made of.
private struct SiteParameters {
    let site: InjectionSite
    let norm, normBias, projIn, projInBias, norm1, norm1Bias: [Float]
    let toQ, toK, toV, toOut, toOutBias: [Float]

    init(_ store: ParameterStore, _ site: InjectionSite) {
        self.site = site
        let c = site.channels
        let scope = store.scoped("model.diffusion_model.\(site.name).")
        func vector(_ name: String) -> [Float] { scope.take(name, shape: [c]).floats() }
        func matrix(_ name: String) -> [Float] { scope.take(name, shape: [c, c], orShape: [c, c, 1, 1]).floats() }
        (norm, normBias) = (vector("norm.weight"), vector("norm.bias"))
        (projIn, projInBias) = (matrix("proj_in.weight"), vector("proj_in.bias"))
        let block = "transformer_blocks.0."
        (norm1, norm1Bias) = (vector(block + "norm1.weight"), vector(block + "norm1.bias"))
        (toQ, toK) = (matrix(block + "attn1.to_q.weight"), matrix(block + "attn1.to_k.weight"))
        (toV, toOut) = (matrix(block + "attn1.to_v.weight"), matrix(block + "attn1.to_out.0.weight"))
        toOutBias = vector(block + "attn1.to_out.0.bias")
    }

    func adapter(
        _ references: [[Float]], groups: Int, weight: Float, engine: Engine
    ) throws(EngineError) -> [SelfAdapter.Parameter] {
        let c = site.channels
        let (mean, spread) = Self.statistics(references, channels: c, groups: groups)
        let scale = (0..<c).map { norm[$0] / spread[$0 / (c / groups)] }
        let shift = (0..<c).map { normBias[$0] - mean[$0 / (c / groups)] * scale[$0] }
        // proj_in with a token's mean over the channels taken away.
        let columnMeans = (0..<c).map { i in (0..<c).reduce(Float(0)) { $0 + projIn[$1 * c + i] } / Float(c) }
        var map = [Float](repeating: 0, count: c * c)
        for o in 0..<c {
            for i in 0..<c { map[o * c + i] = (projIn[o * c + i] - columnMeans[i]) * scale[i] }
        }
        let biasMean = projInBias.reduce(0, +) / Float(c)
        let moved = (0..<c).map { o in
            (0..<c).reduce(projInBias[o] - biasMean) { $0 + (projIn[o * c + $1] - columnMeans[$1]) * shift[$1] }
        }
        let tokens = references.flatMap { $0 }
        let rows = try Self.product(tokens, rows: tokens.count / c, map, transposed: false, channels: c, engine)
        let deviation = Self.deviation(rows, plus: moved)
        for o in 0..<c {
            for i in 0..<c { map[o * c + i] *= norm1[o] / deviation }
        }
        let constant = (0..<c).map { norm1[$0] * moved[$0] / deviation + norm1Bias[$0] }
        func times(_ matrix: [Float], _ vector: [Float]) -> [Float] {
            (0..<c).map { o in (0..<c).reduce(Float(0)) { $0 + matrix[o * c + $1] * vector[$1] } }
        }
        let bias = zip(toOutBias, times(toOut, times(toV, constant))).map { $0 + $1 }
        var cat = [Float](repeating: 0, count: 2 * c * c)
        for o in 0..<c {
            cat[o * 2 * c + o] = 1 - weight
            cat[o * 2 * c + c + o] = weight
        }
        return [
            ("norm2_mem.weight", [c], norm1), ("norm2_mem.bias", [c], norm1Bias),
            ("attn_mem.to_q.weight", [c, c], toQ),
            (
                "attn_mem.to_k.weight", [c, c],
                try Self.product(toK, rows: c, map, transposed: true, channels: c, engine)
            ),
            (
                "attn_mem.to_v.weight", [c, c],
                try Self.product(toV, rows: c, map, transposed: true, channels: c, engine)
            ),
            ("attn_mem.to_out.0.weight", [c, c], toOut), ("attn_mem.to_out.0.bias", [c], bias),
            ("linear_cat.weight", [c, 2 * c], cat), ("linear_cat.bias", [c], [Float](repeating: 0, count: c)),
        ]
    }

    /// Mean and standard deviation of each group's elements, over each reference, and their mean over the references.
    private static func statistics(
        _ references: [[Float]], channels c: Int, groups: Int
    ) -> (mean: [Float], spread: [Float]) {
        var (means, spreads) = ([Float](repeating: 0, count: groups), [Float](repeating: 0, count: groups))
        let width = c / groups
        for tokens in references {
            for group in 0..<groups {
                var (sum, squares) = (0.0, 0.0)
                for token in stride(from: group * width, to: tokens.count, by: c) {
                    for value in tokens[token..<token + width] {
                        sum += Double(value)
                        squares += Double(value) * Double(value)
                    }
                }
                let count = Double(tokens.count / groups)
                let mean = sum / count
                means[group] += Float(mean) / Float(references.count)
                spreads[group] += Float((squares / count - mean * mean + 1e-6).squareRoot()) / Float(references.count)
            }
        }
        return (means, spreads)
    }

    /// The standard deviation of a token's channels, whose mean is zero, in the mean over the tokens.
    private static func deviation(_ rows: [Float], plus constant: [Float]) -> Float {
        let c = constant.count
        var sum = 0.0
        for token in stride(from: 0, to: rows.count, by: c) {
            let squares = (0..<c).reduce(0.0) { sum, i in
                let value = Double(rows[token + i] + constant[i])
                return sum + value * value
            }
            sum += (squares / Double(c) + 1e-5).squareRoot()
        }
        return Float(sum / Double(max(1, rows.count / c)))
    }

    /// x m^T of `x [rows, c]` and `m [c, c]`; transposed x m.
    private static func product(
        _ x: [Float], rows: Int, _ m: [Float], transposed: Bool, channels c: Int, _ engine: Engine
    ) throws(EngineError) -> [Float] {
        let weights = try engine.weights(.linear, inputs: c, outputs: c, bias: nil) { buffer in
            for o in 0..<c {
                for i in 0..<c { buffer[o * c + i] = transposed ? m[i * c + o] : m[o * c + i] }
            }
        }
        return engine.floats(try engine.product(try engine.tensor(x, shape: [rows, c]), weights))
    }
}

extension Pipeline {
    /// Features of pictures that vary as references do; see ``SelfAdapter/parameters(of:_:sample:weight:engine:)``.
    func sampleFeatures() throws(DreamCacheError) -> [[InjectionSite: [Float]]] {
        let text = try textKeys(of: "")
        let time = try timeEmbeddings([Double(ReferencePass.timestep)])[0]
        let pass = ReferencePass(model, trainingSchedule)
        var features: [[InjectionSite: [Float]]] = []
        for picture in SelfAdapter.samplePictures(side: imageSize) {
            features.append(
                try pass(
                    pixels: picture.normalised, side: imageSize, text: text, time: time, options: CacheOptions()
                ).features)
        }
        return features
    }
}
