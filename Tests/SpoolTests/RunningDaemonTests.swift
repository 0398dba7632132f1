import CLinux
import Glibc
import Logging
import Spool
import Synchronization
import SystemPackage
import Testing

/// The real thing: threads, inotify, the machine's clock.
@Suite struct RunningDaemonTests {
    private static let job = #"{"subject": "dog", "prompt": "x", "seed": 1}"#

    private func runReal(
        _ spool: TestSpool, watcher: DirectoryWatcher = .none, renderer: StubRenderer? = nil,
        hooks: DaemonHooks = DaemonHooks(),
        _ body: (SpoolDaemon) throws -> Void
    ) throws {
        let daemon = SpoolDaemon(
            configuration: spool.configuration, renderer: renderer ?? spool.renderer, watcher: watcher, hooks: hooks,
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
        let ended = Mutex<Result<Void, SpoolError>?>(nil)
        let thread = TestThread { ended.withLock { $0 = Result { () throws(SpoolError) in try daemon.run() } } }
        defer {
            daemon.requestStop()
            thread.join()
        }
        try body(daemon)
        daemon.requestStop()
        thread.join()
        try #require(ended.withLock { $0 }).get()
    }

    @Test func theWholeThingWithThreadsAndInotify() throws {
        let spool = try TestSpool { $0.rescanInterval = 3600 }
        let socket = try NotifySocket()
        let notifier = SystemNotifier(address: socket.address)
        try runReal(spool, watcher: .inotify, hooks: .systemd(notifier)) { daemon in
            #expect(socket.receive { $0 == "READY=1" })
            notifier.sendReloading()
            daemon.reload(configuration: spool.configuration)
            #expect(socket.receive { $0.hasPrefix("RELOADING=1\nMONOTONIC_USEC=") })
            #expect(socket.receive { $0 == "READY=1" })
            // Nothing but inotify can find these within the hour.
            mkdir(spool.path("staged"), 0o755)
            try Files.write(Pictures.png(), spool.path("staged/a.png"))
            rename(spool.path("staged"), spool.path("drop/references/dog"))
            let drop = try spool.client.submit(manifest: Array(Self.job.utf8))
            let outcome = try spool.client.wait(for: drop, timeout: 30)
            guard case .done(let id, let set) = outcome else {
                Issue.record("\(outcome)")
                return
            }
            #expect(Files.names(set) == ["0000.png", "index.html", "result.json"])
            #expect(try spool.client.list().map(\.id) == [id])
            #expect(socket.receive { $0 == "WATCHDOG=1" })
        }
        #expect(socket.receive { $0 == "STOPPING=1" })
        #expect(try spool.faults(notes: true) == [])
    }

    @Test func stoppingInTheMiddleOfAnImagePutsTheJobBackAndTheNextDaemonGoesOn() throws {
        let spool = try TestSpool()
        let reached = Mailslot()
        let renderer = StubRenderer(
            try SystemCalls(root: spool.root),
            .init(
                steps: 200,
                onStep: { image, step in
                    if image == 1, step == 3 { reached.post() }
                    usleep(1000)
                }, isEager: true))
        try spool.start()
        spool.crash()
        try spool.dropReferences("dog")
        let text = #"{"subject": "dog", "prompts": ["a", "b"], "seed": 1}"#
        try spool.dropManifest(text)
        try runReal(spool, renderer: renderer) { _ in reached.wait() }
        let id = try spool.receipt("job.json").id
        #expect(spool.exists("lib/jobs/queued/\(id)/checkpoint"))
        #expect(try spool.json("lib/jobs/queued/\(id)/job.json")["attempts"]?["total"]?.integer == 0)
        try runReal(spool, renderer: renderer) { _ in
            let outcome = try spool.client.wait(for: id.text, timeout: 30)
            #expect(outcome == .done(id, set: spool.path("out/\(id)")))
        }
        #expect(renderer.log.withLock { $0.resumedAt.count } == 1)
        for (index, prompt) in ["a", "b"].enumerated() {
            let expected = StubRenderer.expected(.init(index: index, prompt: prompt, seed: 1 + index), steps: 200)
            #expect(try spool.read("out/\(id)/000\(index).png") == expected)
        }
    }

    @Test func aRendererThatDoesNotHearIsLeftBehind() throws {
        let spool = try TestSpool { $0.stopLimit = 0.3 }
        let (reached, release) = (Mailslot(), Mailslot())
        let renderer = StubRenderer(
            try SystemCalls(root: spool.root),
            .init(onStep: { _, _ in
                reached.post()
                release.wait()
            }))
        try spool.start()
        spool.crash()
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.job)
        try runReal(spool, renderer: renderer) { _ in reached.wait() }
        release.post()
        #expect(spool.names("lib/jobs/queued").count == 1)
        #expect(spool.names("lib/jobs/active") == [])
    }

