import CKernels
import OpenBLAS

/// Which processor OpenBLAS takes this one for. It goes by a list of models, and takes one that is younger than the list for a
/// Prescott of 2004, whose products take five times as long.
public enum OpenBLASCore {
    /// The processor it should be told (`OPENBLAS_CORETYPE`) before it starts; nil where it knows by itself.
    public static var better: String? {
        guard String(cString: openblas_get_corename()) == "Prescott" else { return nil }
        let cpu = kernels_cpu()
        if cpu.avx512 { return "SkylakeX" }
        return cpu.avx2 ? "Haswell" : nil
    }
}
