/// The folders users drop into.
public enum DropFolder: String, Sendable, CaseIterable {
    /// Reference folders and single images.
    case references
    /// Folders of pictures to train on.
    case datasets
    /// Manifests, cancellations and retries.
    case jobs
}
