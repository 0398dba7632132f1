import Foundation
import Golden
import Raster
import Testing

/// The real daemon, real files, real signals. One test at a time: each has two cores' worth of work.
@Suite(.serialized) struct DaemonTests {
    let picture = URL(fileURLWithPath: Golden.path("reference.png"))

    func manifest(_ subject: String, seed: Int = 5, images: Int = 1, steps: Int = 3) -> String {
        #"""
        {"subject": "\#(subject)", "prompt": "a backpack on the beach", "seed": \#(seed),
         "num_images_per_prompt": \#(images), "num_inference_steps": \#(steps)}
        """#
    }

    /// Drops a folder of two pictures by renaming it in.
    func dropSubject(_ name: String, _ place: Workplace) throws {
        let folder = place.folder.appendingPathComponent("pictures-\(name)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        try FileManager.default.copyItem(at: picture, to: folder.appendingPathComponent("0.png"))
        let jpeg = try Raster.decode(path: picture.path).encodedJPEG(quality: 90)
        try Data(jpeg).write(to: folder.appendingPathComponent("1.jpg"))
        try FileManager.default.moveItem(
            at: folder, to: place.folder.appendingPathComponent("spool/drop/references/\(name)"))
    }

    @Test func everyWayOfDroppingGivesACache() throws {
        let place = try Workplace()
        let daemon = try place.startDaemon()
        let drops = place.folder.appendingPathComponent("spool/drop/references")
        try dropSubject("renamed", place)
        let source = place.folder.appendingPathComponent("source")
        try FileManager.default.createDirectory(at: source, withIntermediateDirectories: false)
        try FileManager.default.copyItem(at: picture, to: source.appendingPathComponent("photo.png"))
        _ = try Workplace.run("/bin/cp", ["-r", source.path, drops.appendingPathComponent("copied").path])
        // Equal pictures share a cache, so this one is not equal.
        let jpeg = place.folder.appendingPathComponent("single.jpg")
        try Data(try Raster.decode(path: picture.path).encodedJPEG(quality: 80)).write(to: jpeg)
        _ = try Workplace.run("/bin/cp", [jpeg.path, drops.path])
        for subject in ["renamed", "copied", "single"] {
            let cache = place.path("spool/cache/\(subject).dcache")
            try place.eventually("a cache of \(subject)") { FileManager.default.fileExists(atPath: cache) }
            let described = try Workplace.run(
                Workplace.programs.appendingPathComponent("dreamcache").path, ["inspect", cache])
            #expect(described.output.contains("dreamcache.subject: \(subject)"), "\(described.errors)")
        }
        #expect(daemon.stop() == 0)
        #expect(try place.dreamcache("verify").status == 0)
    }

    @Test func aManifestWaitsForItsSubjectAndSaysSo() throws {
        let place = try Workplace()
        let daemon = try place.startDaemon()
        try place.drop(Data(manifest("latecomer").utf8), as: "jobs/early.json")
        try place.eventually("the receipt names the subject") { place.receipt("early.json").contains("latecomer") }
        try place.eventually("status says what is waited for") {
            try place.dreamcache("status").output.contains("latecomer")
        }
        try dropSubject("latecomer", place)
        let done = try place.dreamcache("wait", "early", "--timeout", "60")
        #expect(done.status == 0, "\(done.errors)")
        let set = done.output.trimmingCharacters(in: .whitespacesAndNewlines)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: set).sorted()
                == ["0000.png", "index.html", "result.json"])
        #expect(daemon.stop() == 0)
    }

    @Test func whatIsWrongIsNamedAndTheDaemonGoesOn() throws {
        let place = try Workplace(configuration: "")
        let daemon = try place.startDaemon()
        // A malformed manifest.
        try place.drop(Data(#"{"subject": "cat", "prompt": "x", "seed": "seven"}"#.utf8), as: "jobs/malformed.json")
        let malformed = try place.dreamcache("wait", "malformed", "--timeout", "30")
        #expect(malformed.status == 4)
        #expect(malformed.output.contains("$.seed"))
        // A truncated JPEG.
        let jpeg = Data(try Raster.decode(path: picture.path).encodedJPEG(quality: 90))
        let folder = place.folder.appendingPathComponent("torn")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        try jpeg.prefix(jpeg.count / 2).write(to: folder.appendingPathComponent("half.jpg"))
        try FileManager.default.moveItem(
            at: folder, to: place.folder.appendingPathComponent("spool/drop/references/torn"))
        try place.eventually("the receipt names the file", within: 90) {
            place.receipt("torn").contains("half.jpg") && place.receipt("torn").contains("rejected")
        }
        // An unknown model.
        try place.drop(
            Data(#"{"subject": "cat", "prompt": "x", "model": "sd99"}"#.utf8), as: "jobs/unknown-model.json")
        let model = try place.dreamcache("wait", "unknown-model", "--timeout", "30")
        #expect(model.status == 4 && model.output.contains("sd99"), "\(model.output) \(model.errors)")
        #expect(try place.dreamcache("wait", "never-dropped").status == 5)
        // And a good one after all of them.
        try dropSubject("cat", place)
        try place.drop(Data(manifest("cat").utf8), as: "jobs/good.json")
        #expect(try place.dreamcache("wait", "good", "--timeout", "60").status == 0)
        #expect(daemon.isRunning)
        #expect(daemon.stop() == 0)
    }

    @Test func aModelWithAMissingTensorHoldsTheJobAndSaysWhy() throws {
        let place = try Workplace(checkpoint: BrokenCheckpoint.make)
        let daemon = try place.startDaemon()
        try dropSubject("cat", place)
        try place.drop(Data(manifest("cat").utf8), as: "jobs/broken.json")
        try place.eventually("the receipt names the tensor") {
            place.receipt("broken.json").contains(BrokenCheckpoint.missing)
        }
        #expect(place.receipt("broken.json").contains("waiting"))
        #expect(try place.dreamcache("list").output.contains(BrokenCheckpoint.missing))
        #expect(daemon.isRunning)
        #expect(daemon.stop() == 0)
    }

    @Test func aKilledSetIsCompletedWithTheSameBytes() throws {
        let undisturbed = try Workplace()
        let killed = try Workplace()
        let text = manifest("cat", images: 3, steps: 20)
        var sets: [[Data]] = []
        for place in [undisturbed, killed] {
            var daemon = try place.startDaemon()
            try dropSubject("cat", place)
            try place.drop(Data(text.utf8), as: "jobs/set.json")
            if place === killed {
                // Once in the middle of the first image, once after it.
                for (image, step) in [(0, 2), (1, 0)] {
                    try place.eventually("image \(image), step \(step)") {
                        let now = place.progress
                        return now.image > image || (now.image == image && now.step >= step)
                    }
                    daemon.kill9()
                    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("spool/out")).isEmpty)
                    daemon = try place.startDaemonAtWork()
                }
            }
            let done = try place.dreamcache("wait", "set", "--timeout", "120")
            #expect(done.status == 0, "\(done.errors)")
            sets.append(try place.images(done.output.trimmingCharacters(in: .whitespacesAndNewlines)))
            #expect(daemon.stop() == 0)
            #expect(try place.dreamcache("verify").status == 0)
        }
        #expect(sets[0].count == 3)
        #expect(sets[0] == sets[1])
    }

    @Test func imagesOfOneManifestEqualThoseOfTwo() throws {
        let place = try Workplace(configuration: "")
        let daemon = try place.startDaemon()
        try dropSubject("cat", place)
        var sets: [[Data]] = []
        for (name, seed, images) in [("both", 11, 2), ("first", 11, 1), ("second", 12, 1)] {
            let text = manifest("cat", seed: seed, images: images)
                .replacingOccurrences(of: "\"seed\"", with: #""output": {"metadata": "none"}, "seed""#)
            try place.drop(Data(text.utf8), as: "jobs/\(name).json")
            let done = try place.dreamcache("wait", name, "--timeout", "60")
            #expect(done.status == 0, "\(done.errors)")
            sets.append(try place.images(done.output.trimmingCharacters(in: .whitespacesAndNewlines)))
        }
        #expect(sets[0] == sets[1] + sets[2])
        #expect(daemon.stop() == 0)
    }

    @Test func systemdHearsOfReadinessReloadingAndTheEnd() throws {
        let place = try Workplace()
        let socket = try NotifySocket(path: place.path("notify"))
        let daemon = try place.startDaemon(environment: ["NOTIFY_SOCKET": socket.path])
        _ = try socket.message(containing: "READY=1")
        daemon.signal(SIGHUP)
        #expect(try socket.message(containing: "RELOADING=1").contains("MONOTONIC_USEC="))
        _ = try socket.message(containing: "READY=1")
        // A wrong configuration is refused, and the old one stays.
        _ = try place.write("config.yaml", "spool:\n  colour: red\n")
        daemon.signal(SIGHUP)
        try place.eventually("the log names the key") {
            try String(contentsOfFile: place.path("daemon.log"), encoding: .utf8).contains("spool.colour")
        }
        #expect(daemon.isRunning)
        #expect(daemon.stop() == 0)
        _ = try socket.message(containing: "STOPPING=1")
    }

    @Test func twoDaemonsDoNotShareASpool() throws {
        let place = try Workplace()
        let first = try place.startDaemon()
        let second = try Daemon(
            configuration: place.path("config.yaml"), log: place.path("second.log"), environment: [:])
        #expect(second.exitStatus() == 75)
        #expect(try String(contentsOfFile: place.path("second.log"), encoding: .utf8).contains("another daemon"))
        #expect(first.stop() == 0)
    }
}

extension Workplace {
    /// Images done and steps done of the next one, of the job at work; before there is one, less than any.
    var progress: (image: Int, step: Int) {
        let jobs = folder.appendingPathComponent("spool/lib/jobs/active")
        guard let job = try? FileManager.default.contentsOfDirectory(atPath: jobs.path).first,
            let data = try? Data(contentsOf: jobs.appendingPathComponent(job).appendingPathComponent("progress.json")),
            let document = (try? JSONSerialization.jsonObject(with: data)) as? [String: Any]
        else { return (-1, -1) }
        return (document["image"] as? Int ?? -1, document["step"] as? Int ?? -1)
    }

    /// Starts the daemon on a spool that already has work for it.
    func startDaemonAtWork() throws -> Daemon {
        let daemon = try Daemon(configuration: path("config.yaml"), log: path("daemon.log"), environment: [:])
        try eventually("the daemon runs") { try self.dreamcache("status").output.hasPrefix("running") }
        return daemon
    }
}

/// The receiving end of sd_notify(3).
final class NotifySocket {
    let path: String
    private let descriptor: Int32

    struct Failure: Error { let what: String }

    init(path: String) throws {
        self.path = path
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, size) }
        }
        var patience = timeval(tv_sec: 30, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        guard bound == 0 else { throw Failure(what: "bind: \(errno)") }
    }

    deinit { close(descriptor) }

    /// The next message.
    func receive() throws -> String {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        guard count > 0 else { throw Failure(what: "no message within 30 s") }
        return String(decoding: buffer[..<count], as: UTF8.self)
    }

    /// The next message that holds a text.
    func message(containing text: String) throws -> String {
        while true {
            let message = try receive()
            if message.contains(text) { return message }
        }
    }
}
