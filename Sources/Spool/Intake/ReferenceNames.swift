import Raster

import Bytes

/// What the files of a folder of references are by their names: pictures, or masks and of which picture; and the plain
/// name each is stored under. The daemon and the command line use this one rule.
///
/// A mask is called `NAME_mask` in any case, of any extension, and belongs to the picture `NAME.*`. The names compared are
/// those the person gave. The name that fits best counts: equal bytes, then equal text (NFC or NFD), then another case.
public struct ReferenceNames: Sendable, Equatable {
    /// What a file is.
    public enum Role: Sendable, Equatable {
        /// A reference.
        case picture
        /// The mask of the picture that is stored under this name.
        case mask(of: String)
        /// It is named like a mask, but cannot be used as one.
        case misfit(found: String, expected: String)
    }

    /// A file.
    public struct Entry: Sendable, Equatable {
        /// The name the person gave.
        public let original: SpoolPath.Name
        /// The name it is stored under, plain and unique: the original where that is plain.
        public let stored: String
        /// What it is.
        public let role: Role
    }

    /// In the order of the original names' bytes. Hidden files, and those that systems leave in folders, are left out.
    public let entries: [Entry]

    /// Decides about the names of one folder.
    public init(_ names: [SpoolPath.Name]) {
        let names = names.filter { !Self.isIgnored($0) }.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
        let files = names.map(NameParts.init)
        let pictures = files.indices.filter { files[$0].maskedStem == nil }
        var verdicts: [Int: Result<Int, Misfit>] = [:]
        var masks: [Int: Int] = [:]
        for index in files.indices {
            guard let stem = files[index].maskedStem else {
                verdicts[index] = Self.nearMask(index, among: pictures, in: files).map { .failure($0) }
                continue
            }
            verdicts[index] = Result { () throws(Misfit) in
                let picture = try Self.picture(of: stem, among: pictures, in: files)
                if let other = masks[picture] {
                    throw Misfit(
                        found: "a second mask of \(names[picture].printable)",
                        expected: "one, and \(names[other].printable) is there")
                }
                masks[picture] = index
                return picture
            }
        }
        let stored = Self.storedNames(of: pictures, in: files, masked: Set(masks.keys))
        entries = files.indices.map { index in
            switch verdicts[index] {
            case nil: Entry(original: names[index], stored: stored[index] ?? "", role: .picture)
            case .success(let picture):
                Entry(
                    original: names[index], stored: Self.maskName(of: stored[picture] ?? ""),
                    role: .mask(of: stored[picture] ?? ""))
            case .failure(let misfit):
                Entry(original: names[index], stored: "", role: .misfit(found: misfit.found, expected: misfit.expected))
            }
        }
    }

    /// The names among those of a folder that are masks of one picture in it; more than one is a fault of the drop.
    package static func masks(of picture: SpoolPath.Name, among names: [SpoolPath.Name]) -> [SpoolPath.Name] {
        let parts = NameParts(picture)
        return names.filter { name in
            NameParts(name).maskedStem.map { NameParts.folded($0) == NameParts.folded(parts.stem) } ?? false
        }
    }

    /// Where the mask of a stored picture is stored.
    public static func maskName(of stored: String) -> String { ReferenceSet.stem(stored) + "_mask.png" }

    /// A plain name made of any: what is plain stays, the rest becomes `-`. `fallback` where nothing is left.
    public static func plain(_ bytes: some Sequence<UInt8>, limit: Int = 40, fallback: String) -> String {
        var result = ""
        for byte in bytes where result.utf8.count < limit {
            let character = String(Unicode.Scalar(byte))
            if DropName.isPlain(result + character) {
                result += character
            } else if !result.isEmpty, !result.hasSuffix("-") {
                result += "-"
            }
        }
        while let last = result.last, "-_.".contains(last) { result.removeLast() }
        return result.isEmpty ? fallback : result
    }

    /// The subject of a single picture: its name without the extension; where that is not plain, made plain, with a few
    /// digits of the name's digest behind it, so that no two pictures have one subject.
    static func subject(ofSingle name: SpoolPath.Name) -> String {
        let parts = NameParts(name)
        let stem = String(decoding: parts.stem, as: UTF8.self)
        if DropName.isPlain(name.string), DropName.isPlain(stem) { return stem }
        return plain(parts.stem, fallback: "picture") + "-" + Digest.sha256(name.bytes).prefix(6)
    }

    private static func isIgnored(_ name: SpoolPath.Name) -> Bool {
        name.bytes.first == UInt8(ascii: ".") || isLitter(name)
    }

    /// Whether it is a file that file managers leave in folders.
    static func isLitter(_ name: SpoolPath.Name) -> Bool {
        [".DS_Store", "Thumbs.db", "desktop.ini"].contains(name.string)
    }

    // MARK: - Masks

    private struct Misfit: Error {
        let found: String, expected: String
    }

    /// The one picture of this stem that fits best. A file with the extension of an image comes before others: captions
    /// lie beside pictures under the same name.
    private static func picture(
        of stem: ArraySlice<UInt8>, among pictures: [Int], in files: [NameParts]
    ) throws(Misfit) -> Int {
        let rules: [(NameParts) -> Bool] = [
            { $0.stem == stem }, { NameParts.text($0.stem).map { $0 == NameParts.text(stem) } ?? false },
            { NameParts.folded($0.stem) == NameParts.folded(stem) },
        ]
        for isImage in [true, false] {
            for rule in rules {
                let found = pictures.filter { files[$0].isImage == isImage && rule(files[$0]) }
                guard let first = found.first else { continue }
                guard found.count == 1 else {
                    throw Misfit(
                        found: "a mask of " + found.map { files[$0].name.printable }.joined(separator: " and of "),
                        expected: "one picture of that name")
                }
                return first
            }
        }
        throw noPicture(stem)
    }

