import Bytes
import Diffusion
import Foundation
import Raster
import TensorEngine

/// Who wants to see a picture while it is denoised.
public struct PreviewSink {
    /// Shortest time between two looks.
    let interval: Duration
    let show: (Raster) -> Void
    private var next = ContinuousClock.now

    /// - Parameters:
    ///   - interval: shortest time between two looks.
    ///   - show: given a picture of the latent's size.
    public init(every interval: Duration, show: @escaping (Raster) -> Void) {
        (self.interval, self.show) = (interval, show)
    }

    /// Whether it is time; then it is not again for a while.
    mutating func isDue() -> Bool {
        let now = ContinuousClock.now
        guard now >= next else { return false }
        next = now + interval
        return true
    }
}

extension Pipeline {
    /// The map of the base's autoencoder: kept beside the prepared weights where these are kept, else made once a start. Nil
    /// where none can be made; pictures then come without previews.
    ///
    /// - Throws: `DreamCacheError.stopped` where the work was stopped; then it is made another time.
    public func previewMap() throws(DreamCacheError) -> LatentPreview? {
        if let known = madePreviewMap { return known }
        let path = preparedWeights.map { String($0.path.dropLast(".safetensors".count)) + ".preview.json" }
        let map: LatentPreview?
        if let kept = path.flatMap(keptPreviewMap) {
            map = kept
        } else {
            do throws(DreamCacheError) { map = try fittedPreviewMap() } catch {
                if case .stopped = error { throw error }
                map = nil
            }
            if let path, let map, let data = try? JSONEncoder().encode(map) {
                // The folder may be another's to write.
                try? AtomicFile.write([UInt8](data), to: path)
            }
        }
        madePreviewMap = .some(map)
        return map
    }

    /// What an earlier start has kept, if it is one.
    private func keptPreviewMap(_ path: String) -> LatentPreview? {
        guard let data = FileManager.default.contents(atPath: path),
            let kept = try? JSONDecoder().decode(LatentPreview.self, from: data)
        else { return nil }
        return kept.isSound(channels: model.configuration.autoencoder.latentChannels) ? kept : nil
    }

    /// Sides of the drawn pictures, in pixels, and how many there are to fit to and to measure by.
    private static let drawn = (side: 128, fitted: 6, held: 2)

    private func fittedPreviewMap() throws(DreamCacheError) -> LatentPreview? {
        let configuration = model.configuration
        let (downscale, channels) = (configuration.autoencoder.downscale, configuration.autoencoder.latentChannels)
        var pictures = DrawnPictures(seed: 1)
        var samples: [LatentPreview.Sample] = []
        for _ in 0..<(Self.drawn.fitted + Self.drawn.held) {
            let picture = pictures.picture(side: Self.drawn.side)
            let latent = try onEngine { () throws(EngineError) in
                model.engine.beginPhase()
                return try model.autoencoder.encode(
                    picture.normalised, height: picture.height, width: picture.width
                ).mean.map { $0 * configuration.latentScale }
            }
            let side = Self.drawn.side / downscale
            samples.append(
                LatentPreview.Sample(latent: latent, picture: picture.resized(width: side, height: side)))
        }
        model.engine.trimMemory()
        return LatentPreview(
            channels: channels, fittedTo: Array(samples.prefix(Self.drawn.fitted)),
            held: Array(samples.suffix(Self.drawn.held)))
    }

    /// Shows what the picture would be by this step's prediction, where it is time to.
    func preview(_ input: [Float], _ prediction: [Float], timestep: Float, height: Int, width: Int) {
        guard let map = madePreviewMap ?? nil, previews?.isDue() == true else { return }
        if let picture = look(map, input, prediction, timestep: timestep, height: height, width: width) {
            previews?.show(picture)
        }
    }

    /// What the picture would be by a step's prediction.
    ///
    /// - Parameters:
    ///   - input: what the U-Net was evaluated on, of a variance-preserving process: x = sqrt(a) x0 + sqrt(1 - a) eps.
    ///   - prediction: eps, or v = sqrt(a) eps - sqrt(1 - a) x0.
    func look(
        _ map: LatentPreview, _ input: [Float], _ prediction: [Float], timestep: Float, height: Int, width: Int
    ) -> Raster? {
        let table = trainingSchedule.alphasCumprod
        guard !table.isEmpty else { return nil }
        let alpha = table[min(max(Int(timestep.rounded()), 0), table.count - 1)]
        let (signal, noise) = (Float(max(alpha, 1e-4).squareRoot()), Float((1 - alpha).squareRoot()))
        let type = model.configuration.schedule.predictionType
        let guess = zip(input, prediction).map { x, y in
            switch type {
            case .epsilon: (x - noise * y) / signal
            case .vPrediction: signal * x - noise * y
            case .sample: y
            }
        }
        return map.picture(guess, height: height, width: width)
    }
}
