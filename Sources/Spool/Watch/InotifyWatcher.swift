import CLinux
import Glibc
import InotifyTools
import Synchronization

extension DirectoryWatcher {
    /// inotify, through libinotifytools on a thread of its own.
    ///
    /// What the library asks of its users, as read in its source (inotify-tools 3.22): its state is global, so one watcher
    /// per process and one thread; the event it returns is a static buffer, so names are copied at once; a timeout of 0
    /// blocks for ever and its grain is a second; its descriptor is inherited unless marked; its recursive watch aborts on
    /// a vanishing file, so the two folders are added one by one.
    public static let inotify = DirectoryWatcher(
        start: { root, deliver in
            let mine = InotifyThread.current.withLock { current in
                current.generation += 1
                return current.generation
            }
            let started = Mailbox<String?>()
            do throws(SpoolError) {
                try startThread(stackSize: 1 << 20) {
                    clinux_name_thread("inotify")
                    InotifyThread.running.withLock { _ in
                        InotifyThread(root: root, generation: mine, deliver: deliver).run { started.post($0) }
                    }
                }
            } catch { return "inotify has no thread: \(error)" }
            return started.receive(timeout: 10).first ?? "inotify did not start within 10 s"
        },
        stop: { InotifyThread.current.withLock { $0.generation += 1 } })
}

private struct InotifyThread {
    struct Current {
        var generation = 0
    }

    /// Which watcher is meant to be running.
    static let current = Mutex(Current())
    /// Held by the thread that uses the library.
    static let running = Mutex(())

    let root: String
    let generation: Int
    let deliver: @Sendable (WatchEvent) -> Void

    private static let events = UInt32(
        IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

    private var isCurrent: Bool { Self.current.withLock { $0.generation } == generation }

    func run(started: (String?) -> Void) {
        guard inotifytools_initialize() != 0 else {
            return started("inotify cannot be initialised: \(String(cString: strerror(inotifytools_error())))")
        }
        defer { inotifytools_cleanup() }
        markDescriptors()
        for folder in DropFolder.allCases {
            if let failure = watch(folder) { return started(failure) }
        }
        started(nil)
        var lost: Set<DropFolder> = []
        while isCurrent {
            if let event = inotifytools_next_event(1) {
                take(event, &lost)
            } else if inotifytools_error() != 0, inotifytools_error() != EINTR {
                deliver(.lost(reason: String(cString: strerror(inotifytools_error()))))
                sleep(1)
            }
            for folder in lost where watch(folder) == nil {
                lost.remove(folder)
                deliver(.lost(reason: "the watch on drop/\(folder.rawValue) was renewed"))
            }
        }
    }

    private func path(_ folder: DropFolder) -> String { root + "/drop/" + folder.rawValue }

    private func watch(_ folder: DropFolder) -> String? {
        if inotifytools_watch_file(path(folder), Int32(Self.events)) != 0 { return nil }
        let reason = String(cString: strerror(inotifytools_error()))
        return "drop/\(folder.rawValue) cannot be watched: \(reason)"
    }

    private func take(_ event: UnsafeMutablePointer<inotify_event>, _ lost: inout Set<DropFolder>) {
        let mask = event.pointee.mask
        if mask & UInt32(IN_Q_OVERFLOW) != 0 { return deliver(.lost(reason: "the kernel's queue overflowed")) }
        guard let watched = inotifytools_filename_from_wd(event.pointee.wd) else { return }
        let directory = String(cString: watched)
        guard let folder = DropFolder.allCases.first(where: { directory.hasPrefix(path($0)) }) else { return }
        if mask & UInt32(IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT) != 0 {
            lost.insert(folder)
            return deliver(.lost(reason: "drop/\(folder.rawValue) was moved or removed"))
        }
        guard event.pointee.len > 0 else { return }
        // The name follows the fixed part, NUL-padded.
        let name = UnsafeRawPointer(event).advanced(by: MemoryLayout<inotify_event>.size)
            .withMemoryRebound(to: CChar.self, capacity: Int(event.pointee.len)) { String(cString: $0) }
        if name.hasPrefix(".") { return }
        deliver(
            mask & UInt32(IN_MOVED_TO) != 0
                ? .movedIn(folder: folder, name: name) : .changed(folder: folder, name: name))
    }

    /// The library opens its descriptor without IN_CLOEXEC and tells nobody its number.
    private func markDescriptors() {
        guard let stream = opendir("/proc/self/fd") else { return }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let number = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { Int32(String(cString: $0)) }
            }
            guard let number else { continue }
            var target = [UInt8](repeating: 0, count: 64)
            let count = target.withUnsafeMutableBytes { bytes in
                bytes.withMemoryRebound(to: CChar.self) { bytes in
                    bytes.baseAddress.map { readlink("/proc/self/fd/\(number)", $0, bytes.count) } ?? 0
                }
            }
            if target.prefix(max(0, count)).elementsEqual("anon_inode:inotify".utf8) {
                _ = clinux_set_close_on_exec(number)
            }
        }
    }
}
