import Diffusion
import Raster

/// The preparation that a model's folder describes.
extension PicturePreparation {
    /// transformers' `preprocessor_config.json`.
    ///
    /// - Parameter isCLIP: whether a size that is one number means the shorter side.
    init(transformers config: JSONDocument, isCLIP: Bool) throws(DiffusionError) {
        let cuts = try config.flag("do_center_crop") ?? false
        for key in ["do_resize", "do_rescale", "do_normalize"] where try config.flag(key) == false {
            throw config.wrong(key, "true")
        }
        let range = 1...4096
        let resizing: Resizing
        if let size = try? config.int("size", in: range) {
            resizing = isCLIP || cuts ? .shorterSide(size) : .square(size)
        } else if let size = try config.object("size") {
            if let short = try size.int("shortest_edge", in: range) {
                resizing = .shorterSide(short)
            } else {
                let height = try size.requiredInt("height", in: range)
                guard try size.requiredInt("width", in: range) == height else { throw size.wrong("width", "\(height)") }
                resizing = .square(height)
            }
        } else {
            throw config.wrong("size", "a number, or an object")
        }
        let usual = isCLIP ? Self.openAI : Self.imageNet
        self.init(
            resizing: resizing, filter: try Self.filter(of: config),
            mean: try config.threeNumbers("image_mean") ?? usual.mean,
            deviation: try config.threeNumbers("image_std") ?? usual.deviation)
        if cuts {
            var side = try? config.int("crop_size", in: range)
            if side == nil, let size = try config.object("crop_size") {
                side = try size.requiredInt("height", in: range)
                guard try size.requiredInt("width", in: range) == side else {
                    throw size.wrong("width", "the height: a square")
                }
            }
            guard let side, side <= resizedSide else { throw config.wrong("crop_size", "at most \(resizedSide)") }
            crop = side
        }
        marginRounding = .down
        factor = Float(try config.number("rescale_factor") ?? 1 / 255)
        guard deviation.allSatisfy({ $0 > 0 }) else { throw config.wrong("image_std", "numbers above 0") }
    }

    private var resizedSide: Int {
        switch resizing {
        case .shorterSide(let side), .square(let side): side
        }
    }

    /// Pillow's number of the filter.
    private static func filter(of config: JSONDocument) throws(DiffusionError) -> Raster.Filter {
        switch try config.int("resample", in: 0...5) {
        case 1?: .lanczos
        case nil, 2?: .bilinear
        case 3?: .bicubic
        default: throw config.wrong("resample", "1 (Lanczos), 2 (bilinear) or 3 (bicubic)")
        }
    }

    /// What `preprocess_cfg` of `open_clip_config.json` says beside the model's own size.
    mutating func read(openCLIP config: JSONDocument) throws(DiffusionError) {
        mean = try config.threeNumbers("mean") ?? mean
        deviation = try config.threeNumbers("std") ?? deviation
        guard deviation.allSatisfy({ $0 > 0 }) else { throw config.wrong("std", "numbers above 0") }
        switch try config.text("interpolation") {
        case nil, "bicubic"?: break
        case "bilinear"?: filter = .bilinear
        default: throw config.wrong("interpolation", "bicubic or bilinear")
        }
        switch try config.text("resize_mode") {
        case nil, "shortest"?: break
        case "squash"?: (resizing, crop) = (.square(side), nil)
        default: throw config.wrong("resize_mode", "shortest or squash")
        }
    }
}

extension JSONDocument {
    /// A field that is true or false.
    func flag(_ key: String) throws(DiffusionError) -> Bool? {
        guard let value = self[key] else { return nil }
        guard case .bool(let flag) = value else { throw wrong(key, "true or false") }
        return flag
    }

    /// A list of one number per channel.
    fileprivate func threeNumbers(_ key: String) throws(DiffusionError) -> [Float]? {
        guard let value = self[key] else { return nil }
        guard case .list(let list) = value, list.count == 3 else { throw wrong(key, "three numbers") }
        var numbers: [Float] = []
        for element in list {
            guard case .number(let number) = element, abs(number) < 1e6 else { throw wrong(key, "three numbers") }
            numbers.append(Float(number))
        }
        return numbers
    }
}
