/// The losses of the last steps, and whether they have risen beyond all bounds.
struct LossHistory: Sendable, Equatable {
    /// The losses of the last ``Trainer/window`` steps, the oldest first.
    private(set) var recent: [Double] = []
    /// The least mean that so many had; infinite before there were so many.
    private(set) var lowest = Double.infinity

    init() {}

    /// What was kept of a run.
    init(recent: [Double], lowest: Double) { (self.recent, self.lowest) = (recent, lowest) }

    /// Of the last steps; nil before the first.
    var mean: Double? { recent.isEmpty ? nil : recent.reduce(0, +) / Double(recent.count) }

    mutating func add(_ loss: Double) {
        recent.append(loss)
        if recent.count > Trainer.window { recent.removeFirst() }
        if recent.count == Trainer.window, let mean { lowest = min(lowest, mean) }
    }

    /// How many times the least mean the present one is.
    var rise: Double {
        guard recent.count == Trainer.window, let mean, lowest > 0 else { return 1 }
        return mean / lowest
    }
}
