import Application
import ArgumentParser
import Foundation
import Glibc
import Spool

/// How a command ends when it does not do what it was asked.
struct Failure: Error, CustomStringConvertible {
    /// The exit codes scripts rely on.
    enum Code: Int32 {
        case failed = 1
        case quarantined = 3
        case rejected = 4
        case unknownJob = 5
        case usage = 64
        case temporary = 75
        case configuration = 78
    }

    let code: Code
    let message: String

    var description: String { message }
}

/// Standard output is for results, standard error for everything else.
///
/// Texts of users, of files and of the spool are shown `printable`: whoever puts them into a line says so, because a line end
/// in them must not look like a line of ours. The rest is escaped here.
enum Terminal {
    /// Lets a reader that goes away, such as `head`, end the program quietly, also where the parent process ignores
    /// SIGPIPE.
    static func obeyClosedPipes() { signal(SIGPIPE, SIG_DFL) }

    /// Lines of a result.
    static func result(_ lines: String) { output(shown(lines)) }

    /// A result for programs.
    static func result(_ json: JSON) { output(escaped(json.text())) }

    /// Why a result could not be written. Commands run on one thread.
    private nonisolated(unsafe) static var outputError: String?

    private static func output(_ text: String) {
        guard outputError == nil else { return }
        do { try FileHandle.standardOutput.write(contentsOf: Data((text + "\n").utf8)) } catch {
            outputError =
                ((error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError ?? error as NSError)
                .localizedDescription
        }
    }

    /// A remark.
    static func note(_ lines: String) { write(shown(lines) + "\n") }

    private static func shown(_ lines: String) -> String { GivenPaths.shown(lines).printableLines }

    /// JSON in which every character that a terminal acts upon is written as `\\u....`. It is the same JSON, since only
    /// its strings can hold such characters.
    private static func escaped(_ json: String) -> String {
        json.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            line.unicodeScalars.reduce(into: "") { text, scalar in
                if String(scalar).printable == String(scalar) {
                    text.unicodeScalars.append(scalar)
                } else {
                    for unit in String(scalar).utf16 {
                        let digits = String(unit, radix: 16)
                        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                    }
                }
            }
        }.joined(separator: "\n")
    }

    /// Shows progress in place on a terminal; says nothing to a file or a pipe.
    static func progress(_ line: String) {
        guard isatty(STDERR_FILENO) == 1 else { return }
        write("\r\u{1B}[K" + shown(line))
    }

    /// Ends a line of progress.
    static func endProgress() {
        guard isatty(STDERR_FILENO) == 1 else { return }
        write("\r\u{1B}[K")
    }

    private static func write(_ text: String) { StandardError.write(text) }

    /// A bar such as `[####------]`.
    static func bar(_ done: Int, of total: Int, width: Int = 20) -> String {
        let filled = total > 0 ? min(width, done * width / total) : 0
        return "[" + String(repeating: "#", count: filled) + String(repeating: "-", count: width - filled) + "]"
    }

    /// Runs a command's work; a `Failure` is printed and becomes the exit code.
    static func run(_ work: () throws -> Void) throws {
        do {
            do { try work() } catch let error as CocoaError {
                let path = error.filePath.map { "\($0.printable): " } ?? ""
                throw Failure(code: .failed, message: path + error.localizedDescription)
            }
            try endResult()
        } catch let failure as Failure {
            endProgress()
            note("dreamcache: \(failure.message)")
            throw ExitCode(failure.code.rawValue)
        }
    }

    /// A result that could not be written is none: scripts would take what is there for all of it.
    private static func endResult() throws {
        guard let outputError else { return }
        throw Failure(code: .failed, message: "standard output: \(outputError)")
    }
}

/// Set by the first SIGINT or SIGTERM; the second ends the program at once.
enum Interruption {
    private nonisolated(unsafe) static var signalled: sig_atomic_t = 0

    /// Whether to stop.
    static var isRequested: Bool { signalled != 0 }

    /// Starts listening.
    static func listen() {
        for number in [SIGINT, SIGTERM] {
            signal(number) { number in
                if Interruption.signalled != 0 { _exit(128 + number) }
                Interruption.signalled = 1
            }
        }
    }
}
