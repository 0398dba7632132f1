/// How strongly text and cache steer (DreamCache, section 3.3):
///
///     eps = e(negative, no cache)
///         + guidanceScale * (e(prompt, cache) - e(negative, cache))
///         + imageScale    * (e(negative, cache) - e(negative, no cache))
///
/// Without a cache: eps = e(negative) + guidanceScale * (e(prompt) - e(negative)).
///
/// Several subjects with scales of their own are put in the order of falling scale, those of one scale as one group, and
/// each group is added to the cache of those before it (M_j: the tokens of groups 1 to j):
///
///     eps = e(negative, no cache)
///         + guidanceScale * (e(prompt, M_m) - e(negative, M_m))
///         + sum over j of scale_j * (e(negative, M_j) - e(negative, M_{j-1}))
///
/// A guidanceScale of 1 or less is one evaluation under the prompt and none under the negative prompt, as in diffusers; the
/// image scale keeps its meaning:
///
///     eps = e(prompt, cache) + (imageScale - 1) * (e(negative, cache) - e(negative, no cache))
///
/// With one scale for all, the sum telescopes to the formula above over all tokens concatenated; and when two scales
/// approach each other, so do the two results. A group more is one evaluation more.
public struct Guidance: Sendable, Equatable {
    /// Weight of the text; 1 and less is no guidance by text.
    public var guidanceScale: Double
    /// The part of the run in which ``guidanceScale`` holds, as fractions of it; outside it is 1. Nil is the whole run.
    ///
    /// Source: Kynkäänniemi et al. 2024 (arXiv 2404.07724), with steps in the place of noise levels, as diffusers' guiders
    /// count: of n evaluations those from Int(from n) up to, and without, Int(to n).
    public var interval: ClosedRange<Double>?
    /// Weight of the cache over the run.
    public var imageScale: ScaleSchedule

    /// All weights.
    public init(
        guidanceScale: Double = 7.5, imageScale: ScaleSchedule = 0.4, interval: ClosedRange<Double>? = nil
    ) {
        self.guidanceScale = guidanceScale
        self.imageScale = imageScale
        self.interval = interval
    }

    /// One evaluation of the denoiser and its weight in the sum.
    struct Branch: Equatable {
        /// Under the prompt, or under the negative prompt.
        let isPrompted: Bool
        /// How many groups of subjects the cache holds; 0 is no cache.
        let groups: Int
        let weight: Double

        var isPersonal: Bool { groups > 0 }
    }

    /// The weight of the text at evaluation `index` of `count`, at least 1.
    func textScale(at index: Int, of count: Int) -> Double {
        if let interval {
            let first = Int(interval.lowerBound * Double(count))
            guard index >= first, index < Int(interval.upperBound * Double(count)) else { return 1 }
        }
        return max(1, guidanceScale)
    }

    /// The evaluations a step needs, personal ones first. One whose weight is zero is left out, which changes nothing: at
    /// guidanceScale 1 and imageScale 1, for instance, one evaluation remains.
    ///
    /// - Parameters:
    ///   - scales: of the groups of subjects, falling; none for the plain model.
    ///   - textScale: the weight of the text, at least 1; nil is that inside the interval.
    func branches(scales: [Double], textScale: Double? = nil) -> [Branch] {
        let all = scales.count
        let textScale = textScale ?? max(1, guidanceScale)
        // The weight of a branch under the negative prompt is its group's scale less that of the next group. The branch
        // without a cache has scale 1. After the last group comes the prompt's branch, whose scale is that of the text.
        let steps = [1] + scales + [textScale]
        let branches =
            [Branch(isPrompted: true, groups: all, weight: textScale)]
            + (0...all).reversed().map {
                Branch(isPrompted: false, groups: $0, weight: steps[$0] - steps[$0 + 1])
            }
        return branches.filter { $0.weight != 0 }
    }
}

/// A scale over a run: `start` up to `from`, `end` after `to`, and on the straight line between. Places are fractions of the
/// run: the first evaluation is at 0, the last at 1.
public struct ScaleSchedule: Sendable, Hashable {
    /// The scale up to `from`.
    public var start: Double
    /// The scale after `to`.
    public var end: Double
    /// Where it begins to change, 0 to 1.
    public var from: Double
    /// Where it has become `end`, `from` to 1.
    public var to: Double

    /// A scale that changes.
    public init(start: Double, end: Double, from: Double = 0, to: Double = 1) {
        self.start = start
        self.end = end
        self.from = from
        self.to = to
    }

    /// One scale for the whole run.
    public init(_ scale: Double) { self.init(start: scale, end: scale) }

    /// The scale at evaluation `index` of `count`.
    public func value(at index: Int, of count: Int) -> Double {
        let place = Double(index) / Double(max(1, count - 1))
        if place <= from, place < to || from < to { return start }
        if place >= to || start == end { return end }
        return start + (end - start) * ((place - from) / (to - from))
    }

    /// Whether it is a schedule that values can be taken of.
    var isValid: Bool { start.isFinite && end.isFinite && 0 <= from && from <= to && to <= 1 }
}

extension ScaleSchedule: ExpressibleByFloatLiteral, ExpressibleByIntegerLiteral {
    /// One scale for the whole run.
    public init(floatLiteral value: Double) { self.init(value) }
    /// One scale for the whole run.
    public init(integerLiteral value: Int) { self.init(Double(value)) }
}
