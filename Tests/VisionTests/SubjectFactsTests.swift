import Testing

@testable import Vision

/// What is said of masks that a person should look at.
@Suite struct SubjectFactsTests {
    /// A mask of 60 x 40 whose rectangles have the given values.
    private func facts(
        _ rectangles: [(columns: Range<Int>, rows: Range<Int>, value: Float)], peak: Float = 1
    ) -> SubjectFacts {
        var mask = [Float](repeating: 0, count: 60 * 40)
        for rectangle in rectangles {
            for y in rectangle.rows {
                for x in rectangle.columns { mask[y * 60 + x] = rectangle.value }
            }
        }
        return SubjectFacts(mask: mask, width: 60, peak: peak)
    }

    @Test func oneObjectInTheMiddleIsFine() {
        let facts = facts([(20..<40, 10..<30, 1)])
        #expect(facts.doubts == [])
        #expect(facts.parts == 1 && facts.edges == [] && facts.confidence == 1)
        #expect(abs(facts.share - 400.0 / 2400) < 1e-9)
        #expect(!facts.isEmpty)
    }

    @Test func eachEdgeIsNamed() {
        #expect(facts([(0..<20, 10..<30, 1)]).edges == [.left])
        #expect(facts([(40..<60, 10..<30, 1)]).edges == [.right])
        let corner = facts([(20..<60, 0..<20, 1)])
        #expect(corner.edges == [.right, .top])
        #expect(corner.doubts.contains { $0.contains("reaches the right and top edge") })
        // From side to side is another matter.
        let worn = facts([(20..<40, 0..<40, 1)])
        #expect(worn.edges == [.top, .bottom])
        #expect(
            worn.doubts == [
                "what was found reaches from the top to the bottom edge of the photo: "
                    + "it may be somebody who wears or holds the subject"
            ])
        #expect(facts([(10..<50, 10..<40, 1)]).doubts.contains { $0.contains("the bottom edge") })
        // A whisker: one pixel of 120 a side would be less than a hundredth.
        var mask = [Float](repeating: 0, count: 120 * 120)
        for i in 50..<70 { mask.replaceSubrange(i * 120 + 50..<i * 120 + 70, with: repeatElement(1, count: 20)) }
        mask[60] = 1
        #expect(SubjectFacts(mask: mask, width: 120).edges == [])
    }

    @Test func twoObjectsAreCounted() {
        let two = facts([(5..<20, 10..<30, 1), (30..<50, 10..<30, 0.9)])
        #expect(two.parts == 2)
        #expect(two.doubts == ["2 separate parts were found: some may not belong to the subject"])
        // A crumb is none.
        #expect(facts([(5..<25, 10..<30, 1), (30..<32, 10..<12, 1)]).parts == 1)
        // Corner to corner is apart.
        #expect(facts([(10..<20, 10..<20, 1), (20..<30, 20..<30, 1)]).parts == 2)
    }

    @Test func littleMuchAndNothing() {
        #expect(facts([(20..<26, 10..<16, 1)]).doubts == ["what was found covers only 2 % of the photo"])
        #expect(facts([(0..<60, 0..<40, 1)]).doubts.contains("what was found covers 100 % of the photo"))
        for nothing in [facts([]), facts([(20..<40, 10..<30, 1)], peak: 0.3), facts([(20..<22, 10..<12, 1)])] {
            #expect(nothing.isEmpty && nothing.doubts == ["no subject stands out"])
        }
    }

    @Test func whatTwoLooksDoNotAgreeOnIsSaid() {
        let mask = (0..<2400).map { Float(20..<40 ~= $0 % 60 && 10..<30 ~= $0 / 60 ? 1 : 0) }
        #expect(SubjectFacts(mask: mask, width: 60, disagreement: 0.1).doubts == [])
        let doubts = SubjectFacts(mask: mask, width: 60, disagreement: 0.31).doubts
        #expect(
            doubts == ["seen as a whole and seen closely the subject has different outlines (31 % of its area)"])
    }

    @Test func anUncertainOutlineIsSaid() {
        let soft = facts([(20..<40, 10..<20, 1), (20..<40, 20..<30, 0.6)])
        #expect(abs(soft.confidence - 0.6) < 1e-5)
        #expect(soft.doubts == ["the outline is uncertain (confidence 60 %)"])
    }
}
