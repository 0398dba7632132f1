import Foundation
import Golden
import Raster
import Testing

/// `dreamcache train`, killed again and again: real program, tiny model, real files.
@Suite(.serialized) struct TrainingProgramTests {
    private static let program = Workplace.programs.appendingPathComponent("dreamcache").path

    private func writeData(_ place: Workplace) throws { try place.writeTrainingData() }

    private func arguments(_ place: Workplace, _ name: String, steps: Int = 4) -> [String] {
        [
            "train", "--model", "tiny", "--data", place.path("data"), "--out", place.path("\(name).safetensors"),
            "--steps", "\(steps)", "--prepared", place.path("prepared"), "--set", "batch_size=1", "--set",
            "save_seconds=0", "--set", "reference_variants=1", "--set", "validation_samples=1", "--set",
            "learning_rate=0.001", "--set", "validation_steps=3", "--config", place.path("config.yaml"),
        ]
    }

    private func bytes(_ place: Workplace, _ name: String) throws -> Data {
        try Data(contentsOf: place.folder.appendingPathComponent("\(name).safetensors"))
    }

    /// A run that is killed at any moment, as often as it takes, ends with the bytes of one that nobody disturbed.
    @Test func killedAgainAndAgain() throws {
        let place = try Workplace()
        try writeData(place)
        let steps = Workplace.isFullCampaign ? 40 : 4
        let whole = try Workplace.run(Self.program, arguments(place, "whole", steps: steps))
        #expect(whole.status == 0, "\(whole.errors)")
        let log = place.path("killed.training/train.jsonl")
        func lines() -> Int {
            (FileManager.default.contents(atPath: log) ?? Data()).count { $0 == UInt8(ascii: "\n") }
        }
        var (kills, moment) = (0, 0)
        let most = Workplace.isFullCampaign ? 100 : 3
        while kills < most {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: Self.program)
            process.arguments = arguments(place, "killed", steps: steps)
            process.standardError = FileHandle.nullDevice
            process.standardOutput = FileHandle.nullDevice
            try process.run()
            // Some kills come while it starts, some behind its first or second step, and each at another moment of it.
            let (before, awaited) = (lines(), kills % 3)
            try place.eventually("the run goes on") {
                awaited == 0 || lines() >= before + awaited || !process.isRunning
            }
            moment = (moment * 7919 + 104_729) % 30_000
            usleep(UInt32(moment))
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            kills += 1
            // A run that is done begins anew, for more kills.
            if FileManager.default.fileExists(atPath: place.path("killed.safetensors")) {
                #expect(try bytes(place, "killed") == bytes(place, "whole"))
                try FileManager.default.removeItem(atPath: place.path("killed.safetensors"))
                try FileManager.default.removeItem(atPath: place.path("killed.training"))
            }
        }
        let last = try Workplace.run(Self.program, arguments(place, "killed", steps: steps))
        #expect(last.status == 0, "\(last.errors)")
        #expect(try bytes(place, "killed") == bytes(place, "whole"))
    }

    @Test func faultsAreSaidBeforeAnythingIsDone() throws {
        let place = try Workplace()
        try writeData(place)
        try FileManager.default.removeItem(atPath: place.path("data/object 1/0_caption.txt"))
        try Data("no picture".utf8).write(to: place.folder.appendingPathComponent("data/object 0/0_generation.png"))
        let captions = try Workplace.run(Self.program, arguments(place, "a"))
        #expect(captions.status == 4)
        #expect(captions.errors.contains("object 1/0_caption.txt: found no readable caption"))
        try Data("a square".utf8).write(to: place.folder.appendingPathComponent("data/object 1/0_caption.txt"))
        let pictures = try Workplace.run(Self.program, arguments(place, "a"))
        #expect(pictures.status == 4)
        #expect(pictures.errors.contains("object 0/0: ") || pictures.errors.contains("object 0/0_generation.png"))
        let settings = try Workplace.run(Self.program, arguments(place, "a") + ["--set", "flips=2"])
        #expect(settings.status == 78)
        #expect(settings.errors.contains("flips: found '2', expected a number from 0.0 to 1.0"))
        #expect(try Workplace.run(Self.program, ["train", "--out", "a"]).status == 64)
        let printed = try Workplace.run(Self.program, ["train", "--print-settings", "--steps", "7"])
        #expect(printed.status == 0 && printed.output.contains("\nsteps: 7\n"))
        // What is printed is a file of settings.
        let file = try place.write("run.yaml", printed.output)
        let again = try Workplace.run(Self.program, ["train", "--print-settings", "--settings", file])
        #expect(again.output == printed.output)
    }
}

extension Workplace {
    /// A data set `data`: two objects of two views, a square of its own colour on stripes.
    func writeTrainingData() throws {
        for object in 0..<2 {
            let objectFolder = folder.appendingPathComponent("data/object \(object)")
            try FileManager.default.createDirectory(at: objectFolder, withIntermediateDirectories: true)
            for view in 0..<2 {
                func picture(isMask: Bool) -> Raster {
                    let columns = 20 + 15 * view..<90 + 10 * view
                    let pixels = (0..<128 * 128).flatMap { i -> [UInt8] in
                        let (x, y) = (i % 128, i / 128)
                        let isInside = columns.contains(x) && (30..<100).contains(y)
                        if isMask { return [UInt8](repeating: isInside ? 255 : 0, count: 3) }
                        return isInside
                            ? [200, UInt8(60 + 120 * object), 40] : [UInt8(y / 16 % 2 * 90 + 80), 120, UInt8(x)]
                    }
                    return Raster(width: 128, height: 128, channels: 3, pixels: pixels)
                }
                func write(_ name: String, _ bytes: [UInt8]) throws {
                    try Data(bytes).write(to: objectFolder.appendingPathComponent("\(view)_\(name)"))
                }
                try write("generation.png", picture(isMask: false).encodedPNG())
                try write("mask.png", picture(isMask: true).encodedPNG())
                try write("caption.txt", Array("a square number \(object)".utf8))
            }
        }
    }
}
