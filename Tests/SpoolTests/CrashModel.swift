import Glibc
import Spool
import Synchronization

/// A file system of which a power cut leaves only what was synced, and any part of the rest.
///
/// What it allows is meaner than ext4, XFS or btrfs are: of the changes to names that no sync has made durable any
/// subset survives, each rename being atomic; of unsynced bytes any prefix. What it grants is what all three grant: a
/// synced file can be found under the name it had when it was synced, and a rename is durable once either folder is.
struct CrashModel {
    /// What a name leads to.
    private enum Node {
        case file(written: [UInt8], durable: [UInt8])
        case folder
        case link(String)
    }

    private enum Change {
        case link(folder: Int, name: String, node: Int)
        case unlink(folder: Int, name: String)
    }

    /// Changes that happen together or not at all.
    private struct Operation {
        var changes: [Change]
        var isDurable = false
        var folders: Set<Int> {
            Set(
                changes.map { change in
                    switch change {
                    case .link(let folder, _, _), .unlink(let folder, _): folder
                    }
                })
        }
    }

    private var nodes: [Node] = [.folder]
    /// Folders as the running process sees them: node of the folder, name, node.
    private var live: [Int: [String: Int]] = [0: [:]]
    private var operations: [Operation] = []

    /// A model of a tree on disk, all of it durable.
    init(root: String) throws { try load(root, into: 0) }

    private mutating func load(_ path: String, into folder: Int) throws {
        for name in Files.names(path) {
            let inner = path + "/" + name
            let node: Int
            if Files.isFolder(inner) {
                node = add(.folder)
                try load(inner, into: node)
            } else {
                let bytes = try Files.read(inner)
                node = add(.file(written: bytes, durable: bytes))
            }
            live[folder]?[name] = node
            operations.append(Operation(changes: [.link(folder: folder, name: name, node: node)], isDurable: true))
        }
    }

    private mutating func add(_ node: Node) -> Int {
        nodes.append(node)
        if case .folder = node { live[nodes.count - 1] = [:] }
        return nodes.count - 1
    }

    private func place(_ path: SpoolPath) -> (folder: Int, name: String)? {
        var parts = path.string.split(separator: "/").map(String.init)
        guard let name = parts.popLast() else { return nil }
        var folder = 0
        for part in parts {
            guard let next = live[folder]?[part], live[next] != nil else { return nil }
            folder = next
        }
        return (folder, name)
    }

    private func node(_ path: SpoolPath) -> Int? {
        if path.isEmpty { return 0 }
        return place(path).flatMap { live[$0.folder]?[$0.name] }
    }

    private mutating func apply(_ changes: [Change]) {
        for change in changes {
            switch change {
            case .link(let folder, let name, let node): live[folder]?[name] = node
            case .unlink(let folder, let name): live[folder]?[name] = nil
            }
        }
        operations.append(Operation(changes: changes))
    }

    /// Takes a call that the process made; calls the real system would have refused change nothing.
    mutating func record(_ call: SystemCall) {
        switch call {
        case .create(let path): make(.file(written: [], durable: []), at: path)
        case .makeDirectory(let path): make(.folder, at: path)
        case .makeSymbolicLink(let path, let target): make(.link(target), at: path)
        case .write(let path, let bytes):
            guard let index = node(path), case .file(let written, let durable) = nodes[index] else { return }
            nodes[index] = .file(written: written + bytes, durable: durable)
        case .sync(let path):
            guard let index = node(path), case .file(let written, _) = nodes[index] else { return }
            nodes[index] = .file(written: written, durable: written)
            for position in operations.indices where operations[position].changes.contains(where: { links($0, index) })
            {
                operations[position].isDurable = true
            }
        case .syncDirectory(let path):
            guard let folder = node(path) else { return }
            for position in operations.indices where operations[position].folders.contains(folder) {
                operations[position].isDurable = true
            }
        case .syncFileSystem:
            for position in operations.indices { operations[position].isDurable = true }
            for index in nodes.indices {
                if case .file(let written, _) = nodes[index] {
                    nodes[index] = .file(written: written, durable: written)
                }
            }
        case .rename(let from, let to, let replacing):
            guard let source = place(from), let index = live[source.folder]?[source.name], let target = place(to),
                replacing || live[target.folder]?[target.name] == nil
            else { return }
            apply([
                .unlink(folder: source.folder, name: source.name),
                .link(folder: target.folder, name: target.name, node: index),
            ])
        case .unlink(let path), .removeDirectory(let path):
            guard let place = place(path), let index = live[place.folder]?[place.name] else { return }
            if case .removeDirectory = call, live[index]?.isEmpty != true { return }
            apply([.unlink(folder: place.folder, name: place.name)])
        default: break
        }
    }

    private func links(_ change: Change, _ node: Int) -> Bool {
        if case .link(_, _, node) = change { true } else { false }
    }

    private mutating func make(_ node: Node, at path: SpoolPath) {
        guard let place = place(path), live[place.folder]?[place.name] == nil else { return }
        let index = add(node)
        apply([.link(folder: place.folder, name: place.name, node: index)])
    }

    /// Whether a cut now could lose anything.
    var hasPending: Bool { operations.contains { !$0.isDurable } }

    /// Makes, at `path`, a tree that a power cut now might leave.
    func cut(at path: String, random: () -> UInt64) throws {
        var folders: [Int: [String: Int]] = [:]
        for operation in operations where operation.isDurable || random() & 1 == 0 {
            for change in operation.changes {
                switch change {
                case .link(let folder, let name, let node): folders[folder, default: [:]][name] = node
                case .unlink(let folder, let name): folders[folder]?[name] = nil
                }
            }
        }
        try write(0, folders, to: path, random)
    }

    private func write(_ folder: Int, _ folders: [Int: [String: Int]], to path: String, _ random: () -> UInt64) throws {
        mkdir(path, 0o755)
        for (name, index) in (folders[folder] ?? [:]).sorted(by: { $0.key < $1.key }) {
            let inner = path + "/" + name
            switch nodes[index] {
            case .folder: try write(index, folders, to: inner, random)
            case .link(let target): symlink(target, inner)
            case .file(let written, let durable):
                let pending = written.count - durable.count
                let kept = pending > 0 ? Int(random() % UInt64(pending + 1)) : 0
                // Space that was reserved for bytes which never came reads as zeros.
                let zeros = pending > kept && random() & 3 == 0 ? [UInt8](repeating: 0, count: pending - kept) : []
                try Files.write(written.prefix(durable.count + kept) + zeros, inner)
            }
        }
    }
}

/// Notes every mutating call that passes.
final class RecordingGate: Sendable {
    private let calls = Mutex<[SystemCall]>([])
    var recorded: [SystemCall] { calls.withLock { $0 } }
    var gate: SystemGate {
        SystemGate { [self] call in
            if call.isMutating { calls.withLock { $0.append(call) } }
            return .proceed
        }
    }
}
