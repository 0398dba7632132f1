import Bytes
import DreamCache
import Foundation
import Raster
import Spool

/// Writes what was made of the references beside their cache: see ``CutOuts``. The folder is made when there is something to
/// put into it.
struct CutOutWriter {
    private let folder: String
    private let background: Background
    private var entries: [JSON] = []
    private var hasSomething = false

    /// - Parameter cache: path of the `.dcache` that is being made.
    init(beside cache: String, background: Background) {
        folder = CutOuts.folder(beside: cache)
        self.background = background
    }

    /// Writes the cut-out of the next reference, if there is one.
    mutating func add(_ report: ReferenceReport) throws {
        var file: String?
        var sha256: String?
        if let cutOut = report.cutOut {
            let name = CutOuts.fileName(reference: entries.count)
            let bytes = try cutOut.encodedPNG(isQuick: true)
            try makeFolder()
            try JobRunner.write(bytes, to: "\(folder)/\(name)")
            (file, sha256) = (name, Bytes.sha256(bytes))
        }
        hasSomething = hasSomething || file != nil || !report.remarks.isEmpty
        entries.append(Self.json(report, file: file, sha256: sha256))
    }

    /// Writes the list.
    mutating func finish() throws {
        guard hasSomething else { return }
        try makeFolder()
        let list = JSON.object([
            "version": .integer(1), "background": .string(background.rawValue),
            "cut_out_by": .string(CutOutMaker.version), "references": .array(entries),
        ])
        try JobRunner.write(Array((list.text() + "\n").utf8), to: "\(folder)/\(CutOuts.listFile)")
    }

    /// A report for programs.
    static func json(_ report: ReferenceReport, file: String?, sha256: String? = nil) -> JSON {
        .object([
            "name": .string(report.name), "file": file.map(JSON.string), "sha256": sha256.map(JSON.string),
            "share": report.share.map(JSON.number),
            "confidence": report.confidence.map(JSON.number),
            "remarks": .array(report.remarks.map(JSON.string)),
        ])
    }

    private func makeFolder() throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }
}
