/// What a mask says of the subject it shows, and whether to believe it.
public struct SubjectFacts: Sendable, Equatable {
    /// A side of the photo.
    public enum Edge: String, Sendable, CaseIterable {
        case left, right, top, bottom
    }

    /// Share of the photo that the subject covers, 0 to 1.
    public let share: Double
    /// Parts that do not touch each other, those left out that are small beside the greatest.
    public let parts: Int
    /// How sure the mask is of itself, 0 to 1: the mean distance of its values from one half, of all pixels it finds possible,
    /// times two.
    public let confidence: Double
    /// Sides of the photo that the subject reaches.
    public let edges: [Edge]
    /// What has the subject's colours and lies around the mask, as a share of the mask; see ``SimilarSurroundings``.
    public let surroundings: Double
    /// By how much two looks at the photo differ, as a share of the mask; 0 where there was one.
    public let disagreement: Double

    /// A part below this share of the greatest is no object of its own.
    public static let smallPart = 0.1

    /// - Parameters:
    ///   - mask: 0 to 1, rows of `width` pixels, of the whole photo.
    ///   - peak: the network's greatest likelihood; nothing stands out where it is below one half.
    public init(
        mask: [Float], width: Int, peak: Float = 1, surroundings: SimilarSurroundings? = nil, disagreement: Double = 0
    ) {
        let height = mask.count / max(width, 1)
        self.surroundings = surroundings?.share ?? 0
        self.disagreement = disagreement
        guard peak >= 0.5, !mask.isEmpty else {
            (share, parts, confidence, edges) = (0, 0, 0, [])
            return
        }
        let found = mask.count { $0 > 0.5 }
        share = Double(found) / Double(mask.count)
        let sizes = MaskParts(mask, width: width, above: 0.5).sizes
        let greatest = Double(sizes.max() ?? 0)
        parts = sizes.count { Double($0) >= Self.smallPart * greatest }
        let possible = mask.filter { $0 > 0.1 }
        confidence =
            possible.isEmpty ? 0 : possible.reduce(0) { $0 + Double(abs(2 * $1 - 1)) } / Double(possible.count)
        // A hundredth of a side: less is a whisker or a stain.
        func reaches(_ pixels: [Int]) -> Bool { pixels.count { mask[$0] > 0.5 } > pixels.count / 100 }
        edges = Edge.allCases.filter { edge in
            switch edge {
            case .left: reaches((0..<height).map { $0 * width })
            case .right: reaches((0..<height).map { $0 * width + width - 1 })
            case .top: reaches(Array(0..<width))
            case .bottom: reaches(Array((mask.count - width)..<mask.count))
            }
        }
    }

    /// Whether there is a subject to cut out.
    public var isEmpty: Bool { share < 0.002 }

    /// What a person should look at before believing the cut-out, a sentence each; none where all seems well.
    public var doubts: [String] {
        func percent(_ value: Double) -> String {
            let hundredths = Int((value * 100).rounded())
            return hundredths == 0 ? "less than 1 %" : "\(hundredths) %"
        }
        if isEmpty { return ["no subject stands out"] }
        var doubts: [String] = []
        if let doubt = doubtOfEdges { doubts.append(doubt) }
        if parts > 1 { doubts.append("\(parts) separate parts were found: some may not belong to the subject") }
        if share < 0.03 { doubts.append("what was found covers only \(percent(share)) of the photo") }
        if share > 0.8 { doubts.append("what was found covers \(percent(share)) of the photo") }
        if confidence < Self.sure {
            doubts.append("the outline is uncertain (confidence \(percent(confidence)))")
        }
        if surroundings > Self.mostSurroundings {
            doubts.append(
                "around what was found there is more in its colours (\(percent(surroundings)) of its area): "
                    + "part of the subject may be missing")
        }
        if disagreement > Self.mostDisagreement {
            doubts.append(
                "seen as a whole and seen closely the subject has different outlines (\(percent(disagreement)) of its area)"
            )
        }
        return doubts
    }

    private var doubtOfEdges: String? {
        let crossing = [[Edge.top, .bottom], [.left, .right]].first { $0.allSatisfy(edges.contains) }
        if let crossing {
            return "what was found reaches from the \(crossing[0]) to the \(crossing[1]) edge of the photo: "
                + "it may be somebody who wears or holds the subject"
        }
        let names = edges.map(\.rawValue)
        guard let last = names.last else { return nil }
        let list = names.count > 1 ? names.dropLast().joined(separator: ", ") + " and " + last : last
        return "what was found reaches the \(list) edge of the photo: some of the subject may be missing"
    }

    /// The confidence of a mask that looks right: photographs of one object before a quiet background have more.
    static let sure = 0.8
    /// Between 0.07, the most of eight photographs whose cut-outs are whole, and 0.11, the least of four that lack something.
    static let mostSurroundings = 0.09
    /// Of eleven photographs the looks differ by 0.11 at most; of one whose outline is wrong by 0.3.
    static let mostDisagreement = 0.2
}
