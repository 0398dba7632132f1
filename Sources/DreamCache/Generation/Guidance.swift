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
/// With one scale for all, the sum telescopes to the formula above over all tokens concatenated; and when two scales
/// approach each other, so do the two results. A group more is one evaluation more.
public struct Guidance: Sendable, Equatable {
    /// Weight of the text.
    public var guidanceScale: Double
    /// Weight of the cache.
    public var imageScale: Double

    /// Both weights.
    public init(guidanceScale: Double = 7.5, imageScale: Double = 0.4) {
        self.guidanceScale = guidanceScale
        self.imageScale = imageScale
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

    /// The evaluations a step needs, personal ones first. One whose weight is zero is left out, which changes nothing: at
    /// guidanceScale 1 and imageScale 1, for instance, one evaluation remains.
    ///
    /// - Parameter scales: of the groups of subjects, falling; none for the plain model.
    func branches(scales: [Double]) -> [Branch] {
        let all = scales.count
        // What a branch under the negative prompt adds is its group's scale less the next group's; the last one gives up
        // what the prompt's branch takes its place for, and without a cache the scale is 1.
        let steps = [1] + scales + [guidanceScale]
        let branches =
            [Branch(isPrompted: true, groups: all, weight: guidanceScale)]
            + (0...all).reversed().map {
                Branch(isPrompted: false, groups: $0, weight: steps[$0] - steps[$0 + 1])
            }
        return branches.filter { $0.weight != 0 }
    }
}
