import Synchronization
import SystemPackage

/// The durable operations everything else is made of: each either happened and survives a power cut, or did not.
///
/// A file is written under `lib/tmp`, synced, closed with the result checked, renamed, and both folders synced; success is
/// reported only then. A failed sync is never retried on the same file, since the kernel may have dropped the pages and
/// marked them clean; a new one is written. Two failures in a row mean `.storageFault`.
public final class DurableStore: Sendable {
    /// The system calls.
    public let system: SystemCalls
    private let counter = Atomic<Int>(0)
    private let syncFailures = Atomic<Int>(0)

    /// A store over these calls.
    public init(_ system: SystemCalls) { self.system = system }

    /// A fresh path under `lib/tmp`.
    func temporary(_ label: String) -> SpoolPath {
        let number = counter.wrappingAdd(1, ordering: .relaxed).newValue
        return SpoolLayout.temporary.appending("\(number)-\(label)")
    }

    /// Publishes bytes as a file.
    func publish(_ bytes: [UInt8], at path: SpoolPath, replacing: Bool) throws(SpoolError) {
        let temporary = try write(bytes, label: path.lastName?.string ?? "file")
        do throws(SpoolError) {
            try move(temporary, to: path, replacing: replacing)
        } catch {
            discard(temporary)
            throw error
        }
    }

    /// Publishes a JSON document as a file.
    func publish(_ json: JSON, at path: SpoolPath, replacing: Bool) throws(SpoolError) {
        try publish(Array(json.text().utf8), at: path, replacing: replacing)
    }

    /// Replaces a file that only informs: atomically, but not durably, since it is written anew soon.
    func replaceUnsynced(_ json: JSON, at path: SpoolPath) throws(SpoolError) {
        try replaceUnsynced(Array(json.text().utf8), at: path)
    }

    /// The same for bytes.
    func replaceUnsynced(_ bytes: [UInt8], at path: SpoolPath) throws(SpoolError) {
        let temporary = temporary(path.lastName?.string ?? "file")
        do throws(SpoolError) {
            try writeUnsynced(bytes, at: temporary)
            try put(temporary, at: path, replacing: true)
        } catch {
            discard(temporary)
            throw error
        }
    }

    /// Writes a synced temporary file.
    private func write(_ bytes: [UInt8], label: String) throws(SpoolError) -> SpoolPath {
        while true {
            let temporary = temporary(label)
            do throws(SpoolError) {
                let file = try system.create(temporary)
                try file.write(bytes)
                let synced = try isSynced { () throws(SpoolError) in try file.syncAndClose() }
                if synced { return temporary }
            } catch {
                discard(temporary)
                throw error
            }
            discard(temporary)
        }
    }

    /// Writes a file that a later `syncFileSystem` makes durable.
    func writeUnsynced(_ bytes: [UInt8], at path: SpoolPath) throws(SpoolError) {
        let file = try system.create(path)
        try file.write(bytes)
        try file.closeChecked()
    }

    /// Publishes many small files of one folder in place of those before, with one group of syncs.
    func publish(_ files: [(bytes: [UInt8], path: SpoolPath)], in folder: SpoolPath) throws(SpoolError) {
        if files.count <= Self.fewFiles {
            for file in files { try publish(file.bytes, at: file.path, replacing: true) }
            return
        }
        var written: [(SpoolPath, SpoolPath)] = []
        defer { for (temporary, _) in written { discard(temporary) } }
        for file in files {
            let temporary = temporary("file")
            written.append((temporary, file.path))
            try writeUnsynced(file.bytes, at: temporary)
        }
        try syncFileSystem()
        for (temporary, path) in written { try put(temporary, at: path, replacing: true) }
        written = []
        try syncDirectory(folder)
        try syncDirectory(SpoolLayout.temporary)
    }

    // MARK: - Folders

    /// A folder in the making, under `lib/tmp`.
    struct Draft: Sendable {
        let path: SpoolPath
        fileprivate var files: [SpoolPath] = []
    }

    /// Up to so many files are synced one by one; beyond, one sync of the file system costs less.
    private static let fewFiles = 8

    /// Begins a folder.
    func draft() throws(SpoolError) -> Draft {
        let path = temporary("draft")
        try system.makeDirectory(path)
        return Draft(path: path)
    }

    /// Writes a file into a folder in the making.
    func add(_ name: String, _ bytes: [UInt8], to draft: inout Draft) throws(SpoolError) {
        let path = draft.path.appending(name)
        try writeUnsynced(bytes, at: path)
        draft.files.append(path)
    }

    /// Makes folders durable and puts them in their places.
    func publish(_ drafts: [(draft: Draft, destination: SpoolPath)]) throws(SpoolError) {
        guard !drafts.isEmpty else { return }
        if drafts.reduce(0, { $0 + $1.draft.files.count }) <= Self.fewFiles {
            for (draft, _) in drafts {
                for file in draft.files { try syncFile(file) }
                try syncDirectory(draft.path)
            }
        } else {
            try syncFileSystem()
        }
        for (draft, destination) in drafts { try system.rename(draft.path, to: destination) }
        for folder in Set(drafts.map { $0.destination.parent }) { try syncDirectory(folder) }
        try syncDirectory(SpoolLayout.temporary)
    }

    // MARK: - Names

    /// Renames durably.
    func move(_ from: SpoolPath, to: SpoolPath, replacing: Bool = false) throws(SpoolError) {
        try put(from, at: to, replacing: replacing)
        try syncDirectory(to.parent)
        let source = from.parent
        if source != to.parent { try syncDirectory(source) }
    }

