import Raster

extension PictureDescription {
    /// As one text, in which NUL stands between the fields.
    var text: String {
        [format, "\(width)", "\(height)", "\(depth)", samples, colours, "\(orientation)"].joined(separator: "\0")
    }

    /// Nil for a text that is none.
    init?(text: String) {
        let parts = text.split(separator: "\0", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 7, let width = Int(parts[1]), let height = Int(parts[2]), let depth = Int(parts[3]),
            let orientation = Int(parts[6])
        else { return nil }
        self.init(
            format: parts[0], width: width, height: height, depth: depth, samples: parts[4], colours: parts[5],
            orientation: orientation)
    }
}

/// What a decoder is told at its start: numbers in one argument.
struct DecoderRequest {
    var processorSeconds: Int
    var limits: Raster.Limits
    var neededSide: Int?
    /// Whether words about the picture are wanted in place of its pixels.
    var asksForDescription = false

    /// Its words as one argument of the process.
    var argument: String {
        [
            processorSeconds, limits.fileSize, limits.side, limits.pixels, limits.exactPixels, limits.heldBytes,
            neededSide ?? 0, asksForDescription ? 1 : 0,
        ].map(String.init).joined(separator: ",")
    }

    init(processorSeconds: Int, limits: Raster.Limits, neededSide: Int?, asksForDescription: Bool) {
        (self.processorSeconds, self.limits, self.neededSide) = (processorSeconds, limits, neededSide)
        self.asksForDescription = asksForDescription
    }

    init?(argument: String) {
        let numbers = argument.split(separator: ",").compactMap { Int($0) }
        guard numbers.count == 8, numbers.allSatisfy({ $0 >= 0 }) else { return nil }
        limits = Raster.Limits()
        (processorSeconds, limits.fileSize, limits.side) = (numbers[0], numbers[1], numbers[2])
        (limits.pixels, limits.exactPixels, limits.heldBytes) = (numbers[3], numbers[4], numbers[5])
        neededSide = numbers[6] > 0 ? numbers[6] : nil
        asksForDescription = numbers[7] == 1
    }
}

/// The head of an answer, before its pixels or its message: four numbers of 32 bits.
struct DecoderHeader {
    enum Kind {
        case picture(width: Int, height: Int, channels: Int)
        case description(textLength: Int)
        case error(RasterError.Cause, textLength: Int)
    }

    static let size = 16
    let kind: Kind

    init(_ kind: Kind) { self.kind = kind }

    init?(_ bytes: [UInt8]) {
        guard bytes.count == Self.size else { return nil }
        let numbers = (0..<4).map { index in
            bytes[4 * index..<4 * index + 4].reversed().reduce(0) { $0 << 8 | Int($1) }
        }
        let cause: RasterError.Cause
        switch numbers[0] {
        case 0:
            kind = .picture(width: numbers[1], height: numbers[2], channels: numbers[3])
            return
        case 1: cause = .truncated
        case 2: cause = .corrupt
        case 3: cause = .unsupported
        case 4: cause = .tooLarge
        case 5: cause = .metadata
        case 6: cause = .system(code: Int32(truncatingIfNeeded: numbers[1]))
        case 7:
            kind = .description(textLength: numbers[2])
            return
        default: return nil
        }
        kind = .error(cause, textLength: numbers[2])
    }

    var bytes: [UInt8] {
        let numbers: [Int] =
            switch kind {
            case .picture(let width, let height, let channels): [0, width, height, channels]
            case .error(.truncated, let length): [1, 0, length, 0]
            case .error(.corrupt, let length): [2, 0, length, 0]
            case .error(.unsupported, let length): [3, 0, length, 0]
            case .error(.tooLarge, let length): [4, 0, length, 0]
            case .error(.metadata, let length): [5, 0, length, 0]
            case .error(.system(let code), let length): [6, Int(code), length, 0]
            case .description(let length): [7, 0, length, 0]
            }
        return numbers.flatMap { number in (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) } }
    }
}
