import Raster

/// Everything about a spool that is not fixed. Times are in seconds.
public struct SpoolConfiguration: Sendable, Equatable {
    /// Absolute path of the spool.
    public var root: String
    /// How long a plainly copied folder must rest before it counts as complete.
    public var settleTime: Double = 10
    /// How long a cut-off manifest or image may take to become whole before it is rejected.
    public var incompleteLimit: Double = 60
    /// Time between two full scans, which are the truth; events only make them come sooner.
    public var rescanInterval: Double = 60
    /// How long after a file was written in place a scan begins; what was moved in is taken at once.
    public var eventDelay: Double = 0.25
    /// Shortest time between two writings of `status.json` and of a job's `progress.json`.
    public var statusInterval: Double = 2
    /// Shortest time between two checkpoints of an image.
    public var checkpointInterval: Double = 30
    /// Attempts without any progress after which a job is quarantined.
    public var maximumAttempts: Int = 3
    /// First pause after a failed attempt; doubled each time.
    public var backoff: Double = 30
    /// Longest such pause.
    public var maximumBackoff: Double = 600
    /// Pause after a failure of the machine (full disk, I/O error) before the work is tried again.
    public var environmentPause: Double = 10
    /// How long a job waits for a subject nobody has dropped, counted while the daemon runs; then it fails.
    public var subjectLimit: Double = 24 * 3600
    /// Waiting time that counts as one level of priority, so that nothing starves; 0 turns ageing off.
    public var agingInterval: Double = 3600
    /// How much more of the worker's time one owner may have had than another who waits, before the other takes over.
    public var turnInterval: Double = 60
    /// What becomes of a set when what its pictures depend on changes in its middle: a model, an adapter, the compute path.
    public var onModelChange: ModelChange = .restart
    /// Below so many free bytes nothing new is accepted.
    public var minimumFreeBytes: Int = 512 << 20
    /// Below so many free inodes nothing new is accepted.
    public var minimumFreeInodes: Int = 1024
    /// How often free space is looked at while there is too little.
    public var pressureInterval: Double = 10
    /// Manifests accepted by one group of syncs.
    public var acceptBatch: Int = 1000
    /// Longest time between two reports that the daemon is alive, as long as it is; a watchdog's own must be longer.
    public var aliveInterval: Double = 10
    /// Whether a page is made of every set and of the spool.
    public var pages = true
    /// Limits on dropped references.
    public var references = ReferenceLimits()
    /// How long a renderer may take to stop; then its job goes back to the queue without it.
    public var stopLimit: Double = 15
    /// What is removed, and when.
    public var retention = Retention()
    /// Whether to look for drops every second instead of relying on inotify; nil decides by the file system.
    public var polling: Bool?

    /// See `onModelChange`.
    public enum ModelChange: String, Sendable, CaseIterable {
        /// The set begins anew, and says so.
        case restart
        /// The job waits until the old model is back.
        case hold
    }

    /// The defaults for a spool at `root`.
    public init(root: String) { self.root = root }

    /// Limits on dropped references, from which decoding memory and time follow.
    public struct ReferenceLimits: Sendable, Equatable {
        /// Largest image file, in bytes.
        public var fileBytes: Int = 64 << 20
        /// Most pixels in an image.
        public var pixels: Int = 200_000_000
        /// Longest side, in pixels.
        public var side: Int = 16_384
        /// Most files in a folder.
        public var files: Int = 200

        /// The defaults.
        public init() {}

        /// As limits of a decoder.
        public var raster: Raster.Limits {
            var limits = Raster.Limits()
            (limits.fileSize, limits.pixels, limits.side) = (fileBytes, pixels, side)
            return limits
        }
    }

    /// Ages in seconds after which finished things are removed; nil keeps them for ever.
    public struct Retention: Sendable, Equatable {
        /// Finished sets in `out/`, with the records of their jobs.
        public var outputs: Double?
        /// Records of jobs that failed or were quarantined.
        public var failed: Double?
        /// Receipts.
        public var receipts: Double?
        /// Rejected drops.
        public var rejected: Double?
        /// Data sets that no unfinished job needs, counted from when they were dropped.
        public var datasets: Double?
        /// Caches and references that no subject uses any more.
        public var unreferenced: Double?

        /// Everything is kept.
        public init() {}
    }
}
