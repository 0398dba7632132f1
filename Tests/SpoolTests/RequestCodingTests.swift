import Foundation
import Spool
import Testing

/// Requests are values: written to a file and read back, they are equal.
@Suite struct RequestCodingTests {
    /// A manifest in which every field has a value that is not its default.
    private static let fullManifest = """
        {"subjects": [
            {"name": "dog", "image_scale": {"start": 0.8, "end": 0.1, "from": 0.25, "to": 0.7},
             "references": ["1.jpg", "2.jpg"]},
            {"name": "cat"}],
         "init_image": "sketch", "strength": 0.3, "prompts": ["a dog and a cat", "é \\n \\ud83d\\ude00"],
         "negative_prompt": "blur", "prompt_mode": "truncate", "prompt_syntax": "weighted", "guidance_scale": 6.1,
         "guidance_interval": [0.1, 0.9], "image_scale": 0.45, "num_inference_steps": 12, "num_images_per_prompt": 3,
         "seed": 4294967295, "noise_seed": 5, "random": "philox", "eta": 0.1,
         "scheduler": "DPM++ 2M SDE Karras", "width": 72, "height": 64, "model": "sd15",
         "cache": {"mode": "official", "seed": 9, "prompt": "p", "fit": "squash", "tokens": "foreground"},
         "references": {"background": "remove"}, "select": {"best_of": 3, "by": "dino", "keep": "all"},
         "output": {"format": "jpeg", "quality": 80, "metadata": "minimal", "grid": true},
         "priority": -4, "idempotency_key": "k"}
        """

    private func manifest(_ text: String) throws -> JobManifest {
        try JobManifest.parse(Array(text.utf8), subjectRequired: false)
    }

    private func readBack<T: Codable>(_ value: T) throws -> T {
        try JSONDecoder().decode(T.self, from: JSONEncoder().encode(value))
    }

    /// So that a field that comes later is not forgotten here.
    @Test func theManifestIsFull() throws {
        let manifest = try manifest(Self.fullManifest)
        let plain = try self.manifest(#"{"prompt": "a"}"#)
        // A weight that a pilot chooses is none of the manifest's; a training is no request for an image.
        let sameOnPurpose: Set = ["schemaVersion", "kind", "tunesImageScale"]
        for (full, plain) in zip(Mirror(reflecting: manifest).children, Mirror(reflecting: plain).children) {
            let name = try #require(full.label)
            let isDefault = String(describing: full.value) == String(describing: plain.value)
            #expect(isDefault == sameOnPurpose.contains(name), "\(name)")
        }
        #expect(Mirror(reflecting: manifest.cache).children.allSatisfy { !"\($0.value)".hasPrefix("nil") })
    }

    @Test(arguments: [fullManifest, #"{"prompt": "a"}"#, #"{"prompt": "a", "image_scale": "auto"}"#])
    func aRenderRequest(_ text: String) throws {
        let manifest = try manifest(text)
        let request = RenderRequest(
            job: "20260101T000000-0000000000000001", manifest: manifest,
            image: manifest.plan(image: manifest.imageCount - 1, seed: 4_294_967_295),
            caches: manifest.subjects.map {
                CacheUse(subject: $0.name, imageScale: $0.imageScale ?? manifest.imageScale, path: "/s/\($0.name)")
            },
            initialImage: manifest.initialImage.map { InitialImage(path: "/s/\($0.subject).png", sha256: "ab") },
            photos: [GridRequest.Reference(subject: "dog", path: "/s/1.jpg")], output: "/s/out.jpg",
            identity: "dreamcache=1 base=ab",
            attention: AttentionRequest(
                references: [GridRequest.Reference(subject: "dog", path: "/s/1.jpg")], interval: 3, overlay: "/s/o.png",
                maps: "/s/m.safetensors"))
        #expect(try readBack(request) == request)
        let bare = RenderRequest(job: nil, manifest: manifest, image: request.image, caches: [], output: "/o.png")
        #expect(try readBack(bare) == bare)
        #expect(bare != request)
    }

    @Test func anEncodeRequest() throws {
        let manifest = try manifest(Self.fullManifest)
        let request = EncodeRequest(
            subject: "dog", references: ["/s/1.jpg", "/s/2.jpg"], digests: ["ab", "cd"], model: "sd15",
            settings: manifest.cache, output: "/s/dog.dcache")
        #expect(try readBack(request) == request)
    }

    @Test func aGridRequest() throws {
        let references = [
            GridRequest.Reference(subject: "dog", path: "/s/1.jpg", cutOut: "/s/0.png"),
            GridRequest.Reference(subject: "dog", path: "/s/2.jpg"),
        ]
        let request = GridRequest(
            manifest: try manifest(Self.fullManifest), references: references, images: ["/s/0000.jpg"],
            remarks: ["dino 0.500, best of 3"], output: "/s/grid.jpg")
        #expect(try readBack(request) == request)
    }

    @Test func aPageRequest() throws {
        let report = RenderedImage(seconds: ["denoise": 1.5], metadata: ["model": "sd15"], identity: "x")
        let request = PageRequest(
            job: "j", manifest: try manifest(Self.fullManifest), document: "{}",
            references: [GridRequest.Reference(subject: "dog", path: "/s/1.jpg", cutOut: "/s/0.png")],
            pictures: [PageRequest.Picture(path: "/s/0000.jpg", prompt: "p", seed: 3, report: report)],
            sheet: "grid.jpg", notes: ["n"], output: "/s/index.html")
        #expect(try readBack(request) == request)
    }

    @Test func whatAnImageWasMadeWith() throws {
        var report = RenderedImage(
            seconds: ["denoise": 1.1, "decode": 0.3], metadata: ["model": "sd15"], identity: "dreamcache=1 base=ab",
            choice: Choice(
                best: 1,
                candidates: [.init(seed: 4, scores: ["text": 0.25]), .init(seed: 7, scores: ["text": 0.5])]),
            tuning: Tuning(
                imageScale: 2, trials: [.init(imageScale: 2, scores: ["subject": 0.5])], pictures: 1, steps: 8,
                evaluations: 25, seconds: 1.5))
        #expect(try readBack(report) == report)
        report.attention = AttentionReport(
            steps: 2, mean: ["leak": 0.25], sites: [.init(name: "middle_block.1", numbers: ["leak": 0.25])])
        #expect(try readBack(report) == report)
    }

    /// Every sampler keeps its name.
    @Test(arguments: Scheduler.allCases)
    func aSampler(_ scheduler: Scheduler) throws {
        #expect(try readBack([scheduler]) == [scheduler])
        #expect(try JSONEncoder().encode([scheduler]) == Data("[\"\(scheduler.rawValue)\"]".utf8))
    }
}
