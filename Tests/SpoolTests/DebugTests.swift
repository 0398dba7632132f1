import Spool
import SystemPackage
import Testing
@Suite struct DebugTests {
    @Test func debug() throws {
        for (n, e, g) in [(329, Errno.ioError, false), (297, .tooManyOpenFiles, true)] {
            let scenario = try Scenario()
            let gate = FaultGate(.fail(at: n, e, forGood: g))
            let ending = try scenario.run(gate, mendAfter: g ? 20 : nil)
            print(ending, gate.hit as Any, gate.hits)
            print(try SpoolClient(root: scenario.root).list().map { "\($0)" })
            for d in ["out", "lib/jobs/done", "lib/jobs/active", "lib/jobs/queued", "lib/jobs/quarantine", "lib/tmp"] { print(d, Files.names(scenario.root + "/" + d)) }
            do { print(try scenario.faults()) } catch { print("E", error) }
            for i in Files.names(scenario.root + "/lib/jobs/done") { print(String(decoding: try Files.read(scenario.root + "/lib/jobs/done/\(i)/job.json"), as: UTF8.self)) }
        }
    }
}
