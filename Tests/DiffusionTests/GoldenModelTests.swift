import Checkpoint
import Foundation
import Golden
import TensorEngine
import Testing

@testable import Diffusion

/// Text encoder, autoencoder and U-Net of the tiny model against the authors' code, on each exact compute path.
@Suite struct GoldenModelTests {
    private func model(_ path: ComputePath) throws -> (StableDiffusion, Golden) {
        (
            try StableDiffusion.load(checkpoint: Golden.path("tiny-sd2.ckpt"), engine: try Engine(path: path)),
            try Golden()
        )
    }

    @Test(arguments: Golden.exactPaths) func text(_ path: ComputePath) throws {
        let (model, golden) = try model(path)
        let prompts = ["a photo of a backpack, on the beach", "A dragon, painted on a wall.", ""]
        let context = try prompts.flatMap { model.engine.floats(try model.encode(prompt: $0)) }
        #expect(relativeError(context, golden["text.context"]) < 1e-4)
    }

    @Test(arguments: Golden.exactPaths) func autoencoder(_ path: ComputePath) throws {
        let (model, golden) = try model(path)
        let pixels = channelsLast(golden["reference.pixels"], channels: 3)
        let posterior = try model.autoencoder.encode(pixels, height: 128, width: 128)
        #expect(relativeError(posterior.mean, golden["vae.mean"]) < 1e-4)
        #expect(relativeError(posterior.logVariance, golden["vae.logvar"]) < 1e-4)
        let latent = golden["cache.mean.latent"].map { $0 / 0.18215 }
        let image = try model.autoencoder.decode(latent, height: 16, width: 16)
        #expect(relativeError(channelsFirst(image, channels: 3), golden["vae.decoded"]) < 1e-4)
    }

    @Test(arguments: Golden.exactPaths) func unet(_ path: ComputePath) throws {
        let (model, golden) = try model(path)
        let text = try model.unet.textKeys(try model.encode(prompt: "a photo of a backpack, on the beach"))
        let x = try model.latentTensor(golden["xT"], height: 16, width: 16)
        for timestep in [1, 481, 981] {
            let time = try #require(try model.unet.timeEmbeddings([Double(timestep)]).first)
            let features = try model.unet.encode(x, time: time, text: text)
            let output = try model.unet.decode(features, time: time, text: text)
            #expect(
                relativeError(try #require(model.predictions(output).first), golden["eps.plain.\(timestep)"]) < 1e-4)
        }
    }

    /// One latent under two texts, and an entry continued twice, as branches of guidance share it; so large that the rows of
    /// the feed-forward maps are cut in other places than alone.
    @Test(arguments: Golden.exactPaths) func whatBranchesShareIsWhatEachWouldCompute(_ path: ComputePath) throws {
        let (model, _) = try model(path)
        let unet = model.unet
        let texts = try ["a photo of a backpack", ""].map { try unet.textKeys(try model.encode(prompt: $0)) }
        let time = try #require(try unet.timeEmbeddings([481]).first)
        let x = try model.latentTensor(wave(4 * 40 * 40), height: 40, width: 40)
        let apart = try texts.map { text in
            let features = try unet.encode(x, time: time, text: text)
            return try #require(model.predictions(try unet.decode(features, time: time, text: text)).first)
        }
        #expect(relativeError(apart[0], apart[1]) > 1e-3)

        let both = try unet.stacked(texts)
        let features = try unet.encode(x, time: time, text: both)
        let entries = [1, 0, 1]
        // Twice, since features are not used up.
        for _ in 0..<2 {
            let output = try unet.decode(
                features, entries: entries, time: time, text: try unet.gathered(both, entries))
            for (shared, entry) in zip(model.predictions(output), entries) {
                #expect(relativeError(shared, apart[entry]) < 1e-5)
            }
        }
    }

    @Test func sitesFollowTheRule() throws {
        let (model, _) = try model(.openBLAS)
        #expect(
            model.unet.sites.map(\.name) == [
                "middle_block.1", "output_blocks.4.1", "output_blocks.6.1", "output_blocks.8.1", "output_blocks.10.1",
            ])
        #expect(model.unet.sites.map(\.level) == [3, 2, 1, 1, 0])
    }

    @Test func geometryIsRecognisedWithoutAYaml() throws {
        let (model, _) = try model(.openBLAS)
        let store = ParameterStore(try Checkpoint.open(Golden.path("tiny-sd2.ckpt")))
        var recognised = try ModelConfiguration(recognisedFrom: store, path: "tiny")
        // What weights do not show.
        recognised.unet.heads = .channels(16)
        recognised.latentSize = 16
        #expect(recognised == model.configuration)
    }
}
