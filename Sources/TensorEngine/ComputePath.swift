import CKernels
import COneDNN

/// Who does the matrix products and convolutions, and in which precision. Chosen once, at start-up.
public enum ComputePath: String, CaseIterable, Sendable {
    /// oneDNN with bfloat16 products and fp32 sums; the residual stream stays fp32. Needs AVX-512 BF16.
    case oneDNNBF16 = "onednn-bf16"
    /// oneDNN in fp32.
    case oneDNNFP32 = "onednn-fp32"
    /// Weights and inputs of products in bfloat16 as on the first path, half of fp32's memory, but multiplied by OpenBLAS in
    /// fp32: for any CPU, where memory is short.
    case openBLASBF16 = "openblas-bf16"
    /// OpenBLAS in fp32: runs on any CPU, and is the readable path that the fast ones are held against.
    case openBLAS = "openblas"

    /// What a person may ask for, in the order of the cases: a path's name, or `auto` for ``best``.
    public static var choices: [String] { ["auto"] + allCases.map(\.rawValue) }

    /// The fastest path of this CPU.
    public static var best: ComputePath { kernels_cpu().avx512_bf16 ? .oneDNNBF16 : .oneDNNFP32 }

    /// Type of the inputs of products on this path.
    public var activationType: ElementType {
        switch self {
        case .oneDNNBF16, .openBLASBF16: .bfloat16
        case .oneDNNFP32, .openBLAS: .float32
        }
    }

    /// Why a path is or is not possible on this CPU, for `dreamcache doctor`.
    public var reason: String {
        let cpu = kernels_cpu()
        let isa = String(cString: onednn_isa())
        switch self {
        case .oneDNNBF16:
            return cpu.avx512_bf16
                ? "AVX-512 BF16 is present; oneDNN uses \(isa)" : "AVX-512 BF16 is missing; oneDNN would use \(isa)"
        case .oneDNNFP32: return "oneDNN uses \(isa)"
        case .openBLASBF16: return "any CPU, in half of fp32's memory"
        case .openBLAS: return "any CPU"
        }
    }

    /// Whether this CPU can run the path.
    public var isSupported: Bool { self != .oneDNNBF16 || kernels_cpu().avx512_bf16 }
}
