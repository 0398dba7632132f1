extension QueueMachine {
    /// What the machine knows of a job.
    public struct Entry: Sendable, Equatable {
        /// The job.
        public let id: JobID
        /// Order of acceptance.
        public let sequence: Int
        /// The user who dropped it.
        public let owner: UInt32
        /// The manifest's priority, among the jobs of its owner.
        public let priority: Int
        /// The model it names, or empty for the default one.
        public let model: String
        /// Subjects it needs.
        public let subjects: [String]
        /// The data set it waits for; nil once it is bound to one.
        public var dataset: String?
        /// Whether its image is a long piece of work that can be put aside between two steps.
        public let yields: Bool
        /// Of how many of them, counted from the first, it needs the cache. Of the others it needs the pictures alone.
        public let caches: Int
        /// Images in its set.
        public let images: Int
        /// Whether a contact sheet follows them.
        public let hasGrid: Bool
        /// Attempts so far.
        public var attempts: JobRecord.Attempts
        /// How far it is.
        public var point: JobRecord.Mark
        /// Whether the contact sheet is there already, or given up.
        public var isGridDone: Bool

        /// An entry.
        public init(
            id: JobID, sequence: Int, owner: UInt32 = 0, priority: Int = 0, model: String = "", subjects: [String],
            dataset: String? = nil, yields: Bool = false, caches: Int? = nil, images: Int, hasGrid: Bool = false,
            attempts: JobRecord.Attempts = .init(),
            point: JobRecord.Mark = .init(), isGridDone: Bool = false
        ) {
            self.id = id
            self.sequence = sequence
            self.owner = owner
            self.priority = priority
            self.model = model
            self.subjects = subjects
            self.dataset = dataset
            self.yields = yields
            self.caches = caches ?? subjects.count
            self.images = images
            self.hasGrid = hasGrid
            self.attempts = attempts
            self.point = point
            self.isGridDone = isGridDone
        }
    }

    /// Where a job stands. Each case holds what is valid in that case alone.
    public enum Standing: Sendable, Equatable {
        /// In `queued`, since a moment.
        case queued(since: Double)
        /// In `queued` since a moment, and left alone until another, because of the machine's trouble.
        case held(until: Double, since: Double, reason: String)
        /// In `retry`, until a moment.
        case retrying(until: Double)
        /// In `active`, with the step that comes next, and the attempts to go back to if this one does not count.
        case active(next: Step, before: JobRecord.Attempts)
        /// Its folder could not be brought to where it belongs; tried again at a moment.
        case unsettled(until: Double)
    }

    /// A piece of a job's work.
    public enum Step: Sendable, Equatable {
        /// See that the cache of the n-th subject is there.
        case cache(Int)
        /// Render an image.
        case image(Int)
        /// Make the contact sheet.
        case grid
        /// Nothing is left but to publish.
        case publish
    }

    /// What is known of a subject.
    public enum Subject: Sendable, Equatable {
        /// To be encoded, not before a moment, for the user who dropped it. `attempts` counts encodings that were begun
        /// and did not end.
        case pending(notBefore: Double, owner: UInt32 = 0, attempts: Int = 0)
        /// It could not be encoded because its model cannot be used; tried again at a moment. Its jobs do not wait for
        /// that.
        case held(until: Double, owner: UInt32 = 0, attempts: Int = 0)
        /// Encoded.
        case ready

        /// When it may be encoded, for whom, and how often that was begun; nil when there is nothing to do.
        var order: (moment: Double, owner: UInt32, attempts: Int)? {
            switch self {
            case .pending(let moment, let owner, let attempts), .held(let moment, let owner, let attempts):
                (moment, owner, attempts)
            case .ready: nil
            }
        }
    }

    /// What the one worker has.
    public enum Work: Sendable, Equatable {
        case encode(String)
        case job(JobID, Step)
    }

    /// What happened.
    public enum Event: Sendable, Equatable {
        /// A job is in `queued`.
        case queued(Entry)
        /// A job is in `retry`, after a restart.
        case retrying(Entry)
        /// A subject has references to encode, or encoded ones; nil: none any more.
        case subject(String, Subject?)
        /// A data set is there, or no more.
        case dataset(String, isThere: Bool)
        /// The worker did what it was given.
        case worked
        /// The worker kept a checkpoint of the image in hand.
        case checkpointed(step: Int)
        /// The worker could not.
        case failed(RendererError)
        /// The next image of the job in `active` would be made with another model than those before it.
        case changed(JobID, reason: String)
        /// The spool could not carry out a transition of that job.
        case storageFailed(JobID)
        /// A job's folder cannot be read; it is taken out of the queue.
        case abandoned(JobID)
        /// A job's folder has been brought back to `queued` after that, or is gone from the queue.
        case settled(JobID, Entry?)
        /// Somebody wants a job ended.
        case cancel(JobID)
        /// The configuration has changed: what is held may be possible now.
        case retryHeld
        /// Time has passed.
        case tick
        /// Whether new work may begin: not while the disk is full.
        case mayStart(Bool)
        /// The daemon is to stop.
        case stop
    }

    /// What to do about it, in this order.
    public enum Action: Sendable, Equatable {
        /// Record the attempt durably, then `queued` -> `active`.
        case begin(JobID, JobRecord.Attempts)
        /// Record durably that the encoding of a subject is begun for the n-th time.
        case beginEncoding(String, attempts: Int)
        /// That time does not count.
        case restoreEncoding(String, attempts: Int)
        /// Give the worker this.
        case work(Work)
        /// Commit what the worker made.
        case commit(Work)
        /// The set goes without a contact sheet, because of this.
        case skipGrid(JobID, reason: String)
        /// The set to `out/`, then `active` -> `done`.
        case publish(JobID)
        /// `active` -> `queued`, with the attempts put back.
        case release(JobID, JobRecord.Attempts)
        /// The images made so far are forgotten, because of this; the job goes on in `active` from its beginning.
        case restart(JobID, reason: String)
        /// Tell whoever dropped these jobs that they wait, and why.
        case announceHold([JobID], reason: String)
        /// `active` -> `retry`, because of this.
        case postpone(JobID, reason: String)
        /// `retry` -> `queued`.
        case ripen(JobID)
        /// To `failed`.
        case fail(JobID, reason: String)
        /// To `quarantine`.
        case quarantine(JobID, reason: String)
        /// Refuse the references being encoded.
        case rejectSubject(String, reason: String)
        /// Tell whoever dropped them that the references wait.
        case holdSubject(String, reason: String)
        /// Bring the job's folder back to `queued`, with these attempts if they are known, then report `.settled`.
        case settle(JobID, JobRecord.Attempts?)
        /// Have the worker stop soon; it will report.
        case interrupt
        /// Have the worker stop after the step at hand; it will report.
        case yield
        /// Nothing is left to do; end.
        case exit
    }

    /// The configured numbers it needs; in seconds. See `SpoolConfiguration` for each.
    public struct Limits: Sendable, Equatable {
        /// Attempts without any progress after which a job is quarantined.
        public var maximumAttempts: Int
        /// First pause after a failed attempt, and the longest.
        public var backoff: Double, maximumBackoff: Double
        /// First pause after a failure of the machine.
        public var environmentPause: Double
        /// How long a job waits for a subject nobody has dropped.
        public var subjectLimit: Double
        /// Waiting time that counts as one level of priority.
        public var agingInterval: Double
        /// How far one owner may be ahead of another who waits.
        public var turnInterval: Double
        /// Whether a set whose model changes begins anew, or is held.
        public var onModelChange: SpoolConfiguration.ModelChange

        /// The numbers of a configuration.
        public init(_ configuration: SpoolConfiguration) {
            maximumAttempts = configuration.maximumAttempts
            backoff = configuration.backoff
            maximumBackoff = configuration.maximumBackoff
            environmentPause = configuration.environmentPause
            subjectLimit = configuration.subjectLimit
            agingInterval = configuration.agingInterval
            turnInterval = configuration.turnInterval
            onModelChange = configuration.onModelChange
        }
    }

    /// Troubles of the machine with no success between them.
    struct TroubleRow: Sendable, Equatable {
        var count = 0
        /// What was in trouble.
        var jobs: Set<JobID> = []
        var subjects: Set<String> = []

        mutating func add(_ work: Work) {
            count += 1
            switch work {
            case .encode(let subject): subjects.insert(subject)
            case .job(let id, _): jobs.insert(id)
            }
        }
    }

    /// Troubles of the machine with one subject's encoding.
    struct EncodingTroubles: Sendable, Equatable {
        var count = 0
        /// Those after which other work succeeded before the next.
        var alone = 0
        /// How often anything had succeeded by the last one.
        var successes = 0
    }

    /// What cannot go on for now: since how many failures, until when, and why.
    struct Hold: Sendable, Equatable {
        var failures: Int
        var until: Double
        var reason: String
    }
}
