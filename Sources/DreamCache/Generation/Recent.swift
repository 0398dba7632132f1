/// Values that are dear to make, by what they were made of; as many as `capacity` of those asked for last are kept.
struct Recent<Key: Equatable, Value> {
    private let capacity: Int
    private var entries: [(key: Key, value: Value)] = []  // the one asked for last at the end

    init(capacity: Int) { self.capacity = capacity }

    /// The value of `key`, made if it is not there. The oldest goes before a new one comes, so that memory never holds both.
    mutating func value<Failure: Error>(
        for key: Key, make: () throws(Failure) -> Value
    ) throws(Failure) -> Value {
        if let index = entries.firstIndex(where: { $0.key == key }) {
            let entry = entries.remove(at: index)
            entries.append(entry)
            return entry.value
        }
        if entries.count >= capacity { entries.removeFirst() }
        let value = try make()
        entries.append((key, value))
        return value
    }
}
