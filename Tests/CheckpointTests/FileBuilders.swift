import Checkpoint
import Foundation
import Glibc

/// The folder of fixtures shared by all test targets.
let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures")

func fixture(_ path: String) -> String { fixtures.appending(path: path).path }

func fixtureBytes(_ path: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: fixtures.appending(path: path))) }

/// An open file without a name, which vanishes when it is closed.
func anonymousFile() -> Int32 {
    var template = Array((NSTemporaryDirectory() + "checkpoint-XXXXXX").utf8CString)
    let descriptor = mkstemp(&template)
    guard descriptor >= 0 else { fatalError("no temporary file to test with: errno \(errno)") }
    unlink(template)
    return descriptor
}

/// Opens bytes as a checkpoint.
func open(_ bytes: [UInt8], path: String = "test.ckpt") throws(CheckpointError) -> Checkpoint {
    let descriptor = anonymousFile()
    defer { close(descriptor) }
    let written = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    guard written == bytes.count else { fatalError("cannot write a temporary file: errno \(errno)") }
    return try Checkpoint.open(descriptor: descriptor, path: path)
}

/// A safetensors file of any header and data.
func safetensors(_ header: String, data: Int = 0) -> [UInt8] {
    withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian, Array.init) + Array(header.utf8)
        + (0..<data).map { UInt8(truncatingIfNeeded: $0) }
}

/// One entry for `zip`, with the faults that a test wants.
struct ZipEntry {
    var name: [UInt8]
    var content: [UInt8]
    var method: UInt16 = 0
    var flags: UInt16 = 0
    var isChecksumRight = true

    init(_ name: String, _ content: [UInt8]) {
        self.name = Array(name.utf8)
        self.content = content
    }
}

/// A zip of stored entries.
func zip(_ entries: [ZipEntry]) -> [UInt8] {
    var file: [UInt8] = []
    var directory: [UInt8] = []
    for entry in entries {
        let checksum = entry.isChecksumRight ? crc32(entry.content) : 1
        let common =
            u16(20) + u16(Int(entry.flags)) + u16(Int(entry.method)) + u32(0) + u32(checksum) + u32(entry.content.count)
            + u32(entry.content.count) + u16(entry.name.count) + u16(0)
        directory +=
            u32(0x0201_4b50) + u16(20) + common + u16(0) + u16(0) + u16(0) + u32(0) + u32(file.count) + entry.name
        file += u32(0x0403_4b50) + common + entry.name + entry.content
    }
    let offset = file.count
    return file + directory + u32(0x0605_4b50) + u16(0) + u16(0) + u16(entries.count) + u16(entries.count)
        + u32(directory.count) + u32(offset) + u16(0)
}

/// A torch file of one pickle, with one record of 24 bytes: 0, 1, 2, ...
func torch(_ pickle: [UInt8]) -> [UInt8] {
    zip([ZipEntry("archive/data.pkl", pickle), ZipEntry("archive/data/0", Array(0..<24))])
}

/// Writes pickles opcode by opcode.
struct Pickle {
    var bytes: [UInt8] = [0x80, 2]

    func text(_ text: String) -> Pickle { raw([0x58] + u32(text.utf8.count) + Array(text.utf8)) }
    func int(_ value: Int) -> Pickle { raw([0x8a, 8] + u32(value & 0xffff_ffff) + u32(value >> 32 & 0xffff_ffff)) }
    func ints(_ values: [Int]) -> Pickle { values.reduce(raw([0x28])) { $0.int($1) }.raw([0x74]) }
    func global(_ module: String, _ name: String) -> Pickle { raw([0x63] + Array("\(module)\n\(name)\n".utf8)) }
    func raw(_ bytes: [UInt8]) -> Pickle { Pickle(bytes: self.bytes + bytes) }

    func storage(_ type: String = "FloatStorage", key: String = "0", count: Int = 6) -> Pickle {
        raw([0x28]).text("storage").global("torch", type).text(key).text("cpu").int(count).raw([0x74, 0x51])
    }

    /// `{"w": tensor}` with a view of the storage.
    static func tensor(
        _ type: String = "FloatStorage", key: String = "0", count: Int = 6, offset: Int = 0, shape: [Int] = [2, 3],
        strides: [Int] = [3, 1]
    ) -> [UInt8] {
        Pickle().raw([0x7d]).text("w").global("torch._utils", "_rebuild_tensor_v2").raw([0x28])
            .storage(type, key: key, count: count).int(offset).ints(shape).ints(strides).raw([0x89, 0x4e, 0x74, 0x52])
            .raw([0x73, 0x2e]).bytes
    }
}

func u16(_ value: Int) -> [UInt8] { [UInt8(truncatingIfNeeded: value), UInt8(truncatingIfNeeded: value >> 8)] }
func u32(_ value: Int) -> [UInt8] { u16(value) + u16(value >> 16) }

private func crc32(_ bytes: [UInt8]) -> Int {
    var crc: UInt32 = .max
    for byte in bytes {
        crc ^= UInt32(byte)
        for _ in 0..<8 { crc = crc >> 1 ^ (crc & 1 == 0 ? 0 : 0xedb8_8320) }
    }
    return Int(~crc)
}

/// SplitMix64, so that fuzzing is the same on every run.
struct TestRandom: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}

/// How many times more mutants than usual the fuzz tests make, each time from another seed.
let fuzzFactor = Int(ProcessInfo.processInfo.environment["DREAMCACHE_FUZZ_FACTOR"] ?? "") ?? 1

extension TestRandom {
    /// One to four faults: a flipped bit, another byte, a cut, a doubled or removed piece, an extreme number.
    mutating func mutated(_ original: [UInt8]) -> [UInt8] {
        var bytes = original
        for _ in 0..<Int.random(in: 1...4, using: &self) where !bytes.isEmpty {
            let position = Int.random(in: 0..<bytes.count, using: &self)
            let end = min(bytes.count, position + Int.random(in: 1...16, using: &self))
            switch Int.random(in: 0..<7, using: &self) {
            case 0: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &self)
            case 1, 2: bytes[position] = UInt8.random(in: 0...255, using: &self)
            case 3: bytes.removeSubrange(position..<end)
            case 4: bytes.insert(contentsOf: bytes[position..<end], at: position)
            case 5: for i in position..<end { bytes[i] = Bool.random(using: &self) ? 0xff : 0x7f }
            default: bytes.removeLast(Int.random(in: 0..<min(bytes.count, 64), using: &self))
            }
        }
        return bytes
    }
}
