import CConfinement
import Glibc
import Spool

/// A running decoder, as its parent sees it. It does not outlive this object.
final class DecoderProcess {
    enum Ending: Equatable {
        case exited(Int32)
        case signalled(Int32)
    }

    private let process: pid_t
    private let output: Int32
    private let path: String
    private let deadline: ContinuousClock.Instant
    private var ending: Ending?

    init(file: Int32, name: String, argument: String, patience: Double, path: String) throws(RendererError) {
        var output: Int32 = -1
        process = confinement_spawn(name, argument, file, &output)
        self.output = output
        self.path = path
        deadline = .now + .seconds(patience)
        guard process > 0 else {
            let failure = ConfinedDecoder.systemError("start the decoder", path)
            ending = .exited(1)
            throw failure
        }
    }

    deinit {
        if ending == nil {
            kill(process, SIGKILL)
            _ = wait()
        }
        if output >= 0 { close(output) }
    }

    /// The next bytes, fewer where there are no more.
    func read(_ count: Int, _ shouldStop: () -> Bool) throws(RendererError) -> [UInt8] {
        var failure: RendererError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, done in
            while done < count {
                // Checked at every turn, because a decoder that was taken over may send a byte now and then.
                if shouldStop() { failure = .stopped }
                if ContinuousClock.now > deadline {
                    failure = ConfinedDecoder.rejected("a picture whose decoder does not come to an end", path)
                }
                if failure != nil { return }
                var event = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
                if poll(&event, 1, 100) <= 0 { continue }
                let got = Glibc.read(output, buffer.baseAddress.map { $0 + done }, count - done)
                if got < 0, errno == EINTR { continue }
                if got <= 0 { return }
                done += got
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// Waits for its end.
    func wait() -> Ending {
        if let ending { return ending }
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        // wait(2)'s macros, which Swift does not see.
        let number = status & 0x7F
        let ending: Ending = number == 0 ? .exited(status >> 8 & 0xFF) : .signalled(number)
        self.ending = ending
        return ending
    }
}
