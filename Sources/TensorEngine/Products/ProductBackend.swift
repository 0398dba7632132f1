/// Who does the products: oneDNN or OpenBLAS.
protocol ProductBackend: AnyObject {
    /// `destination (+)= source * weights + bias`.
    func run(
        _ shape: ProductShape, source: UnsafeMutableRawPointer, weights: Weights, bias: UnsafePointer<Float>?,
        destination: UnsafeMutableRawPointer) throws(EngineError)
}
