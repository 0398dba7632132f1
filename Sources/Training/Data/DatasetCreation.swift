import Bytes
import Diffusion
import DreamCache
import Foundation
import Raster
import TensorEngine
import Vision

/// A data set that a base makes of its own pictures: of each caption a picture by the plain model, with the mask that the segmenter
/// finds in it. Pictures whose mask is doubtful are dropped (DreamCache, section 4.1, with nothing to download).
public final class DatasetCreation {
    /// How the pictures are made.
    public struct Plan: Sendable {
        /// One a picture.
        public var captions: [String]
        /// Of the first picture; each of the others has the next.
        public var seed: Int
        /// Denoising steps.
        public var steps: Int
        /// Weight of the text.
        public var guidanceScale: Double

        /// All of it.
        public init(captions: [String], seed: Int, steps: Int, guidanceScale: Double) {
            (self.captions, self.seed) = (captions, seed)
            (self.steps, self.guidanceScale) = (steps, guidanceScale)
        }
    }

    private let pipeline: Pipeline
    private let segmenter: Segmenter
    private let folder: String

    /// - Parameter folder: of the data set; what an earlier start has made of the same plan stays.
    public init(_ pipeline: Pipeline, folder: String) throws(TrainingError) {
        self.pipeline = pipeline
        self.folder = folder
        do { segmenter = try Segmenter(path: pipeline.model.engine.path) } catch { throw .model(.vision(error)) }
        try makeFolder(folder)
    }

    /// Captions of every class in every scene, in the words of the authors' data: `a photo of a CLASS, SCENE`.
    public static func captions(classes: [String], scenes: [String]) -> [String] {
        classes.flatMap { name in
            let article = name.first.map { "aeiouAEIOU".contains($0) } == true ? "an" : "a"
            return scenes.map { "a photo of \(article) \(name), \($0)" }
        }
    }

    /// Makes all pictures that are not there yet.
    ///
    /// - Parameter dropped: told the number of each picture that is left out, and why.
    /// - Returns: how many views the folder has of this plan.
    public func make(
        _ plan: Plan, progress: (_ phase: String, _ done: Int, _ of: Int) -> Void,
        dropped: (_ number: Int, _ reasons: [String]) -> Void, shouldStop: () -> Bool
    ) throws(TrainingError) -> Int {
        var kept = 0
        for (number, caption) in plan.captions.enumerated() {
            if shouldStop() { throw .stopped }
            progress("pictures", number, plan.captions.count)
            let digits = "\(number)"
            let name = String(repeating: "0", count: max(0, 6 - digits.count)) + digits
            let (place, marker) = ("\(folder)/\(name)", "\(folder)/.\(name).dropped")
            if try isThere(place) {
                kept += 1
                continue
            }
            if try isThere(marker) { continue }
            let picture = try onMethod { () throws(DreamCacheError) in
                try pipeline.generate(request(caption, plan, number), shouldStop: shouldStop)
            }
            let (mask, doubts) = try mask(of: picture, shouldStop)
            guard doubts.isEmpty else {
                dropped(number, doubts)
                try onFiles { () throws(FileError) in try AtomicFile.write(Array(doubts.joined().utf8), to: marker) }
                continue
            }
            try write(picture, mask, caption, to: place)
            kept += 1
        }
        progress("pictures", plan.captions.count, plan.captions.count)
        return kept
    }

    private func isThere(_ path: String) throws(TrainingError) -> Bool {
        try onFiles { () throws(FileError) in try FilePresence.of(path) } != .nothing
    }

    private func request(_ caption: String, _ plan: Plan, _ number: Int) -> ImageRequest {
        var request = ImageRequest(prompt: caption, seed: UInt64(clamping: plan.seed &+ number))
        request.steps = plan.steps
        request.guidance = Guidance(guidanceScale: plan.guidanceScale, imageScale: 0)
        return request
    }

    /// The mask as a picture of the same size, and what is doubtful about it.
    private func mask(
        of picture: Raster, _ shouldStop: () -> Bool
    ) throws(TrainingError) -> (Raster, doubts: [String]) {
        let small = picture.resized(width: Segmenter.side, height: Segmenter.side, filter: .lanczos)
        let map: SaliencyMap
        do { map = try segmenter.saliency(of: small.pixels, shouldStop: shouldStop) } catch {
            if case .stopped = error { throw .stopped }
            throw .model(.vision(error))
        }
        let facts = SubjectFacts(mask: map.mask, width: map.width, peak: map.peak)
        let plane = Plane(width: map.width, height: map.height, values: map.mask)
            .resized(width: picture.width, height: picture.height)
        let pixels = plane.values.flatMap { repeatElement(UInt8(min(max($0, 0), 1) * 255), count: 3) }
        return (Raster(width: picture.width, height: picture.height, channels: 3, pixels: pixels), facts.doubts)
    }

    private func write(
        _ picture: Raster, _ mask: Raster, _ caption: String, to place: String
    ) throws(TrainingError) {
        let (image, cut) = try onPictures { () throws(RasterError) in
            (try picture.encodedPNG(), try mask.encodedPNG())
        }
        try onFiles { () throws(FileError) in
            let folder = try AtomicFolder(place)
            try AtomicFile.write(image, to: folder.path("0_generation.png"))
            try AtomicFile.write(cut, to: folder.path("0_mask.png"))
            try AtomicFile.write(Array((caption + "\n").utf8), to: folder.path("0_caption.txt"))
            try folder.commit()
        }
    }
}
