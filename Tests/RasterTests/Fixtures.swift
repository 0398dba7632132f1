import Foundation
import Raster

/// The folder of images and of what must be read from them; see generate.py there.
let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/Raster")

func fixture(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: folder.appending(path: name))) }

/// The entries of index.json.
struct Index: Decodable {
    struct Image: Decodable, Sendable {
        let file: String
        let width, height, channels, offset, count: Int
    }

    struct Resize: Decodable, Sendable {
        let seed: UInt64
        let width, height, channels, newWidth, newHeight, offset, count: Int
    }

    struct Fit: Decodable, Sendable {
        let seed: UInt64
        let width, height, channels, side, offset, count: Int
        let mode: String
    }

    let images: [Image]
    let resizes: [Resize]
    let fits: [Fit]

    /// An index without entries makes every parameterised test fail to run, which `theIndexIsThere` reports.
    static let shared: Index = {
        guard let data = try? Data(contentsOf: folder.appending(path: "index.json")),
            let index = try? JSONDecoder().decode(Index.self, from: data)
        else { return Index(images: [], resizes: [], fits: []) }
        return index
    }()

    private static let expectedPixels = (try? fixture("expected.raw")) ?? []

    static func pixels(_ offset: Int, _ count: Int) -> [UInt8] {
        offset + count <= expectedPixels.count ? Array(expectedPixels[offset..<offset + count]) : []
    }
}

/// The noise of generate.py: SplitMix64, low byte first.
func noise(seed: UInt64, width: Int, height: Int, channels: Int) -> Raster {
    var random = TestRandom(state: seed)
    let count = width * height * channels
    var bytes: [UInt8] = []
    while bytes.count < count { bytes += withUnsafeBytes(of: random.next().littleEndian, Array.init) }
    return Raster(width: width, height: height, channels: channels, pixels: Array(bytes.prefix(count)))
}

/// How many times more mutants than usual the fuzz tests make, each time from another seed.
let fuzzFactor = Int(ProcessInfo.processInfo.environment["DREAMCACHE_FUZZ_FACTOR"] ?? "") ?? 1

/// SplitMix64.
struct TestRandom: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }

    /// One to three faults: a flipped bit, another byte, a cut, a doubled or removed piece.
    mutating func mutated(_ original: [UInt8]) -> [UInt8] {
        var bytes = original
        for _ in 0..<Int.random(in: 1...3, using: &self) where !bytes.isEmpty {
            let position = Int.random(in: 0..<bytes.count, using: &self)
            let end = min(bytes.count, position + Int.random(in: 1...16, using: &self))
            switch Int.random(in: 0..<6, using: &self) {
            case 0: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &self)
            case 1: bytes[position] = UInt8.random(in: 0...255, using: &self)
            case 2: bytes.removeSubrange(position..<end)
            case 3: bytes.insert(contentsOf: bytes[position..<end], at: position)
            case 4: for i in position..<end { bytes[i] = Bool.random(using: &self) ? 0xff : 0x00 }
            default: bytes.removeLast(Int.random(in: 0..<min(bytes.count, 64), using: &self))
            }
        }
        return bytes
    }
}

/// PNG chunks of a file as (type, data).
func chunks(_ png: [UInt8]) -> [(type: String, data: [UInt8])] {
    var result: [(String, [UInt8])] = []
    var position = 8
    while position + 12 <= png.count {
        let length = png[position..<position + 4].reduce(0) { $0 << 8 | Int($1) }
        result.append(
            (
                String(decoding: png[position + 4..<position + 8], as: UTF8.self),
                Array(png[position + 8..<position + 8 + length])
            ))
        position += 12 + length
    }
    return result
}

/// The same PNG with right checksums, after its chunks were tampered with.
func assembled(_ chunks: [(type: String, data: [UInt8])]) -> [UInt8] {
    chunks.reduce([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]) { file, chunk in
        let body = Array(chunk.type.utf8) + chunk.data
        return file + bytes(chunk.data.count) + body + bytes(crc32(body))
    }
}

private func bytes(_ value: Int) -> [UInt8] { [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) } }

private func crc32(_ bytes: [UInt8]) -> Int {
    var crc: UInt32 = .max
    for byte in bytes {
        crc ^= UInt32(byte)
        for _ in 0..<8 { crc = crc >> 1 ^ (crc & 1 == 0 ? 0 : 0xedb8_8320) }
    }
    return Int(~crc)
}

/// Peak signal-to-noise ratio in dB.
func psnr(_ a: Raster, _ b: Raster) -> Double {
    let squares = zip(a.pixels, b.pixels).reduce(0.0) { sum, pair in
        let difference = Double(pair.0) - Double(pair.1)
        return sum + difference * difference
    }
    return squares == 0 ? .infinity : 10 * log10(255 * 255 * Double(a.pixels.count) / squares)
}

/// Where two images differ, in words short enough for a failed expectation; empty when they are equal.
func difference(_ found: [UInt8], _ expected: [UInt8]) -> String {
    guard found.count == expected.count else { return "\(found.count) values, expected \(expected.count)" }
    let differing = found.indices.filter { found[$0] != expected[$0] }
    guard let first = differing.first else { return "" }
    return
        "\(differing.count) of \(found.count) differ, first at \(first): \(found[first]), expected \(expected[first])"
}
