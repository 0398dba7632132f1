import Foundation
import Golden
import Testing

/// Long prompts, from the command line and through the spool: what is cut or read in chunks is said.
@Suite struct LongPromptTests {
    private static let long = (0..<40).map { "detail\($0)" }.joined(separator: ", ")

    private func manifest(_ tail: String, _ fields: String = "") -> String {
        #"{"prompt": "\#(Self.long)\#(tail)", "seed": 1, "num_inference_steps": 2\#(fields)}"#
    }

    @Test func theCommandLineSaysIt() throws {
        let place = try Workplace()
        func render(_ name: String, _ text: String) throws -> (image: Data, errors: String, result: String) {
            let file = try place.write("\(name).json", text)
            let made = try place.dreamcache("render", file, "--out", place.path(name))
            #expect(made.status == 0, "\(made.errors)")
            return (
                try Data(contentsOf: URL(fileURLWithPath: place.path("\(name)/0000.png"))), made.errors,
                try String(contentsOfFile: place.path("\(name)/result.json"), encoding: .utf8)
            )
        }
        let cut = #", "prompt_mode": "truncate", "output": {"metadata": "none"}"#
        let (first, second) = (try render("a", manifest("", cut)), try render("b", manifest(", a red hat", cut)))
        #expect(first.image == second.image)
        #expect(second.errors.contains("note: prompt: "))
        #expect(second.errors.contains("a red hat"))
        #expect(second.result.contains("prompt_note"))
        let chunks = #", "output": {"metadata": "none"}"#
        let whole = try render("c", manifest("", chunks))
        let longer = try render("d", manifest(", a red hat", chunks))
        #expect(whole.image != first.image)
        #expect(longer.image != whole.image)
        #expect(longer.errors.contains("chunks of 75"))
        #expect(longer.result.contains("chunks of 75"))
        let negative = try render(
            "e", #"{"prompt": "a dog", "negative_prompt": "\#(Self.long)", "seed": 1, "num_inference_steps": 2}"#)
        #expect(negative.errors.contains("note: negative_prompt: "))
        #expect(negative.result.contains("negative_prompt_note"))
    }

    @Test func theReceiptSaysIt() throws {
        let place = try Workplace()
        let daemon = try place.startDaemon()
        let text = manifest("", #", "subject": "nobody", "prompt_mode": "truncate""#)
        try place.drop(Data(text.utf8), as: "jobs/long.json")
        try place.eventually("the receipt is there") { !place.receipt("long.json").isEmpty }
        #expect(place.receipt("long.json").contains("cut off: "))
        #expect(daemon.stop() == 0)
    }

    /// A sampler by AUTOMATIC1111's name, a schedule and an interval go into the image, and come back out of it.
    @Test func theImageKnowsHowItWasMade() throws {
        let place = try Workplace()
        let file = try place.write(
            "m.json",
            """
            {"prompt": "a (backpack:1.2)", "seed": 1, "num_inference_steps": 4, "scheduler": "DPM++ 2M SDE Karras",
             "image_scale": {"start": 1, "end": 0.2}, "guidance_interval": [0.25, 0.75], "prompt_syntax": "weighted"}
            """)
        let made = try place.dreamcache(
            "render", file, "--out", place.path("set"), "--references", Golden.path("reference.png"))
        #expect(made.status == 0, "\(made.errors)")
        let program = Workplace.programs.appendingPathComponent("dreamcache").path
        let replayed = try Workplace.run(program, ["replay", place.path("set/0000.png")])
        for part in [
            #""scheduler": "DPM++ 2M SDE Karras""#, #""prompt_syntax": "weighted""#, #""prompt_mode": "chunks""#,
            "guidance_interval",
        ] {
            #expect(replayed.output.contains(part), "\(part)")
        }
        let again = try place.write("again.json", replayed.output)
        let repeated = try place.dreamcache(
            "render", again, "--out", place.path("again"), "--references", Golden.path("reference.png"))
        #expect(repeated.status == 0, "\(repeated.errors)")
        #expect(
            try Data(contentsOf: URL(fileURLWithPath: place.path("set/0000.png")))
                == Data(contentsOf: URL(fileURLWithPath: place.path("again/0000.png"))))
    }
}
