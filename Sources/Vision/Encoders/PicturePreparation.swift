import Raster

/// How a picture becomes what an encoder was trained to see. Scores are comparable only where this is the same.
public struct PicturePreparation: Sendable, Equatable {
    /// What is done to the size first.
    public enum Resizing: Sendable, Equatable {
        /// The shorter side becomes this long, in pixels, the other in proportion, cut to whole pixels.
        case shorterSide(Int)
        /// Both sides become this long, whatever the proportions.
        case square(Int)
    }

    /// What half a pixel of margin becomes when the middle is cut out.
    public enum MarginRounding: Sendable, Equatable {
        /// Cut off: transformers.
        case down
        /// To the even neighbour: torchvision.
        case toEven
    }

    /// What is done to the size first.
    public var resizing: Resizing
    /// The filter, Pillow's on 8 bits.
    public var filter: Raster.Filter
    /// Side of the square cut out of the middle, in pixels; nil cuts nothing.
    public var crop: Int?
    /// Where that square lies when it cannot lie in the middle.
    public var marginRounding = MarginRounding.toEven
    /// What 8-bit values are multiplied by.
    public var factor: Float = 1 / 255
    /// Subtracted from the three channels.
    public var mean: [Float]
    /// What the three channels are divided by afterwards.
    public var deviation: [Float]

    /// Of ImageNet's photos.
    static let imageNet: (mean: [Float], deviation: [Float]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    /// Of OpenAI's photos.
    static let openAI: (mean: [Float], deviation: [Float]) = (
        [0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_58, 0.275_777_11]
    )

    /// facebook's evaluation of DINO and DINOv2: 256 pixels, the middle 224.
    static let dino = PicturePreparation(
        resizing: .shorterSide(256), filter: .bicubic, crop: 224, mean: imageNet.mean, deviation: imageNet.deviation)

    /// OpenAI's CLIP and open_clip: the middle of the picture at the model's size.
    static func clip(side: Int) -> PicturePreparation {
        PicturePreparation(
            resizing: .shorterSide(side), filter: .bicubic, crop: side, mean: openAI.mean, deviation: openAI.deviation)
    }

    /// Side of the square that an encoder sees, in pixels.
    public var side: Int {
        switch (crop, resizing) {
        case (let crop?, _): crop
        case (nil, .shorterSide(let side)), (nil, .square(let side)): side
        }
    }

    /// One line that tells this way from others.
    public var description: String {
        let size =
            switch resizing {
            case .shorterSide(let side): "shorter side \(side)"
            case .square(let side): "squashed to \(side)x\(side)"
            }
        return "\(size) \(filter), " + (crop.map { "middle \($0)x\($0), " } ?? "")
            + "mean \(mean), deviation \(deviation)"
    }

    /// The picture in 8 bits as it will be seen; alpha is composited onto white.
    public func pixels(of picture: Raster) -> Raster {
        var picture = picture.compositedOnWhite()
        switch resizing {
        case .square(let side): picture = picture.resized(width: side, height: side, filter: filter)
        case .shorterSide(let side):
            picture = picture.withoutFarEnds()
            let short = min(picture.width, picture.height)
            func scaled(_ extent: Int) -> Int { extent == short ? side : side * extent / short }
            picture = picture.resized(width: scaled(picture.width), height: scaled(picture.height), filter: filter)
        }
        let side = crop ?? min(picture.width, picture.height)
        func middle(_ extent: Int) -> Range<Int> {
            let margin = Double(extent - side) / 2
            let start = Int(margin.rounded(marginRounding == .down ? .down : .toNearestOrEven))
            return start..<start + side
        }
        return picture.cropped(columns: middle(picture.width), rows: middle(picture.height)) ?? picture
    }

    /// The numbers an encoder sees: `[side, side, 3]`.
    public func values(of picture: Raster) -> [Float] {
        let pixels = pixels(of: picture).pixels
        let table = (0..<3).map { c in (0...255).map { (Float($0) * factor - mean[c]) / deviation[c] } }
        return pixels.indices.map { table[$0 % 3][Int(pixels[$0])] }
    }
}

extension Raster {
    /// Without the ends of a strip more than eight times as long as it is wide: the middle alone is seen, and all of it, resized,
    /// might not fit into memory.
    fileprivate func withoutFarEnds() -> Raster {
        let limit = 8 * min(width, height)
        func middle(_ extent: Int) -> Range<Int> {
            let start = max(0, (extent - limit) / 2)
            return start..<extent - start
        }
        return max(width, height) <= limit ? self : cropped(columns: middle(width), rows: middle(height)) ?? self
    }
}
