/// Why a manifest was refused: every fault found in it, or the one that ended its reading.
public struct ManifestError: Error, Sendable, Equatable, CustomStringConvertible {
    /// One fault, with its place in the document.
    public struct Fault: Sendable, Equatable, CustomStringConvertible {
        /// Where, as a JSON path.
        public let path: String
        /// Line, from 1.
        public let line: Int
        /// Column in bytes, from 1.
        public let column: Int
        /// Offset in bytes.
        public let byte: Int
        /// What stands there.
        public let found: String
        /// What should.
        public let expected: String

        /// One line for people.
        public var description: String {
            "\(path) (line \(line), column \(column)): found \(found), expected \(expected)"
        }
    }

    /// The faults, in the order of the document; never empty.
    public let faults: [Fault]
    /// The text merely stops too early: more bytes could still make it whole.
    public let isTruncation: Bool

    /// All faults, a line each.
    public var description: String { faults.map(\.description).joined(separator: "\n") }
}

extension JobManifest {
    /// Reads a manifest.
    ///
    /// - Parameter subjectRequired: false where the caller supplies the cache itself, as `dreamcache render --cache`.
    /// - Throws: `ManifestError` with all faults and their places.
    public static func parse(_ bytes: [UInt8], subjectRequired: Bool = true) throws(ManifestError) -> JobManifest {
        let document: JSON
        do {
            document = try JSONReader.read(bytes)
        } catch {
            let fault = ManifestError.Fault(
                path: error.path, line: error.line, column: error.column, byte: error.byte, found: error.found,
                expected: error.expected)
            throw ManifestError(faults: [fault], isTruncation: error.isTruncation)
        }
        var faults: [SchemaFault] = []
        let checked = schema(subjectRequired: subjectRequired).check(document, faults: &faults)
        let manifest = JobManifest(checked: checked)
        if faults.isEmpty { faults += manifest.contradictions(in: checked) }
        guard faults.isEmpty else {
            let placed = faults.sorted { $0.byte < $1.byte }.prefix(20).map { fault in
                let place = JSONReader.place(of: fault.byte, in: bytes)
                return ManifestError.Fault(
                    path: fault.path, line: place.line, column: place.column, byte: fault.byte, found: fault.found,
                    expected: fault.expected)
            }
            throw ManifestError(faults: placed, isTruncation: false)
        }
        return manifest
    }

    /// Largest number of images in one set: the files' names have four digits.
    public static let maximumImages = 10_000

    /// Largest seed: every integer up to it is exact in JSON readers that know only doubles.
    public static let maximumSeed = (1 << 53) - 1

    /// What the schema cannot say, since it joins several fields.
    private func contradictions(in document: JSON) -> [SchemaFault] {
        var faults: [SchemaFault] = []
        if imageCount > Self.maximumImages {
            faults.append(
                SchemaFault(
                    path: "$.num_images_per_prompt", byte: document["num_images_per_prompt"]?.offset ?? 0,
                    found: "\(prompts.count) prompts of \(imagesPerPrompt) images",
                    expected: "at most \(Self.maximumImages) images in all"))
        }
        if let initialImage, Int(Double(inferenceSteps) * initialImage.strength) < 1 {
            let strength = JSON.number(initialImage.strength).text(pretty: false)
            faults.append(
                SchemaFault(
                    path: "$.strength", byte: document["strength"]?.offset ?? 0,
                    found: "\(strength), which leaves none of \(inferenceSteps) steps",
                    expected: "at least \(1 / Double(inferenceSteps))"))
        }
        if let interval = document["guidance_interval"], guidanceInterval == nil {
            faults.append(
                SchemaFault(
                    path: "$.guidance_interval", byte: interval.offset, found: "an end before its beginning",
                    expected: "from at most to"))
        }
        let scales =
            [("$.image_scale", document["image_scale"])]
            + [("$.subject.image_scale", document["subject"]?["image_scale"])]
            + (document["subjects"]?.array ?? []).enumerated().map {
                ("$.subjects[\($0.offset)].image_scale", $0.element["image_scale"])
            }
        for case (let path, let value?) in scales {
            let scale = ImageScale(checked: value)
            if scale.from > scale.to {
                faults.append(
                    SchemaFault(
                        path: path, byte: value.offset, found: "an end before its beginning",
                        expected: "from at most to"))
            }
        }
        for (index, subject) in subjects.enumerated()
        where subjects[..<index].contains(where: { $0.name == subject.name }) {
            faults.append(
                SchemaFault(
                    path: "$.subjects[\(index)]", byte: document["subjects"]?.array?[index].offset ?? 0,
                    found: "the subject '\(subject.name)' again", expected: "each subject once"))
        }
        return faults
    }

