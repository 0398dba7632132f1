import Spool
import Testing

/// The queue's decisions, without a disk, a thread or a clock.
@Suite struct QueueMachineTests {
    typealias Machine = QueueMachine

    static func id(_ name: String) throws -> JobID { try #require(JobID(name)) }

    static func machine(_ change: (inout SpoolConfiguration) -> Void = { _ in }) -> Machine {
        var configuration = SpoolConfiguration(root: "/")
        change(&configuration)
        var machine = Machine(limits: .init(configuration))
        _ = machine.handle(.subject("dog", .ready), now: 0)
        return machine
    }

    static func entry(
        _ name: String, _ sequence: Int, priority: Int = 0, subjects: [String] = ["dog"], images: Int = 1,
        attempts: JobRecord.Attempts = .init()
    ) throws -> Machine.Entry {
        Machine.Entry(
            id: try id(name), sequence: sequence, priority: priority, subjects: subjects, images: images,
            attempts: attempts)
    }

    static func begun(_ actions: [Machine.Action]) -> String? {
        for case .begin(let id, _) in actions { return id.text }
        return nil
    }

    @Test func aJobRunsThroughItsSteps() throws {
        var machine = Self.machine()
        let a = try Self.id("a")
        #expect(machine.handle(.queued(try Self.entry("a", 1, images: 2)), now: 0) == [])
        let first = JobRecord.Attempts().begun(at: .init())
        #expect(machine.handle(.tick, now: 0) == [.begin(a, first), .work(.job(a, .cache(0)))])
        #expect(machine.handle(.worked, now: 1) == [.commit(.job(a, .cache(0))), .work(.job(a, .image(0)))])
        #expect(machine.handle(.worked, now: 2) == [.commit(.job(a, .image(0))), .work(.job(a, .image(1)))])
        #expect(machine.handle(.worked, now: 3) == [.commit(.job(a, .image(1))), .publish(a)])
        #expect(machine.jobs.isEmpty)
        #expect(machine.handle(.stop, now: 4) == [.exit])
    }

    @Test func orderIsPriorityThenArrival() throws {
        var machine = Self.machine()
        for (name, sequence, priority) in [("late", 3, 0), ("early", 1, 0), ("urgent", 9, 5)] {
            _ = machine.handle(.queued(try Self.entry(name, sequence, priority: priority)), now: 0)
        }
        #expect(Self.begun(machine.handle(.tick, now: 0)) == "urgent")
        _ = machine.handle(.worked, now: 1)
        #expect(Self.begun(machine.handle(.worked, now: 1)) == "early")
        _ = machine.handle(.worked, now: 1)
        #expect(Self.begun(machine.handle(.worked, now: 1)) == "late")
    }

    @Test func waitingLongCountsAsPriority() throws {
        var machine = Self.machine { $0.agingInterval = 100 }
        _ = machine.handle(.queued(try Self.entry("old", 1, priority: -1)), now: 0)
        _ = machine.handle(.queued(try Self.entry("young", 2, priority: 0)), now: 250)
        #expect(Self.begun(machine.handle(.tick, now: 250)) == "old")
    }

    @Test func aHigherPriorityTakesOverBetweenTwoImagesAndCostsNoAttempt() throws {
        var machine = Self.machine()
        let long = try Self.id("long")
        _ = machine.handle(.queued(try Self.entry("long", 1, images: 9)), now: 0)
        _ = machine.handle(.tick, now: 0)
        _ = machine.handle(.worked, now: 1)
        _ = machine.handle(.queued(try Self.entry("urgent", 2, priority: 1)), now: 1)
        let actions = machine.handle(.worked, now: 2)
        #expect(actions.first == .commit(.job(long, .image(0))))
        #expect(actions.contains(.release(long, .init())))
        #expect(Self.begun(actions) == "urgent")
    }

    @Test func aJobOfEqualPriorityDoesNotTakeOver() throws {
        var machine = Self.machine()
        _ = machine.handle(.queued(try Self.entry("first", 1, images: 2)), now: 0)
        _ = machine.handle(.tick, now: 0)
        _ = machine.handle(.queued(try Self.entry("second", 2)), now: 9_999_999)
        #expect(Self.begun(machine.handle(.worked, now: 9_999_999)) == nil)
    }

    @Test func failuresBackOffAndEndInQuarantine() throws {
        var machine = Self.machine()
        let a = try Self.id("a")
        _ = machine.handle(.queued(try Self.entry("a", 1)), now: 0)
        var now = 0.0
        #expect(Self.begun(machine.handle(.tick, now: now)) == "a")
        for pause in [30.0, 60.0] {
            #expect(machine.handle(.failed(.transient(message: "x")), now: now) == [.postpone(a, reason: "x")])
            #expect(machine.nextDeadline == now + pause)
            #expect(machine.handle(.tick, now: now + pause - 0.1) == [])
            now += pause
            let actions = machine.handle(.tick, now: now)
            #expect(actions.first == .ripen(a))
            #expect(Self.begun(actions) == "a")
        }
        #expect(
            machine.handle(.failed(.transient(message: "x")), now: now)
                == [.quarantine(a, reason: "3 attempts without progress; the last: x")])
    }

