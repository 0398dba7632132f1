import Raster
import TensorEngine
import Vision

/// Brings photos into the form the method wants: the subject alone, filling the square, to be composited onto white
/// (DreamCache, section 4.1). Belongs to one thread.
public final class CutOutMaker {
    /// Version of all that a cut-out depends on besides the photo, for the identity of caches.
    public static let version = "\(Segmenter.version) cut-out 2"
    /// The longest side of the pictures that are worked on, in pixels; larger photos are made smaller first.
    public static let workingSide = 1600
    /// The square's side, as a multiple of the subject's longer side: a square subject then covers 86 per cent of it.
    private static let margin = 1.08

    private let path: ComputePath
    private var segmenter: Segmenter?

    /// - Parameter path: the compute path; the segmenter is loaded when a photo first needs it.
    public init(path: ComputePath = .best) { self.path = path }

    /// What is used of a photo, and what is to be said of it.
    ///
    /// - Parameter photo: RGBA where the person says what is subject, be it all of it; else RGB.
    /// - Returns: the picture to encode, RGB or RGBA, and the report.
    public func prepared(
        _ photo: Raster, name: String, background: Background,
        progress: (_ step: Int, _ steps: Int) -> Void = { _, _ in }, shouldStop: () -> Bool = { false }
    ) throws(DreamCacheError) -> (picture: Raster, report: ReferenceReport) {
        func whole(_ remarks: [String] = []) -> (Raster, ReferenceReport) {
            (photo, ReferenceReport(name: name, cutOut: nil, remarks: remarks, share: nil, confidence: nil))
        }
        let isCutOut = photo.channels == 4
        if background == .keep || background == .auto && (isCutOut || photo.hasPlainBorder) { return whole() }
        let working = photo.limited(toSide: Self.workingSide)
        if isCutOut {
            guard let square = working.croppedToSubject(margin: Self.margin) else {
                return whole(["nothing is left of it by its alpha or mask"])
            }
            return (square, ReferenceReport(name: name, cutOut: square, remarks: [], share: nil, confidence: nil))
        }
        let opaque = working.opaque
        let (mask, facts) = try mask(of: opaque, progress, shouldStop)
        if facts.isEmpty { return whole(facts.doubts.map { "kept whole: \($0)" }) }
        // Most values of the mask between 0 and 1 come from its 320 pixels and not from the photo. They are pulled to
        // one side before the edges are refined, or they would show as fog on white.
        let alpha = opaque.alpha(refining: mask.mapped { Self.ramp($0, from: 0.2, to: 0.6) }.withoutSpecks)
            .mapped { Self.ramp($0, from: 0.05, to: 0.95) }
        guard let place = alpha.subjectSquare(margin: Self.margin) else {
            return whole(["kept whole: no subject stands out"])
        }
        let square = opaque.part(columns: place.columns, rows: place.rows)
            .cutOut(
                by: alpha.part(columns: place.columns, rows: place.rows),
                radius: max(4, place.columns.count / 40))
        return (
            square,
            ReferenceReport(
                name: name, cutOut: square, remarks: facts.doubts, share: facts.share, confidence: facts.confidence)
        )
    }

    /// How much of each place of a picture shows its subject, 0 to 1, of the segmenter's size; nil where no subject stands out.
    public func subjectMask(
        of picture: Raster, shouldStop: () -> Bool = { false }
    ) throws(DreamCacheError) -> Plane? {
        defer { segmenter?.trimMemory() }
        let side = Segmenter.side
        let small = picture.compositedOnWhite().resized(width: side, height: side, filter: .lanczos)
        let segmenter = try loadedSegmenter()
        let map = try onVision { () throws(VisionError) in
            try segmenter.saliency(of: small.pixels, shouldStop: shouldStop)
        }
        if SubjectFacts(mask: map.mask, width: map.width, peak: map.peak).isEmpty { return nil }
        return Plane(width: map.width, height: map.height, values: map.mask)
    }

