import SystemPackage

/// When a drop is complete: the same rule at a live event and at the start-up scan.
extension Intake {
    mutating func isComplete(_ name: SpoolPath.Name, in folder: DropFolder) throws(SpoolError) -> Bool {
        let path = SpoolLayout.drop(folder).appending(name)
        guard let status = try system.foreignStatus(path) else { return false }
        // There is nothing to wait for: links, pipes and devices stay what they are.
        guard status.kind == .regular || status.kind == .folder else { return true }
        if trackers[folder]?.isExplicit(name, status) == true { return true }
        switch folder {
        case .jobs:
            if request(named: name.string) != nil { return true }
            if status.kind == .regular, name.string.hasSuffix(".json") {
                if try isFinal(manifest: path) { return true }
                return try rest(name, folder, status) >= configuration.incompleteLimit
            }
            return try rest(name, folder, status) >= configuration.settleTime
        case .datasets:
            if status.kind == .folder, try system.foreignStatus(path.appending(".ready")) != nil { return true }
            return try rest(name, folder, status) >= configuration.settleTime
        case .references:
            if status.kind == .folder, try system.foreignStatus(path.appending(".ready")) != nil { return true }
            let rest = try rest(name, folder, status)
            guard rest >= configuration.settleTime else { return false }
            let whole: Bool
            if let known = trackers[folder]?.isWhole(name) { whole = known } else { whole = try isWhole(path, status) }
            trackers[folder]?.noteWhole(name, whole)
            return whole || rest >= configuration.incompleteLimit
        }
    }

    private mutating func rest(
        _ name: SpoolPath.Name, _ folder: DropFolder, _ status: SystemCalls.FileStatus
    ) throws(SpoolError) -> Double {
        let fingerprint = try fingerprint(
            SpoolLayout.drop(folder).appending(name), status, depth: folder == .datasets ? 2 : 1)
        return trackers[folder]?.rest(of: name, fingerprint: fingerprint, now: clock.monotonic()) ?? 0
    }

    /// What a drop looks like now: inode, size and time of it and of every file in it. Nil when it is gone.
    func fingerprint(_ path: SpoolPath) throws(SpoolError) -> String? {
        guard let status = try system.foreignStatus(path) else { return nil }
        return try fingerprint(path, status, depth: 1)
    }

    /// - Parameter depth: how many folders deep files lie in it.
    private func fingerprint(
        _ path: SpoolPath, _ status: SystemCalls.FileStatus, depth: Int
    ) throws(SpoolError) -> String {
        var lines = [line(path.lastName, status)]
        if status.kind == .folder {
            let names = try listIfAny(path)
            // Far more files than are allowed: their number is fingerprint enough for a rejection.
            lines.append(String(names.count))
            for inner in depth > 1 ? names[...] : names.prefix(4 * configuration.references.files) {
                guard let status = try system.foreignStatus(path.appending(inner)) else { continue }
                lines.append(line(inner, status))
                guard depth > 1, status.kind == .folder else { continue }
                _ = pulse()
                lines.append(try fingerprint(path.appending(inner), status, depth: depth - 1))
            }
        }
        return Digest.sha256(lines.joined(separator: "\n"))
    }

    private func line(_ name: SpoolPath.Name?, _ status: SystemCalls.FileStatus) -> String {
        "\(name?.string ?? "") \(status.inode) \(status.size) \(status.modified)"
    }

    /// The names in a folder that its owner may take away at any moment.
    func listIfAny(_ path: SpoolPath) throws(SpoolError) -> [SpoolPath.Name] {
        do throws(SpoolError) {
            return try system.list(path)
        } catch  where error.isForeign {
            return []
        }
    }

    /// Whether more bytes cannot make a manifest valid any more: it is whole, or wrong before its end.
    private func isFinal(manifest path: SpoolPath) throws(SpoolError) -> Bool {
        var bytes: [UInt8] = []
        let refusal = try system.readForeign(path, limit: JSONReader.maximumSize) { bytes.append(contentsOf: $0) }
        switch refusal {
        case nil: break
        case .changedWhileRead: return false
        default: return true
        }
        do throws(JSONError) {
            _ = try JSONReader.read(bytes)
            return true
        } catch {
            return !error.isTruncation
        }
    }

    private func isWhole(_ path: SpoolPath, _ status: SystemCalls.FileStatus) throws(SpoolError) -> Bool {
        // The files that file managers leave are not looked at. Other hidden files are, since copying programs write
        // under such names.
        let files =
            status.kind == .folder
            ? try listIfAny(path).filter { !ReferenceNames.isLitter($0) }.map { path.appending($0) } : [path]
        for file in files.prefix(configuration.references.files) {
            guard pulse() else { return false }
            guard let status = try system.foreignStatus(file), status.kind == .regular else { continue }
            switch try examine(file) {
            case .failure(.incomplete), .failure(.changing): return false
            default: continue
            }
        }
        return true
    }

    /// Reads and examines an image; a file that cannot be read counts as refused.
    ///
    /// An image is read three times on its way, and each reading answers for itself. Before the claim it tells whether the
    /// drop is whole; its owner can still change it, so nothing read then is relied upon. At ingest the bytes that are judged
    /// are the bytes that are copied. The renderer's decoder reads the copy, perhaps days later and in another process.
    func examine(_ path: SpoolPath) throws(SpoolError) -> Result<(ImageFile, [UInt8]), ImageFile.Fault> {
        var bytes: [UInt8] = []
        let refusal = try system.readForeign(path, limit: configuration.references.fileBytes) {
            bytes.append(contentsOf: $0)
        }
        switch refusal {
        case nil: break
        case .changedWhileRead: return .failure(.changing)
        case .some(let refusal):
            let (found, expected) = Self.words(refusal)
            return .failure(.refused(found: found, expected: expected))
        }
        return Result { () throws(ImageFile.Fault) in
            (try ImageFile.examine(bytes, limits: configuration.references), bytes)
        }
    }

    static func words(_ refusal: SystemCalls.Refusal) -> (found: String, expected: String) {
        switch refusal {
        case .notRegular(.symbolicLink): ("a symbolic link", "a plain file")
        case .notRegular(.folder): ("a folder", "a plain file")
        case .notRegular: ("a pipe, socket or device", "a plain file")
        case .severalLinks(let count): ("a file with \(count) hard links", "a file with one name")
        case .tooLarge(let size, let limit): ("\(size) bytes", "at most \(limit)")
        case .changedWhileRead: ("a file that is still being written", "a finished one")
        case .cannotOpen(let errno): ("a file that cannot be read (\(errno))", "one the daemon may read")
        }
    }
}
