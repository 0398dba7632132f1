import Glibc
import Spool
import Synchronization
import SystemPackage
import Testing

/// Random damage of every file the spool keeps, one at a time and in pairs: the daemon starts, everything else proceeds,
/// `verify` names the damage, and repairing leaves a spool that `verify` calls whole.
@Suite struct DamageCampaignTests {
    enum Kind: String, Sendable, CaseIterable {
        case flipped, truncated, emptied, garbage, folder, removed
        /// Root reads it all the same.
        case unreadable

        static let usual = getuid() == 0 ? allCases.filter { $0 != .unreadable } : allCases
    }

    /// Damage to one file.
    struct Damage: Sendable, CustomStringConvertible {
        let path: String, kind: Kind, seed: UInt64
        var description: String { "\(path) \(kind.rawValue)" }

        /// Does it; false where that changes nothing.
        func apply(_ root: String) throws -> Bool {
            let file = root + "/" + path
            var s = stat()
            guard lstat(file, &s) == 0 else { return false }
            let isLink = s.st_mode & S_IFMT == S_IFLNK
            switch kind {
            case .removed: unlink(file)
            case .folder:
                unlink(file)
                mkdir(file, 0o755)
                // A lock is never taken from whoever may hold it, so that only an empty folder gives way.
                if path != "lib/lock" { try Files.write([1], file + "/x") }
            case .garbage:
                unlink(file)
                try Files.write((0..<40).map { UInt8(truncatingIfNeeded: seed >> ($0 % 50)) ^ UInt8($0) }, file)
            case .flipped, .truncated, .emptied, .unreadable:
                if isLink {
                    unlink(file)
                    symlink("../lib/elsewhere", file)
                    return true
                }
                var bytes = try Files.read(file)
                guard !bytes.isEmpty else { return false }
                switch kind {
                case .flipped: bytes[Int(seed % UInt64(bytes.count))] ^= UInt8(1 << (seed >> 32 & 7))
                case .truncated: bytes = Array(bytes.prefix(Int(seed % UInt64(bytes.count))))
                case .emptied: bytes = []
                default: return chmod(file, 0) == 0
                }
                unlink(file)
                try Files.write(bytes, file)
            }
            return true
        }
    }

    // MARK: - The spool that is damaged

    /// Ends the process when told.
    private final class Death: Sendable {
        let isDead = Mutex(false)
        var gate: SystemGate {
            SystemGate { [self] call in
                if isDead.withLock({ $0 }) { return .stop }
                if case .rename(let from, _, _) = call, from.string == "drop/jobs/stay.json" {
                    return .fail(.permissionDenied)
                }
                return .proceed
            }
        }
    }

    /// A renderer that does to each prompt what it says.
    private static func script(_ death: Death) -> StubRenderer.Script {
        let prompt = Mutex("")
        var script = StubRenderer.Script(steps: 2, isEager: true)
        script.onEncode = { request throws(RendererError) in
            if request.subject == "wolf" { throw .unavailable(message: "no model") }
        }
        script.onRender = { request throws(RendererError) in
            prompt.withLock { $0 = request.image.prompt }
            switch request.image.prompt {
            case "bad": throw .rejected(field: "$.prompt", message: "bad")
            case "poor": throw .transient(message: "poor")
            case "later": throw .unavailable(message: "no model")
            default: break
            }
        }
        script.onStep = { _, step in
            if step == 1, prompt.withLock({ $0 }) == "die" { death.isDead.withLock { $0 = true } }
        }
        return script
    }

