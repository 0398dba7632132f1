import Crypto
import Foundation
import Mustache

/// A template that cannot be read or is not there.
public struct PageError: Error, Sendable, CustomStringConvertible {
    /// What is wrong.
    public let description: String
}

/// The templates, read once, and what every page begins with.
struct PageLibrary: Sendable {
    private let library: MustacheLibrary

    private static let shared = Result { () throws -> PageLibrary in try PageLibrary() }

    private init() throws {
        MustacheContentTypes.register(PageText(), named: PageText.name)
        var library = MustacheLibrary()
        for (name, text) in [
            ("head", Templates.head), ("set", Templates.set), ("spool", Templates.spool),
            ("archive", Templates.archive), ("card", Templates.card), ("refusal", Templates.refusal),
        ] {
            try library.register("{{% CONTENT_TYPE: \(PageText.name)}}" + text, named: name)
        }
        self.library = library
    }

    /// What stands around the content of every page. A name that a content lacks is looked up here, so none is used twice.
    private struct Frame {
        let pageTitle: String, policy: String, style: String, script: String?
        let content: any Sendable
    }

    /// A whole page.
    static func page(
        _ template: String, _ content: any Sendable, title: String, hasScript: Bool
    ) throws(PageError) -> String {
        do {
            let frame = Frame(
                pageTitle: title, policy: policy(hasScript: hasScript), style: Templates.style,
                script: hasScript ? Templates.script : nil, content: content)
            guard let text = try shared.get().library.render(frame, withTemplate: template) else {
                throw PageError(description: "no template '\(template)'")
            }
            return text
        } catch {
            throw PageError(description: "\(error)")
        }
    }

    /// Nothing from elsewhere, and of styles and scripts only those that these templates hold.
    private static func policy(hasScript: Bool) -> String {
        let script = hasScript ? "script-src \(source(Templates.script)); " : ""
        return "default-src 'none'; img-src 'self' data:; style-src \(source(Templates.style)); \(script)"
            + "base-uri 'none'; form-action 'none'"
    }

    private static func source(_ text: String) -> String {
        "'sha256-\(Data(SHA256.hash(data: Data(text.utf8))).base64EncodedString())'"
    }
}

/// A picture inside a page.
public struct EmbeddedPicture: Sendable, Equatable {
    let address: String

    /// A picture of a media type such as `image/png`.
    public init(_ bytes: [UInt8], type: String) {
        address = "data:\(type);base64,\(Base64.text(bytes))"
    }
}

/// A line of a table: what, and how much or which.
public struct PageFact: Sendable, Equatable {
    let name: String, value: String

    /// A fact.
    public init(_ name: String, _ value: String) { (self.name, self.value) = (name, value) }
}

/// Base64 (RFC 4648), for bytes inside text.
public enum Base64 {
    /// The text of bytes.
    public static func text(_ bytes: [UInt8]) -> String { Data(bytes).base64EncodedString() }
}