    /// Renames. A folder that stands where a file belongs is not the daemon's, and is set aside.
    private func put(_ from: SpoolPath, at to: SpoolPath, replacing: Bool) throws(SpoolError) {
        do throws(SpoolError) {
            try system.rename(from, to: to, replacing: replacing)
        } catch  where replacing && error.errno == .isDirectory {
            try setAside(to, as: "folder~\(to.lastName.map(DropName.key) ?? "")")
            try system.rename(from, to: to, replacing: replacing)
        }
    }

    /// Syncs a file somebody else has written. There is no second try: only its writer can make a new one.
    func syncFile(_ path: SpoolPath) throws(SpoolError) {
        guard try isSynced({ () throws(SpoolError) in try system.sync(path) }) else {
            throw SpoolError(.system(.ioError), operation: "fsync", path: path.string)
        }
    }

    func syncDirectory(_ path: SpoolPath) throws(SpoolError) {
        while try !isSynced({ () throws(SpoolError) in try system.syncDirectory(path) }) {}
    }

    func syncFileSystem() throws(SpoolError) {
        while try !isSynced({ () throws(SpoolError) in try system.syncFileSystem() }) {}
    }

    /// Whether the last sync failed. Until one succeeds nothing new should be taken on.
    var isSuspect: Bool { syncFailures.load(ordering: .relaxed) > 0 }

    /// Runs a sync; false after a first failure. A second failure in a row throws `.storageFault`. A full disk or
    /// quota, which a sync may report too, is thrown as it is.
    private func isSynced(_ sync: () throws(SpoolError) -> Void) throws(SpoolError) -> Bool {
        do throws(SpoolError) {
            try sync()
            syncFailures.store(0, ordering: .relaxed)
            return true
        } catch  where error.errno == .ioError || error.errno == .readOnlyFileSystem {
            if syncFailures.wrappingAdd(1, ordering: .relaxed).newValue >= 2 {
                throw SpoolError(.storageFault, operation: error.operation, path: error.path)
            }
            return false
        }
    }

    /// Makes a folder unless it is there.
    func ensureDirectory(_ path: SpoolPath) throws(SpoolError) {
        do throws(SpoolError) {
            try system.makeDirectory(path)
        } catch  where error.errno == .fileExists {
            return
        }
        try syncDirectory(path.parent)
    }

    /// Makes a folder of the layout unless it is there. A file in its place is none of the daemon's and steps aside.
    ///
    /// - Returns: whether it was there.
    func ensureFolder(_ path: SpoolPath) throws(SpoolError) -> Bool {
        if let status = try system.statusIfAny(path) {
            if status.kind == .folder { return true }
            guard status.kind == .regular else {
                throw SpoolError(.badLayout, operation: "check", path: path.string, detail: "expected a folder")
            }
            _ = try stepAside(path)
        }
        try ensureDirectory(path)
        return false
    }

    /// Removes a folder and all below it, as a whole: it leaves its place by one rename first.
    func removeTree(_ path: SpoolPath) throws(SpoolError) {
        while true {
            let trash = SpoolLayout.trash.appending("\(counter.wrappingAdd(1, ordering: .relaxed).newValue)")
            do throws(SpoolError) {
                try system.rename(path, to: trash)
            } catch  where error.errno == .noSuchFileOrDirectory {
                return
            } catch  where error.errno == .fileExists {
                // An earlier daemon could not empty its trash.
                continue
            }
            try syncDirectory(path.parent)
            return discard(trash)
        }
    }

    /// Moves what cannot stay where it is to `lib/rejected`, under a name that is free.
    ///
    /// - Returns: where it is now.
    @discardableResult
    func setAside(_ path: SpoolPath, as name: String) throws(SpoolError) -> SpoolPath {
        var number = 1
        while true {
            let place = SpoolLayout.rejected.appending("\(name)~\(number)")
            do throws(SpoolError) {
                try move(path, to: place)
                return place
            } catch  where error.errno == .fileExists {
                number += 1
            }
        }
    }

    /// Gives something another name, one that is free, in the folder it is in: that needs no right over the thing itself.
    ///
    /// - Returns: where it is now.
    func stepAside(_ path: SpoolPath) throws(SpoolError) -> SpoolPath {
        var number = 1
        while true {
            let place = path.parent.appending("\(path.lastName?.string ?? "")~\(number)")
            do throws(SpoolError) {
                try move(path, to: place)
                return place
            } catch  where error.errno == .fileExists {
                number += 1
            }
        }
    }

    /// Removes a path of the daemon's own and all below it.
    func clear(_ path: SpoolPath) throws(SpoolError) {
        guard let status = try system.statusIfAny(path) else { return }
        guard status.kind == .folder else { return try system.unlink(path) }
        for name in try system.list(path) { try clear(path.appending(name)) }
        try system.removeDirectory(path)
    }

    /// Removes a temporary file; what cannot be removed now is removed at the next start.
    func discard(_ path: SpoolPath) { try? clear(path) }

    /// The SHA-256 of a file of the spool's own, and its size.
    func digest(of path: SpoolPath) throws(SpoolError) -> (sha256: String, bytes: Int) { try system.digest(of: path) }

    /// The job that the file of an idempotency key names; nil when it names none.
    func keyOwner(_ path: SpoolPath) throws(SpoolError) -> JobID? {
        do throws(SpoolError) {
            return JobID(String(decoding: try system.read(path, limit: 256), as: UTF8.self))
        } catch  where error.tellsOfDamage {
            return nil
        }
    }

    /// A JSON document of the spool's own.
    func readJSON(_ path: SpoolPath) throws(SpoolError) -> JSON {
        let bytes = try system.read(path)
        do throws(JSONError) {
            return try JSONReader.read(bytes, maximumSize: .max)
        } catch {
            throw SpoolError(.damaged, operation: "read", path: path.string, detail: error.description)
        }
    }
}
