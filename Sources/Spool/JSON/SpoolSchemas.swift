/// The documents the spool writes for others to read; `jsonSchema` of each is its JSON Schema.
public enum SpoolSchemas {
    /// `receipts/<dropped name>.json`
    public static let receipt = Receipt.schema
    /// `lib/jobs/<state>/<job>/progress.json`
    public static let progress = StatusKeeper.progressSchema
    /// `status.json`
    public static let status = StatusKeeper.statusSchema
}