    /// The mask of a photo: two looks, at the whole and then at what was found in it, which the second look sees larger.
    private func mask(
        of photo: Raster, _ progress: (_ step: Int, _ steps: Int) -> Void, _ shouldStop: () -> Bool
    ) throws(DreamCacheError) -> (Plane, SubjectFacts) {
        // The second look uses the memory of the first.
        defer { segmenter?.trimMemory() }
        func look(_ picture: Raster, _ number: Int) throws(DreamCacheError) -> (mask: Plane, peak: Float) {
            let small = picture.resized(width: Segmenter.side, height: Segmenter.side, filter: .lanczos)
            let segmenter = try loadedSegmenter()
            let map = try onVision { () throws(VisionError) in
                try segmenter.saliency(
                    of: small.pixels, progress: { progress(number * $1 + $0, 2 * $1) }, shouldStop: shouldStop)
            }
            return (Plane(width: map.width, height: map.height, values: map.mask), map.peak)
        }
        let (wide, peak) = try look(photo, 0)
        let facts = SubjectFacts(mask: wide.values, width: wide.width, peak: peak)
        if facts.isEmpty { return (wide, facts) }
        guard let place = Self.placeToLookAt(wide, in: photo),
            let part = photo.cropped(columns: place.columns, rows: place.rows)
        else { return (wide, Self.facts(wide, of: photo, peak: peak)) }
        let (close, _) = try look(part, 1)
        // Where both looks have looked they count alike. Around the second look there is nothing of the subject.
        let size = (width: min(photo.width, 640), height: min(photo.height, 640))
        func placed(_ range: Range<Int>, _ from: Int, _ to: Int) -> Range<Int> {
            let start = range.lowerBound * to / from
            return start..<max(start + 1, range.upperBound * to / from)
        }
        let (x, y) = (placed(place.columns, photo.width, size.width), placed(place.rows, photo.height, size.height))
        let closer = close.resized(width: x.count, height: y.count)
            .part(columns: -x.lowerBound..<size.width - x.lowerBound, rows: -y.lowerBound..<size.height - y.lowerBound)
        let wider = wide.resized(width: size.width, height: size.height)
        let mask = Plane(
            width: size.width, height: size.height, values: zip(wider.values, closer.values).map { ($0 + $1) / 2 })
        let difference = zip(wider.values, closer.values).reduce(0) { $0 + Double(abs($1.0 - $1.1)) }
        return (
            mask,
            Self.facts(
                mask, of: photo, peak: peak,
                disagreement: difference / Double(max(1, mask.values.count { $0 > 0.5 })))
        )
    }

    /// What was found and a little around it; nil where that is nearly the whole photo.
    private static func placeToLookAt(_ mask: Plane, in photo: Raster) -> (columns: Range<Int>, rows: Range<Int>)? {
        guard let found = mask.bounds(above: 0.5) else { return nil }
        let scale = (x: Double(photo.width) / Double(mask.width), y: Double(photo.height) / Double(mask.height))
        let around = max(Double(found.columns.count) * scale.x, Double(found.rows.count) * scale.y) * 0.15
        func widened(_ range: Range<Int>, _ scale: Double, _ extent: Int) -> Range<Int> {
            let first = max(0, Int(Double(range.lowerBound) * scale - around))
            return first..<min(extent, Int((Double(range.upperBound) * scale + around).rounded(.up)))
        }
        let columns = widened(found.columns, scale.x, photo.width)
        let rows = widened(found.rows, scale.y, photo.height)
        return columns.count * rows.count < photo.width * photo.height * 9 / 10 ? (columns, rows) : nil
    }

    /// The facts of a mask, its surroundings in the photo among them.
    private static func facts(
        _ mask: Plane, of photo: Raster, peak: Float, disagreement: Double = 0
    ) -> SubjectFacts {
        let side = SimilarSurroundings.side
        let surroundings = SimilarSurroundings(
            mask: mask.resized(width: side, height: side).values,
            pixels: photo.resized(width: side, height: side, filter: .lanczos).pixels)
        return SubjectFacts(
            mask: mask.values, width: mask.width, peak: peak, surroundings: surroundings, disagreement: disagreement)
    }

    private func loadedSegmenter() throws(DreamCacheError) -> Segmenter {
        if let segmenter { return segmenter }
        let made = try onVision { () throws(VisionError) in try Segmenter(path: path) }
        segmenter = made
        return made
    }

    /// 0 up to `from`, 1 from `to` on, smooth between.
    private static func ramp(_ x: Float, from: Float, to: Float) -> Float {
        let t = min(max((x - from) / (to - from), 0), 1)
        return t * t * (3 - 2 * t)
    }
}

extension Plane {
    /// Without the parts that are small beside the largest one: they are no objects of their own.
    fileprivate var withoutSpecks: Plane {
        let parts = MaskParts(values, width: width, above: 0.05)
        let greatest = Double(parts.sizes.max() ?? 0)
        var clean = self
        for (i, label) in parts.labels.enumerated()
        where label >= 0 && Double(parts.sizes[label]) < SubjectFacts.smallPart / 2 * greatest {
            clean.values[i] = 0
        }
        return clean
    }
}
