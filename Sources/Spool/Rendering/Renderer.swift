/// What the spool asks of whatever makes the pictures.
///
/// Every method but `check` is called on one dedicated thread, the same for the life of the daemon, never two at once,
/// and may take minutes; `check` is called on the spool's own thread and must answer at once. Methods call `progress`
/// at every step, model loading included (the systemd watchdog is fed by it), and ask `shouldStop` as often; when that
/// says true they throw `RendererError.stopped` within a step.
public protocol Renderer: AnyObject, Sendable {
    /// Refuses a manifest this renderer can never carry out (an unknown model, a scheduler it lacks).
    ///
    /// - Throws: `.rejected` with the JSON path of the field.
    func check(_ manifest: JobManifest) throws(RendererError)

    /// What the author of a manifest should know although it is accepted: a prompt that is cut, for instance. Called after
    /// `check`, on the spool's own thread; empty where there is nothing to say.
    func notes(on manifest: JobManifest) -> [String]

    /// A string naming everything a cache depends on besides the references' bytes: base model hash, preprocessing,
    /// timestep, prompt, seed. Equal strings and equal references mean an equal `.dcache`.
    ///
    /// - Parameter model: a model's configured name, or nil for the default one.
    func cacheIdentity(
        model: String?, settings: CacheSettings, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) -> String

    /// Decodes and encodes references and writes a `.dcache` to `request.output`, and what it cut out of them into
    /// `request.cutOuts`, a folder it makes where there is something to put into it; the spool syncs and publishes both.
    func encode(
        _ request: EncodeRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError)

    /// Renders one image of a job to `request.output`.
    ///
    /// The bytes written must be a function of the request alone, resumed from a checkpoint or not. What `request.attention` asks
    /// for is written beside the picture, and never costs it: where it cannot be made, the report says why.
    ///
    /// - Parameter checkpoint: where to keep what is needed to go on with this image after an interruption.
    func render(
        _ request: RenderRequest, checkpoint: CheckpointSlot, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) -> RenderedImage

    /// The settings of a training, as manifests may give them.
    var trainingSettings: Schema { get }

    /// Trains an adapter, or goes on with one, and writes it to `request.output`.
    ///
    /// Its bytes must be a function of the order, the model and the data set, however often it was interrupted. All that is needed
    /// to go on is in `request.folder` whenever this ends, also by a crash.
    /// - Parameters:
    ///   - checkpoint: told, with no bytes, how many steps the state in that folder has.
    ///   - shouldYield: asked between two steps; true has it keep its state and throw `.stopped`, with a step more than it began with
    ///     at least.
    func train(
        _ request: TrainingRequest, checkpoint: CheckpointSlot, progress: (RenderProgress) -> Void,
        shouldYield: () -> Bool, shouldStop: () -> Bool
    ) throws(RendererError) -> AdapterReport

    /// Whether a `.dcache` is what it was when it was written; false for one that is damaged. Called before a cache that is
    /// there already is used, and cheap: a hash of some megabytes.
    func isSound(cache path: String) -> Bool

    /// Writes the contact sheet of a finished set to `request.output`.
    func makeGrid(
        _ request: GridRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError)

    /// Writes the page of a finished set to `request.output`. Its bytes are a function of the request and of the files it
    /// names.
    func makePage(
        _ request: PageRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError)
}

extension Renderer {
    /// Nothing to say.
    public func notes(on manifest: JobManifest) -> [String] { [] }

    /// A renderer that makes no pages: sets go without.
    public func makePage(
        _ request: PageRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) {
        throw .rejected(field: nil, message: "this renderer makes no pages")
    }
}