    /// Whether a picture is called nearly as the mask of another one beside it: as a second photo it would do harm.
    private static func nearMask(_ index: Int, among pictures: [Int], in files: [NameParts]) -> Misfit? {
        let names = files[index].nearlyMasked
        let isMeant = { (other: Int) in
            other != index
                && (names.contains(NameParts.folded(files[other].stem))
                    || names.contains(NameParts.folded(files[other].name.bytes[...])))
        }
        guard files[index].isImage, let other = pictures.first(where: isMeant) else { return nil }
        let stem = SpoolPath.Name(bytes: Array(files[other].stem))?.printable ?? ""
        return Misfit(
            found: "a name that looks like a mask of \(files[other].name.printable)",
            expected: "\(stem)_mask.png for a mask, or another name for a photo")
    }

    private static func noPicture(_ stem: ArraySlice<UInt8>) -> Misfit {
        let name = SpoolPath.Name(bytes: Array(stem))?.printable ?? ""
        return Misfit(
            found: "the name of a mask, and no picture '\(name)' that it belongs to",
            expected: "the picture beside it, or another name")
    }

    /// The refusal of a mask whose picture turned out to be none.
    static func refusalWithoutPicture(_ mask: SpoolPath.Name) -> String {
        let misfit = noPicture(NameParts(mask).maskedStem ?? [])
        return "\(mask.printable): found \(misfit.found), expected \(misfit.expected)"
    }

    // MARK: - Stored names

    private static func storedNames(
        of pictures: [Int], in files: [NameParts], masked: Set<Int>
    ) -> [Int: String] {
        let maskedStems = Set(masked.map { files[$0].stem })
        var stored: [Int: String] = [:]
        var taken: Set<String> = []
        // What is plain already keeps its name, whatever the others are called.
        for index in pictures {
            let name = files[index].name.string
            guard DropName.isPlain(name) else { continue }
            // The mask's name must be plain too, and must not reach a picture it does not belong to.
            let isFree =
                masked.contains(index)
                ? DropName.isPlain(maskName(of: name)) : !maskedStems.contains(files[index].stem)
            if isFree {
                stored[index] = name
                taken.insert(name)
            }
        }
        for index in pictures where stored[index] == nil {
            let file = files[index]
            let ending = file.isImage ? "." + String(decoding: file.extension, as: UTF8.self) : ""
            let stem = plain(file.stem, limit: 36, fallback: "picture") + "-" + Digest.sha256(file.name.bytes).prefix(8)
            var name = stem + ending
            var number = 2
            while !taken.insert(name).inserted {
                name = "\(stem)-\(number)\(ending)"
                number += 1
            }
            stored[index] = name
        }
        return stored
    }
}

/// A file's name in its parts, as bytes.
private struct NameParts {
    let name: SpoolPath.Name
    let stem: ArraySlice<UInt8>
    let `extension`: ArraySlice<UInt8>
    /// Whether the extension promises an image.
    let isImage: Bool

    init(_ name: SpoolPath.Name) {
        self.name = name
        let bytes = name.bytes[...]
        if let dot = bytes.lastIndex(of: UInt8(ascii: ".")), dot > bytes.startIndex {
            stem = bytes[..<dot]
            self.extension = bytes[(dot + 1)...]
        } else {
            stem = bytes
            self.extension = []
        }
        isImage = ImageFormat.isPictureName(name.string)
    }

    /// The stem of the picture a mask of this name belongs to; nil for what is not called like a mask.
    var maskedStem: ArraySlice<UInt8>? {
        let ending = Array("_mask".utf8)
        guard stem.count > ending.count, Self.lowercased(stem.suffix(ending.count)) == ending else { return nil }
        return stem.dropLast(ending.count)
    }

    /// Names of pictures, folded, whose mask a name such as `NAME-mask`, `NAME_mask (1)`, `NAME_masks`, `mask_NAME` or
    /// `NAME_alpha` may be meant to be.
    var nearlyMasked: [String] {
        guard var text = Self.text(stem)?.lowercased() else { return [] }
        // The second download of a browser, and an extension written twice.
        if text.hasSuffix(")"), let open = text.lastIndex(of: "("),
            text[open...].dropFirst().dropLast().allSatisfy(\.isNumber)
        {
            text = String(text[..<open])
            while text.hasSuffix(" ") { text.removeLast() }
        }
        if ImageFormat.isPictureName(text), let dot = text.lastIndex(of: ".") { text = String(text[..<dot]) }
        var names: [String] = []
        for separator in ["_", "-", ".", " "] {
            for word in ["mask", "masks", "matte", "alpha"] {
                if text.hasSuffix(separator + word) { names.append(String(text.dropLast(word.count + 1))) }
                if text.hasPrefix(word + separator) { names.append(String(text.dropFirst(word.count + 1))) }
            }
        }
        return names
    }

    /// Equal for names that are the same text, composed or decomposed.
    static func text(_ bytes: ArraySlice<UInt8>) -> String? { String(validating: bytes, as: UTF8.self) }

    /// Equal for names that differ by case alone. Of bytes that are not UTF-8, ASCII letters have cases.
    static func folded(_ bytes: ArraySlice<UInt8>) -> String {
        text(bytes)?.lowercased() ?? hexadecimal(lowercased(bytes))
    }

    private static func lowercased(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        bytes.map { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) ? $0 + 32 : $0 }
    }
}
