/// AUTOMATIC1111 (since 1.9) and ComfyUI say in two fields what a manifest's `scheduler` says in one: the sampler in
/// `sampler_name`, and how its sigmas are spread in `scheduler`.
enum SamplerAndSpacing {
    private static let samplers = ["sampler_name", "sampler_index"]
    /// Names of the model's own spread.
    private static let plain = ["", "automatic", "normal"]

    /// The document with both in `sampler_name`.
    static func joined(_ document: JSON, faults: inout [SchemaFault]) -> JSON {
        guard var members = document.members else { return document }
        // Old requests repeat the name.
        if let names = samplers.map({ name in members.first { $0.name == name }?.value.string }) as? [String],
            names[0].lowercased() == names[1].lowercased()
        {
            members.removeAll { $0.name == samplers[1] }
        }
        guard let sampler = members.firstIndex(where: { samplers.contains($0.name) }),
            let spacing = members.firstIndex(where: { $0.name == "scheduler" }),
            let name = members[sampler].value.string, let spread = members[spacing].value.string
        else { return JSON(.object(members), offset: document.offset) }
        if let sigmas = Scheduler.Sigmas.allCases.first(where: { $0.rawValue.lowercased() == spread.lowercased() }) {
            let isSaid = name.lowercased().hasSuffix(spread.lowercased())
            members[sampler] = JSON.Member(
                members[sampler].name,
                JSON(.string(isSaid ? name : "\(name) \(sigmas.rawValue)"), offset: members[sampler].value.offset))
        } else if !plain.contains(spread.lowercased()), spread.lowercased() != name.lowercased() {
            // Two samplers are for the schema to refuse.
            if Scheduler(named: spread) != nil { return JSON(.object(members), offset: document.offset) }
            let known = ["Automatic"] + Scheduler.Sigmas.allCases.map(\.rawValue)
            faults.append(
                SchemaFault(
                    path: "$.scheduler", byte: members[spacing].value.offset,
                    found: "\(members[spacing].value.summary) beside \(members[sampler].name)",
                    expected: "one of \(known.joined(separator: ", "))"))
        }
        members.remove(at: spacing)
        return JSON(.object(members), offset: document.offset)
    }
}
