/// The two folders users drop into.
public enum DropFolder: String, Sendable, CaseIterable {
    /// Reference folders and single images.
    case references
    /// Manifests, cancellations and retries.
    case jobs
}
