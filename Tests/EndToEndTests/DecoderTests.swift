import Foundation
import Raster
import Testing

extension DaemonTests {
    /// Pictures that do to their decoder what a picture can do at worst. The fault shim stands for the flaw of the library:
    /// it goes by the picture's width.
    @Suite struct Decoders {
        struct Fault: Sendable, CustomStringConvertible {
            let name: String, width: Int
            /// What the receipt says, one of these: on a machine that is busy with other things a decoder may run out of
            /// time before it runs out of processor time.
            let reasons: [String]
            var description: String { name }
        }

        static let faults = [
            Fault(name: "crashes", width: 201, reasons: ["ends its decoder by signal 11"]),
            Fault(name: "fills-memory", width: 203, reasons: ["ends its decoder by signal 6"]),
            Fault(name: "opens-a-file", width: 204, reasons: ["ask for what it may not have"]),
            Fault(name: "wants-to-run-code", width: 205, reasons: ["ask for what it may not have"]),
            Fault(name: "lies", width: 206, reasons: ["answers nonsense"]),
            Fault(name: "aborts", width: 207, reasons: ["ends its decoder by signal 6"]),
            Fault(
                name: "hangs", width: 202,
                reasons: ["takes more than 10 s of processor time", "does not come to an end"]),
        ]

        private func write(width: Int, _ name: String, _ place: Workplace) throws {
            let picture = Raster(width: width, height: 2, color: (9, 9, 9))
            try place.drop(Data(try picture.encodedPNG()), as: "references/\(name).png")
        }

        /// The decoders a process has started, by their pids.
        private func decoders(of pid: Int32) -> [Int] {
            let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
            return processes.compactMap { Int($0) }.filter { process in
                let name = try? String(contentsOfFile: "/proc/\(process)/cmdline", encoding: .utf8)
                return name?.hasPrefix("dreamcache-decoder\0") == true
                    && status(process).contains("PPid:\t\(pid)\n")
            }
        }

        private func status(_ process: Int) -> String {
            (try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)) ?? ""
        }

        @Test func whateverAPictureDoesItIsRefusedByNameAndTheDaemonGoesOn() throws {
            let place = try Workplace()
            let daemon = try place.startDaemon(environment: ["LD_PRELOAD": Workplace.faultShim])
            for fault in Self.faults {
                try write(width: fault.width, fault.name, place)
                if fault.name == "hangs" {
                    try place.eventually("the decoder runs") {
                        decoders(of: daemon.pid).contains { status($0).contains("Seccomp:\t2\n") }
                    }
                    let process = try #require(decoders(of: daemon.pid).first)
                    // Threads of libraries would be outside of the filter.
                    #expect(status(process).contains("Threads:\t1\n"))
                    #expect(status(process).contains("NoNewPrivs:\t1\n"))
                    #expect(
                        try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/fd").sorted() == [
                            "0", "1", "2",
                        ])
                }
                try place.eventually("\(fault) is answered", within: 240) {
                    place.receipt("\(fault.name).png").contains("rejected")
                }
                let receipt = place.receipt("\(fault.name).png")
                #expect(receipt.contains("\"\(fault.name).png: corrupt: picture: found a picture"), "\(receipt)")
                #expect(fault.reasons.contains { receipt.contains($0) }, "\(receipt)")
            }
            #expect(decoders(of: daemon.pid).isEmpty)
            try write(width: 100, "good", place)
            try place.eventually("a good picture is taken") { place.receipt("good.png").contains("accepted") }
            #expect(daemon.isRunning)
            #expect(daemon.stop() == 0)
        }

        /// A decoder that somebody kills is the machine's trouble and not the picture's: the picture waits.
        @Test func aKilledDecoderIsNotThePicturesFault() throws {
            let place = try Workplace()
            let daemon = try place.startDaemon(environment: ["LD_PRELOAD": Workplace.faultShim])
            try write(width: 202, "hangs", place)
            try place.eventually("the decoder runs") { !decoders(of: daemon.pid).isEmpty }
            for process in decoders(of: daemon.pid) { kill(Int32(process), SIGKILL) }
            try place.eventually("the receipt says so") {
                place.receipt("hangs.png").contains("waiting to be encoded: the decoder of hangs.png was killed")
            }
            #expect(daemon.stop() == 0)
        }

        /// Stopping does not wait for a decoder, neither for one that is silent nor for one that sends a byte now and then.
        @Test(arguments: [202, 208]) func aDaemonThatIsToldToStopEndsItsDecoder(width: Int) throws {
            let place = try Workplace()
            let daemon = try place.startDaemon(environment: ["LD_PRELOAD": Workplace.faultShim])
            try write(width: width, "hangs", place)
            try place.eventually("the decoder runs") { !decoders(of: daemon.pid).isEmpty }
            let process = try #require(decoders(of: daemon.pid).first)
            #expect(daemon.stop() == 0)
            try place.eventually("the decoder is gone") { status(process).isEmpty }
            #expect(!place.receipt("hangs.png").contains("rejected"))
        }
    }
}
