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
    /// - Parameters:
    ///   - subjectRequired: false where the caller supplies the cache itself, as `dreamcache render --cache`.
    ///   - settings: those of a training; any, where the manifest was accepted before.
    /// - Throws: `ManifestError` with all faults and their places.
    public static func parse(_ bytes: [UInt8], subjectRequired: Bool = true, settings: Schema = .anyObject)
        throws(ManifestError) -> JobManifest
    {
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
        let isTraining = document["kind"]?.string == Kind.names.training
        let schema = isTraining ? trainingSchema(settings: settings) : schema(subjectRequired: subjectRequired)
        let checked = schema.check(
            isTraining ? document : SamplerAndSpacing.joined(document, faults: &faults), faults: &faults)
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
        if let training { faults += training.contradictions(in: document) }
        faults += contradictionsOfSeeds(in: document)
        if let select { faults += contradictions(of: select, in: document) }
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

    /// Images that are made, those that are not chosen included.
    private var candidateCount: Int { imageCount * candidatesPerImage }

    /// The last image, or its last candidate, has a seed too.
    private func contradictionsOfSeeds(in document: JSON) -> [SchemaFault] {
        let last = candidateCount - 1
        guard let seed, seed > Self.maximumSeed - last else { return [] }
        return [
            SchemaFault(
                path: "$.seed", byte: document["seed"]?.offset ?? 0,
                found: "\(seed), of which the last image has \(last) more",
                expected: "a last seed of at most \(Self.maximumSeed)")
        ]
    }

    private func contradictions(of select: Selection, in document: JSON) -> [SchemaFault] {
        let byte = document["select"]?.offset ?? 0
        if candidateCount > Self.maximumImages {
            return [
                SchemaFault(
                    path: "$.select.best_of", byte: byte,
                    found: "\(imageCount) images of \(select.candidates) candidates",
                    expected: "at most \(Self.maximumImages) candidates in all")
            ]
        }
        if output.attention {
            return [
                SchemaFault(
                    path: "$.output.attention", byte: document["output"]?.offset ?? byte, found: "true beside select",
                    expected: "one of the two")
            ]
        }
        let pixels = (width ?? 8) * (height ?? 8) * select.candidates
        if select.keepsAll, pixels > Selection.maximumKeptPixels {
            return [
                SchemaFault(
                    path: "$.select.keep", byte: byte,
                    found: "all, of \(pixels >> 20) megapixels for each image",
                    expected: "at most \(Selection.maximumKeptPixels >> 20) megapixels, or best")
            ]
        }
        return []
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
        let isTraining = document["kind"]?.string == Kind.names.training
        kind = isTraining ? .training(TrainingOrder(checked: document)) : .render
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
        tunesImageScale = document["image_scale"]?.string == ImageScale.auto
        imageScale = tunesImageScale ? 0.4 : document["image_scale"].map(ImageScale.init(checked:)) ?? 0
        inferenceSteps = document["num_inference_steps"]?.integer ?? 1
        func count(_ name: String) -> Int { min(max(document[name]?.integer ?? 1, 1), Self.maximumImages) }
        imagesPerPrompt = count("num_images_per_prompt") * count("n_iter")
        seed = document["seed"]?.integer.flatMap { $0 < 0 ? nil : $0 }
        // A training has its seed among its settings, and no default but theirs.
        if isTraining { seed = max(0, document["settings"]?["seed"]?.integer ?? 0) }
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
        select = document["select"].map(Selection.init(checked:))
        let output = document["output"]
        self.output = OutputSettings(
            format: output?["format"]?.string.flatMap(OutputSettings.Format.init(rawValue:)) ?? .png,
            quality: output?["quality"]?.integer ?? 95,
            metadata: output?["metadata"]?.string.flatMap(OutputSettings.Metadata.init(rawValue:)) ?? .full,
            grid: output?["grid"]?.bool ?? false, attention: output?["attention"]?.bool ?? false)
        priority = document["priority"]?.integer ?? 0
        idempotencyKey = document["idempotency_key"]?.string
    }
}