    /// A spool with jobs in every state, as a daemon that was killed leaves it.
    private static func template() throws -> String {
        let root = Files.temporaryFolder()
        let death = Death()
        let spool = try TestSpool(root: root, gate: death.gate, script: script(death)) {
            $0.maximumAttempts = 2
            $0.environmentPause = 1
        }
        try spool.start()
        try spool.dropReferences("dog", ["a.png": Pictures.png(), "b.jpg": Pictures.jpeg()])
        try spool.dropReferences("cat", ["c.png": Pictures.png(payload: [9, 9])])
        try spool.dropReferences("start", ["s.png": Pictures.png(payload: [4, 2])])
        try spool.dropReferences("refused", ["not.png": [1, 2, 3]])
        func job(_ drop: String, _ subject: String, _ prompts: String, _ more: String = "") throws {
            try spool.dropManifest(#"{"subject": "\#(subject)", "prompts": [\#(prompts)], "seed": 1\#(more)}"#, drop)
        }
        try spool.dropManifest(keyed, "done.json")
        try job("plain.json", "cat", #""a""#)
        try job("failed.json", "cat", #""a", "bad""#, #", "idempotency_key": "f""#)
        try job("stay.json", "dog", #""a""#)
        try Files.write([1], spool.path("drop/jobs/stray.txt"))
        try spool.settle(turns: 20)
        try job("poor.json", "dog", #""a", "poor""#)
        try spool.settle(turns: 200)
        try spool.dropReferences("wolf", ["w.png": Pictures.png(payload: [7])])
        try job("queued.json", "dog", #""a", "later""#, #", "idempotency_key": "q", "model": "gone""#)
        try job("init.json", "cat", #""later""#, #", "init_image": "start", "strength": 0.5, "model": "gone""#)
        try job("nobody.json", "nobody", #""a""#)
        // Where its subject is not encoded a job asks for that itself, and would find the model missing for all.
        try job("wolf.json", "wolf", #""a""#, #", "model": "gone""#)
        try spool.settle(turns: 3)
        try Files.write([], spool.path("drop/jobs/none.cancel"))
        try job("retry.json", "cat", #""a", "poor""#)
        try spool.settle(turns: 3)
        try job("active.json", "dog", #""a", "die""#, #", "priority": 100"#)
        for _ in 0..<20 where !death.isDead.withLock({ $0 }) {
            spool.clock.advance(1)
            do { _ = try spool.daemon.turn() } catch {
                guard error.code == .processStopped else { throw error }
            }
        }
        spool.daemon.abandon()
        try Files.write(
            Array(#"{"subject": "dog", "prompt": "x"}"#.utf8),
            root + "/lib/claims/jobs/1~20260101-000000-0123456789abcdef~late.json")
        mkdir(root + "/lib/tmp/1-draft", 0o755)
        try Files.write([1], root + "/lib/tmp/1-draft/x")
        try Files.write([1], root + "/lib/trash/1")
        return root
    }

    private static let keyed =
        #"{"subject": "dog", "prompts": ["a", "b"], "seed": 1, "idempotency_key": "k", "output": {"grid": true}}"#

    private static func files(_ root: String, _ path: String) -> [String] {
        guard Files.isFolder(root + "/" + path) else { return [path] }
        return Files.names(root + "/" + path).flatMap { files(root, path + "/" + $0) }
    }

    /// Every file below lib, receipts, cache, and status.json.
    private static func files(_ root: String) -> [String] {
        ["lib", "receipts", "cache", "status.json"].flatMap { files(root, $0) }
    }

    @Test func theSpoolHasJobsInEveryState() throws {
        let root = try Self.template()
        defer { Files.remove(root) }
        for state in JobState.allCases {
            #expect(!Files.names(root + "/lib/jobs/\(state.rawValue)").isEmpty, "\(state)")
        }
        for folder in ["keys", "leftovers", "claims/jobs", "rejected", "subjects", "cache", "references"] {
            #expect(!Files.names(root + "/lib/\(folder)").isEmpty, "\(folder)")
        }
        let client = try SpoolClient(root: root)
        #expect(try client.findings().filter { $0.level == .error } == [])
        let active = try #require(Files.names(root + "/lib/jobs/active").first)
        #expect(Files.exists(root + "/lib/jobs/active/\(active)/checkpoint"))
    }

    // MARK: - What is asked of it

    private struct Bench {
        let template: String
        let sound: [Finding]
        let files: [String]
        /// The drops and subjects of unfinished jobs, by id.
        let jobs: [String: (drop: String, subjects: [String])]
        /// The finished job that has a key.
        let keyed: String
        /// The subjects whose set a digest is.
        let sets: [String: String]

        init() throws {
            template = try DamageCampaignTests.template()
            let client = try SpoolClient(root: template)
            sound = try client.findings()
            files = DamageCampaignTests.files(template)
            jobs = Dictionary(
                uniqueKeysWithValues: try client.list([.queued, .active, .retry]).filter { $0.drop != "nobody.json" }
                    .map { ($0.id.text, ($0.drop ?? "", $0.subjects + ($0.drop == "init.json" ? ["start"] : []))) })
            keyed = try #require(try client.receipt(of: "done.json")).id.text
            var sets: [String: String] = [:]
            for name in Files.names(template + "/lib/subjects") {
                let record = try JSONReader.read(try Files.read(template + "/lib/subjects/" + name))
                for generation in record["generations"]?.array ?? [] {
                    sets[generation["references"]?.string ?? ""] = record["name"]?.string
                }
            }
            self.sets = sets
        }
    }

    /// What one damage may keep from going on: the job it is in, or the jobs of the subject it is of.
    private static func isConcerned(_ job: String, _ subjects: [String], by damage: Damage, _ bench: Bench) -> Bool {
        let parts = damage.path.split(separator: "/").map(String.init)
        guard parts.count > 2, parts[0] == "lib" else { return false }
        switch parts[1] {
        case "jobs": return parts[3] == job
        case "subjects": return subjects.contains(String(parts[2].dropLast(5)))
        case "references" where parts[3] != "set.json":
            return bench.sets[parts[2]].map(subjects.contains) ?? false
        default: return false
        }
    }

    /// Whether nothing that is kept depends on it: it informs, is somebody's own, or says the same as before.
    private static func isHarmless(_ damage: Damage, _ root: String, _ bench: Bench) -> Bool {
        let prefixes = ["lib/rejected", "lib/claims", "lib/tmp", "lib/trash", "lib/lock", "receipts", "status.json"]
        if prefixes.contains(where: damage.path.hasPrefix) { return true }
        // A drop that could not be moved, and whose record is gone, is a drop like any other.
        if damage.path.hasPrefix("lib/leftovers"), damage.kind == .removed { return true }
        if ["progress.json", "reason.json", "checkpoint"].contains(where: damage.path.hasSuffix) { return true }
        guard damage.path.hasSuffix(".json"),
            let before = try? JSONReader.read(try Files.read(bench.template + "/" + damage.path)),
            let after = try? JSONReader.read(try Files.read(root + "/" + damage.path))
        else { return false }
        func contents(_ json: JSON) -> [JSON.Member]? {
            // A seal under another name seals nothing, and what it sealed is what it was.
            guard let members = json.members else { return nil }
            return before["record_sha256"] == nil ? members : members.dropLast()
        }
        return contents(before) == contents(after)
    }

    private static func isRefusal(_ damage: Damage, _ root: String) -> Bool {
        if damage.kind == .unreadable, ["lib/VERSION", "lib/lock"].contains(damage.path) { return true }
        guard damage.path == "lib/VERSION", let bytes = try? Files.read(root + "/lib/VERSION") else { return false }
        let line = bytes.prefix { $0 != 10 }
        return !line.isEmpty && line.allSatisfy { (0x30...0x39).contains($0) } && bytes != Array("2\n".utf8)
    }

    private static func judge(_ damages: [Damage], _ bench: Bench) throws -> [String] {
        let root = Files.temporaryFolder()
        defer { Files.remove(root) }
        try Files.copy(bench.template, to: root)
        let applied = try damages.filter { try $0.apply(root) }
        guard !applied.isEmpty else { return [] }
        // A second one that is damaged in the same way, to be repaired.
        let other = Files.temporaryFolder()
        defer { Files.remove(other) }
        try Files.copy(bench.template, to: other)
        for damage in damages { _ = try damage.apply(other) }
        var faults: [String] = []
        let findings = try SpoolClient(root: root).findings()
        if findings.filter({ !bench.sound.contains($0) }).isEmpty, !applied.allSatisfy({ isHarmless($0, root, bench) })
        {
            faults.append("verify names nothing")
        }
        if applied.contains(where: { isRefusal($0, root) }) {
            // Another version is another program's; nothing of it is touched.
            let error = #expect(throws: SpoolError.self) { try TestSpool(root: root).start() }
            if error == nil { faults.append("a spool of another version, or without a lock, is not refused") }
            return faults
        }
        faults += try goingOn(root, applied, bench)
        faults += try repairing(other, applied)
        return faults
    }

    /// The daemon starts, and everything else proceeds.
    private static func goingOn(_ root: String, _ damages: [Damage], _ bench: Bench) throws -> [String] {
        var faults: [String] = []
        let spool = try TestSpool(root: root, script: .init(steps: 2)) { $0.environmentPause = 2 }
        do { try spool.start() } catch { return ["the daemon does not start: \(error)"] }
        defer { spool.daemon.abandon() }
        try spool.settle(turns: 20, step: 2)
        // Whoever drops again is served again.
        try spool.dropReferences("dog", ["a.png": Pictures.png(), "b.jpg": Pictures.jpeg()])
        try spool.dropReferences("cat", ["c.png": Pictures.png(payload: [9, 9])])
        try spool.dropReferences("fresh", ["f.png": Pictures.png(payload: [8, 8, 8])])
        for subject in ["dog", "cat", "fresh"] {
            try spool.dropManifest(#"{"subject": "\#(subject)", "prompt": "new", "seed": 5}"#, "new-\(subject).json")
        }
        try spool.dropManifest(keyed, "again.json")
        try spool.settle(turns: 20, step: 2)
        let client = try spool.client
        if !damages.contains(where: { isConcerned(bench.keyed, [], by: $0, bench) }) {
            let again = try client.receipt(of: "again.json")
            if again?.id.text != bench.keyed { faults.append("again.json: \(again?.message ?? "no receipt")") }
        }
        for subject in ["dog", "cat", "fresh"] {
            let standing = try client.standing(of: "new-\(subject).json")
            guard case .ended(.done) = standing else {
                faults.append("new-\(subject).json: \(standing)")
                continue
            }
        }
        for (id, (drop, subjects)) in bench.jobs
        where !damages.contains(where: { isConcerned(id, subjects, by: $0, bench) }) {
            let standing = try client.standing(of: id)
            guard case .ended(.done) = standing else {
                faults.append("\(drop): \(standing)")
                continue
            }
        }
        return faults
    }

    /// Repairing leaves a whole spool, and has nothing to do the second time.
    private static func repairing(_ root: String, _ damages: [Damage]) throws -> [String] {
        let client = try SpoolClient(root: root)
        let repair = try client.repaired()
        var faults = repair.left.filter { $0.level == .error }.map { "after the repair: \($0)" } + repair.refusals
        let again = try client.repaired()
        faults += again.repaired.map { "repaired again: \($0)" }
        let end = try client.findings().filter { $0.level == .error && !repair.left.contains($0) }
        faults += end.map { "in the end: \($0)" }
        let spool = try TestSpool(root: root, script: .init(steps: 2)) { $0.environmentPause = 2 }
        try spool.start()
        defer { spool.daemon.abandon() }
        try spool.dropReferences("fresh", ["f.png": Pictures.png(payload: [8, 8, 8])])
        try spool.dropManifest(#"{"subject": "fresh", "prompt": "new", "seed": 5}"#, "new.json")
        try spool.settle(turns: 5, step: 2)
        let standing = try spool.client.standing(of: "new.json")
        if case .ended(.done) = standing { return faults }
        return faults + ["after the repair, new.json: \(standing)"]
    }

    @Test func anyFileMayBeDamaged() async throws {
        let bench = try Bench()
        defer { Files.remove(bench.template) }
        let random = TestRandom(15).next
        var cases: [[Damage]] = []
        for (index, path) in bench.files.enumerated() {
            for (number, kind) in Kind.usual.enumerated()
            where CampaignTests.isFull || (index * 5 + number) % 23 == 0 {
                cases.append([Damage(path: path, kind: kind, seed: random())])
            }
        }
        for _ in 0..<(CampaignTests.isFull ? 500 : 12) {
            cases.append(
                (0..<2).map { _ in
                    Damage(
                        path: bench.files[Int((random() >> 8) % UInt64(bench.files.count))],
                        kind: Kind.usual[Int((random() >> 8) % UInt64(Kind.usual.count))], seed: random())
                })
        }
        let found = await CampaignTests.each(cases) { damages in
            let faults = try Self.judge(damages, bench)
            // A long campaign says at once what it has found.
            if CampaignTests.isFull, !faults.isEmpty { print("\(damages): \(faults)") }
            return faults
        }
        print("campaign damage: \(cases.count) damages of \(bench.files.count) files, \(found.count) faults")
        #expect(found.prefix(20) == [])
    }
}
