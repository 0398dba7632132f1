import Bytes
import Foundation
import Glibc

/// `train.jsonl`: a line for each step, each validation and each milestone. What a run that was cut off wrote behind its last state is taken back,
/// since those steps are made again.
final class TrainingLog {
    private struct Line: Codable {
        struct Validation: Codable {
            struct Range: Codable { let from: Int, to: Int, error: Double? }
            let error: Double
            let ranges: [Range]
        }
        struct Milestone: Codable {
            let match, copy: Double

            enum CodingKeys: String, CodingKey {
                case match = "subject_match"
                case copy
            }
        }
        var step: Int
        var loss, error, learningRate, gradientNorm, seconds: Double?
        var validation: Validation?
        var milestone: Milestone?

        enum CodingKeys: String, CodingKey {
            case step, loss, error, seconds, validation, milestone
            case learningRate = "learning_rate"
            case gradientNorm = "gradient_norm"
        }
    }

    private let path: String
    private let descriptor: Int32
    private let encoder = JSONEncoder()
    /// All steps so far, in order.
    private(set) var steps: [TrainingStep] = []
    /// All validations so far, in order.
    private(set) var validations: [ValidationResult] = []
    /// All milestones so far, in order.
    private(set) var milestones: [MilestoneResult] = []

    /// - Parameter step: the steps that the state knows of; later lines are dropped.
    init(path: String, upTo step: Int) throws(TrainingError) {
        self.path = path
        encoder.outputFormatting = [.sortedKeys]
        var kept: [Substring] = []
        let text = String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
        for line in text.split(separator: "\n") {
            guard let entry = try? JSONDecoder().decode(Line.self, from: Data(line.utf8)), entry.step <= step else {
                continue
            }
            kept.append(line)
            if let validation = entry.validation {
                validations.append(
                    ValidationResult(
                        step: entry.step, error: validation.error,
                        ranges: validation.ranges.map {
                            ValidationResult.Range(from: $0.from, to: $0.to, error: $0.error)
                        }))
            } else if let milestone = entry.milestone {
                milestones.append(
                    MilestoneResult(step: entry.step, match: milestone.match, copy: milestone.copy))
            } else {
                steps.append(
                    TrainingStep(
                        step: entry.step, loss: entry.loss ?? 0, error: entry.error ?? 0,
                        learningRate: entry.learningRate ?? 0, gradientNorm: entry.gradientNorm ?? 0))
            }
        }
        try onFiles { () throws(FileError) in
            try AtomicFile.write(Array(kept.map { $0 + "\n" }.joined().utf8), to: path)
        }
        descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC)
        guard descriptor >= 0 else { throw .file(.current("open", path)) }
    }

    deinit { close(descriptor) }

    func add(_ step: TrainingStep, seconds: Double) throws(TrainingError) {
        steps.append(step)
        try write(
            Line(
                step: step.step, loss: step.loss, error: step.error, learningRate: step.learningRate,
                gradientNorm: step.gradientNorm, seconds: (seconds * 1000).rounded() / 1000))
    }

    func add(_ validation: ValidationResult) throws(TrainingError) {
        validations.append(validation)
        let ranges = validation.ranges.map { Line.Validation.Range(from: $0.from, to: $0.to, error: $0.error) }
        try write(Line(step: validation.step, validation: Line.Validation(error: validation.error, ranges: ranges)))
    }

    func add(_ milestone: MilestoneResult) throws(TrainingError) {
        milestones.append(milestone)
        try write(
            Line(step: milestone.step, milestone: Line.Milestone(match: milestone.match, copy: milestone.copy)))
    }

    private func write(_ line: Line) throws(TrainingError) {
        // Finite numbers only: a step whose loss is none is not made.
        guard let data = try? encoder.encode(line) else { return }
        try onFiles { () throws(FileError) in try writeAll(Array(data) + [0x0A], to: descriptor, path: path) }
    }
}
