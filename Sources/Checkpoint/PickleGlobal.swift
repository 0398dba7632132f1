/// The globals that are known: what a tensor needs, and what carries hyper-parameters and training state.
enum PickleGlobal: Equatable {
    case rebuildTensor
    case rebuildParameter
    case orderedDict
    case storage(StoredElementType)
    /// A class that a TorchScript archive defines: its code lies in the archive and is never read.
    case scriptClass
    case inert

    private static let storages: [String: StoredElementType] = [
        "DoubleStorage": .f64, "FloatStorage": .f32, "HalfStorage": .f16, "BFloat16Storage": .bf16,
        "LongStorage": .i64, "IntStorage": .i32, "ShortStorage": .i16, "CharStorage": .i8, "ByteStorage": .u8,
        "BoolStorage": .bool,
    ]

    /// Classes found in checkpoints of Stable Diffusion beside its tensors. Naming one has no effect.
    private static let harmless: Set<String> = [
        "torch.Size", "torch.device", "torch.dtype", "torch.float64", "torch.float32", "torch.float16",
        "torch.bfloat16", "torch.int64", "torch.int32", "torch.int16", "torch.int8", "torch.uint8", "torch.bool",
        "collections.defaultdict", "collections.Counter", "collections.deque",
        "numpy.dtype", "numpy.ndarray", "numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct", "_codecs.encode",
        "argparse.Namespace", "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath", "typing.Any",
        "datetime.datetime", "datetime.timedelta",
    ]

    /// Python's own types, in the module that Python 3 and Python 2 name them from.
    private static let harmlessTypes: Set<String> = [
        "set", "frozenset", "int", "long", "float", "complex", "str", "unicode", "bool", "bytes", "bytearray", "dict",
        "list", "tuple", "slice", "range", "object",
    ]

    /// Packages whose classes hold callbacks and configuration; and TorchScript's lists of numbers.
    private static let harmlessPackages = [
        "torch.jit._pickle.", "pytorch_lightning.", "lightning.pytorch.", "lightning_fabric.", "omegaconf.",
    ]

    /// The global `module.name`, or nil when it is not on the list.
    init?(module: String, name: String) {
        switch (module, name) {
        case ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor"): self = .rebuildTensor
        case ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state"):
            self = .rebuildParameter
        case ("collections", "OrderedDict"): self = .orderedDict
        default:
            let full = "\(module).\(name)"
            if module == "torch" || module == "torch.cuda", let type = Self.storages[name] {
                self = .storage(type)
            } else if module == "builtins" || module == "__builtin__", Self.harmlessTypes.contains(name) {
                self = .inert
            } else if module == "__torch__" || module.hasPrefix("__torch__.") {
                self = .scriptClass
            } else if Self.harmless.contains(full) || Self.harmlessPackages.contains(where: full.hasPrefix) {
                self = .inert
            } else {
                return nil
            }
        }
    }
}
