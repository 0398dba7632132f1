import Diffusion
import TensorEngine

/// What a picture read of its caches, put together after its last step.
extension Pipeline {
    func reading(
        _ recorder: AttentionRecorder, of request: ImageRequest, _ plan: Plan, steps: Int
    ) -> Result<AttentionReading, DreamCacheError> {
        if let fault = recorder.fault { return .failure(.diffusion(.engine(fault))) }
        // The memory has the subjects by falling scale; the request's order numbers their references.
        var numbers: [String: [Int]] = [:]
        var count = 0
        for cache in request.caches {
            numbers[cache.identity, default: []].append(count)
            count += cache.referenceCount
        }
        let caches = order(of: plan.groups, at: 0, of: steps).flatMap { plan.groups[$0].caches }
        let sources = caches.flatMap { cache in
            let first = numbers[cache.identity]?.removeFirst() ?? 0
            return (0..<cache.referenceCount).map { index in
                AttentionRecorder.Source(
                    number: first + index, subject: cache[.subject] ?? "subject",
                    tokens: { cache.tokenCount(at: $0, reference: index) },
                    foreground: { cache.foreground(at: $0, reference: index) })
            }
        }
        let reading = recorder.reading(sources, side: model.configuration.latentSize)
        guard !reading.sites.isEmpty else {
            return .failure(
                .request(
                    field: "output.attention", found: "a picture that reads no reference", expected: "one that does"))
        }
        return .success(reading)
    }
}
