import Diffusion
import Foundation
import Testing

private struct TorchFixture: Decodable {
    struct Draw: Decodable {
        var shape: [Int]
        var first: [Float]
        var last: [Float]
        var sum: Double
    }
    struct Case: Decodable {
        var seed: UInt64
        var drawsInOrder: [Draw]

        enum CodingKeys: String, CodingKey {
            case seed
            case drawsInOrder = "draws_in_order"
        }
    }
    var cases: [Case]
}

@Suite struct TorchGeneratorTests {
    @Test func equalsTorch() throws {
        let fixture = try JSONDecoder().decode(TorchFixture.self, from: fixtureData("random/torch-rng.json"))
        #expect(!fixture.cases.isEmpty)
        for example in fixture.cases {
            var generator = TorchGenerator(seed: example.seed)
            for (index, draw) in example.drawsInOrder.enumerated() {
                let count = draw.shape.reduce(1, *)
                let numbers = generator.randn(count: count)
                let place = Comment(rawValue: "seed \(example.seed), draw \(index)")
                #expect(numbers.count == count, place)
                #expect(farthest(Array(numbers.prefix(draw.first.count)), draw.first) < 1e-6, place)
                #expect(farthest(numbers.suffix(draw.last.count), draw.last) < 1e-6, place)
                #expect(abs(numbers.reduce(0) { $0 + Double($1) } - draw.sum) < 1e-7 * Double(count) + 1e-6, place)
            }
        }
    }

    @Test(arguments: [0, 1, 5, 15, 16, 17, 1024])
    func stateContinuesTheSequence(drawn: Int) throws {
        var generator = TorchGenerator(seed: 7)
        _ = generator.randn(count: drawn)
        var resumed = try TorchGenerator(state: generator.state)
        #expect(resumed == generator)
        #expect(resumed.randn(count: 5) == generator.randn(count: 5))
        #expect(resumed.randn(count: 700) == generator.randn(count: 700))
    }

    @Test func refusesWhatIsNoState() {
        let good = TorchGenerator(seed: 1).state
        #expect(throws: RandomStateError.self) { try TorchGenerator(state: []) }
        #expect(throws: RandomStateError.self) { try TorchGenerator(state: good.dropLast()) }
        var farIndex = good
        farIndex[good.count - 15] = 0xFF
        #expect(throws: RandomStateError.self) { try TorchGenerator(state: farIndex) }
        #expect(throws: RandomStateError.self) { try TorchGenerator(state: PhiloxGenerator(seed: 1).state) }
    }
}

@Suite struct PhiloxGeneratorTests {
    /// Random123 `kat_vectors`, philox4x32 with ten rounds.
    @Test func equalsRandom123() {
        #expect(
            PhiloxGenerator.block(counter: .zero, key: .zero)
                == SIMD4(0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8))
        #expect(
            PhiloxGenerator.block(counter: SIMD4(repeating: .max), key: SIMD2(repeating: .max))
                == SIMD4(0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD))
        #expect(
            PhiloxGenerator.block(
                counter: SIMD4(0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344), key: SIMD2(0xA409_3822, 0x299F_31D0)
            )
                == SIMD4(0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1))
    }

    /// `torch.randn(3, 4, device="cuda")` after `torch.manual_seed(0)`, as widely published.
    @Test func equalsCUDA() {
        var generator = PhiloxGenerator(seed: 0)
        let expected: [Float] = [
            -0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564, -0.62285122, -0.32838709,
            -1.07454231, -0.36314407, -1.67105067, 2.26550497,
        ]
        #expect(farthest(generator.randn(count: 12), expected) < 1e-5)
        #expect(generator.offset == 4)
    }

    /// A device too small for a draw gives each thread several numbers, and the offset moves by what a thread used.
    @Test func smallDevicesUseAllFourLanes() {
        var small = PhiloxGenerator(seed: 3, residentThreads: 256)
        var large = PhiloxGenerator(seed: 3)
        let numbers = small.randn(count: 1500)
        let reference = large.randn(count: 1500)
        #expect(Array(numbers.prefix(256)) == Array(reference.prefix(256)))
        #expect(numbers[256] != reference[256])
        #expect(small.offset == 8)
        #expect(large.offset == 4)
        #expect(Set(numbers).count > 1490)
        // The second round of a thread is what its first round would be one block later in the sequence.
        #expect(Array(numbers[1024..<1280]) == Array(large.randn(count: 256)))
    }

    @Test func stateContinuesTheSequence() throws {
        var generator = RandomGenerator(.philox, seed: .max)
        _ = generator.randn(count: 100)
        var resumed = try RandomGenerator(state: generator.state)
        #expect(resumed == generator)
        #expect(resumed.randn(count: 33) == generator.randn(count: 33))
        #expect(throws: RandomStateError.self) { try RandomGenerator(state: Array(generator.state.dropFirst())) }
        #expect(throws: RandomStateError.self) { try PhiloxGenerator(state: Array(generator.state.dropLast())) }
    }
}

/// The largest absolute difference; infinite where the lengths differ.
private func farthest(_ found: [Float], _ expected: [Float]) -> Float {
    guard found.count == expected.count else { return .infinity }
    return zip(found, expected).map { abs($0 - $1) }.max() ?? 0
}
