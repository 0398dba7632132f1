import Testing

@testable import Vision

/// Whether what a mask has lost is told by its colours.
@Suite struct SimilarSurroundingsTests {
    private static let side = SimilarSurroundings.side

    /// An orange body, columns 40 to 120 of rows 40 to 120, on a blue ground, and a mask of some of its columns.
    private func share(masked columns: Range<Int>, ground: (UInt8, UInt8, UInt8) = (40, 70, 160)) -> Double {
        let side = Self.side
        var (mask, pixels): ([Float], [UInt8]) = ([], [])
        for y in 0..<side {
            for x in 0..<side {
                let isBody = (40..<120).contains(x) && (40..<120).contains(y)
                mask.append(isBody && columns.contains(x) ? 1 : 0)
                let noise = UInt8((x * 7 + y * 13) % 11)
                pixels +=
                    isBody ? [200 + noise, 120 + noise, 40 + noise] : [ground.0 + noise, ground.1, ground.2 + noise]
            }
        }
        return SimilarSurroundings(mask: mask, pixels: pixels).share
    }

    @Test func aWholeSubjectHasNone() {
        #expect(share(masked: 0..<160) == 0)
        #expect(share(masked: 0..<0) == 0)
    }

    @Test func aLostPartIsTold() {
        let lost = share(masked: 40..<80)
        #expect(lost > 0.7 && lost < 1, "\(lost)")
        let little = share(masked: 40..<110)
        #expect(little > 0.05 && little < 0.15, "\(little)")
    }

    @Test func whatDoesNotTouchIsNotCounted() {
        // The mask is of a part of the ground's colours only, far from the body.
        var (mask, pixels): ([Float], [UInt8]) = ([], [])
        for y in 0..<Self.side {
            for x in 0..<Self.side {
                let isFirst = (10..<50).contains(x) && (10..<50).contains(y)
                let isSecond = (90..<130).contains(x) && (90..<130).contains(y)
                mask.append(isFirst ? 1 : 0)
                pixels += isFirst || isSecond ? [200, 120, 40] : [40, 70, 160]
            }
        }
        #expect(SimilarSurroundings(mask: mask, pixels: pixels).share == 0)
    }
}
