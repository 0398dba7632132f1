import CKernels
import Testing

/// Kernels that move elements without arithmetic.
@Suite struct LayoutTests {
    @Test func joinedRows() {
        var random = RandomValues(seed: 1)
        for (rows, a, b) in [(1, 1, 1), (3, 5, 2), (700, 33, 16), (4096, 3, 1), (0, 4, 4)] {
            let (x, z) = (random.floats(rows * a), random.floats(rows * b))
            let y = Elements(count: rows * (a + b))
            kernels_concat_rows(x, Int64(a), z, Int64(b), y.floatPointer, Int64(rows))
            var expected: [Float] = []
            for row in 0..<rows {
                expected += x[row * a..<(row + 1) * a]
                expected += z[row * b..<(row + 1) * b]
            }
            #expect(y.values == expected)
            #expect(y.isTailIntact)
        }
    }

    @Test func copies() {
        let x = RandomValues(seed: 4).bytes(700_001)
        for size in [0, 1, 1 << 18, x.count] {
            var y = [UInt8](repeating: 0xFF, count: x.count)
            kernels_copy(x, &y, Int64(size))
            #expect(y[..<size] == x[..<size])
            #expect(y[size...].allSatisfy { $0 == 0xFF })
        }
    }

    @Test func doubledPictures() {
        var random = RandomValues(seed: 2)
        let sizes = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 16, 9, 64), (3, 33, 2, 5), (2, 70, 3, 300)]
        // Whole, and one row or column less, as halving an odd size leaves behind.
        for ((n, h, w, c), (lessHigh, lessWide)) in zip(sizes, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 0)]) {
            let (oh, ow) = (2 * h - lessHigh, 2 * w - lessWide)
            let x = random.floats(n * h * w * c)
            let y = Elements(count: n * oh * ow * c)
            kernels_upsample2(
                x, y.pointer, Int64(n), Int64(h), Int64(w), Int64(oh), Int64(ow), Int64(c * 4))
            var expected: [Float] = []
            for image in 0..<n {
                for i in 0..<oh {
                    for j in 0..<ow {
                        let pixel = (image * h + i / 2) * w + j / 2
                        expected += x[pixel * c..<(pixel + 1) * c]
                    }
                }
            }
            #expect(y.values == expected)
            #expect(y.isTailIntact)
        }
    }

    /// Patches times weights is a convolution, whichever tile of rows and columns they are made in, and of which type.
    @Test(arguments: [(3, 1, 1), (3, 2, 1), (3, 2, 0), (1, 1, 0), (5, 1, 2), (2, 3, 1)])
    func patchesMakeAConvolution(kernel: Int, stride: Int, pad: Int) {
        var random = RandomValues(seed: 3)
        let (n, h, w, c) = (2, 7, 9, 3)
        let (oh, ow) = ((h + 2 * pad - kernel) / stride + 1, (w + 2 * pad - kernel) / stride + 1)
        let (rows, depth) = (n * oh * ow, kernel * kernel * c)
        let x = random.bfloats(n * h * w * c)
        let weights = random.floats(depth)
        let whole = patches(0..<rows, 0..<depth, KERNELS_F32)
        #expect(patches(0..<rows, 0..<depth, KERNELS_BF16) == whole)
        for tile in [1, 4, rows] {
            for first in Swift.stride(from: 0, to: rows, by: tile) {
                let range = first..<min(rows, first + tile)
                #expect(
                    patches(range, 0..<depth, KERNELS_F32)
                        == Array(whole[range.lowerBound * depth..<range.upperBound * depth]))
            }
        }
        for from in Swift.stride(from: 0, to: depth, by: 4) {
            let columns = from..<min(depth, from + 4)
            let expected = (0..<rows).flatMap { row in columns.map { whole[row * depth + $0] } }
            for type in elementTypes { #expect(patches(0..<rows, columns, type) == expected) }
        }
        for row in 0..<rows {
            let (image, i, j) = (row / (oh * ow), row / ow % oh, row % ow)
            var expected: Float = 0
            for ky in 0..<kernel {
                for kx in 0..<kernel {
                    let (yy, xx) = (i * stride + ky - pad, j * stride + kx - pad)
                    guard (0..<h).contains(yy), (0..<w).contains(xx) else { continue }
                    for channel in 0..<c {
                        expected +=
                            x[((image * h + yy) * w + xx) * c + channel] * weights[(ky * kernel + kx) * c + channel]
                    }
                }
            }
            let found = zip(whole[row * depth..<(row + 1) * depth], weights).reduce(0) { $0 + $1.0 * $1.1 }
            #expect(abs(found - expected) < 1e-5)
        }

        func patches(_ range: Range<Int>, _ columns: Range<Int>, _ type: kernels_type) -> [Float] {
            let y = Elements(count: range.count * columns.count)
            encoded(x, type).withUnsafeBytes {
                kernels_patches(
                    $0.baseAddress, type, y.floatPointer, Int64(range.lowerBound), Int64(range.count),
                    Int64(columns.lowerBound), Int64(columns.upperBound), Int64(h), Int64(w), Int64(c), Int64(oh),
                    Int64(ow), Int64(kernel), Int64(stride), Int64(pad))
            }
            #expect(y.isTailIntact)
            return y.values
        }
    }
}
