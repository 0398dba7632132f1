import Spool

extension Terminal {
    /// One line of progress, in place.
    static func show(image: Int, images: Int, _ work: RenderProgress) {
        let place = images > 1 ? "image \(image + 1)/\(images) " : ""
        let steps = work.steps > 0 ? " \(bar(work.step, of: work.steps)) \(work.step)/\(work.steps)" : ""
        let candidate = work.candidate.map { " candidate \($0)/\(work.candidates ?? $0)" } ?? ""
        progress(place + work.phase + candidate + steps)
    }
}
