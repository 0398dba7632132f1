import Zlib

/// The directory of a zip archive of stored entries, as torch.save writes it: PKWARE APPNOTE 6.3, zip64 included.
struct ZipArchive {
    /// One entry of the central directory.
    struct Entry {
        let method: Int
        let isEncrypted: Bool
        let checksum: UInt32
        let storedSize: Int
        let size: Int
        let headerOffset: Int
    }

    let memory: Memory
    let path: String
    let entries: [String: Entry]

    private static let endSize = 22
    private static let directoryEntrySize = 46
    private static let localHeaderSize = 30

    /// Reads the central directory.
    init(memory: Memory, path: String) throws(CheckpointError) {
        self.memory = memory
        self.path = path
        let bytes = LittleEndianBytes(bytes: memory.bytes)
        guard let end = Self.endRecord(in: bytes) else {
            throw CheckpointError(
                path: path, cause: .truncated, place: "zip end of central directory",
                found: "none in \(memory.bytes.count) bytes", expected: "one at the end of the file")
        }
        let (count, size, offset) = try Self.directory(bytes, end: end, path: path)
        var entries: [String: Entry] = [:]
        var position = offset
        let limit = offset + size
        for index in 0..<count {
            guard limit - position >= Self.directoryEntrySize, bytes.u32(position) == 0x0201_4b50 else {
                throw CheckpointError(
                    path: path, cause: .malformed, place: "zip central directory",
                    found: "\(index) entries", expected: "\(count)")
            }
            let nameLength = Int(bytes.u16(position + 28))
            let extraLength = Int(bytes.u16(position + 30))
            let commentLength = Int(bytes.u16(position + 32))
            let nameStart = position + Self.directoryEntrySize
            guard nameLength + extraLength + commentLength <= limit - nameStart else {
                throw CheckpointError(
                    path: path, cause: .malformed, place: "zip central directory entry \(index)",
                    found: "a name beyond the directory", expected: "\(size) bytes of directory")
            }
            let nameBytes = memory.bytes[nameStart..<nameStart + nameLength]
            guard let name = String(validating: nameBytes, as: UTF8.self) else {
                throw CheckpointError(
                    path: path, cause: .malformed, place: "zip central directory entry \(index)",
                    found: "a name that is not UTF-8", expected: "UTF-8")
            }
            var wide = Zip64(bytes: bytes, range: nameStart + nameLength..<nameStart + nameLength + extraLength)
            let size64 = wide.resolve(bytes.u32(position + 24))
            let stored64 = wide.resolve(bytes.u32(position + 20))
            let offset64 = wide.resolve(bytes.u32(position + 42))
            guard let size64, let stored64, let offset64 else {
                throw CheckpointError(
                    path: path, cause: .malformed, place: "zip entry \(name)",
                    found: "no zip64 sizes", expected: "sizes that fit 63 bits")
            }
            let entry = Entry(
                method: Int(bytes.u16(position + 10)), isEncrypted: bytes.u16(position + 8) & 1 != 0,
                checksum: bytes.u32(position + 16), storedSize: stored64, size: size64, headerOffset: offset64)
            guard entries.updateValue(entry, forKey: name) == nil else {
                throw CheckpointError(
                    path: path, cause: .malformed, place: "zip central directory", found: "a second \(name)",
                    expected: "each name once")
            }
            position = nameStart + nameLength + extraLength + commentLength
        }
        self.entries = entries
    }

    /// Where the bytes of a stored entry lie in the file.
    func range(of name: String) throws(CheckpointError) -> Range<Int> {
        guard let entry = entries[name] else {
            throw CheckpointError(
                path: path, cause: .malformed, place: "zip", found: "no entry \(name)",
                expected: "one, as the pickle names it")
        }
        let place = "zip entry \(name)"
        guard !entry.isEncrypted, entry.method == 0, entry.storedSize == entry.size else {
            let found =
                switch (entry.isEncrypted, entry.method) {
                case (true, _): "an encrypted entry"
                case (false, 8): "a deflated entry"
                case (false, let method): "compression method \(method)"
                }
            throw CheckpointError(
                path: path, cause: .unsupported, place: place, found: found,
                expected: "a stored one, as torch.save writes (load the file and save it again)")
        }
        let bytes = LittleEndianBytes(bytes: memory.bytes)
        guard entry.headerOffset <= bytes.count - Self.localHeaderSize, bytes.u32(entry.headerOffset) == 0x0403_4b50
        else {
            throw CheckpointError(
                path: path, cause: .malformed, place: place, found: "no local header at byte \(entry.headerOffset)",
                expected: "one inside the file's \(bytes.count) bytes")
        }
        let start =
            entry.headerOffset + Self.localHeaderSize + Int(bytes.u16(entry.headerOffset + 26))
            + Int(bytes.u16(entry.headerOffset + 28))
        guard start <= bytes.count, entry.size <= bytes.count - start else {
            throw CheckpointError(
                path: path, cause: .truncated, place: place, found: "\(max(0, bytes.count - start)) bytes",
                expected: "\(entry.size) bytes")
        }
        return start..<start + entry.size
    }

