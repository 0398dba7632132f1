import Glibc
import Spool
import Synchronization
import SystemPackage
import Testing

/// Trainings: data sets, the queue, and what comes out.
@Suite struct TrainingJobTests {
    static let files: [String: [UInt8]] = [
        "a/0_generation.png": Pictures.png(), "a/0_caption.txt": Array("a dog".utf8),
        "an object/1_generation.png": Pictures.png(payload: [7]), "an object/1_caption.txt": Array("a cat".utf8),
    ]
    static let manifest = #"{"kind": "training", "dataset": "toys", "settings": {"steps": 3}}"#
    /// In the order of their paths.
    static let contents = files.sorted { $0.key < $1.key }.map(\.value)

    private func spool(_ configure: (inout SpoolConfiguration) -> Void = { _ in }) throws -> TestSpool {
        let spool = try TestSpool(configure: configure)
        try spool.start()
        return spool
    }

    @Test func aDataSetAndAManifestBecomeAnAdapter() throws {
        let spool = try spool()
        try spool.dropManifest(Self.manifest)
        try spool.settle(turns: 3)
        #expect(try spool.receipt("job.json").message == "waiting for the data set 'toys'")
        try spool.dropDataset("toys", Self.files)
        try spool.settle(turns: 5)
        let id = try spool.receipt("job.json").id
        #expect(try spool.receipt("toys").kind == .dataset)
        #expect(try spool.receipt("toys").state == .accepted)
        #expect(spool.names("drop/datasets") == [])
        #expect(try spool.isDone("job.json"))
        #expect(spool.names("out/\(id)") == ["adapter.safetensors", "result.json", "train.jsonl"])
        #expect(try spool.read("out/\(id)/adapter.safetensors") == StubRenderer.expectedAdapter(Self.contents))
        let result = try spool.json("out/\(id)/result.json")
        #expect(result["dataset"]?["name"]?.string == "toys")
        #expect(result["images"]?.array?.first?["metadata"]?["steps"]?.string == "3")
        #expect(spool.names("lib/jobs/done/\(id)").contains("training") == false)
        #expect(try spool.faults(notes: true) == [])
    }
}
