import Foundation
import Spool

extension GridRequest.Reference {
    /// Its cut-out, where there is one.
    var existingCutOut: String? { cutOut.flatMap { FileManager.default.fileExists(atPath: $0) ? $0 : nil } }
}