    /// The position of the last end-of-central-directory record: the file's end but for a comment of at most 65,535 bytes.
    private static func endRecord(in bytes: LittleEndianBytes) -> Int? {
        let last = bytes.count - endSize
        guard last >= 0 else { return nil }
        for position in stride(from: last, through: max(0, last - 65_535), by: -1)
        where bytes.u32(position) == 0x0605_4b50 && position + endSize + Int(bytes.u16(position + 20)) == bytes.count {
            return position
        }
        return nil
    }

    /// Entry count, size and offset of the central directory, all inside the file.
    private static func directory(
        _ bytes: LittleEndianBytes, end: Int, path: String
    ) throws(CheckpointError) -> (count: Int, size: Int, offset: Int) {
        var count = UInt64(bytes.u16(end + 10))
        var size = UInt64(bytes.u32(end + 12))
        var offset = UInt64(bytes.u32(end + 16))
        var limit = end
        // The zip64 record is found through its locator, the 20 bytes before the end record.
        if end >= 20, bytes.u32(end - 20) == 0x0706_4b50 {
            let record = bytes.u64(end - 12)
            guard record <= UInt64(end - 20), end - 20 - Int(record) >= 56, bytes.u32(Int(record)) == 0x0606_4b50 else {
                throw CheckpointError(
                    path: path, cause: .malformed, place: "zip64 locator", found: "no record at byte \(record)",
                    expected: "the zip64 end of central directory")
            }
            limit = Int(record)
            count = bytes.u64(limit + 32)
            size = bytes.u64(limit + 40)
            offset = bytes.u64(limit + 48)
        }
        guard offset <= UInt64(limit), size <= UInt64(limit) - offset, count <= size / UInt64(directoryEntrySize) else {
            throw CheckpointError(
                path: path, cause: .malformed, place: "zip central directory",
                found: "\(count) entries in \(size) bytes from byte \(offset)",
                expected: "at least \(directoryEntrySize) bytes per entry, before byte \(limit)")
        }
        return (Int(count), Int(size), Int(offset))
    }

    /// The zip64 extra field (0x0001): 64-bit values for those of the entry's fields that hold 0xffffffff, in order.
    private struct Zip64 {
        private let bytes: LittleEndianBytes
        private var values: Range<Int> = 0..<0

        init(bytes: LittleEndianBytes, range: Range<Int>) {
            self.bytes = bytes
            var position = range.lowerBound
            while range.upperBound - position >= 4 {
                let length = Int(bytes.u16(position + 2))
                let start = position + 4
                guard length <= range.upperBound - start else { return }
                if bytes.u16(position) == 1 {
                    values = start..<start + length
                    return
                }
                position = start + length
            }
        }

        mutating func resolve(_ narrow: UInt32) -> Int? {
            guard narrow == .max else { return Int(narrow) }
            guard values.count >= 8 else { return nil }
            defer { values = values.lowerBound + 8..<values.upperBound }
            return Int(exactly: bytes.u64(values.lowerBound))
        }
    }
}

/// Little-endian reads; the caller has checked the bounds.
struct LittleEndianBytes {
    let bytes: UnsafeRawBufferPointer

    var count: Int { bytes.count }

    func u16(_ position: Int) -> UInt16 {
        UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt16.self))
    }
    func u32(_ position: Int) -> UInt32 {
        UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self))
    }
    func u64(_ position: Int) -> UInt64 {
        UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self))
    }
}

/// CRC-32 of zip (reflected 0xedb88320), by zlib.
func crc32(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    UInt32(truncatingIfNeeded: crc32_z(0, bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count))
}
