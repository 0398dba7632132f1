import Raster
import Vision

/// A way to say how alike two pictures are. What computes it is a value given to it, so that any network can be one.
public struct Measure {
    /// As reports and scripts name it: `subject_match`, `dino`, `clip`.
    public let name: String
    /// What it is, for a person: network and size, and how pictures are prepared.
    public let description: String
    /// What it sees in a picture.
    public let features: (Raster) throws -> Features
    /// What it looks for: of a photo, the subject, where it can tell that from the rest.
    public let reference: (Raster) throws -> Features
    /// What it sees in a text, where it reads texts.
    public let text: ((String) throws -> Features)?

    /// A measure.
    public init(
        name: String, description: String, features: @escaping (Raster) throws -> Features,
        reference: ((Raster) throws -> Features)? = nil, text: ((String) throws -> Features)? = nil
    ) {
        self.name = name
        self.description = description
        self.features = features
        self.reference = reference ?? features
        self.text = text
    }

    /// The cosine of an encoder's features; with texts where it is a CLIP.
    public init(_ encoder: ImageEncoder) {
        let name =
            switch encoder.family {
            case .dino: "dino"
            case .dinov2: "dinov2"
            case .clip: "clip"
            }
        func features(_ values: [Float]) -> Features { Features(rows: values, width: values.count) }
        self.init(
            name: name, description: "\(encoder.name), \(encoder.preparation.description)",
            features: { features(try encoder.features(of: $0)) },
            text: encoder.readsText ? { features(try encoder.features(of: $0)) } : nil)
    }
}

extension Measure {
    /// The same under another name, where two of a kind are compared.
    public func renamed(_ name: String) -> Measure {
        Measure(name: name, description: description, features: features, reference: reference, text: text)
    }
}
