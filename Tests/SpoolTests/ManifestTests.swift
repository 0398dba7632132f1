import Spool
import Testing

/// The JSON reader and the manifest: RFC 8259, and the fields users write.
@Suite struct ManifestTests {
    private func fault(_ text: String) -> JSONError? {
        do {
            _ = try JSONReader.read(Array(text.utf8))
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: [
        #"{"a": 1}"#, "[1, 2.5, -0, 1e3, true, false, null]", #""\u00e9\ud83d\ude00\n""#, "  {}  ", "\u{FEFF}{}",
    ])
    func readsWhatIsJSON(_ text: String) { #expect(fault(text) == nil) }

    @Test(arguments: [
        (#"{"a": 1, "a": 2}"#, "$", #"a second member named "a""#), (#"{"a": [1, x]}"#, "$.a[1]", "'x'"),
        ("{} x", "$", "'x'"), ("01", "$", "'1'"), ("-", "$", "the end of the file"), ("[1,]", "$[1]", "']'"),
        (#""\ud800""#, "$", "'\"'"), (#""\udc00""#, "$", "half of a surrogate pair"),
        ("\"\u{1}\"", "$", "the byte 0x1"),
        ("1e999", "$", "1e999"), ("nul", "$", "the end of the file"), ("", "$", "an empty file"), ("+1", "$", "'+'"),
        (#"{"a b": {"c": ?}}"#, #"$["a b"].c"#, "'?'"), ("'x'", "$", "'''"), ("NaN", "$", "'N'"),
    ])
    func namesPlaceAndFindOfWhatIsNot(_ text: String, _ path: String, _ found: String) throws {
        let error = try #require(fault(text))
        #expect(error.path == path)
        #expect(error.found == found)
    }

    @Test func placesAreExact() throws {
        let error = try #require(fault("{\n  \"a\": 1,\n  \"b\": tru\n}"))
        #expect((error.line, error.column, error.byte) == (3, 11, 22))
    }

    @Test func depthAndSizeAreBounded() throws {
        #expect(fault(String(repeating: "[", count: 32) + String(repeating: "]", count: 32)) == nil)
        #expect(
            fault(String(repeating: "[", count: 33) + String(repeating: "]", count: 33))?.found
                == "nesting deeper than 32")
        #expect(fault(String(repeating: "[", count: 1 << 20)) != nil)
        #expect(fault(String(repeating: " ", count: (1 << 20) + 1))?.expected == "at most 1048576")
    }

    @Test func notUTF8IsNamed() throws {
        #expect(throws: JSONError.self) { try JSONReader.read([0x22, 0xFF, 0x22]) }
    }

    /// Every proper prefix of a manifest is a truncation, also with zeros in place of the rest, and nothing else is: this is
    /// what tells a cut-off copy apart.
    @Test func everyPrefixIsATruncation() throws {
        let text = Array(
            #"{"subject": "dog", "prompt": "\u00e9x", "steps": 12, "eta": 0.5, "output": {"grid": true}}"#.utf8)
        for count in 0..<text.count {
            for zeros in [0, text.count - count, 4096] {
                let cut = text[..<count] + [UInt8](repeating: 0, count: zeros)
                let error = #expect(throws: JSONError.self) { try JSONReader.read(Array(cut)) }
                #expect(error?.isTruncation == true, "\(count) and \(zeros) zeros: \(error.map(\.description) ?? "")")
            }
        }
    }

    @Test func writingAndReadingGoRound() throws {
        let value = try JSONReader.read(Array(#"{"a": [1, -2.5, 1e300, "q\"\\\n\u0001é😀", null, true, {}, []]}"#.utf8))
        for pretty in [true, false] {
            #expect(try JSONReader.read(Array(value.text(pretty: pretty).utf8)) == value)
        }
    }

    private func parse(_ text: String) throws -> JobManifest { try JobManifest.parse(Array(text.utf8)) }

    @Test func defaultsAndAliases() throws {
        let plain = try parse(#"{"subject": "dog", "prompt": "x"}"#)
        #expect(plain.inferenceSteps == 50)
        #expect(plain.guidanceScale == 7.5)
        #expect(plain.imageScale == 0.4)
        #expect(plain.scheduler == nil)
        #expect(plain.promptMode == .chunks)
        #expect(plain.promptSyntax == .plain)
        #expect(plain.output == OutputSettings())
        #expect(plain.seed == nil)
        let named = try parse(
            #"{"subject": "dog", "prompt": "x", "steps": 9, "cfg_scale": 2, "sampler_name": "Euler a", "batch_size": 3}"#
        )
        #expect(named.inferenceSteps == 9)
        #expect(named.guidanceScale == 2)
        #expect(named.scheduler == .eulerAncestral)
        #expect(named.imagesPerPrompt == 3)
    }

    @Test func plansCountSeedsOverPromptsAndImages() throws {
        let manifest = try parse(
            #"{"subjects": ["dog", {"name": "cat", "image_scale": 2}], "prompts": ["a", "b"], "num_images_per_prompt": 2}"#
        )
        #expect(manifest.subjects == [SubjectUse(name: "dog"), SubjectUse(name: "cat", imageScale: 2)])
        #expect(manifest.images(seed: 10).map(\.seed) == [10, 11, 12, 13])
        #expect(manifest.images(seed: 10).map(\.prompt) == ["a", "a", "b", "b"])
        #expect(manifest.fileName(image: 12) == "0012.png")
    }

    /// What diffusers, AUTOMATIC1111's web UI and ComfyUI call samplers.
    @Test(arguments: [
        ("DPM++ 2M Karras", "DPMSolverMultistepScheduler Karras"), ("heun", "HeunDiscreteScheduler"),
        ("DPM++ 2M SDE", "DPM++ 2M SDE"), ("Euler Karras", "EulerDiscreteScheduler Karras"),
        ("Euler A", "EulerAncestralDiscreteScheduler"), ("dpmpp_2m", "DPMSolverMultistepScheduler"),
        ("euler_ancestral", "EulerAncestralDiscreteScheduler"), ("DPM++ SDE Karras", "DPMSolverSDEScheduler Karras"),
        ("dpmpp_2m_sde_karras", "DPM++ 2M SDE Karras"), ("LMS Karras", "LMSDiscreteScheduler Karras"),
        ("DPM++ 2M Exponential", "DPMSolverMultistepScheduler Exponential"), ("uni_pc", "UniPCMultistepScheduler"),
        ("deis", "DEISMultistepScheduler"), ("ddpm", "DDPMScheduler"), ("TCD", "TCDScheduler"),
    ])
    func samplersByEveryName(_ name: String, _ recorded: String) throws {
        for field in ["scheduler", "sampler_name"] {
            let manifest = try parse(#"{"subject": "dog", "prompt": "x", "\#(field)": "\#(name)"}"#)
            #expect(manifest.scheduler?.rawValue == recorded)
        }
        // What is recorded is accepted again.
        #expect(Scheduler(rawValue: recorded)?.rawValue == recorded)
    }

    /// AUTOMATIC1111 since 1.9 and ComfyUI say in two fields what is one here, and names in any case.
    @Test(arguments: [
        (#""sampler_name": "DPM++ 2M", "scheduler": "Karras""#, "DPMSolverMultistepScheduler Karras"),
        (#""scheduler": "karras", "sampler_name": "dpmpp_2m""#, "DPMSolverMultistepScheduler Karras"),
        (#""sampler_name": "DPM++ 2M Karras", "scheduler": "Karras""#, "DPMSolverMultistepScheduler Karras"),
        (#""sampler_name": "DPM++ 2M", "scheduler": "Automatic""#, "DPMSolverMultistepScheduler"),
        (#""sampler_name": "euler", "scheduler": "normal""#, "EulerDiscreteScheduler"),
        (#""sampler_name": "Euler a", "sampler_index": "euler A""#, "EulerAncestralDiscreteScheduler"),
        (#""sampler_index": "HEUN", "scheduler": "exponential""#, "HeunDiscreteScheduler Exponential"),
        (#""scheduler": "dpm++ 2m karras""#, "DPMSolverMultistepScheduler Karras"),
    ])
    func samplerAndSpacing(_ fields: String, _ recorded: String) throws {
        #expect(try parse(#"{"subject": "dog", "prompt": "x", \#(fields)}"#).scheduler?.rawValue == recorded)
    }

    @Test(arguments: [
        (#""sampler_name": "DPM++ 2M", "scheduler": "sgm_uniform""#, "beside sampler_name"),
        (#""sampler_name": "Euler", "scheduler": "Heun""#, "a second spelling of sampler_name"),
        (#""sampler_name": "Euler a", "scheduler": "Karras""#, "Euler a Karras"),
    ])
    func twoSamplersAreRefused(_ fields: String, _ found: String) throws {
        let error = #expect(throws: ManifestError.self) { try parse(#"{"subject": "dog", "prompt": "x", \#(fields)}"#) }
        #expect(error?.description.contains(found) == true, "\(error?.description ?? "")")
    }

    /// An image's own manifest is accepted again, whatever its place in the set.
    @Test func theLastImageHasASeedToo() throws {
        let most = JobManifest.maximumSeed
        for (seed, fields) in [
            (most, #""num_images_per_prompt": 2"#),
            (most - 6, #""num_images_per_prompt": 2, "select": {"best_of": 4}"#),
        ] {
            let error = #expect(throws: ManifestError.self) {
                try parse(#"{"subject": "dog", "prompt": "x", "seed": \#(seed), \#(fields)}"#)
            }
            #expect(error?.faults.first?.path == "$.seed")
        }
        #expect(try parse(#"{"subject": "dog", "prompt": "x", "seed": \#(most)}"#).seed == most)
    }

    @Test func everySamplerHasOneMeaning() throws {
        let names = Scheduler.allCases.flatMap { [$0.rawValue] + $0.aliases }
        #expect(Set(names).count == names.count)
        for scheduler in Scheduler.allCases {
            for name in [scheduler.rawValue] + scheduler.aliases { #expect(Scheduler(named: name) == scheduler) }
        }
        // A refusal lists what is accepted.
        let error = #expect(throws: ManifestError.self) {
            try parse(#"{"subject": "dog", "prompt": "x", "scheduler": "foo"}"#)
        }
        for name in ["HeunDiscreteScheduler", "DPM++ 2M Karras", "dpmpp_2m", "Euler a"] {
            #expect(error?.faults.first?.expected.contains(name) == true, "\(name)")
        }
    }

    @Test func scalesOverTheSteps() throws {
        let manifest = try parse(
            """
            {"subjects": ["dog", {"name": "cat", "image_scale": {"start": 1, "end": 0.5, "to": 0.4}}], "prompt": "x",
             "image_scale": {"start": 0.8, "end": 0, "from": 0.25, "to": 0.75}, "guidance_interval": [0.2, 0.9]}
            """)
        #expect(manifest.imageScale == ImageScale(start: 0.8, end: 0, from: 0.25, to: 0.75))
        #expect(manifest.subjects[1].imageScale == ImageScale(start: 1, end: 0.5, from: 0, to: 0.4))
        #expect(manifest.guidanceInterval == 0.2...0.9)
        #expect(ImageScale(0.4).json == .number(0.4))
    }

    static let good = [
        #"{"subject": "dog", "prompt": "x", "image_scale": {"start": 1, "end": 0.2, "from": 0.1, "to": 0.9}}"#,
        #"{"subject": "dog", "prompt": "x", "guidance_interval": [0, 1], "prompt_mode": "truncate", "prompt_syntax": "weighted"}"#,
        #"{"subject": "dog", "prompt": "x", "scheduler": "DPM++ 2M SDE Karras"}"#,
        #"{"subject": "dog", "prompt": "x"}"#,
        #"{"subject": {"name": "dog", "references": ["a.png"]}, "prompts": ["x", "y"]}"#,
        #"{"subjects": ["a", {"name": "b", "image_scale": 0}], "prompt": "x", "width": 512, "height": 8}"#,
        #"{"subject": "dog", "prompt": "x", "seed": 9007199254740991, "noise_seed": 0, "eta": 1, "priority": -100}"#,
        #"{"subject": "dog", "prompt": "x", "cache": {"mode": "official", "seed": 1234, "prompt": "", "fit": "squash"}}"#,
        #"{"subject": "dog", "prompt": "x", "output": {"format": "jpeg", "quality": 1, "metadata": "none", "grid": true}}"#,
        #"{"subject": "dog", "prompt": "x", "init_image": "sketch"}"#,
        #"{"subject": "dog", "prompt": "x", "init_image": "dog", "strength": 1, "steps": 1}"#,
        #"{"subject": "dog", "prompt": "x", "seed": -1, "sampler_index": "Euler a", "batch_size": 2, "n_iter": 3}"#,
        #"{"subject": "dog", "prompt": "two\nlines\tand a tab"}"#,
        #"{"subject": "dog", "prompt": "x", "steps": 3.0, "scheduler": "ddim", "idempotency_key": "k", "model": "m.1"}"#,
    ]

    static let bad: [(text: String, path: String)] = [
        (#"{"prompt": "x"}"#, "$"), (#"{"subject": "dog"}"#, "$"),
        (#"{"subject": "dog", "prompt": "x", "prompts": ["y"]}"#, "$"),
        (#"{"subject": "dog", "subjects": ["cat"], "prompt": "x"}"#, "$"),
        (#"{"subject": "../dog", "prompt": "x"}"#, "$.subject"),
        (#"{"subject": "dog", "prompt": ""}"#, "$.prompt"), (#"{"subject": "dog", "prompts": []}"#, "$.prompts"),
        (#"{"subject": "dog", "prompts": ["x", 3]}"#, "$.prompts[1]"),
        (#"{"subject": "dog", "prompt": "x", "width": 12}"#, "$.width"),
        (#"{"subject": "dog", "prompt": "x", "steps": 0}"#, "$.steps"),
        (#"{"subject": "dog", "prompt": "x", "steps": 1.5}"#, "$.steps"),
        (#"{"subject": "dog", "prompt": "x", "steps": 2, "num_inference_steps": 2}"#, "$.num_inference_steps"),
        (#"{"subject": "dog", "prompt": "x", "seed": -2}"#, "$.seed"),
        (#"{"subject": "dog", "prompt": "x", "noise_seed": -1}"#, "$.noise_seed"),
        (#"{"subject": "dog", "prompt": "nul\u0000x"}"#, "$.prompt"),
        (#"{"subject": "dog", "prompts": ["x", "\u001b[2J"]}"#, "$.prompts[1]"),
        (#"{"subject": "dog", "prompt": "x", "negative_prompt": "\u0008"}"#, "$.negative_prompt"),
        (#"{"subject": "dog", "prompt": "x", "idempotency_key": "a\u0000"}"#, "$.idempotency_key"),
        (#"{"subject": "dog", "prompt": "x", "cache": {"prompt": "a\u0000"}}"#, "$.cache.prompt"),
        (#"{"subject": "dog", "prompt": "x", "seed": 9007199254740992}"#, "$.seed"),
        (#"{"subject": "dog", "prompt": "x", "eta": 1.1}"#, "$.eta"),
        (#"{"subject": "dog", "prompt": "x", "scheduler": "foo"}"#, "$.scheduler"),
        (#"{"subject": "dog", "prompt": "x", "scheduler": "DDIM Karras"}"#, "$.scheduler"),
        (#"{"subject": "dog", "prompt": "x", "guidance_interval": [0.1]}"#, "$.guidance_interval"),
        (#"{"subject": "dog", "prompt": "x", "guidance_interval": [0, 2]}"#, "$.guidance_interval[1]"),
        (#"{"subject": "dog", "prompt": "x", "image_scale": {"start": 1}}"#, "$.image_scale.end"),
        (#"{"subject": "dog", "prompt": "x", "image_scale": {"start": 1, "end": 2, "to": 3}}"#, "$.image_scale.to"),
        (#"{"subject": "dog", "prompt": "x", "image_scale": "best"}"#, "$.image_scale"),
        (#"{"subject": "dog", "prompt": "x", "prompt_mode": "cut"}"#, "$.prompt_mode"),
        (#"{"subject": "dog", "prompt": "x", "prompt_syntax": "wild"}"#, "$.prompt_syntax"),
        (#"{"subject": "dog", "prompt": "x", "output": {"grid": 1}}"#, "$.output.grid"),
        (#"{"subject": "dog", "prompt": "x", "output": {"size": 1}}"#, "$.output.size"),
        (#"{"subject": "dog", "prompt": "x", "cache": {"mode": "fast"}}"#, "$.cache.mode"),
        (#"{"subject": {"image_scale": 1}, "prompt": "x"}"#, "$.subject.name"),
        (#"{"subject": 3, "prompt": "x"}"#, "$.subject"),
        (#"{"subject": "dog", "prompt": "x", "schema_version": 2}"#, "$.schema_version"),
        (#"{"subject": {"name": "dog", "references": ["../a"]}, "prompt": "x"}"#, "$.subject.references[0]"),
        ("[]", "$"),
        (#"{"subject": "dog", "prompt": "x", "model": "/etc/passwd"}"#, "$.model"),
        (#"{"subject": "dog", "prompt": null}"#, "$.prompt"),
        (#"{"subject": "dog", "prompt": "x", "strength": 0.5}"#, "$.strength"),
        (#"{"subject": "dog", "prompt": "x", "init_image": "a", "strength": 1.1}"#, "$.strength"),
        (#"{"subject": "dog", "prompt": "x", "init_image": "a", "strength": -0.1}"#, "$.strength"),
        (#"{"subject": "dog", "prompt": "x", "init_image": "a", "strength": "half"}"#, "$.strength"),
        (#"{"subject": "dog", "prompt": "x", "init_image": "/home/me/a.png"}"#, "$.init_image"),
        (#"{"subject": "dog", "prompt": "x", "init_image": "../a.png"}"#, "$.init_image"),
        (#"{"subject": "dog", "prompt": "x", "init_image": {"name": "a"}}"#, "$.init_image"),
        (#"{"subject": "dog", "prompt": "x", "init_image": ""}"#, "$.init_image"),
    ]

    @Test(arguments: bad) func whatIsWrongIsNamed(_ text: String, _ path: String) throws {
        do {
            _ = try parse(text)
            Issue.record("accepted")
        } catch let error as ManifestError {
            #expect(error.faults.map(\.path).contains(path))
        }
    }

    @Test func contradictionsTheSchemaCannotSay() throws {
        #expect(throws: ManifestError.self) {
            try parse(#"{"subject": "dog", "prompts": ["a", "b"], "num_images_per_prompt": 5001}"#)
        }
        #expect(throws: ManifestError.self) { try parse(#"{"subjects": ["dog", "dog"], "prompt": "x"}"#) }
        #expect(throws: ManifestError.self) {
            try parse(#"{"subject": "dog", "prompt": "x", "guidance_interval": [0.6, 0.5]}"#)
        }
        #expect(throws: ManifestError.self) {
            try parse(
                #"{"subject": "dog", "prompt": "x", "image_scale": {"start": 1, "end": 0, "from": 0.6, "to": 0.5}}"#)
        }
    }

    /// Requests as AUTOMATIC1111 and ComfyUI write them mean the same here, or say what to do.
    @Test func whatOtherFrontEndsWrite() throws {
        let webui = try parse(
            #"{"subject": "dog", "prompt": "x", "steps": 20, "cfg_scale": 7, "seed": -1, "sampler_index": "Euler a", "#
                + #""batch_size": 2, "n_iter": 3}"#)
        #expect(webui.seed == nil && webui.imagesPerPrompt == 6 && webui.scheduler == .eulerAncestral)
        let error = try #require(throws: ManifestError.self) {
            try parse(#"{"subject": "dog", "prompt": "x", "seed": 1125899906842624123}"#)
        }
        #expect(error.description.contains("take another, or leave it out and one is chosen"))
        // A count beyond all bounds is a fault, and nothing worse.
        #expect(throws: ManifestError.self) {
            try parse(
                #"{"subject": "dog", "prompt": "x", "batch_size": 9223372036854775807, "n_iter": 9223372036854775807}"#)
        }
    }

    @Test(
        arguments: [
            ("UTF-16", [0xFF, 0xFE], 2, false), ("UTF-16", [0xFE, 0xFF], 2, true), ("UTF-16", [], 2, false),
            ("UTF-16", [], 2, true), ("UTF-32", [0xFF, 0xFE, 0, 0], 4, false), ("UTF-32", [0, 0, 0xFE, 0xFF], 4, true),
            ("UTF-32", [], 4, false), ("UTF-32", [], 4, true),
        ] as [(String, [UInt8], Int, Bool)])
    func otherEncodingsAreNamed(_ name: String, _ mark: [UInt8], _ width: Int, _ isBigEndian: Bool) throws {
        let zeros = [UInt8](repeating: 0, count: width - 1)
        let text = Array(#"{"subject": "dog", "prompt": "x"}"#.utf8).flatMap {
            isBigEndian ? zeros + [$0] : [$0] + zeros
        }
        let error = try #require(throws: ManifestError.self) { try JobManifest.parse(mark + text) }
        #expect(error.description.contains("found a text in \(name), expected UTF-8"), "\(error)")
        #expect(!error.isTruncation)
    }

    /// The printed schema, evaluated by the rules of JSON Schema, says of each document what the parser says.
    @Test func theSchemaAndTheParserAgree() throws {
        let schema = try JSONReader.read(Array(JobManifest.jsonSchema.text().utf8))
        #expect(schema["$schema"]?.string == "https://json-schema.org/draft/2020-12/schema")
        for text in Self.good {
            _ = try parse(text)
            #expect(SchemaEvaluator.accepts(try JSONReader.read(Array(text.utf8)), schema), "\(text)")
        }
        for (text, _) in Self.bad {
            #expect(!SchemaEvaluator.accepts(try JSONReader.read(Array(text.utf8)), schema), "\(text)")
        }
    }

    /// Bytes from strangers: damaged manifests of all kinds are refused or read, never fatal.
    @Test func damagedManifestsAreSurvived() throws {
        let seeds = (Self.good + Self.bad.map(\.text)).map { Array($0.utf8) }
        let random = TestRandom(7).next
        var (read, refused) = (0, 0)
        for round in 0..<20_000 {
            var bytes = seeds[round % seeds.count]
            for _ in 0...Int(random() % 4) where !bytes.isEmpty {
                let place = Int(random() % UInt64(bytes.count))
                switch random() % 4 {
                case 0: bytes[place] = UInt8(truncatingIfNeeded: random())
                case 1: bytes.remove(at: place)
                case 2: bytes.insert(contentsOf: bytes.prefix(Int(random() % 9)), at: place)
                default: bytes.removeLast(bytes.count - place)
                }
            }
            do {
                let manifest = try JobManifest.parse(bytes)
                if manifest.prompts.isEmpty || !(1...JobManifest.maximumImages).contains(manifest.imageCount) {
                    Issue.record("accepted: \(String(decoding: bytes, as: UTF8.self))")
                }
                read += 1
            } catch {
                // Every fault has a place in the text, and says what stands there and what should.
                let arePlaced = error.faults.allSatisfy { fault in
                    (0...bytes.count).contains(fault.byte) && fault.line >= 1 && !fault.found.isEmpty
                        && !fault.expected.isEmpty && fault.path.hasPrefix("$")
                }
                if error.faults.isEmpty || !arePlaced { Issue.record("\(error)") }
                refused += 1
            }
        }
        // Both happen: the parser is reached, and damage is noticed.
        #expect(read > 50 && refused > 5_000, "\(read) read, \(refused) refused")
    }
}

/// As much of JSON Schema 2020-12 as the shipped schemas use, written from the specification and not from our parser.
enum SchemaEvaluator {
    private static func isOf(_ value: JSON, _ kind: String?) -> Bool {
        switch value.content {
        case .null: kind == "null"
        case .bool: kind == "boolean"
        case .integer: kind == "integer" || kind == "number"
        case .number(let number): kind == "number" || kind == "integer" && number == number.rounded()
        case .string: kind == "string"
        case .array: kind == "array"
        case .object: kind == "object"
        }
    }

    static func accepts(_ value: JSON, _ schema: JSON) -> Bool {
        for keyword in schema.members ?? [] {
            switch keyword.name {
            case "type": if !isOf(value, keyword.value.string) { return false }
            case "enum": if keyword.value.array?.contains(value) != true { return false }
            case "minimum": if let number = value.number, number < keyword.value.number ?? 0 { return false }
            case "maximum": if let number = value.number, number > keyword.value.number ?? 0 { return false }
            case "multipleOf":
                if let number = value.number, let factor = keyword.value.number,
                    number.truncatingRemainder(dividingBy: factor) != 0
                {
                    return false
                }
            case "minLength":
                if let text = value.string, text.unicodeScalars.count < keyword.value.integer ?? 0 { return false }
            case "maxLength":
                if let text = value.string, text.unicodeScalars.count > keyword.value.integer ?? 0 { return false }
            case "pattern":
                if let text = value.string, let pattern = keyword.value.string, let regex = try? Regex(pattern),
                    text.wholeMatch(of: regex) == nil
                {
                    return false
                }
            case "items":
                if let values = value.array, !values.allSatisfy({ accepts($0, keyword.value) }) { return false }
            case "minItems": if let values = value.array, values.count < keyword.value.integer ?? 0 { return false }
            case "maxItems": if let values = value.array, values.count > keyword.value.integer ?? 0 { return false }
            case "properties":
                for member in value.members ?? [] {
                    if let inner = keyword.value[member.name], !accepts(member.value, inner) { return false }
                }
            case "additionalProperties":
                let known = schema["properties"]
                if keyword.value.bool == false, value.members?.contains(where: { known?[$0.name] == nil }) == true {
                    return false
                }
            case "required":
                if let members = value.members {
                    let names = keyword.value.array?.compactMap(\.string) ?? []
                    if !names.allSatisfy({ name in members.contains { $0.name == name } }) { return false }
                }
            case "dependentRequired":
                for (name, needed) in (keyword.value.members ?? []).map({ ($0.name, $0.value) })
                where value[name] != nil {
                    if needed.array?.allSatisfy({ value[$0.string ?? ""] != nil }) != true { return false }
                }
            case "allOf": if keyword.value.array?.allSatisfy({ accepts(value, $0) }) != true { return false }
            case "anyOf": if keyword.value.array?.contains(where: { accepts(value, $0) }) != true { return false }
            case "oneOf": if keyword.value.array?.filter({ accepts(value, $0) }).count != 1 { return false }
            case "not": if accepts(value, keyword.value) { return false }
            case "$schema", "title", "description", "default": break
            default: return false
            }
        }
        return true
    }
}