    @Test func progressMakesAttemptsCountAnew() {
        var attempts = JobRecord.Attempts()
        for _ in 0..<3 { attempts = attempts.begun(at: .init(images: 0, step: 5)) }
        #expect((attempts.total, attempts.fruitless) == (3, 3))
        attempts = attempts.begun(at: .init(images: 0, step: 6))
        #expect((attempts.total, attempts.fruitless) == (4, 1))
    }

    @Test func aJobThatEndedTheDaemonThriceIsPoison() throws {
        var machine = Self.machine()
        var attempts = JobRecord.Attempts()
        for _ in 0..<3 { attempts = attempts.begun(at: .init()) }
        _ = machine.handle(.queued(try Self.entry("poison", 1, attempts: attempts)), now: 0)
        _ = machine.handle(.queued(try Self.entry("next", 2)), now: 0)
        let actions = machine.handle(.tick, now: 0)
        guard case .quarantine(let id, _)? = actions.first else { throw Failure() }
        #expect(id.text == "poison")
        #expect(Self.begun(actions) == "next")
    }

    struct Failure: Error {}

    @Test(arguments: [RendererError.environment(message: "disk full"), .stopped])
    func theMachinesTroubleConsumesNoAttempt(_ error: RendererError) throws {
        var machine = Self.machine()
        let a = try Self.id("a")
        _ = machine.handle(.queued(try Self.entry("a", 1)), now: 0)
        _ = machine.handle(.tick, now: 0)
        _ = machine.handle(.failed(error), now: 0)
        #expect(machine.jobs[a]?.entry.attempts.total == (error == .stopped ? 1 : 0))
        if error != .stopped {
            #expect(machine.handle(.tick, now: 9) == [])
            let actions = machine.handle(.tick, now: 10)
            #expect(actions.first == .begin(a, JobRecord.Attempts().begun(at: .init())))
        }
    }

    /// An encoding that the machine or the model keeps from ending is tried after longer and longer pauses, as a job is.
    @Test(arguments: [(RendererError.unavailable(message: "no model"), 30.0), (.environment(message: "no memory"), 10)])
    func anEncodingThatIsHeldIsTriedLessAndLessOften(_ error: RendererError, _ first: Double) throws {
        var machine = Self.machine { $0.maximumBackoff = 100 }
        _ = machine.handle(.subject("cat", .pending(notBefore: 0)), now: 0)
        var now = 0.0
        for pause in [first, 2 * first, 4 * first] {
            #expect(machine.handle(.tick, now: now).first == .beginEncoding("cat", attempts: 1), "\(now)")
            _ = machine.handle(.failed(error), now: now)
            let moment = now + min(pause, 100)
            switch machine.subjects["cat"] {
            case .pending(moment, _, attempts: 0), .held(moment, _, attempts: 0): break
            case let other: Issue.record("\(String(describing: other)), expected \(moment)")
            }
            now += 1000
        }
    }

