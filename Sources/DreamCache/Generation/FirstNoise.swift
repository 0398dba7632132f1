import Diffusion
import Raster
import TensorEngine

/// What a run begins with besides noise: an initial image, or a sketch of the subject.
extension Pipeline {
    /// The latent of the initial image, if there is one: a sample of its posterior, drawn before all other noise, as
    /// diffusers' img2img draws it.
    func initialLatent(
        _ request: ImageRequest, height: Int, width: Int, _ generator: inout RandomGenerator
    ) throws(DreamCacheError) -> [Float]? {
        guard let image = request.initialImage else { return nil }
        let downscale = model.configuration.autoencoder.downscale
        let picture = image.compositedOnWhite().resized(width: width * downscale, height: height * downscale)
        let posterior = try posteriors.value(for: picture.pixelHash) { () throws(DreamCacheError) in
            try onEngine { () throws(EngineError) in
                try model.autoencoder.encode(picture.normalised, height: picture.height, width: picture.width)
            }
        }
        return posterior.sample(generator.randn(count: posterior.mean.count)).map {
            $0 * model.configuration.latentScale
        }
    }

    /// Puts the subject into the noise a run begins with, where the base reads caches by itself: one of its references, by the
    /// seed. None where image_scale begins at zero, and where several subjects would have to share the middle.
    func sketch(_ request: ImageRequest, _ plan: Plan, in noise: inout [Float]) {
        guard adapter == nil, selfReading.sketch > 0, request.caches.count == 1, let cache = request.caches.first,
            let scale = plan.groups.first?.group.scale, scale.start > 0, let timestep = plan.sampler.timesteps.first
        else { return }
        let sketches = cache.sketches
        guard !sketches.isEmpty else { return }
        let chosen = sketches[Int(request.seed % UInt64(sketches.count))]
        guard chosen.channels == model.configuration.autoencoder.latentChannels else { return }
        let alphas = trainingSchedule.alphasCumprod
        chosen.add(
            to: &noise, height: plan.height, width: plan.width, strength: selfReading.sketch,
            alpha: alphas[min(max(0, Int(timestep.rounded())), alphas.count - 1)])
    }
}
