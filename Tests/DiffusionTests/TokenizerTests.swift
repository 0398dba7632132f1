import Diffusion
import Foundation
import Testing

/// The bytes of a file under Tests/Fixtures.
func fixtureData(_ path: String) throws -> Data {
    let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    return try Data(contentsOf: tests.appendingPathComponent("Fixtures/\(path)"))
}

struct TokenFixture: Decodable {
    struct Case: Decodable, CustomTestStringConvertible {
        var text: String
        var ids: [Int32]

        var testDescription: String { String(text.prefix(40)).debugDescription }
    }

    var cases: [Case]

    static func cases(_ name: String) -> [Case] {
        (try? JSONDecoder().decode(TokenFixture.self, from: fixtureData("tokens/\(name).json")).cases) ?? []
    }
}

private let clip = Result { try Tokenizer.clip() }

@Suite struct TokenizerTests {
    @Test(arguments: TokenFixture.cases("tokens"))
    func equalsOpenCLIP(_ example: TokenFixture.Case) throws {
        #expect(try clip.get().encode(example.text) == example.ids)
    }

    @Test func fixturesAreThere() {
        #expect(TokenFixture.cases("tokens").count >= 30)
    }
}
