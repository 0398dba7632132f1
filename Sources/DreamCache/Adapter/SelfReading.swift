import Diffusion
import Glibc
import TensorEngine

/// How a base without an adapter reads a subject's cache: with the self-attention of the sites' own blocks.
///
/// A block's self-attention knows what of its own tokens is worth reading, and the cached tokens are what it would have read had
/// the reference been its own picture: they go through the block's GroupNorm (over one reference's tokens), proj_in, norm1 and
/// attn1's to_k and to_v, once for a subject. At every step attn1's queries read both, and a share of each head's answer comes
/// from the subject.
///
/// Both answers keep a softmax of their own. In one softmax over both, the cached tokens, which are almost without noise, lose
/// against the picture's own at the noisy steps that decide what is drawn: with equal weight of both, the demonstration model drew
/// nothing of the subject.
public struct SelfReading: Sendable, Hashable {
    /// The subject's share of what is read, 0 to 1, over the run.
    public var weight: ScaleSchedule = 0.5
    /// How much of the subject the initial noise holds; 1 is as much as a noised picture of it, 0 is none. See
    /// ``SubjectSketch``.
    public var sketch = 3.0

    /// What stands for it in the place of an adapter's path.
    public static let name = "self"

    /// What works best.
    public init() {}

    /// All of it in one line.
    public var description: String {
        let text = weight.start == weight.end ? "\(weight.start)" : "\(weight.start) to \(weight.end)"
        return "\(Self.name) (weight \(text), sketch \(sketch))"
    }

    /// The subject's share of what each token of the picture reads, where its share of everything is `weight`.
    ///
    /// What a reference's background would have given goes to the picture's own: a token that finds itself there is none of the
    /// subject's. Its heads decide together: where each decides for itself, more of the background takes the subject's colours
    /// (with much weight at the first steps 84 % of the demonstration model's scenes were recognised, together 100 %).
    ///
    /// - Parameters:
    ///   - subject, background: for each entry, head and token the logarithm of the query's sum of exponentials over the
    ///     references' tokens that show the subject, and over their others; nil where there are no others.
    /// - Returns: `[entries, heads, tokens]` too, equal for all heads.
    static func shares(weight: Float, subject: [Float], background: [Float]?, heads: Int, tokens: Int) -> [Float] {
        guard let background else { return [Float](repeating: weight, count: subject.count) }
        var shares = [Float](repeating: 0, count: subject.count)
        for entry in stride(from: 0, to: subject.count, by: heads * tokens) {
            for token in entry..<entry + tokens {
                let places = stride(from: token, to: token + heads * tokens, by: tokens)
                let sum = places.reduce(Float(0)) { $0 + 1 / (1 + exp(background[$1] - subject[$1])) }
                for place in places { shares[place] = weight * sum / Float(heads) }
            }
        }
        return shares
    }
}

/// One reference's cached tokens at a site.
struct CachedTokens {
    /// `[tokens, channels]`.
    let tokens: [Float]
    /// How much of each token's cell shows the subject, 0 to 1; nil where nothing is known of it.
    let foreground: [Float]?
}

/// Keys and values that a site's own self-attention makes of a subject's cache.
final class SelfMemory {
    /// Keys and values side by side, and how many of the tokens belong to the first group, to the first two, and so on.
    private struct Part {
        var values: [Float] = []
        var ends: [Int] = []
    }

    private let site: InjectionSite
    private let engine: Engine
    /// `[1, tokens, 2 * channels]`: of the tokens that show the subject, and of the others; nil where there are none.
    private let subject: Tensor?, background: Tensor?
    private let subjectEnds: [Int], backgroundEnds: [Int]
    /// Where the tokens that show the subject lie among all of them.
    private let subjectPlaces: [Int]

    /// - Parameter groups: groups of references, of which a branch of guidance may use the first few.
    init(_ groups: [[CachedTokens]], at site: InjectionSite, of unet: UNet, engine: Engine) throws(EngineError) {
        let c = site.channels
        var subject = Part(), background = Part()
        var places: [Int] = []
        var first = 0
        for group in groups {
            for reference in group {
                let tokens = try engine.tensor(reference.tokens, shape: [1, reference.tokens.count / c, c])
                let qkv = engine.floats(try engine.converted(try unet.selfQKV(tokens, at: site), to: .float32))
                let shares = reference.foreground ?? [Float](repeating: 1, count: tokens.shape[1])
                // A subject that is nowhere half a cell wide has tokens too.
                let least = 0.5 * min(1, shares.max() ?? 1)
                for index in shares.indices {
                    let keysValues = qkv[(3 * index + 1) * c..<3 * (index + 1) * c]
                    if shares[index] >= least {
                        subject.values += keysValues
                        places.append(first + index)
                    } else {
                        background.values += keysValues
                    }
                }
                first += shares.count
            }
            subject.ends.append(subject.values.count / (2 * c))
            background.ends.append(background.values.count / (2 * c))
        }
        func tensor(_ part: Part) throws(EngineError) -> Tensor? {
            guard let count = part.ends.last, count > 0 else { return nil }
            return try engine.converted(
                try engine.tensor(part.values, shape: [1, count, 2 * c]), to: engine.activationType)
        }
        self.site = site
        self.engine = engine
        self.subject = try tensor(subject)
        self.background = try tensor(background)
        (subjectEnds, backgroundEnds) = (subject.ends, background.ends)
        subjectPlaces = places
    }

    /// x += to_out(own + share (subject's - own)), over the memory of the first `groups` groups.
    ///
    /// - Parameters:
    ///   - weight: the subject's, at this step.
    ///   - recorder: who wants to know what is read.
    func mix(
        _ x: Tensor, attention: SelfAttention, groups: Int, weight: Double, recorder: AttentionRecorder?
    ) throws(EngineError) {
        guard weight != 0, let read = try read(subject, subjectEnds[groups - 1], by: attention) else {
            try attention.add(attention.read, to: x)
            return
        }
        let others = try self.read(background, backgroundEnds[groups - 1], by: attention)?.kept.logSums
        let found = engine.floats(read.kept.logSums)
        let lost = others.map { engine.floats($0) }
        let shares = SelfReading.shares(
            weight: Float(weight), subject: found, background: lost, heads: site.heads,
            tokens: read.kept.logSums.shape[2])
        recorder?.add(read.kept, of: (found, lost), at: subjectPlaces, site: site, engine: engine)
        try engine.blend(
            read.result, into: attention.read, shares: try engine.tensor(shares, shape: read.kept.logSums.shape))
        try attention.add(attention.read, to: x)
    }

    /// What the queries read of the first `count` tokens of a part.
    private func read(
        _ part: Tensor?, _ count: Int, by attention: SelfAttention
    ) throws(EngineError) -> (result: Tensor, kept: KeptAttention)? {
        guard let part, count > 0 else { return nil }
        let c = site.channels
        let memory = try part.reshaped([part.shape[1], 2 * c]).slice(0..<count).reshaped([1, count, 2 * c])
        return try engine.attentionKept(
            q: attention.queries, k: Columns(memory, 0, c), v: Columns(memory, c, c), heads: site.heads)
    }
}
