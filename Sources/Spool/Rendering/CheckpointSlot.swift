/// A place for one image's unfinished state: a capability that is given beside a request. The bytes are the renderer's
/// own; the spool adds their identity and their digest.
public struct CheckpointSlot: Sendable {
    /// The last state saved for this very image, or nil; one that is damaged or of another image counts as none.
    public let load: @Sendable () -> [UInt8]?
    /// Whether enough time has passed since the last save for the next to be worth its cost.
    public let isDue: @Sendable () -> Bool
    /// Keeps a state durably, with the number of steps done, in place of the one before. A failure to keep it is
    /// logged by the spool and costs nothing but the work since the last one.
    public let save: @Sendable (_ state: [UInt8], _ step: Int) -> Void

    /// A slot.
    public init(
        load: @escaping @Sendable () -> [UInt8]?, isDue: @escaping @Sendable () -> Bool,
        save: @escaping @Sendable (_ state: [UInt8], _ step: Int) -> Void
    ) {
        self.load = load
        self.isDue = isDue
        self.save = save
    }

    /// No place: nothing is ever due, nothing is kept.
    public static let none = CheckpointSlot(load: { nil }, isDue: { false }, save: { _, _ in })
}
