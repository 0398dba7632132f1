import Foundation

/// What an evaluation found: for programs as JSON or CSV, for people as a page.
public struct Report: Sendable, Codable, Equatable {
    /// A measure, so that a number can be traced to what computed it.
    public struct MeasureEntry: Sendable, Codable, Equatable {
        /// `subject_match`, `dino`, `clip`.
        public let name: String
        /// Network, size and preparation.
        public let description: String
    }

    /// One set, or the sets of one label of all subjects.
    public struct Row: Sendable, Codable, Equatable {
        /// Its name.
        public let label: String
        /// The scale it was made at, where that is known.
        public let imageScale: Double?
        /// `identity.MEASURE`, `text.MEASURE`, `diversity.MEASURE`, `copy`.
        public internal(set) var scores: [String: Spread]

        enum CodingKeys: String, CodingKey {
            case label, scores
            case imageScale = "image_scale"
        }
    }

    /// One picture.
    public struct PictureEntry: Sendable, Codable, Equatable {
        /// Its subject.
        public let subject: String
        /// The label of its set.
        public let set: String
        /// Its file's name.
        public let file: String
        /// The prompt it was made from.
        public let prompt: String?
        /// As those of a row.
        public let scores: [String: Double]

        /// Whether it repeats a reference.
        public var isCopy: Bool { (scores["copy"] ?? 0) >= CopyScore.copied }
    }

    /// Which photos pictures were compared with.
    public let method: ReferenceProtocol
    /// What compared them.
    public let measures: [MeasureEntry]
    /// The photographs first.
    public internal(set) var rows: [Row] = []
    /// All pictures that were judged.
    public internal(set) var pictures: [PictureEntry] = []

    enum CodingKeys: String, CodingKey {
        case measures, rows, pictures
        case method = "protocol"
    }

    /// The names of all scores, in the order of a table's columns.
    public var columns: [String] {
        let names = measures.map(\.name)
        let all = ["identity", "text", "diversity"].flatMap { kind in names.map { "\(kind).\($0)" } } + ["copy"]
        return all.filter { column in rows.contains { $0.scores[column] != nil } }
    }

    /// JSON, the same bytes for the same report.
    public func json() throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(self) + Data("\n".utf8)
    }

    /// A line for each row and score: `set,image_scale,score,mean,deviation,low,high,count`.
    public var csv: String {
        func quoted(_ text: String) -> String {
            text.contains { ",\"\n\r".contains($0) }
                ? "\"" + text.replacingOccurrences(of: "\"", with: "\"\"") + "\"" : text
        }
        var lines = ["set,image_scale,score,mean,deviation,low,high,count"]
        for row in rows {
            for column in columns {
                guard let spread = row.scores[column] else { continue }
                let numbers = [spread.mean, spread.deviation, spread.low, spread.high].map {
                    String(format: "%.6f", $0)
                }
                let scale = row.imageScale.map { "\($0)" } ?? ""
                lines.append(
                    ([quoted(row.label), scale, column] + numbers + ["\(spread.count)"]).joined(separator: ","))
            }
        }
        return lines.joined(separator: "\r\n") + "\r\n"
    }

    /// A table for a terminal.
    public var table: String {
        let columns = columns
        let width = max(3, rows.map(\.label.count).max() ?? 0)
        var lines = ["".padding(to: width) + columns.map { "  " + $0.padding(to: 24) }.joined()]
        for row in rows {
            lines.append(
                row.label.padding(to: width)
                    + columns.map { "  " + (row.scores[$0]?.short ?? "-").padding(to: 24) }.joined())
        }
        return lines.joined(separator: "\n")
    }
}

extension Spread {
    /// Mean and interval.
    var short: String { String(format: "%.3f [%.3f, %.3f]", mean, low, high) }
}

extension String {
    fileprivate func padding(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
