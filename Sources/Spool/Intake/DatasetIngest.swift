import Bytes
import Crypto
import Logging
import SystemPackage

/// A data set on its way from a claim into the spool. It is copied file by file, a few at each scan, so that thousands of pictures
/// keep nothing else from being done; what is read is what is kept, and nobody but the daemon can change it.
struct DatasetCopy: Sendable {
    let claim: JobID
    /// What is to be copied, by path; the first `files.count` are done.
    let paths: [String]
    var files: [DatasetList.File] = []
    /// Folders that were made.
    var folders: Set<String> = []

    /// Where it grows. No name of a data set ends so.
    var folder: SpoolPath { Self.folder(claim) }

    static let suffix = ".part"
    static func folder(_ claim: JobID) -> SpoolPath { SpoolLayout.datasets.appending(claim.text + suffix) }
}

/// Data sets: from a claimed folder to `lib/datasets/<digest>/` and the record of their name.
extension Intake {
    private enum Copied {
        case whole(DatasetList)
        case reject(String)
        /// There was no time for more, or a file is still being written.
        case later
    }

    /// More files than that are no data set.
    private static let mostFiles = 1_000_000

    mutating func ingestDataset(_ claim: Claim, _ result: inout IntakeResult) throws(SpoolError) {
        guard let status = try system.statusIfAny(claim.path) else { return }
        // Answered before a crash, but not yet put away.
        if let receipt = try receipts.read(claim.key), receipt.id == claim.id { return try dispose(claim, receipt) }
        guard DropName.isPlain(claim.key), !claim.key.hasSuffix(".json") else {
            return try receipts.reject(
                claim, kind: .dataset,
                message:
                    "found the name '\(Self.droppedName(claim.key)?.printable ?? claim.key)', expected \(Schema.StringPattern.name.expectation), not "
                    + "ending in .json")
        }
        guard status.kind == .folder else {
            return try receipts.reject(
                claim, kind: .dataset,
                message: "\(claim.key): found no folder, expected a folder with one for each object")
        }
        let known = try store.datasetRecord(claim.key)
        if let known, known.dropID == claim.id { return try conclude(claim, known) }
        if let known, !Ownership.permits(status.owner, changing: known.owner) {
            return try receipts.reject(
                claim, kind: .dataset,
                message:
                    "found the data set '\(claim.key)', which user \(known.owner) dropped, expected a name of your own")
        }
        switch try copy(claim) {
        case .later: result.hasMore = true
        case .reject(let message):
            try forgetCopy(claim)
            try receipts.reject(claim, kind: .dataset, message: message)
        case .whole(let list):
            try publish(list, DatasetCopy.folder(claim.id))
            let record = DatasetRecord(
                name: claim.key, digest: list.digest, drop: claim.key, dropID: claim.id, owner: status.owner)
            try store.publish(record.json, at: SpoolLayout.dataset(record.name), replacing: true)
            datasetCopy = nil
            result.datasets.append(record)
            logger.info(
                "data set ingested", metadata: ["dataset": "\(record.name)", "files": "\(list.files.count)"])
            try conclude(claim, record)
        }
    }

    /// Copies as much as there is time for.
    private mutating func copy(_ claim: Claim) throws(SpoolError) -> Copied {
        if datasetCopy?.claim != claim.id {
            switch try begin(claim) {
            case .success(let copy): datasetCopy = copy
            case .failure(let refusal): return .reject(refusal.message)
            }
        }
        guard var copy = datasetCopy else { return .later }
        // What fails has the copy begin anew.
        datasetCopy = nil
        while copy.files.count < copy.paths.count {
            guard pulse() else {
                datasetCopy = copy
                return .later
            }
            let path = copy.paths[copy.files.count]
            try makeFolder(of: path, &copy)
            let (refusal, file) = try self.copy(path, of: claim, into: copy.folder.appending(DatasetList.filesFolder))
            switch refusal {
            case nil: copy.files.append(file)
            case .changedWhileRead where isPatient(claim): return .later
            case .some(let refusal):
                let (found, expected) = Self.words(refusal)
                return .reject("\(path.printable): found \(found), expected \(expected)")
            }
        }
        isSteady(claim)
        return .whole(DatasetList(files: copy.files))
    }

    private struct DatasetRefusal: Error { let message: String }

