extension Raster {
    /// A coarse mask drawn to this picture's own edges: the guided filter (He, Sun & Tang 2010) with colour as its guide, in
    /// its fast form (He & Sun 2015), which finds the linear map from colour to alpha in a smaller picture and applies it to
    /// all pixels.
    ///
    /// - Parameters:
    ///   - mask: 0 to 1, of any size, of the whole picture.
    ///   - side: of the smaller picture, at most, in pixels.
    ///   - radius: of the window in which alpha is a linear function of colour, in pixels of the smaller picture.
    ///   - epsilon: how much variance of colour, 0 to 1, counts as an edge.
    /// - Returns: alpha of each pixel, 0 to 1.
    public func alpha(
        refining mask: Plane, side: Int = 640, radius: Int = 6, epsilon: Float = 1e-4
    ) -> Plane {
        let scale = min(1, Double(side) / Double(max(width, height)))
        func scaled(_ extent: Int) -> Int { max(1, Int((Double(extent) * scale).rounded())) }
        let small = resized(width: scaled(width), height: scaled(height))
        let map = LinearMap(
            guide: (0..<3).map { Plane(small, channel: $0) }, mask.resized(width: small.width, height: small.height),
            radius: radius, epsilon: epsilon)
        return map.applied(to: self)
    }
}

/// alpha = a . colour + b, with a and b of each pixel.
private struct LinearMap {
    /// a of red, green and blue, then b.
    private let coefficients: [Plane]

    /// Equations 14 and 15 of He, Sun & Tang: a = (S + eps)^-1 cov(colour, p), b = mean p - a . mean colour, then both
    /// smoothed.
    init(guide: [Plane], _ p: Plane, radius: Int, epsilon: Float) {
        let means = guide.map { $0.boxMean(radius: radius) }
        let mean = p.boxMean(radius: radius)
        func covariance(_ a: Plane, _ meanA: Plane, _ b: Plane, _ meanB: Plane) -> Plane {
            a.combined(b, *).boxMean(radius: radius).combined(meanA.combined(meanB, *), -)
        }
        let withMask = (0..<3).map { covariance(guide[$0], means[$0], p, mean) }
        var spread: [Plane] = []
        for i in 0..<3 {
            for j in i..<3 { spread.append(covariance(guide[i], means[i], guide[j], means[j])) }
        }
        // Plain arrays: this is the inner loop.
        let (s, v) = (spread.map(\.values), withMask.map(\.values))
        var (red, green, blue) = (mean.values, mean.values, mean.values)
        for i in red.indices {
            let (rr, rg, rb) = (s[0][i] + epsilon, s[1][i], s[2][i])
            let (gg, gb, bb) = (s[3][i] + epsilon, s[4][i], s[5][i] + epsilon)
            let (x, y, z) = (v[0][i], v[1][i], v[2][i])
            // The symmetric matrix is inverted by its cofactors; its determinant is at least epsilon cubed.
            let (c0, c1, c2) = (gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb)
            let determinant = max(rr * c0 + rg * c1 + rb * c2, epsilon * epsilon * epsilon)
            let (c4, c5, c8) = (rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg)
            red[i] = (c0 * x + c1 * y + c2 * z) / determinant
            green[i] = (c1 * x + c4 * y + c5 * z) / determinant
            blue[i] = (c2 * x + c5 * y + c8 * z) / determinant
        }
        let slopes = [red, green, blue].map { Plane(width: p.width, height: p.height, values: $0) }
        var offset = mean
        for c in 0..<3 { offset = offset.combined(slopes[c].combined(means[c], *), -) }
        coefficients = (slopes + [offset]).map { $0.boxMean(radius: radius) }
    }

    func applied(to picture: Raster) -> Plane {
        var alpha = coefficients[3].resized(width: picture.width, height: picture.height)
        for channel in 0..<3 {
            let a = coefficients[channel].resized(width: picture.width, height: picture.height)
            alpha = alpha.combined(a.combined(Plane(picture, channel: channel), *), +)
        }
        return alpha.mapped { min(max($0, 0), 1) }
    }
}
