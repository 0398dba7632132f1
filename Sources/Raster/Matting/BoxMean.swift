extension Plane {
    /// The mean over the square of `2 * radius + 1` pixels around each pixel, as much of it as lies in the plane. Sums are in
    /// double, so that nothing drifts.
    func boxMean(radius: Int) -> Plane { rowMeans(radius: radius).columnMeans(radius: radius) }

    /// Along rows, four at a time: a running sum waits for itself, and four of them wait together.
    private func rowMeans(radius: Int) -> Plane {
        let (width, height) = (width, height)
        // What a pixel's mean is divided by.
        let shares = (0..<width).map { 1 / Double(min(width, $0 + radius + 1) - max(0, $0 - radius)) }
        let result = [Float](unsafeUninitializedCapacity: values.count) { means, initialized in
            values.withUnsafeBufferPointer { values in
                withUnsafeTemporaryAllocation(of: SIMD4<Double>.self, capacity: width + 1) { sums in
                    for first in stride(from: 0, to: height, by: 4) {
                        // The last rows may be fewer: one of them then stands for those that are missing.
                        func start(_ row: Int) -> Int { min(first + row, height - 1) * width }
                        let (a, b, c, d) = (start(0), start(1), start(2), start(3))
                        var sum = SIMD4<Double>.zero
                        sums[0] = sum
                        for x in 0..<width {
                            sum += SIMD4(
                                Double(values[a + x]), Double(values[b + x]), Double(values[c + x]),
                                Double(values[d + x]))
                            sums[x + 1] = sum
                        }
                        for x in 0..<width {
                            let mean = SIMD4<Float>(
                                (sums[min(width, x + radius + 1)] - sums[max(0, x - radius)]) * shares[x])
                            (means[a + x], means[b + x], means[c + x], means[d + x]) = (mean.x, mean.y, mean.z, mean.w)
                        }
                    }
                }
            }
            initialized = values.count
        }
        return Plane(width: width, height: height, values: result)
    }

    /// Along columns: the sums of a row of windows, moved down by one row at a time.
    private func columnMeans(radius: Int) -> Plane {
        let (width, height) = (width, height)
        let result = [Float](unsafeUninitializedCapacity: values.count) { means, initialized in
            values.withUnsafeBufferPointer { values in
                withUnsafeTemporaryAllocation(of: Double.self, capacity: width) { sums in
                    sums.initialize(repeating: 0)
                    for row in 0..<min(radius, height) {
                        for x in 0..<width { sums[x] += Double(values[row * width + x]) }
                    }
                    for y in 0..<height {
                        let (entering, leaving) = (y + radius, y - radius - 1)
                        if entering < height {
                            for x in 0..<width { sums[x] += Double(values[entering * width + x]) }
                        }
                        if leaving >= 0 {
                            for x in 0..<width { sums[x] -= Double(values[leaving * width + x]) }
                        }
                        let share = 1 / Double(min(height, entering + 1) - max(0, y - radius))
                        for x in 0..<width { means[y * width + x] = Float(sums[x] * share) }
                    }
                }
            }
            initialized = values.count
        }
        return Plane(width: width, height: height, values: result)
    }
}
