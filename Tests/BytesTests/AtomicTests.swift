import Bytes
import Foundation
import Testing

/// A folder that goes when the test ends.
private final class Scratch {
    let path = NSTemporaryDirectory() + "bytes-" + UUID().uuidString

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false) }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    subscript(name: String) -> String { "\(path)/\(name)" }
    var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path))?.sorted() ?? [] }
    func text(_ name: String) -> String? { try? String(contentsOfFile: self[name], encoding: .utf8) }
}

@Suite struct AtomicFileTests {
    @Test func aFileIsThereOnlyOnceItIsCommitted() throws {
        let scratch = try Scratch()
        try AtomicFile.write(Array("before".utf8), to: scratch["a"])
        do {
            let file = try AtomicFile(scratch["a"])
            try file.write(Array("after".utf8))
            #expect(scratch.text("a") == "before")
            try file.commit()
        }
        #expect(scratch.text("a") == "after")
        #expect(scratch.names == ["a"])
    }

    @Test func anAbandonedFileLeavesNothing() throws {
        let scratch = try Scratch()
        try AtomicFile(scratch["a"]).write([1, 2, 3])
        #expect(scratch.names == [])
    }

    @Test func theInputMayBeTheOutput() throws {
        let scratch = try Scratch()
        let bytes = [UInt8](repeating: 7, count: 1 << 20)
        try AtomicFile.write(bytes, to: scratch["a"])
        let mapped = try Data(contentsOf: URL(fileURLWithPath: scratch["a"]), options: .alwaysMapped)
        let file = try AtomicFile(scratch["a"])
        try file.write(Array(mapped.reversed()))
        try file.commit()
        #expect(mapped.count == bytes.count && mapped.last == 7)
    }

    @Test func permissionsAndLinksStay() throws {
        let scratch = try Scratch()
        try AtomicFile.write([1], to: scratch["real"])
        chmod(scratch["real"], 0o600)
        symlink("real", scratch["link"])
        try AtomicFile.write([2], to: scratch["link"])
        #expect(try Data(contentsOf: URL(fileURLWithPath: scratch["real"])) == Data([2]))
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: scratch["link"]) == "real")
        let mode = try FileManager.default.attributesOfItem(atPath: scratch["real"])[.posixPermissions] as? Int
        #expect(mode == 0o600)
    }

    @Test func aNameOfTheGreatestLengthAndNoFolder() throws {
        let scratch = try Scratch()
        let name = String(repeating: "n", count: 255)
        try AtomicFile.write([1], to: scratch[name])
        #expect(scratch.names == [name])
    }

    @Test(arguments: [false, true])
    func whatIsNoRegularFileIsRefusedAndStays(isFolder: Bool) throws {
        let scratch = try Scratch()
        if isFolder { mkdir(scratch["x"], 0o755) } else { mkfifo(scratch["x"], 0o644) }
        let error = try #require(throws: FileError.self) { try AtomicFile.write([1], to: scratch["x"]) }
        #expect(error.code == (isFolder ? EISDIR : EINVAL))
        #expect(error.description.hasPrefix(scratch["x"]) && error.description.contains("expected a regular file"))
        #expect(scratch.names == ["x"])
    }

    @Test func aTakenNameIsRefusedWhereNothingIsToBeReplaced() throws {
        let scratch = try Scratch()
        let file = try AtomicFile(scratch["a"], replacing: false)
        try file.write([1])
        // Another is quicker.
        try AtomicFile.write([2], to: scratch["a"], replacing: false)
        let late = try #require(throws: FileError.self) { try file.commit() }
        #expect(late.code == EEXIST)
        let early = try #require(throws: FileError.self) { try AtomicFile(scratch["a"], replacing: false) }
        #expect(early.code == EEXIST)
        #expect(try Data(contentsOf: URL(fileURLWithPath: scratch["a"])) == Data([2]))
    }

    @Test func aFullDiskIsAnErrorWithItsErrno() throws {
        let full = open("/dev/full", O_WRONLY)
        defer { close(full) }
        let error = try #require(throws: FileError.self) { try writeAll([1], to: full, path: "x") }
        #expect(error.code == ENOSPC && error.path == "x")
    }
}

@Suite struct AtomicFolderTests {
    @Test func aFolderIsThereOnlyOnceItIsCommitted() throws {
        let scratch = try Scratch()
        do {
            let folder = try AtomicFolder(scratch["a/b"])
            try AtomicFile.write([1], to: folder.path("file"))
            #expect(!FileManager.default.fileExists(atPath: scratch["a/b"]))
            try folder.commit()
        }
        #expect(FileManager.default.fileExists(atPath: scratch["a/b/file"]))
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch["a"]) == ["b"])
    }

    @Test func anAbandonedFolderLeavesNothing() throws {
        let scratch = try Scratch()
        do {
            let folder = try AtomicFolder(scratch["a"])
            try AtomicFile.write([1], to: folder.path("file"))
        }
        #expect(scratch.names == [])
    }

    @Test func whatAKillHasLeftGoesWithTheNextAttempt() throws {
        let scratch = try Scratch()
        let alive = try AtomicFolder(scratch["a"])
        // The same name, of a process that is gone.
        let stem = try #require(scratch.names.first).split(separator: ".")[0]
        let left = scratch[".\(stem).1.part"]
        try FileManager.default.createDirectory(atPath: left, withIntermediateDirectories: false)
        try AtomicFile.write([1], to: left + "/half")
        _ = try? AtomicFolder(scratch["a"])
        #expect(scratch.names == [URL(fileURLWithPath: alive.place).lastPathComponent])
        try alive.commit()
        #expect(scratch.names == ["a"])
    }

    @Test func aTakenNameIsRefused() throws {
        let scratch = try Scratch()
        symlink("nowhere", scratch["a"])
        let error = try #require(throws: FileError.self) { try AtomicFolder(scratch["a"]) }
        #expect(error.code == EEXIST && error.description.contains("expected a new name"))
    }
}

@Suite struct FilePresenceTests {
    @Test func whatCannotBeLookedAtIsAnErrorAndNotNothing() throws {
        let scratch = try Scratch()
        try AtomicFile.write([1], to: scratch["file"])
        symlink("file", scratch["link"])
        symlink("nowhere", scratch["dangling"])
        symlink("loop", scratch["loop"])
        #expect(try FilePresence.of(scratch["file"]) == .file && FilePresence.of(scratch["link"]) == .file)
        #expect(try FilePresence.of(scratch["dangling"]) == .nothing && FilePresence.of(scratch["file/x"]) == .nothing)
        #expect(try FilePresence.names(in: scratch["nothing"]) == [])
        #expect(try FilePresence.names(in: scratch[""]).sorted() == ["dangling", "file", "link", "loop"])
        for path in ["loop", "loop/x"] {
            let error = #expect(throws: FileError.self) { try FilePresence.of(scratch[path]) }
            #expect(error?.code == ELOOP && error?.path == scratch[path])
            #expect(throws: FileError.self) { try FilePresence.names(in: scratch[path]) }
        }
    }
}

@Suite struct DigestTests {
    @Test func publishedValues() throws {
        #expect(sha256("abc".utf8) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(hexadecimal([0, 0x0f, 0xf0, 0xff]) == "000ff0ff")
        var bytes: [UInt8] = []
        bytes.append(littleEndian: 0x0102_0304 as UInt32)
        #expect(bytes == [4, 3, 2, 1])
    }
}
