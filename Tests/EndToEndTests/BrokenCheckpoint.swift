import Checkpoint
import Foundation
import Golden

/// The tiny model without one of its tensors.
enum BrokenCheckpoint {
    static let missing = "model.diffusion_model.middle_block.1.proj_in.weight"

    /// Writes it into `folder`; the path of the file.
    static func make(in folder: URL) throws -> String {
        let path = folder.appendingPathComponent("broken.safetensors").path
        var writer = SafetensorsWriter()
        for tensor in try Checkpoint.open(Golden.path("tiny-sd2.ckpt")).tensors.values where tensor.name != missing {
            writer.add(tensor)
        }
        try writer.write(toPath: path)
        return path
    }
}
