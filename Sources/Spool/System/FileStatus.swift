import CLinux
import Glibc

extension SystemCalls {
    /// What is known of a file without opening it.
    public struct FileStatus: Sendable, Equatable {
        /// What a name stands for.
        public enum Kind: Sendable, Equatable {
            case regular, folder, symbolicLink, other
        }
        /// What it is.
        public let kind: Kind
        /// Its inode and file system.
        public let inode: UInt64, device: UInt64
        /// Bytes.
        public let size: Int
        /// Nanoseconds since 1970.
        public let modified: Int64, changed: Int64
        /// Number of names it has.
        public let links: Int
        /// The user it belongs to, and who may do what with it.
        public let owner: UInt32, permissions: mode_t

        init(_ s: stat) {
            var s = s
            kind =
                switch s.st_mode & S_IFMT {
                case S_IFREG: .regular
                case S_IFDIR: .folder
                case S_IFLNK: .symbolicLink
                default: .other
                }
            inode = UInt64(s.st_ino)
            device = clinux_device(&s)
            size = Int(s.st_size)
            modified = clinux_modified(&s)
            changed = clinux_changed(&s)
            links = Int(s.st_nlink)
            owner = s.st_uid
            permissions = s.st_mode & 0o7777
        }
    }
}
