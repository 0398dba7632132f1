import Foundation
import Spool

/// How a job or drop stands, in one line and as JSON.
struct StandingText {
    let text: String
    let json: JSON

    init(_ standing: SpoolClient.Standing) {
        switch standing {
        case .unknown:
            text = "unknown"
            json = .object(["state": .string("unknown")])
        case .dropped:
            text = "dropped, not yet taken"
            json = .object(["state": .string("dropped")])
        case .working(let job):
            text = job.line
            json = job.json
        case .waiting(let receipt):
            text = receipt.message.printable
            json = .object(["state": .string("waiting"), "receipt": receipt.json])
        case .ended(.done(let id, let set)):
            text = set
            json = .object(["state": .string("done"), "job": .string(id.text), "set": .string(set)])
        case .ended(.failed(let id, let reason)):
            text = "\(id) failed: \(reason.printable)"
            json = .object(["state": .string("failed"), "job": .string(id.text), "reason": .string(reason)])
        case .ended(.quarantined(let id, let reason)):
            text = "\(id) quarantined: \(reason.printable)"
            json = .object(["state": .string("quarantine"), "job": .string(id.text), "reason": .string(reason)])
        case .ended(.rejected(let receipt)):
            text =
                "\(receipt.drop.printable) rejected: \(receipt.message.printable)"
                + receipt.faults.map { "\n  " + $0.description.printable }.joined()
            json = .object(["state": .string("rejected"), "receipt": receipt.json])
        case .ended(.answered(let receipt)):
            text = receipt.message.printable
            json = .object(["state": .string("done"), "receipt": receipt.json])
        }
    }
}

extension SpoolClient.JobSummary {
    /// One line for people.
    var line: String {
        let title = training.map { "\($0.name) of \($0.dataset)" } ?? subjects.joined(separator: "+")
        let what = [drop, title.isEmpty ? nil : title].compactMap(\.self).joined(separator: " ")
        let end = state != .done && state != .active ? reason.map { ": \($0)" } ?? "" : ""
        return ("\(id) \(state.rawValue) \(count) \(what)" + (activity.map { " " + $0 } ?? "") + end).printable
    }

    /// Images done of all; steps of a training that are safe, as far as they are known.
    private var count: String {
        guard let training, done == 0 else { return "\(done)/\(images)" }
        return "step \(max(step, progress?["phase"]?.string == "training" ? progress?["step"]?.integer ?? 0 : 0))"
            + (training.steps.map { "/\($0)" } ?? "")
    }

    /// What the job at work is doing, with a bar and the time left.
    var activity: String? {
        guard let progress, let phase = progress["phase"]?.string else { return nil }
        let (step, steps) = (progress["step"]?.integer ?? 0, progress["steps"]?.integer ?? 0)
        let bar = steps > 0 ? " \(Terminal.bar(step, of: steps)) \(step)/\(steps)" : ""
        let candidate =
            progress["candidate"]?.integer.map { " candidate \($0) of \(progress["candidates"]?.integer ?? $0)" } ?? ""
        let loss = progress["loss"]?.number.map { String(format: " loss %.4f", $0) } ?? ""
        let left = progress["eta"]?.number.map { " \(Self.duration($0)) left" } ?? ""
        return phase + candidate + bar + loss + left
    }

    private static func duration(_ seconds: Double) -> String {
        let whole = Int(exactly: max(0, seconds).rounded()) ?? 0
        return switch whole {
        case ..<60: "\(whole) s"
        case ..<3600: "\(whole / 60) min"
        default: "\(whole / 3600) h \(whole / 60 % 60) min"
        }
    }

    /// For programs.
    var json: JSON {
        .object([
            "job": .string(id.text), "state": .string(state.rawValue), "drop": drop.map(JSON.string),
            "accepted": accepted.map(JSON.string), "subjects": .array(subjects.map(JSON.string)),
            "training": training.map { .object(["name": .string($0.name), "dataset": .string($0.dataset)]) },
            "step": training == nil ? nil : .integer(step),
            "done": .integer(done), "images": .integer(images), "seed": seed.map(JSON.integer),
            "reason": reason.map(JSON.string), "progress": progress,
        ])
    }
}
