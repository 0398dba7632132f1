import Testing

@testable import DreamCache

/// What is kept between requests, and for how long.
@Suite struct RecentTests {
    @Test func valuesAreMadeOnceAndTheOldestGo() {
        var recent = Recent<String, Int>(capacity: 2)
        var made: [String] = []
        func value(_ key: String) -> Int {
            recent.value(for: key) {
                made.append(key)
                return made.count
            }
        }
        #expect([value("a"), value("b"), value("a"), value("b")] == [1, 2, 1, 2])
        // b was asked for last, so a goes.
        #expect([value("c"), value("b"), value("a")] == [3, 2, 4])
        #expect(made == ["a", "b", "c", "a"])
    }

    @Test func afterAFailureItIsTriedAgain() throws {
        struct Failure: Error {}
        var recent = Recent<Int, Int>(capacity: 1)
        #expect(throws: Failure.self) { try recent.value(for: 1) { () throws(Failure) in throw Failure() } }
        #expect(recent.value(for: 1) { 7 } == 7)
    }
}
