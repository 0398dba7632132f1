/// `[channels, pixels]`, the order of latents in PyTorch and in files, to `[pixels, channels]`, the engine's.
func channelsLast(_ planes: [Float], channels: Int) -> [Float] { transposed(planes, rows: channels) }

/// `[pixels, channels]` to `[channels, pixels]`.
func channelsFirst(_ pixels: [Float], channels: Int) -> [Float] {
    transposed(pixels, rows: channels == 0 ? 0 : pixels.count / channels)
}

private func transposed(_ x: [Float], rows: Int) -> [Float] {
    guard rows > 0 else { return x }
    let columns = x.count / rows
    return [Float](unsafeUninitializedCapacity: x.count) { buffer, count in
        count = rows * columns
        for row in 0..<rows {
            for column in 0..<columns { buffer[column * rows + row] = x[row * columns + column] }
        }
    }
}
