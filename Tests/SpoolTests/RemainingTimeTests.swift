import Testing

@testable import Spool

/// How long a job will still take.
@Suite struct RemainingTimeTests {
    @Test func anImageTellsOfItself() {
        var remaining = RemainingTime()
        remaining.jobBegan()
        remaining.imageBegan(holding: 0, now: 100)
        #expect(remaining.seconds(forImages: 3, share: nil, now: 110) == nil)
        #expect(remaining.seconds(forImages: 3, share: 0.25, now: 110) == 110)
    }

    @Test func imagesThatWereMadeTellOfTheRest() {
        var remaining = RemainingTime()
        remaining.jobBegan()
        for start in [0.0, 50] {
            remaining.imageBegan(holding: 0, now: start)
            remaining.imageEnded(now: start + 20)
        }
        // What lay between them was other people's turn.
        remaining.imageBegan(holding: 0, now: 90)
        #expect(remaining.seconds(forImages: 4, share: 0.5, now: 91) == 70)
    }

    /// Half an image that takes ten seconds means twenty for a whole one.
    @Test func whatACheckpointHeldTookNoTime() {
        var remaining = RemainingTime()
        remaining.jobBegan()
        remaining.imageBegan(holding: 0.5, now: 0)
        #expect(remaining.seconds(forImages: 2, share: 0.5, now: 3) == nil)
        #expect(remaining.seconds(forImages: 2, share: 0.75, now: 5) == 25)
        remaining.imageEnded(now: 10)
        remaining.imageBegan(holding: 0, now: 10)
        #expect(remaining.seconds(forImages: 3, share: nil, now: 10) == 60)
    }
}
