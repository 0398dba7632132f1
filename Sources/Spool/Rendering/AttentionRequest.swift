/// What is wanted beside a picture of what it read of its references (`output.attention`).
public struct AttentionRequest: Sendable, Equatable, Codable {
    /// The references, those of the request's caches in their order.
    public let references: [GridRequest.Reference]
    /// Every how many steps the attention is recorded, from the first on.
    public let interval: Int
    /// Absolute paths of the files to write, which do not exist yet: a PNG that shows it, and a safetensors file of the maps. The
    /// picture is left out where there is nothing to show.
    public let overlay: String, maps: String

    /// The interval where nobody says another.
    public static let interval = 5

    /// A request.
    public init(
        references: [GridRequest.Reference], interval: Int = interval, overlay: String, maps: String
    ) {
        self.references = references
        self.interval = interval
        self.overlay = overlay
        self.maps = maps
    }

    /// The names of both files beside a picture: `0000.attention.png` and `0000.attention.safetensors` beside `0000.png`.
    public static func fileNames(beside picture: String) -> (overlay: String, maps: String) {
        let stem = picture.lastIndex(of: ".").map { String(picture[..<$0]) } ?? picture
        return (stem + ".attention.png", stem + ".attention.safetensors")
    }
}

/// What a renderer reports of what a picture read of its references.
public struct AttentionReport: Sendable, Equatable, Codable {
    /// Numbers by their names, such as `localisation`, at a site.
    public struct Site: Sendable, Equatable, Codable {
        /// The site's name.
        public let name: String
        /// The numbers.
        public let numbers: [String: Double]

        /// A site.
        public init(name: String, numbers: [String: Double]) { (self.name, self.numbers) = (name, numbers) }
    }

    /// How many steps were recorded.
    public var steps: Int
    /// The mean of the numbers over the sites.
    public var mean: [String: Double]
    /// Site by site.
    public var sites: [Site]
    /// Why there is nothing, if that is so.
    public var error: String?

    /// A report.
    public init(steps: Int = 0, mean: [String: Double] = [:], sites: [Site] = [], error: String? = nil) {
        (self.steps, self.mean, self.sites, self.error) = (steps, mean, sites, error)
    }

    /// As records and `result.json` have it.
    public var json: JSON {
        if let error { return .object(["error": .string(error)]) }
        return .object([
            "steps": .integer(steps), "mean": Self.json(mean),
            "sites": .array(sites.map { .object(["site": .string($0.name), "numbers": Self.json($0.numbers)]) }),
        ])
    }

    /// A report read back.
    public init(_ json: JSON) {
        steps = json["steps"]?.integer ?? 0
        mean = Self.numbers(json["mean"])
        sites = (json["sites"]?.array ?? []).map {
            Site(name: $0["site"]?.string ?? "", numbers: Self.numbers($0["numbers"]))
        }
        error = json["error"]?.string
    }

    private static func json(_ numbers: [String: Double]) -> JSON {
        JSON(.object(numbers.sorted { $0.key < $1.key }.map { .init($0.key, .number($0.value)) }))
    }

    private static func numbers(_ json: JSON?) -> [String: Double] {
        Dictionary((json?.members ?? []).map { ($0.name, $0.value.number ?? 0) }, uniquingKeysWith: { $1 })
    }
}
