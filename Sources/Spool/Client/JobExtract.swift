import Glibc

extension SpoolClient {
    /// How many jobs are in some states, and the first or last few of them by time of acceptance. It looks at each name once
    /// and reads those few jobs alone, so that it costs little after ten thousand.
    public func extract(
        _ states: [JobState], first: Int = 0, last: Int = 0
    ) throws(SpoolError) -> (count: Int, jobs: [JobSummary]) {
        var names = OutermostNames<JobState>(first: first, last: last)
        for state in states {
            try store.system.forEachName(in: state.folder) { name in
                if DropName.isPlain(name) { names.add(name, state) }
            }
        }
        var jobs: [JobSummary] = []
        for (name, state) in names.found {
            guard let id = JobID(String(decoding: name, as: UTF8.self)), let summary = try summary(id, state) else {
                continue
            }
            jobs.append(summary)
        }
        return (names.count, jobs)
    }
}

/// The first and the last few of many names, by their bytes, each with what is to be remembered of it. The others leave
/// nothing in memory.
struct OutermostNames<Note> {
    typealias Entry = (name: [UInt8], note: Note)

    /// How many names there were.
    private(set) var count = 0
    private var first: [Entry] = []
    private var last: [Entry] = []
    private let most: (first: Int, last: Int)

    init(first: Int, last: Int) { most = (first, last) }

    /// Those found, in order, none twice.
    var found: [Entry] {
        let isOverlapping = count < first.count + last.count
        return first + (isOverlapping ? last.dropFirst(first.count + last.count - count) : last[...])
    }

    /// Takes note of a name.
    mutating func add(_ name: UnsafeBufferPointer<UInt8>, _ note: Note) {
        count += 1
        if most.first > 0, first.count < most.first || Self.isBefore(name, first[first.count - 1].name) {
            Self.insert(name, note, into: &first)
            if first.count > most.first { first.removeLast() }
        }
        if most.last > 0, last.count < most.last || !Self.isBefore(name, last[0].name) {
            Self.insert(name, note, into: &last)
            if last.count > most.last { last.removeFirst() }
        }
    }

    private static func insert(_ name: UnsafeBufferPointer<UInt8>, _ note: Note, into entries: inout [Entry]) {
        let place = entries.firstIndex { isBefore(name, $0.name) } ?? entries.count
        entries.insert((Array(name), note), at: place)
    }

    private static func isBefore(_ a: UnsafeBufferPointer<UInt8>, _ b: [UInt8]) -> Bool {
        b.withUnsafeBufferPointer { b in
            guard let left = a.baseAddress, let right = b.baseAddress else { return a.count < b.count }
            let order = memcmp(left, right, min(a.count, b.count))
            return order != 0 ? order < 0 : a.count < b.count
        }
    }
}