    /// What is in trouble alone is held alone, however often.
    @Test func oneThingInTroubleHoldsNobodyElse() throws {
        var machine = Self.machine()
        _ = machine.handle(.subject("cat", .pending(notBefore: 0)), now: 0)
        var now = 0.0
        for number in 0..<5 {
            #expect(machine.handle(.tick, now: now).first == .beginEncoding("cat", attempts: 1))
            _ = machine.handle(.failed(.environment(message: "no memory")), now: now)
            _ = machine.handle(.queued(try Self.entry("job\(number)", number)), now: now)
            #expect(Self.begun(machine.handle(.tick, now: now)) == "job\(number)")
            _ = machine.handle(.cancel(try Self.id("job\(number)")), now: now)
            _ = machine.handle(.failed(.stopped), now: now)
            now += 1000
        }
    }

    /// Three things in trouble hold the machine; then the one that had no trouble yet is tried, not the three again.
    @Test func afterTroubleWhatHadLeastOfItIsTriedFirst() throws {
        var machine = Self.machine { $0.environmentPause = 10 }
        for name in ["a", "b", "c"] { _ = machine.handle(.subject(name, .pending(notBefore: 0, owner: 7)), now: 0) }
        _ = machine.handle(.tick, now: 0)
        for _ in 0..<3 { _ = machine.handle(.failed(.environment(message: "no memory")), now: 0) }
        // Of an owner who has had much of the machine, so that by turns it would be the last.
        _ = machine.handle(.queued(try Self.entry("good", 1)), now: 0)
        #expect(Self.begun(machine.handle(.tick, now: 9)) == nil)
        #expect(Self.begun(machine.handle(.tick, now: 10)) == "good")
        #expect(machine.handle(.worked, now: 11).last == .work(.job(try Self.id("good"), .image(0))))
        _ = machine.handle(.worked, now: 12)
        #expect(machine.obstacle(to: try Self.entry("next", 2)) == nil)
    }

    /// A picture that makes its decoder run out of memory each time is refused in the end, but only where the machine does
    /// other work all the while; else it waits for as long as it takes.
    @Test(arguments: [true, false]) func aSubjectThatIsAlwaysInTroubleIsRefused(_ isAlone: Bool) throws {
        var machine = Self.machine()
        _ = machine.handle(.subject("cat", .pending(notBefore: 0)), now: 0)
        var refusals: [Machine.Action] = []
        var tries = 0
        for number in 0..<20 {
            let now = Double(number) * 1000
            if machine.handle(.tick, now: now).contains(.work(.encode("cat"))) { tries += 1 }
            if machine.work == .encode("cat") {
                refusals += machine.handle(.failed(.environment(message: "no memory")), now: now).filter {
                    if case .rejectSubject = $0 { true } else { false }
                }
            }
            guard isAlone else { continue }
            _ = machine.handle(.queued(try Self.entry("job\(number)", number)), now: now)
            _ = machine.handle(.tick, now: now)
            while machine.active != nil { _ = machine.handle(.worked, now: now) }
        }
        #expect(tries == (isAlone ? 9 : 20))
        let reason = "its encoding failed 9 times while other work went on; the last: no memory"
        #expect(refusals == (isAlone ? [.rejectSubject("cat", reason: reason)] : []))
    }