    /// From a document that followed the schema; anything else gives defaults, since its faults are reported instead.
    private init(checked document: JSON) {
        func subject(_ value: JSON) -> SubjectUse {
            if let name = value.string { return SubjectUse(name: name) }
            return SubjectUse(
                name: value["name"]?.string ?? "", imageScale: value["image_scale"].map(ImageScale.init(checked:)),
                references: value["references"]?.array?.compactMap(\.string))
        }
        schemaVersion = document["schema_version"]?.integer ?? 1
        subjects = document["subject"].map { [subject($0)] } ?? document["subjects"]?.array?.map(subject) ?? []
        initialImage = document["init_image"]?.string.map {
            InitialImageUse(
                subject: $0, strength: document["strength"]?.number ?? InitialImageUse.defaultStrength)
        }
        prompts = document["prompt"]?.string.map { [$0] } ?? document["prompts"]?.array?.compactMap(\.string) ?? []
        negativePrompt = document["negative_prompt"]?.string ?? ""
        guidanceScale = document["guidance_scale"]?.number ?? 0
        guidanceInterval = document["guidance_interval"]?.array.flatMap { ends in
            let ends = ends.compactMap(\.number)
            return ends.count == 2 && ends[0] <= ends[1] ? ends[0]...ends[1] : nil
        }
        promptMode = document["prompt_mode"]?.string.flatMap(PromptMode.init(rawValue:)) ?? .chunks
        promptSyntax = document["prompt_syntax"]?.string.flatMap(PromptSyntax.init(rawValue:)) ?? .plain
        imageScale = document["image_scale"].map(ImageScale.init(checked:)) ?? 0
        inferenceSteps = document["num_inference_steps"]?.integer ?? 1
        func count(_ name: String) -> Int { min(max(document[name]?.integer ?? 1, 1), Self.maximumImages) }
        imagesPerPrompt = count("num_images_per_prompt") * count("n_iter")
        seed = document["seed"]?.integer.flatMap { $0 < 0 ? nil : $0 }
        noiseSeed = document["noise_seed"]?.integer
        random = document["random"]?.string.flatMap(RandomSource.init(rawValue:)) ?? .torchCPU
        eta = document["eta"]?.number ?? 0
        scheduler = document["scheduler"]?.string.flatMap(Scheduler.init(named:))
        width = document["width"]?.integer
        height = document["height"]?.integer
        model = document["model"]?.string
        let cache = document["cache"]
        self.cache = CacheSettings(
            mode: cache?["mode"]?.string.flatMap(CacheSettings.Mode.init(rawValue:)), seed: cache?["seed"]?.integer,
            prompt: cache?["prompt"]?.string, fit: cache?["fit"]?.string.flatMap(CacheSettings.Fit.init(rawValue:)),
            tokens: cache?["tokens"]?.string.flatMap(CacheSettings.Tokens.init(rawValue:)),
            background: document["references"]?["background"]?.string.flatMap(CacheSettings.Background.init(rawValue:)))
        let output = document["output"]
        self.output = OutputSettings(
            format: output?["format"]?.string.flatMap(OutputSettings.Format.init(rawValue:)) ?? .png,
            quality: output?["quality"]?.integer ?? 95,
            metadata: output?["metadata"]?.string.flatMap(OutputSettings.Metadata.init(rawValue:)) ?? .full,
            grid: output?["grid"]?.bool ?? false)
        priority = document["priority"]?.integer ?? 0
        idempotencyKey = document["idempotency_key"]?.string
    }
}

