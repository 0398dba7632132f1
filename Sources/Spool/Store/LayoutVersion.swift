import SystemPackage

/// What `lib/VERSION` says.
enum LayoutVersion: Equatable {
    /// This layout.
    case current
    /// The one before, which `Upgrade` brings up to date.
    case before
    /// Nothing that is a version: no file yet, or a damaged one.
    case none
    /// A version this program does not know.
    case foreign(String)

    init(_ system: SystemCalls) throws(SpoolError) {
        guard try system.statusIfAny(SpoolLayout.versionFile)?.kind == .regular else {
            self = .none
            return
        }
        let bytes: [UInt8]
        do throws(SpoolError) {
            bytes = try system.read(SpoolLayout.versionFile, limit: 64)
        } catch  where error.code == .damaged {
            self = .none
            return
        }
        let text = String(decoding: bytes, as: UTF8.self)
        let number = text.split(separator: "\n", omittingEmptySubsequences: false).first ?? ""
        switch text {
        case SpoolLayout.version: self = .current
        case Upgrade.from: self = .before
        case _ where !number.isEmpty && number.utf8.allSatisfy((UInt8(ascii: "0")...UInt8(ascii: "9")).contains):
            self = .foreign(String(number))
        default: self = .none
        }
    }
}
