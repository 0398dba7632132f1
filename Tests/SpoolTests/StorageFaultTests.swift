import Glibc
import Spool
import Synchronization
import SystemPackage
import Testing

/// What a disk that does not obey must lead to: a failed sync is never tried again on the same file, since the kernel may
/// have dropped its pages and called them clean; two in a row end the daemon.
@Suite struct StorageFaultTests {
    /// Fails syncs, and notes every call.
    private final class SyncFaults: Sendable {
        private struct State: Sendable {
            var calls: [SystemCall] = []
            var syncs = 0
            /// The position of the first sync that failed.
            var failedAt: Int?
            var isMended = false
        }
        private let state = Mutex(State())
        private let first: Int
        private let forGood: Bool

        init(from first: Int, forGood: Bool) {
            self.first = first
            self.forGood = forGood
        }

        func mend() { state.withLock { $0.isMended = true } }
        /// The call that failed first, and all that were made after it.
        var failure: (call: SystemCall, after: [SystemCall])? {
            state.withLock { state in
                state.failedAt.map { (state.calls[$0], Array(state.calls[($0 + 1)...])) }
            }
        }
        var syncs: Int { state.withLock { $0.syncs } }

        var gate: SystemGate {
            SystemGate { [self] call in
                state.withLock { state in
                    state.calls.append(call)
                    switch call {
                    case .sync, .syncDirectory, .syncFileSystem: break
                    default: return .proceed
                    }
                    defer { state.syncs += 1 }
                    guard !state.isMended, state.syncs == first || forGood && state.syncs > first else {
                        return .proceed
                    }
                    if state.failedAt == nil { state.failedAt = state.calls.count - 1 }
                    return .fail(.ioError)
                }
            }
        }
    }

    /// Takes turns until everything is done or the daemon gives up; returns what it gave up for.
    private func run(_ scenario: Scenario, _ faults: SyncFaults) throws -> SpoolError? {
        do {
            let spool = try scenario.daemon(faults.gate)
            defer { spool.daemon.abandon() }
            try spool.start()
            for _ in 0..<60 {
                scenario.clock.advance(1)
                _ = try spool.daemon.turn()
            }
            return nil
        } catch let error as SpoolError {
            return error
        }
    }

    @Test func aFailedSyncIsNeverTriedAgainOnTheSameFile() throws {
        let clean = try Scenario()
        defer { clean.remove() }
        let none = SyncFaults(from: .max, forGood: false)
        #expect(try run(clean, none) == nil)
        #expect(none.syncs > 20)
        for n in 0..<none.syncs {
            let scenario = try Scenario()
            defer { scenario.remove() }
            let faults = SyncFaults(from: n, forGood: false)
            #expect(try run(scenario, faults) == nil)
            #expect(try scenario.faults() == [], "sync \(n)")
            let (failed, after) = try #require(faults.failure)
            // A folder is synced anew, which asks for its names again; of a file only its writer can make a new one.
            if case .sync = failed { #expect(!after.contains(failed), "\(failed) was synced again") }
        }
    }

    @Test func twoFailedSyncsInARowEndTheDaemonAndItClaimsNothingMore() throws {
        let clean = try Scenario()
        defer { clean.remove() }
        let none = SyncFaults(from: .max, forGood: false)
        #expect(try run(clean, none) == nil)
        for n in stride(from: 0, to: none.syncs, by: 3) {
            let scenario = try Scenario()
            defer { scenario.remove() }
            let faults = SyncFaults(from: n, forGood: true)
            let error = try #require(try run(scenario, faults))
            #expect(error.code == .storageFault)
            #expect(error.exitCode == 74)
            #expect(error.description.contains("two syncs in a row failed"))
            for case .rename(let from, _, _) in try #require(faults.failure).after {
                #expect(!from.string.hasPrefix("drop/"), "\(from) was claimed after the failure")
            }
            // A disk that obeys again finds everything.
            #expect(try scenario.run(FaultGate()) == .finished)
            #expect(try scenario.faults() == [], "sync \(n) and on")
        }
    }

    /// Drops are taken by renaming, which cannot cross file systems.
    @Test(.enabled(if: Mount.isAllowed, "it mounts a file system, which needs root"))
    func aSpoolOverTwoFileSystemsIsRefused() throws {
        let spool = try TestSpool()
        try spool.start()
        spool.crash()
        let path = spool.path("drop/jobs")
        try #require(mount("tmpfs", path, "tmpfs", 0, "size=1M") == 0)
        defer { umount2(path, Int32(MNT_DETACH)) }
        let error = #expect(throws: SpoolError.self) { try spool.start() }
        #expect(error?.exitCode == 78)
        #expect(error?.description.contains("drop/jobs") == true)
        #expect(error?.description.contains("found another file system") == true)
    }
}
