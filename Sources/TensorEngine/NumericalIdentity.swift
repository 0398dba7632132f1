import CKernels
import COneDNN
import OpenBLAS

extension Engine {
    /// Counts changes of this module that change the bytes of a result.
    private static let numericsVersion = 1

    /// All on this side that the bytes of a result depend on, in one word: the compute path, the version of our kernels, the
    /// instruction sets that they and the libraries choose on this CPU, and the libraries' versions. The number of threads
    /// is not among them.
    public var numericalIdentity: String {
        let cpu = kernels_cpu()
        let simd =
            switch (cpu.avx512_bf16, cpu.avx512, cpu.avx2) {
            case (true, _, _): "avx512_bf16"
            case (_, true, _): "avx512"
            case (_, _, true): "avx2"
            default: "scalar"
            }
        var version: [Int32] = [0, 0, 0]
        onednn_version(&version)
        let oneDNN = version.map(String.init).joined(separator: ".") + "-" + String(cString: onednn_isa())
        // "OpenBLAS 0.3.21 ...": the second word is the version.
        let words = String(cString: openblas_get_config()).split(separator: " ")
        let openBLAS = "\(words.count > 1 ? words[1] : "")-\(String(cString: openblas_get_corename()))"
        return "\(path.rawValue)/\(Self.numericsVersion)/\(simd)/onednn-\(oneDNN)/openblas-\(openBLAS)"
    }
}