    @Test func referencesAreEncodedBeforeJobsAndJobsWaitForThem() throws {
        var machine = Self.machine()
        _ = machine.handle(.queued(try Self.entry("j", 1, subjects: ["cat"])), now: 0)
        #expect(machine.handle(.tick, now: 0) == [])
        #expect(
            machine.waiting(for: try Self.entry("j", 1, subjects: ["cat"])) == "waiting for references of subject 'cat'"
        )
        #expect(
            machine.waiting(for: try Self.entry("k", 2, subjects: ["cat", "bird"]))
                == "waiting for references of subjects 'cat', 'bird'")
        _ = machine.handle(.subject("cat", .pending(notBefore: 0)), now: 0)
        #expect(
            machine.handle(.tick, now: 0) == [.beginEncoding("cat", attempts: 1), .work(.encode("cat"))])
        let actions = machine.handle(.worked, now: 1)
        #expect(actions.first == .commit(.encode("cat")))
        #expect(Self.begun(actions) == "j")
    }

    @Test func cancellingWorksInEveryStanding() throws {
        let a = try Self.id("a")
        var queued = Self.machine()
        _ = queued.handle(.queued(try Self.entry("a", 1)), now: 0)
        var active = queued
        #expect(queued.handle(.cancel(a), now: 0) == [.fail(a, reason: "cancelled")])
        _ = active.handle(.tick, now: 0)
        var finishing = active
        #expect(active.handle(.cancel(a), now: 0) == [.interrupt])
        #expect(active.handle(.cancel(a), now: 0) == [])
        #expect(active.handle(.failed(.stopped), now: 0) == [.fail(a, reason: "cancelled")])
        // The worker was done before it heard.
        _ = finishing.handle(.cancel(a), now: 0)
        #expect(finishing.handle(.worked, now: 0) == [.commit(.job(a, .cache(0))), .fail(a, reason: "cancelled")])
    }

    @Test func stoppingReleasesTheJobAndExitsOnce() throws {
        var machine = Self.machine()
        let a = try Self.id("a")
        _ = machine.handle(.queued(try Self.entry("a", 1)), now: 0)
        _ = machine.handle(.tick, now: 0)
        #expect(machine.handle(.stop, now: 0) == [.interrupt])
        #expect(machine.handle(.failed(.stopped), now: 0) == [.release(a, .init()), .exit])
        #expect(machine.handle(.tick, now: 99) == [])
    }

    @Test func nothingBeginsUnderPressure() throws {
        var machine = Self.machine()
        _ = machine.handle(.mayStart(false), now: 0)
        _ = machine.handle(.queued(try Self.entry("a", 1)), now: 0)
        #expect(machine.handle(.tick, now: 0) == [])
        _ = machine.handle(.mayStart(true), now: 1)
        #expect(Self.begun(machine.handle(.tick, now: 1)) == "a")
    }

    /// A long walk through events at random: never two jobs active, never work without a job, every job ends once.
    @Test func invariantsHoldOnARandomWalk() throws {
        let random = TestRandom(11).next
        for _ in 0..<200 {
            var machine = Self.machine { $0.maximumAttempts = 2 }
            var ended: [JobID: Int] = [:]
            var waitingToSettle: [JobID: JobRecord.Attempts] = [:]
            var now = 0.0
            var sequence = 0
            for _ in 0..<200 {
                now += Double(random() % 50)
                let jobs = machine.jobs.keys.sorted()
                var event: Machine.Event
                switch random() % 10 {
                case 0:
                    sequence += 1
                    event = .queued(
                        try Self.entry(
                            "j\(sequence)", sequence, priority: Int(random() % 3), images: 1 + Int(random() % 3)))
                case 1 where !jobs.isEmpty: event = .cancel(jobs[Int(random() % UInt64(jobs.count))])
                case 2 where machine.work != nil: event = .failed(.transient(message: "t"))
                case 3 where machine.work != nil: event = .failed(.environment(message: "e"))
                case 4 where machine.active != nil: event = .storageFailed(try #require(machine.active))
                case 5 where !waitingToSettle.isEmpty:
                    let (id, attempts) = try #require(waitingToSettle.min { $0.key < $1.key })
                    waitingToSettle[id] = nil
                    guard case .unsettled = machine.jobs[id]?.standing else { continue }
                    event = .settled(
                        id,
                        machine.jobs[id].map { entry, _ in
                            var entry = entry
                            entry.attempts = attempts
                            return entry
                        })
                case 6...8 where machine.work != nil: event = .worked
                default: event = .tick
                }
                if case .worked = event, machine.work == nil { event = .tick }
                for action in machine.handle(event, now: now) {
                    switch action {
                    case .publish(let id), .fail(let id, _), .quarantine(let id, _): ended[id, default: 0] += 1
                    case .settle(let id, let attempts): waitingToSettle[id] = attempts
                    default: break
                    }
                }
                let active = machine.jobs.values.filter { if case .active = $0.standing { true } else { false } }
                #expect(active.count <= 1)
                #expect(active.first?.entry.id == machine.active)
                if case .job(let id, _) = machine.work { #expect(id == machine.active) }
            }
            #expect(ended.values.allSatisfy { $0 == 1 })
        }
    }
}
