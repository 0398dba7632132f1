extension JobManifest {
    /// The manifest's fields: the one place that knows their names, aliases, ranges and defaults.
    ///
    /// - Parameter subjectRequired: whether one of `subject` and `subjects` must be there.
    public static func schema(subjectRequired: Bool = true) -> Schema {
        .object(
            sceneFields + guidanceFields + runFields + setFields,
            oneOf: (subjectRequired ? [["subject", "subjects"]] : []) + [["prompt", "prompts"]])
    }

    /// The JSON Schema (2020-12) of a job manifest, as `dreamcache schema` prints it.
    public static var jsonSchema: JSON { schema().document(titled: "DreamCache job manifest") }

    // MARK: - The fields, in the document's order

    /// What the images show.
    private static let sceneFields: [Schema.Field] = [
        .init("schema_version", .integer(1...1), default: .integer(1), "Version of this format."),
        .init(
            "kind", .choice([Kind.names.render]), default: .string(Kind.names.render),
            "Images are to be made; a manifest of kind training has other fields."),
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
    ]

    /// How strongly text and subjects steer, and how prompts are read.
    private static let guidanceFields: [Schema.Field] = [
        .init(
            "guidance_scale", aliases: ["cfg_scale"], scale, default: .number(7.5),
            "Weight of the text; 1 or less means none, as in diffusers."),
        .init(
            "guidance_interval", .array(of: .number(0...1), count: 2...2),
            "Where guidance_scale holds, from and to as fractions of the run; outside it is 1."),
        .init(
            "image_scale", .either(.choice([ImageScale.auto]), ImageScale.schema), default: .number(0.4),
            "Weight of the subject's references: a number, a start and an end over the steps, or auto: a pilot chooses."
        ),
        .init(
            "prompt_mode", .choice(PromptMode.allCases.map(\.rawValue)),
            default: .string(PromptMode.chunks.rawValue),
            "Whether what is longer than 75 tokens is cut, or read in chunks."),
        .init(
            "prompt_syntax", .choice(PromptSyntax.allCases.map(\.rawValue)),
            default: .string(PromptSyntax.plain.rawValue), "Whether (word:1.3) and [word] are weights."),
    ]

    /// Steps, number, random numbers, sampler and size of the images.
    private static let runFields: [Schema.Field] = [
        .init(
            "num_inference_steps", aliases: ["steps"], .integer(1...1000), default: .integer(50),
            "Denoising steps per image."),
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
        .init("eta", .number(0...1), default: .number(0), "Share of fresh noise in each step."),
        .init(
            "scheduler", aliases: ["sampler_name", "sampler_index"], Scheduler.schema,
            "The sampler, by diffusers', AUTOMATIC1111's or ComfyUI's name; the model's configured one, or DDIM, "
                + "when absent."),
        .init("width", .integer(8...4096, multipleOf: 8), "Width in pixels; the model's own when absent."),
        .init("height", .integer(8...4096, multipleOf: 8), "Height in pixels; the model's own when absent."),
    ]

    /// The model, the files, and the job's place in the queue.
    private static let setFields: [Schema.Field] = [
        .init("model", name, "A configured model; the default one when absent."),
        .init("cache", cache, "How the subject's cache is made; as configured when absent."),
        .init("references", references, "What is done to the subject's photos; as configured when absent."),
        .init("select", Selection.schema, "Makes several candidates of each image and puts the best into the set."),
        .init("output", output, "What the files of the set are like."),
        .init("priority", .integer(-100...100), default: .integer(0), "Higher runs first."),
        .init(
            "idempotency_key", .string(length: 1...256),
            "Two manifests of one user with one key are one job, however often dropped."),
    ]

    // MARK: - Their values

    private static let name = Schema.string(pattern: .name)
    private static let prompt = Schema.string(length: 1...16_384)
    private static let scale = Schema.number(0...100)
    private static let seedAdvice = "the largest that every JSON reader keeps exactly; take another, or leave it out"
    private static let seed = Schema.integer(0...maximumSeed, advice: seedAdvice)
    private static let firstSeed = Schema.integer(-1...maximumSeed, advice: seedAdvice + " and one is chosen")

    /// A subject: its name, or an object.
    private static let subject = Schema.either(
        name,
        .object([
            .init("name", name, required: true, "The subject: the name of its folder under drop/references."),
            .init("image_scale", ImageScale.schema, "This subject's own image_scale."),
            .init(
                "references", .array(of: name, count: 1...200),
                "Names of the reference files to use; all when absent."),
        ]))

    /// How caches are made.
    private static let cache = Schema.object([
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

    /// What is done to photos.
    private static let references = Schema.object([
        .init(
            "background", .choice(CacheSettings.Background.allCases.map(\.rawValue)),
            "Whether the photos' backgrounds are removed: auto removes what is neither transparent, masked nor plain."
        )
    ])

    /// What files are like.
    private static let output = Schema.object([
        .init(
            "format", .choice(OutputSettings.Format.allCases.map(\.rawValue)), default: .string("png"),
            "File format."),
        .init("quality", .integer(1...100), default: .integer(95), "JPEG quality."),
        .init(
            "metadata", .choice(OutputSettings.Metadata.allCases.map(\.rawValue)), default: .string("full"),
            "How much an image tells of how it was made."),
        .init("grid", .boolean, default: .bool(false), "Whether to add a contact sheet."),
        .init(
            "attention", .boolean, default: .bool(false),
            "Whether to add, beside each image, what it read of its references: a picture, maps and numbers."),
    ])
}
