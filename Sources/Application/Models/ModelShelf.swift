import Diffusion
import CLinux
import DreamCache
import Foundation
import Glibc
import Logging
import Spool
import TensorEngine

/// The model in memory: one at a time, loaded when it is first asked for, and anew when its files or its settings have
/// changed. Belongs to the renderer's thread.
final class ModelShelf {
    /// What a loaded model was made of; another one is loaded where this differs.
    private struct Key: Equatable {
        let files: ModelFiles
        /// In the order of ``ModelFiles/allFiles()``: a file that replaces another under the same name counts as
        /// another.
        let states: [FileIdentity?]
        let compute: ComputePath
        let preparedWeights: String?
    }

    private let logger: Logger
    private var loaded: (key: Key, pipeline: Pipeline)?
    private var known: (folder: String?, files: KnownFiles)?
    private var keepsWeights = true
    private var provenThreads = 0

    init(logger: Logger) { self.logger = logger }

    /// What is odd about the model in memory.
    var warnings: [String] { loaded?.pipeline.model.warnings ?? [] }

    /// The pipeline of a model.
    func pipeline(
        of files: ModelFiles, _ settings: Settings, progress: Pipeline.Progress, shouldStop: () -> Bool
    ) throws(RendererError) -> Pipeline {
        try setThreads(settings.threads)
        do {
            let key = Key(
                files: files, states: try files.allFiles().map(FileIdentity.init), compute: settings.compute,
                preparedWeights: settings.preparedWeights)
            if let loaded, loaded.key == key {
                try limitMemory(of: loaded.pipeline, to: settings.memoryLimit)
                return loaded.pipeline
            }
            loaded = nil
            if let folder = settings.preparedWeights {
                try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            }
            let pipeline = try Pipeline(
                files: files, path: settings.compute, known: knownFiles(settings.preparedWeights),
                weightsFolder: settings.preparedWeights, progress: progress, shouldStop: shouldStop)
            if let damage = pipeline.preparedWeightsDamage {
                logger.warning("prepared weights are made anew", metadata: ["reason": "\(damage)"])
            }
            for warning in pipeline.model.warnings {
                logger.warning("model loaded with a warning", metadata: ["warning": "\(warning)"])
            }
            try limitMemory(of: pipeline, to: settings.memoryLimit)
            loaded = (key, pipeline)
            keepsWeights = true
            return pipeline
        } catch { throw RendererError(error) }
    }

    /// Gives the model's memory back after an error of the model's own: a file of it is damaged, or there was not enough
    /// memory for it.
    func giveUp(after error: any Error) {
        switch error {
        case DreamCacheError.diffusion, DreamCacheError.preparedWeights: loaded = nil
        default: break
        }
    }

    /// Prepares the model's next start. A failure does not affect the work at hand, and it is not tried again.
    func keepWeights(of pipeline: Pipeline, progress: Pipeline.Progress, shouldStop: () -> Bool) {
        guard keepsWeights else { return }
        do {
            guard let kept = try pipeline.keepWeights(progress: progress, shouldStop: shouldStop) else { return }
            logger.info("weights prepared", metadata: ["file": "\(kept.path)", "megabytes": "\(kept.bytes >> 20)"])
        } catch DreamCacheError.stopped {
            return
        } catch {
            keepsWeights = false
            logger.warning("weights not prepared; the next start converts them again", metadata: ["error": "\(error)"])
        }
    }

    private func knownFiles(_ folder: String?) -> KnownFiles {
        if let known, known.folder == folder { return known.files }
        let files = KnownFiles(folder: folder)
        known = (folder, files)
        return files
    }

    /// The number of threads belongs to the thread that calls, so it is set here and not at start-up. libgomp ends the
    /// process where it gets no thread, so it is asked only for as many as could be started a moment before.
    private func setThreads(_ threads: Int) throws(RendererError) {
        provenThreads = max(provenThreads, try ThreadProbe.set(threads, known: provenThreads))
    }

    /// Memory that the rest of the process holds is not the model's to use.
    private func limitMemory(of pipeline: Pipeline, to limit: Int?) throws(RendererError) {
        let engine = pipeline.model.engine
        guard let limit else {
            engine.memoryLimit = nil
            return
        }
        let others = max(0, ProcessMemory.anonymous - engine.memoryHeld)
        guard others < limit else {
            throw .environment(
                message:
                    "memory_limit: found \(others >> 20) MB in use beside the model, expected less than the limit of "
                    + "\(limit >> 20) MB")
        }
        engine.memoryLimit = limit - others
    }
}

/// Whether threads can be had.
enum ThreadProbe {
    /// Has the engine compute with so many threads; 0 is one a core. Up to `known` of them are known to be had.
    /// - Returns: how many.
    /// - Throws: `.environment` where not all of them could be started.
    @discardableResult static func set(_ threads: Int, known: Int = 1) throws(RendererError) -> Int {
        let count = threads > 0 ? threads : ProcessInfo.processInfo.activeProcessorCount
        if count > known { try check(count - 1) }
        Engine.threadCount = count
        return count
    }

    /// Starts `count` threads at once and ends them again.
    /// - Parameter stackSize: in bytes; nil is the system's.
    /// - Throws: `.environment` where not all of them could be started.
    static func check(_ count: Int, stackSize: Int? = nil) throws(RendererError) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        if let stackSize { pthread_attr_setstacksize(&attributes, stackSize) }
        var gate = pthread_mutex_t()
        pthread_mutex_init(&gate, nil)
        defer { pthread_mutex_destroy(&gate) }
        var failure: Int32 = 0
        withUnsafeMutablePointer(to: &gate) { gate in
            pthread_mutex_lock(gate)
            var threads: [pthread_t] = []
            for _ in 0..<max(0, count) where failure == 0 {
                var thread = pthread_t()
                failure = pthread_create(
                    &thread, &attributes,
                    { gate in
                        guard let gate = gate?.assumingMemoryBound(to: pthread_mutex_t.self) else { return nil }
                        pthread_mutex_lock(gate)
                        pthread_mutex_unlock(gate)
                        return nil
                    }, gate)
                if failure == 0 { threads.append(thread) }
            }
            pthread_mutex_unlock(gate)
            for thread in threads { pthread_join(thread, nil) }
        }
        guard failure == 0 else {
            throw .environment(message: "starting \(count) threads: \(String(cString: strerror(failure)))")
        }
    }
}

/// Memory of this process, by proc(5).
enum ProcessMemory {
    /// Bytes that belong to no file: the system cannot drop them and read them again.
    static var anonymous: Int { bytes(of: "RssAnon") }

    /// A line of `/proc/self/status`, in bytes; 0 where it cannot be read.
    static func bytes(of name: String) -> Int {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        for line in status.split(separator: "\n") where line.hasPrefix("\(name):") {
            return (line.split(separator: " ").compactMap { Int($0) }.first ?? 0) << 10
        }
        return 0
    }
}
