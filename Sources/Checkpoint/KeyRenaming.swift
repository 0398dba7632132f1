/// From the names a model gives its parameters to the names they have in a file: renaming as data, in the direction in
/// which the parameters are asked for, so that whatever is missing is reported under the name the file would have.
public struct KeyRenaming: Sendable {
    /// One entry of a table: what a name begins with in the model, and what it begins with in the file instead.
    public struct Entry: Sendable, Equatable {
        /// The beginning in the model: whole segments with the dot behind them, or a whole name.
        public let model: String
        /// The beginning in the file.
        public let file: String

        /// One entry.
        public init(_ model: String, _ file: String) {
            self.model = model
            self.file = file
        }
    }

    private let map: @Sendable (String) -> String

    /// A renaming that no table can express.
    public init(_ map: @escaping @Sendable (String) -> String) { self.map = map }

    /// The renaming of a table. Of the entries that a name begins with, the longest is applied; a name that none fits
    /// stays as it is.
    public init(table: [Entry]) {
        let files = Dictionary(table.map { ($0.model, $0.file) }) { first, _ in first }
        map = { name in
            var end = name.endIndex
            while true {
                if let file = files[String(name[..<end])] { return file + name[end...] }
                if end == name.startIndex { return name }
                // From "a.b." and from "a.b" back to "a.".
                end = name[..<end].dropLast().lastIndex(of: ".").map(name.index(after:)) ?? name.startIndex
            }
        }
    }

    /// The file's name for the model's `name`.
    public func callAsFunction(_ name: String) -> String { map(name) }

    /// Every name stays.
    public static let none = KeyRenaming { $0 }
}
