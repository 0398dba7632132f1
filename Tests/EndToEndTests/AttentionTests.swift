import Foundation
import Golden
import Testing

/// What pictures read of their references, by the programs.
@Suite(.serialized) struct AttentionTests {
    private static let hostile = #"<script>alert(1)</script>"><img src=x onerror=alert(1)>"#

    private func manifest(_ fields: String = "") throws -> String {
        let prompt = String(decoding: try JSONEncoder().encode(Self.hostile), as: UTF8.self)
        return #"{"prompt": \#(prompt), "seed": 3, "num_inference_steps": 2\#(fields)}"#
    }

    private func result(_ set: String) throws -> [String: Any] {
        let data = try Data(contentsOf: URL(fileURLWithPath: "\(set)/result.json"))
        let images = (try JSONSerialization.jsonObject(with: data) as? [String: Any])?["images"] as? [[String: Any]]
        return try #require(images?.first)
    }

    @Test func attendShowsItAndChangesNoPicture() throws {
        let place = try Workplace()
        let photo = place.path("<b>&\u{202E}x.png")
        try FileManager.default.copyItem(atPath: Golden.path("reference.png"), toPath: photo)
        let file = try place.write("m.json", try manifest())
        let plain = try place.dreamcache("render", file, "--out", place.path("plain"), "--references", photo)
        #expect(plain.status == 0, "\(plain.errors)")
        let made = try place.dreamcache(
            "attend", file, "--out", place.path("set"), "--references", photo, "--every", "1")
        #expect(made.status == 0, "\(made.errors)")
        let bytes = try ["plain", "set"].map {
            try Data(contentsOf: URL(fileURLWithPath: place.path("\($0)/0000.png")))
        }
        #expect(bytes[0] == bytes[1])
        let image = try result(place.path("set"))
        let attention = try #require(image["attention"] as? [String: Any])
        #expect(attention["steps"] as? Int == 2 && attention["error"] == nil)
        #expect((image["beside"] as? [Any])?.count == 2)
        let program = Workplace.programs.appendingPathComponent("dreamcache").path
        for file in ["0000.attention.png", "0000.attention.safetensors"] {
            #expect(FileManager.default.fileExists(atPath: place.path("set/\(file)")))
        }
        #expect(try Workplace.run(program, ["inspect", place.path("set/0000.attention.png")]).status == 0)
        let page = try String(contentsOfFile: place.path("set/index.html"), encoding: .utf8)
        #expect(page.contains("0000.attention.png") && !page.contains("<script>alert") && !page.contains("<img src=x"))
        // One of both is needed.
        #expect(try place.dreamcache("attend", file, "--out", place.path("none")).status == 64)
        #expect(try place.dreamcache("watch", "--pictures", "paint").status == 64)
    }

    @Test func theDaemonShowsItAndACheckFindsItsDamage() throws {
        let place = try Workplace()
        let daemon = try place.startDaemon()
        try place.drop(
            try Data(contentsOf: URL(fileURLWithPath: Golden.path("reference.png"))), as: "references/bag.png")
        let text = try manifest(#", "subject": "bag", "output": {"attention": true, "format": "jpeg"}"#)
        try place.drop(Data(text.utf8), as: "jobs/a.json")
        let done = try place.dreamcache("wait", "a", "--timeout", "120")
        #expect(done.status == 0, "\(done.errors)")
        let set = done.output.trimmingCharacters(in: .whitespacesAndNewlines)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: set).sorted() == [
                "0000.attention.png", "0000.attention.safetensors", "0000.jpg", "index.html", "result.json",
            ])
        #expect((try result(set)["attention"] as? [String: Any])?["steps"] as? Int == 1)
        let page = try String(contentsOfFile: "\(set)/index.html", encoding: .utf8)
        #expect(page.contains("0000.attention.png") && !page.contains("<script>alert"))
        #expect(daemon.stop() == 0)
        #expect(try place.dreamcache("verify").status == 0)
        try Data([1]).write(to: URL(fileURLWithPath: "\(set)/0000.attention.png"))
        let found = try place.dreamcache("verify")
        #expect(found.status != 0 && found.output.contains("0000.attention.png"))
    }
}
