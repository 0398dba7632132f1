import Diffusion
import Glibc

/// A reference's latent and where it shows the subject: what a base that reads by itself begins a picture with.
///
/// The picture's initial noise holds the subject's latent, as much of it as a noised picture of the subject would, times a
/// strength. So large forms and their colours have their places before the first step; all else is drawn. Reading alone cannot
/// do that: in much noise every query of the picture finds much the same mixture of the subject's tokens.
struct SubjectSketch {
    /// How much of the picture's shorter side the subject's longer side takes, as in a common photo.
    static let size = 0.62

    /// `[channels, height, width]`, scaled as the denoiser has it.
    let latent: [Float]
    /// How much of each place shows the subject, `[height, width]`, 0 to 1.
    let shares: [Float]
    /// The latent's, in places.
    let height: Int, width: Int
    /// The latent's.
    var channels: Int { latent.count / shares.count }

    /// Nil where the shapes disagree or nothing shows the subject.
    init?(latent: [Float], shares: [Float], height: Int, width: Int, channels: Int) {
        guard shares.count == height * width, latent.count == channels * shares.count,
            shares.contains(where: { $0 > 0 })
        else { return nil }
        (self.latent, self.shares, self.height, self.width) = (latent, shares, height, width)
    }

    /// The subject's latent in the middle of a picture, by bilinear interpolation; zero where the subject is not.
    ///
    /// - Returns: `[channels, newHeight, newWidth]`.
    func placed(height newHeight: Int, width newWidth: Int) -> [Float] {
        let shown = shares.indices.filter { shares[$0] > 0 }
        let (rows, columns) = (shown.map { $0 / width }, shown.map { $0 % width })
        guard let top = rows.min(), let bottom = rows.max(), let left = columns.min(), let right = columns.max() else {
            return []
        }
        let scale = Self.size * Double(min(newHeight, newWidth)) / Double(max(bottom - top, right - left) + 1)
        let taps = { (count: Int, first: Int, last: Int) in
            (0..<count).map { place -> (low: Int, share: Float) in
                // Places are the middles of cells.
                let source = (Double(place) + 0.5 - Double(count) / 2) / scale + Double(first + last) / 2
                return (Int(source.rounded(.down)), Float(source - source.rounded(.down)))
            }
        }
        let (vertical, horizontal) = (taps(newHeight, top, bottom), taps(newWidth, left, right))
        var values = [Float](repeating: 0, count: channels * newHeight * newWidth)
        for channel in 0..<channels {
            func value(_ y: Int, _ x: Int) -> Float {
                guard (0..<height).contains(y), (0..<width).contains(x) else { return 0 }
                return latent[channel * shares.count + y * width + x] * shares[y * width + x]
            }
            for (y, row) in vertical.enumerated() {
                for (x, column) in horizontal.enumerated() {
                    let above =
                        value(row.low, column.low) * (1 - column.share)
                        + value(row.low, column.low + 1) * column.share
                    let below =
                        value(row.low + 1, column.low) * (1 - column.share)
                        + value(row.low + 1, column.low + 1) * column.share
                    values[(channel * newHeight + y) * newWidth + x] = above * (1 - row.share) + below * row.share
                }
            }
        }
        return values
    }

    /// Adds the subject to the noise a run begins with.
    ///
    /// - Parameters:
    ///   - strength: 1 is as much as a noised picture of the subject holds.
    ///   - alpha: the schedule's cumulative alpha at the run's first timestep.
    func add(to noise: inout [Float], height: Int, width: Int, strength: Double, alpha: Double) {
        let factor = Float(strength * (alpha / max(1 - alpha, 1e-6)).squareRoot())
        for (index, value) in placed(height: height, width: width).enumerated() { noise[index] += factor * value }
    }
}
