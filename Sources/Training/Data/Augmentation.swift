import Raster

/// References as training shows them: the subject alone on white, cropped to it and resized at random, flipped, now and then in
/// other colours and partly erased (DreamCache, section 4.1).
struct Augmentation {
    let settings: TrainingSettings
    /// Of the result.
    let side: Int

    /// A reference of `side` x `side` pixels, RGB.
    ///
    /// - Parameter cutOut: the picture with the subject's alpha.
    /// - Returns: nil where nothing is at least half opaque.
    func reference(of cutOut: Raster, _ random: inout SampleRandom) -> Raster? {
        guard let tight = cutOut.croppedToSubject(margin: 1) else { return nil }
        // All numbers are drawn, whether they are used or not: none depends on the pictures.
        let area = random.uniform(settings.leastSubjectArea, 1)
        let place = (x: random.uniform(), y: random.uniform())
        let isFlipped = random.chance(settings.flips)
        let colours = Colours(settings, &random)
        let erasure = Erasure(settings, &random)

        let whole = max(tight.width, Int((Double(tight.width) / area.squareRoot()).rounded()))
        func around(_ share: Double) -> Range<Int> {
            let before = Int((Double(whole - tight.width) * share).rounded())
            return -before..<whole - before
        }
        var picture = tight.part(columns: around(place.x), rows: around(place.y)).resized(width: side, height: side)
        if isFlipped { picture = picture.flipped }
        if let colours { picture = colours.applied(to: picture) }
        let opaque = picture.compositedOnWhite()
        return erasure?.applied(to: opaque) ?? opaque
    }
}

/// Other brightness, contrast and saturation, in this order.
private struct Colours {
    let brightness, contrast, saturation: Double

    init?(_ settings: TrainingSettings, _ random: inout SampleRandom) {
        let isUsed = random.chance(settings.jitters)
        let range = 1 - settings.jitterStrength..<1 + settings.jitterStrength
        brightness = random.uniform(range.lowerBound, range.upperBound)
        contrast = random.uniform(range.lowerBound, range.upperBound)
        saturation = random.uniform(range.lowerBound, range.upperBound)
        if !isUsed { return nil }
    }

    func applied(to picture: Raster) -> Raster {
        let luminance = (0..<picture.width * picture.height).map { i in
            let p = i * picture.channels
            return 0.299 * Double(picture.pixels[p]) + 0.587 * Double(picture.pixels[p + 1])
                + 0.114 * Double(picture.pixels[p + 2])
        }
        // Of the subject, whose background is none of its colours.
        let alphas = luminance.indices.map { i in
            picture.channels == 4 ? Double(picture.pixels[i * 4 + 3]) : 255
        }
        let weight = max(alphas.reduce(0, +), 1)
        let mean = brightness * zip(luminance, alphas).reduce(0) { $0 + $1.0 * $1.1 } / weight
        var pixels = picture.pixels
        for i in luminance.indices {
            let grey = mean + contrast * (brightness * luminance[i] - mean)
            for c in i * picture.channels..<i * picture.channels + 3 {
                let value = mean + contrast * (brightness * Double(pixels[c]) - mean)
                pixels[c] = UInt8(min(max((grey + saturation * (value - grey)).rounded(), 0), 255))
            }
        }
        return Raster(width: picture.width, height: picture.height, channels: picture.channels, pixels: pixels)
    }
}

/// A rectangle that is made white.
private struct Erasure {
    /// Share of the picture's area, the logarithm of width to height, and the place of what remains beside it.
    let area, proportion, x, y: Double

    init?(_ settings: TrainingSettings, _ random: inout SampleRandom) {
        let isUsed = random.chance(settings.erasures)
        area = random.uniform(settings.leastErasure, settings.greatestErasure)
        proportion = random.uniform(-1, 1)
        (x, y) = (random.uniform(), random.uniform())
        if !isUsed { return nil }
    }

    func applied(to picture: Raster) -> Raster {
        // Width to height from 1 / 3 to 3.
        let stretch = power(3, proportion / 2)
        func extent(_ factor: Double, of whole: Int) -> Int {
            min(whole, max(1, Int((area.squareRoot() * factor * Double(whole)).rounded())))
        }
        let (width, height) = (extent(stretch, of: picture.width), extent(1 / stretch, of: picture.height))
        let left = Int(Double(picture.width - width) * x), top = Int(Double(picture.height - height) * y)
        var pixels = picture.pixels
        for row in top..<top + height {
            let start = (row * picture.width + left) * 3
            pixels.replaceSubrange(start..<start + 3 * width, with: repeatElement(255, count: 3 * width))
        }
        return Raster(width: picture.width, height: picture.height, channels: 3, pixels: pixels)
    }
}

extension Raster {
    /// Left and right exchanged.
    var flipped: Raster {
        var result = pixels
        for y in 0..<height {
            for x in 0..<width {
                for c in 0..<channels {
                    result[(y * width + x) * channels + c] = pixels[(y * width + width - 1 - x) * channels + c]
                }
            }
        }
        return Raster(width: width, height: height, channels: channels, pixels: result)
    }

    /// The largest square of the picture, as far as possible around the middle of `mask`'s subject; RGB, of `side` pixels.
    func targetSquare(side: Int, mask: Raster?) -> Raster {
        let extent = min(width, height)
        var columns = (width - extent) / 2..<(width - extent) / 2 + extent
        var rows = (height - extent) / 2..<(height - extent) / 2 + extent
        if let mask, let subject = mask.subjectMiddle {
            func moved(_ middle: Int, _ whole: Int) -> Range<Int> {
                let start = min(max(middle - extent / 2, 0), whole - extent)
                return start..<start + extent
            }
            (columns, rows) = (moved(subject.x, width), moved(subject.y, height))
        }
        return compositedOnWhite().part(columns: columns, rows: rows).resized(width: side, height: side)
    }

    /// The middle of the box around all that is at least half opaque.
    private var subjectMiddle: (x: Int, y: Int)? {
        guard channels == 4 else { return nil }
        var (left, right, top, bottom) = (width, -1, height, -1)
        for y in 0..<height {
            for x in 0..<width where pixels[(y * width + x) * 4 + 3] >= 128 {
                (left, right, top, bottom) = (min(left, x), max(right, x), min(top, y), max(bottom, y))
            }
        }
        return right < 0 ? nil : ((left + right + 1) / 2, (top + bottom + 1) / 2)
    }
}
