import Checkpoint
import Foundation
import Golden

/// The tiny model without one of its tensors.
enum BrokenCheckpoint {
    static let missing = "model.diffusion_model.middle_block.1.proj_in.weight"

    private static let made: Result<String, any Error> = Result {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent(
            "dreamcache-broken-\(ProcessInfo.processInfo.processIdentifier).safetensors"
        ).path
        var writer = SafetensorsWriter()
        for tensor in try Checkpoint.open(Golden.path("tiny-sd2.ckpt")).tensors.values where tensor.name != missing {
            writer.add(tensor)
        }
        try writer.write(toPath: path)
        return path
    }

    /// Its file, made once.
    static var path: String { get throws { try made.get() } }
}