    /// Lists what is to be copied. Hidden files, and those that file managers leave, are left out.
    private func begin(_ claim: Claim) throws(SpoolError) -> Result<DatasetCopy, DatasetRefusal> {
        func refusal(_ message: String) -> Result<DatasetCopy, DatasetRefusal> {
            .failure(DatasetRefusal(message: message))
        }
        var (paths, hasObjects) = ([String](), false)
        func visible(_ path: SpoolPath) throws(SpoolError) -> [SpoolPath.Name] {
            _ = pulse()
            return try listIfAny(path).filter { !$0.string.hasPrefix(".") && !ReferenceNames.isLitter($0) }
        }
        for name in try visible(claim.path) {
            let path = claim.path.appending(name)
            let isFolder = try system.foreignStatus(path)?.kind == .folder
            hasObjects = hasObjects || isFolder
            let names = isFolder ? try visible(path) : [name]
            for inner in names {
                guard String(validating: name.bytes, as: UTF8.self) != nil,
                    String(validating: inner.bytes, as: UTF8.self) != nil
                else { return refusal("\(inner.printable): found a name that is no text, expected one in UTF-8") }
                paths.append(isFolder ? "\(name.string)/\(inner.string)" : name.string)
            }
            guard paths.count <= Self.mostFiles else {
                return refusal("found more than \(Self.mostFiles) files, expected fewer")
            }
        }
        guard hasObjects else { return refusal("\(claim.key): found no folder in it, expected one for each object") }
        let copy = DatasetCopy(claim: claim.id, paths: paths)
        try store.removeTree(copy.folder)
        try system.makeDirectory(copy.folder)
        try system.makeDirectory(copy.folder.appending(DatasetList.filesFolder))
        return .success(copy)
    }

    private func makeFolder(of path: String, _ copy: inout DatasetCopy) throws(SpoolError) {
        let parts = path.split(separator: "/")
        guard parts.count == 2, copy.folders.insert(String(parts[0])).inserted else { return }
        try system.makeDirectory(copy.folder.appending(DatasetList.filesFolder).appending(String(parts[0])))
    }

    /// Copies a file, in pieces.
    private func copy(
        _ path: String, of claim: Claim, into folder: SpoolPath
    ) throws(SpoolError) -> (SystemCalls.Refusal?, DatasetList.File) {
        var (hash, bytes) = (SHA256(), 0)
        let file = try system.create(folder.appending(path))
        let refusal = try system.readForeign(claim.path.appending(path), limit: configuration.references.fileBytes) {
            (piece) throws(SpoolError) in
            hash.update(bufferPointer: piece)
            bytes += piece.count
            try file.write(Array(piece))
            _ = pulse()
        }
        try file.closeChecked()
        return (refusal, DatasetList.File(path: path, sha256: hexadecimal(hash.finalize()), bytes: bytes))
    }

    /// Makes a copy durable and gives it its name; one that is there already is the same.
    private func publish(_ list: DatasetList, _ folder: SpoolPath) throws(SpoolError) {
        let destination = SpoolLayout.datasetFolder(list.digest)
        if try system.statusIfAny(destination) != nil {
            if try store.isWhole(list) { return try store.removeTree(folder) }
            try store.setAside(destination, as: "dataset~\(list.digest)")
        }
        try store.publish(list.json, at: folder.appending(DatasetList.name), replacing: true)
        try store.syncFileSystem()
        try store.move(folder, to: destination)
    }

    private mutating func forgetCopy(_ claim: Claim) throws(SpoolError) {
        datasetCopy = nil
        try store.removeTree(DatasetCopy.folder(claim.id))
    }

    private func conclude(_ claim: Claim, _ record: DatasetRecord) throws(SpoolError) {
        let receipt = receipts.make(
            claim, .dataset, .accepted, message: "the data set '\(record.name)' is ready to be trained on")
        try receipts.write(receipt)
        try dispose(claim, receipt)
    }
}

extension DurableStore {
    /// Whether all files of a data set are there, as long as they should be.
    func isWhole(_ list: DatasetList) throws(SpoolError) -> Bool {
        guard try datasetList(list.digest) == list else { return false }
        let folder = SpoolLayout.datasetFolder(list.digest).appending(DatasetList.filesFolder)
        for file in list.files {
            guard let status = try system.statusIfAny(folder.appending(file.path)), status.kind == .regular,
                status.size == file.bytes
            else { return false }
        }
        return true
    }
}