    @Test func withoutAWatcherDropsAreFoundByPolling() throws {
        let spool = try TestSpool { configuration in
            configuration.rescanInterval = 3600
            configuration.polling = true
        }
        try runReal(spool, watcher: .inotify) { _ in
            while try spool.client.status() == nil { usleep(1000) }
            let drop = try spool.client.submit(manifest: Array(#"{"subject": "a"}"#.utf8))
            guard case .rejected = try spool.client.wait(for: drop, timeout: 10) else {
                Issue.record("not refused")
                return
            }
            #expect(try spool.client.status()?["watching"]?.string == "polling")
        }
    }

    /// A renderer that hangs must let the watchdog bite; one that reports must not.
    @Test func theWatchdogIsFedByProgressAlone() throws {
        let release = Mailslot()
        let isReached = Mutex(false)
        let alive = Mutex(0)
        let spool = try TestSpool(
            script: .init(onStep: { _, step in
                guard step == 1 else { return }
                isReached.withLock { $0 = true }
                release.wait()
            }), worker: .thread(name: "slow"), hooks: DaemonHooks(alive: { alive.withLock { $0 += 1 } }))
        func turns(_ count: Int) throws -> Int {
            let before = alive.withLock { $0 }
            for _ in 0..<count {
                spool.clock.advance(2)
                _ = try spool.daemon.turn()
            }
            return alive.withLock { $0 } - before
        }
        try spool.start()
        #expect(try turns(10) == 10, "an idle daemon is well")
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.job)
        while !isReached.withLock({ $0 }) { _ = try turns(1) }
        _ = try turns(1)
        #expect(try turns(10) == 0, "a renderer that hangs is not")
        release.post()
        while spool.names("out") == [] { _ = try turns(1) }
        #expect(try turns(10) == 10)
    }

    @Test func aWaitWithoutADaemonEnds() throws {
        let spool = try TestSpool()
        try spool.start()
        spool.daemon.abandon()
        let drop = try spool.client.submit(manifest: Array(Self.job.utf8), name: "x")
        #expect(drop == "x.json")
        let error = #expect(throws: SpoolError.self) { try spool.client.wait(for: drop, grace: 0.05) }
        #expect(error?.exitCode == 75)
        let unknown = #expect(throws: SpoolError.self) { try spool.client.wait(for: "nothing") }
        #expect(unknown?.exitCode == 5)
    }

    /// The kernel's queue of events cut to 16, and then no watch allowed at all: drops are found all the same. It changes
    /// the machine's settings for a moment, so only the full campaign does it.
    @Test(.enabled(if: CampaignTests.isFull && getuid() == 0, "it changes limits of inotify, in campaigns of root"))
    func aFullEventQueueAndNoWatchesLoseNothing() throws {
        func setting(_ name: String, _ value: String) throws -> String {
            let path = "/proc/sys/fs/inotify/" + name
            let before = String(decoding: try Files.read(path), as: UTF8.self)
            try Files.write(Array(value.utf8), path)
            return before
        }
        func dropMany(_ spool: TestSpool, _ count: Int) throws {
            for number in 0..<count { try Files.write(Array("[]".utf8), spool.path("drop/jobs/\(number).json")) }
            let end = SpoolClock.system.monotonic() + 60
            while spool.names("receipts").count < count, SpoolClock.system.monotonic() < end { usleep(10_000) }
            #expect(spool.names("receipts").count == count)
        }
        let queue = try TestSpool { $0.rescanInterval = 3600 }
        let queueBefore = try setting("max_queued_events", "16")
        try runReal(queue, watcher: .inotify) { _ in
            while try queue.client.status() == nil { usleep(1000) }
            _ = try setting("max_queued_events", queueBefore)
            try dropMany(queue, 3000)
        }
        let watches = try TestSpool { $0.rescanInterval = 3600 }
        let watchesBefore = try setting("max_user_watches", "0")
        defer { _ = try? setting("max_user_watches", watchesBefore) }
        try runReal(watches, watcher: .inotify) { _ in
            while try watches.client.status() == nil { usleep(1000) }
            #expect(try watches.client.status()?["watching_reason"]?.string?.contains("cannot be watched") == true)
            try dropMany(watches, 10)
        }
    }

    /// READY=1 means that recovery is complete: what a crash has left is cleared away and answered by then.
    @Test func readyIsSaidAfterRecovery() throws {
        let spool = try TestSpool()
        try spool.start()
        spool.crash()
        try Files.write([1], spool.path("lib/tmp/1-left"))
        let claim = "1~20260101-000000-0123456789abcdef~late.json"
        try Files.write(Array(Self.job.utf8), spool.path("lib/claims/jobs/" + claim))
        let found = Mutex<[String]?>(nil)
        let root = spool.root
        let isReady = Mailslot()
        let hooks = DaemonHooks(ready: {
            // On the daemon's own thread: nothing can happen between this and what is seen.
            found.withLock {
                $0 = ["lib/tmp", "lib/claims/jobs", "receipts", "lib/jobs/queued"].flatMap {
                    Files.names(root + "/" + $0)
                }
            }
            isReady.post()
        })
        try runReal(spool, hooks: hooks) { _ in isReady.wait() }
        #expect(found.withLock { $0 } == ["late.json.json", "20260101-000000-0123456789abcdef"])
    }
}

/// A thread a test can wait for.
final class TestThread: Sendable {
    private let done = Mailslot()
    private let isJoined = Mutex(false)
    init(_ body: @escaping @Sendable () -> Void) {
        let done = done
        do throws(SpoolError) {
            try Worker.thread(name: "test").run {
                body()
                done.post()
            }
        } catch {
            Issue.record("no thread for a test: \(error)")
            done.post()
        }
    }
    func join() {
        if isJoined.withLock({ joined in
            defer { joined = true }; return joined
        }) {
            return
        }
        done.wait()
    }
}

/// Something one thread waits for and another lets happen.
final class Mailslot: Sendable {
    private let descriptor = clinux_event_descriptor()
    deinit { close(descriptor) }
    func post() {
        var one: UInt64 = 1
        _ = write(descriptor, &one, 8)
    }
    func wait() {
        var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        #expect(poll(&event, 1, 60_000) == 1, "nothing happened within a minute")
    }
}

/// systemd's side of sd_notify, in the abstract namespace.
final class NotifySocket: Sendable {
    let address: String
    private let descriptor: Int32

    init() throws {
        address = "@dreamcache-test-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        descriptor = clinux_bind_datagram(address)
        try #require(descriptor >= 0)
    }

    deinit { close(descriptor) }

    /// Whether a message like that comes within 20 s; those before it are dropped.
    func receive(_ isIt: (String) -> Bool) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&event, 1, 20_000) == 1 else { return false }
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count > 0, isIt(String(decoding: buffer[..<count], as: UTF8.self)) { return true }
        }
    }
}
