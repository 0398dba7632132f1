import Glibc

/// Who may end or replace what somebody else has dropped. All members of a group drop into the same folders, and every job and
/// subject has a name that all can read.
enum Ownership {
    /// The owner of what was dropped when owners were not recorded: anybody's. POSIX has no such user.
    static let unknown = UInt32.max

    /// Whether a user's drop may change what began with a drop of `owner`: he is the owner, root, or the daemon's own user.
    static func permits(_ user: UInt32, changing owner: UInt32) -> Bool {
        user == owner || user == 0 || user == geteuid() || owner == unknown
    }
}
