/// How long a job will still take, told by how long what was made of it took. What was made before an interruption took no time
/// that was seen, and does not count.
struct RemainingTime {
    /// Images that were made under these eyes, in parts where one was resumed, and the seconds they took.
    private var made = (images: 0.0, seconds: 0.0)
    private var began = 0.0
    /// How much of the image at hand was there when work on it began.
    private var resumed = 0.0

    mutating func jobBegan() { made = (0, 0) }

    /// - Parameter share: what a checkpoint holds of the image, 0 to 1.
    mutating func imageBegan(holding share: Double, now: Double) {
        began = now
        resumed = min(max(share, 0), 1)
    }

    mutating func imageEnded(now: Double) {
        made.images += 1 - resumed
        made.seconds += now - began
    }

    /// Seconds for so many images that are left, the one at hand among them, of which a share is done; nil where nothing says it yet.
    func seconds(forImages left: Int, share: Double?, now: Double) -> Double? {
        let share = max(share ?? 0, resumed)
        let rest = max(0, Double(left) - share)
        if made.images > 0 { return made.seconds / made.images * rest }
        return share > resumed ? (now - began) / (share - resumed) * rest : nil
    }
}
