/// How strongly text and cache steer (DreamCache, section 3.3):
///
///     eps = e(negative, no cache)
///         + guidanceScale * (e(prompt, cache) - e(negative, cache))
///         + imageScale    * (e(negative, cache) - e(negative, no cache))
///
/// Without a cache: eps = e(negative) + guidanceScale * (e(prompt) - e(negative)).
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
        /// With the cache, or without.
        let isPersonal: Bool
        let weight: Double
    }

    /// The evaluations a step needs, personal ones first. One whose weight is zero is left out, which changes nothing: at
    /// guidanceScale 1 and imageScale 1, for instance, one evaluation remains.
    func branches(personal: Bool) -> [Branch] {
        let all =
            personal
            ? [
                Branch(isPrompted: true, isPersonal: true, weight: guidanceScale),
                Branch(isPrompted: false, isPersonal: true, weight: imageScale - guidanceScale),
                Branch(isPrompted: false, isPersonal: false, weight: 1 - imageScale),
            ]
            : [
                Branch(isPrompted: true, isPersonal: false, weight: guidanceScale),
                Branch(isPrompted: false, isPersonal: false, weight: 1 - guidanceScale),
            ]
        return all.filter { $0.weight != 0 }
    }
}
