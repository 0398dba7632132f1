import Glibc

/// Writes all bytes to a descriptor, however many calls it takes. `path` is for the error.
public func writeAll(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32, path: String) throws(FileError) {
    var rest = bytes
    while !rest.isEmpty {
        let count = write(descriptor, rest.baseAddress, rest.count)
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw .current("write", path) }
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
}

/// Writes all bytes to a descriptor, however many calls it takes. `path` is for the error.
public func writeAll(_ bytes: [UInt8], to descriptor: Int32, path: String) throws(FileError) {
    let result = bytes.withUnsafeBytes { bytes in
        Result { () throws(FileError) in try writeAll(bytes, to: descriptor, path: path) }
    }
    try result.get()
}