extension JobManifest {
    /// The manifest's fields: the one place that knows their names, aliases, ranges and defaults.
    ///
    /// - Parameter subjectRequired: whether one of `subject` and `subjects` must be there.
    public static func schema(subjectRequired: Bool = true) -> Schema {
        let name = Schema.string(pattern: .name)
        let seedAdvice = "the largest that every JSON reader keeps exactly; take another, or leave it out"
        let seed = Schema.integer(0...maximumSeed, advice: seedAdvice)
        let firstSeed = Schema.integer(-1...maximumSeed, advice: seedAdvice + " and one is chosen")
        let scale = Schema.number(0...100)
        let prompt = Schema.string(length: 1...16_384)
        let subject = Schema.either(
            name,
            .object([
                .init("name", name, required: true, "The subject: the name of its folder under drop/references."),
                .init("image_scale", ImageScale.schema, "This subject's own image_scale."),
                .init(
                    "references", .array(of: name, count: 1...200),
                    "Names of the reference files to use; all when absent."),
            ]))
        let cache = Schema.object([
            .init(
                "mode", .choice(CacheSettings.Mode.allCases.map(\.rawValue)),
                "The paper's way, or the authors' script's."),
            .init("seed", seed, "Seed of the noise each reference is given."),
            .init("prompt", .string(length: 0...16_384), "The prompt of the reference pass."),
            .init("fit", .choice(CacheSettings.Fit.allCases.map(\.rawValue)), "How a reference becomes square."),
            .init(
                "tokens", .choice(CacheSettings.Tokens.allCases.map(\.rawValue)),
                "All tokens of a reference, or those its alpha or mask shows."),
        ])
        let references = Schema.object([
            .init(
                "background", .choice(CacheSettings.Background.allCases.map(\.rawValue)),
                "Whether the photos' backgrounds are removed: auto removes what is neither transparent, masked nor plain."
            )
        ])
        let output = Schema.object([
            .init(
                "format", .choice(OutputSettings.Format.allCases.map(\.rawValue)), default: .string("png"),
                "File format."),
            .init("quality", .integer(1...100), default: .integer(95), "JPEG quality."),
            .init(
                "metadata", .choice(OutputSettings.Metadata.allCases.map(\.rawValue)), default: .string("full"),
                "How much an image tells of how it was made."),
            .init("grid", .boolean, default: .bool(false), "Whether to add a contact sheet."),
        ])
        let fields: [Schema.Field] = [
            .init("schema_version", .integer(1...1), default: .integer(1), "Version of this format."),
            .init("subject", subject, "The subject to show."),
            .init("subjects", .array(of: subject, count: 1...16), "Several subjects to show together."),
            .init(
                "init_image", name,
                "The picture to begin with instead of noise: the subject it was dropped as; of several, its first."),
            .init(
                "strength", .number(0...1), needs: "init_image", default: .number(InitialImageUse.defaultStrength),
                "How much of init_image is replaced: at 0.8 the last four fifths of the steps are run."),
            .init("prompt", prompt, "The scene."),
            .init("prompts", .array(of: prompt, count: 1...10_000), "Several scenes, each with its own images."),
            .init("negative_prompt", .string(length: 0...16_384), default: .string(""), "What to steer away from."),
            .init(
                "guidance_scale", aliases: ["cfg_scale"], scale, default: .number(7.5),
                "Weight of the text; 1 and less is none, at one evaluation a step."),
            .init(
                "guidance_interval", .array(of: .number(0...1), count: 2...2),
                "Where guidance_scale holds, from and to as fractions of the run; it is 1 outside."),
            .init(
                "image_scale", ImageScale.schema, default: .number(0.4),
                "Weight of the subject's references: a number, or a start and an end over the steps."),
            .init(
                "prompt_mode", .choice(PromptMode.allCases.map(\.rawValue)),
                default: .string(PromptMode.chunks.rawValue),
                "Whether what is longer than 75 tokens is cut, or read in chunks."),
            .init(
                "prompt_syntax", .choice(PromptSyntax.allCases.map(\.rawValue)),
                default: .string(PromptSyntax.plain.rawValue), "Whether (word:1.3) and [word] are weights."),
            .init(
                "num_inference_steps", aliases: ["steps"], .integer(1...1000), default: .integer(50),
                "Denoising steps an image."),
            .init(
                "num_images_per_prompt", aliases: ["batch_size"], .integer(1...10_000), default: .integer(1),
                "Images per prompt."),
            .init(
                "n_iter", .integer(1...10_000), default: .integer(1),
                "Batches, as AUTOMATIC1111 has it: multiplies num_images_per_prompt."),
            .init(
                "seed", firstSeed,
                "Seed of image 0; image i has seed + i. Chosen and recorded at acceptance when absent or -1."),
            .init("noise_seed", seed, "Seed of a generator of its own for the step noise."),
            .init(
                "random", .choice(RandomSource.allCases.map(\.rawValue)),
                default: .string(RandomSource.torchCPU.rawValue),
                "Whose random numbers the seeds give: torch's on a CPU or on a GPU."),
            .init("eta", .number(0...1), default: .number(0), "Share of fresh noise a step."),
            .init(
                "scheduler", aliases: ["sampler_name", "sampler_index"], Scheduler.schema,
                "The sampler, by diffusers', AUTOMATIC1111's or ComfyUI's name; the model's configured one, or DDIM, "
                    + "when absent."),
            .init("width", .integer(8...4096, multipleOf: 8), "Width in pixels; the model's own when absent."),
            .init("height", .integer(8...4096, multipleOf: 8), "Height in pixels; the model's own when absent."),
            .init("model", name, "A configured model; the default one when absent."),
            .init("cache", cache, "How the subject's cache is made; as configured when absent."),
            .init("references", references, "What is done to the subject's photos; as configured when absent."),
            .init("output", output, "What the files of the set are like."),
            .init("priority", .integer(-100...100), default: .integer(0), "Higher runs first."),
            .init(
                "idempotency_key", .string(length: 1...256),
                "Two manifests with one key are one job, however often dropped."),
        ]
        return .object(fields, oneOf: (subjectRequired ? [["subject", "subjects"]] : []) + [["prompt", "prompts"]])
    }

    /// The JSON Schema (2020-12) of a job manifest, as `dreamcache schema` prints it.
    public static var jsonSchema: JSON { schema().document(titled: "DreamCache job manifest") }
}
