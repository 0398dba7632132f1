// System calls that Glibc offers as variadic functions, as macros or not at all, so that Swift cannot name them.
// Each returns what the system call returns and leaves errno set; none of them allocates.
#pragma once

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

/// open(2) below `directory` by openat2(2), refusing to leave it and to follow any symbolic link on the way.
/// Falls back to openat(2) with O_NOFOLLOW where the kernel has no openat2 (before 5.6).
int clinux_open_beneath(int directory, const char *path, int flags, mode_t mode);

/// open(2) with its optional argument always given.
int clinux_open(const char *path, int flags, mode_t mode);

/// renameat2(2) with RENAME_NOREPLACE.
int clinux_rename_noreplace(int from_directory, const char *from, int to_directory, const char *to);

/// An open-file-description write lock over the whole file, without waiting: 0, or -1 with EAGAIN when held.
int clinux_try_lock(int descriptor);

/// 1 when some other open file description holds a lock on the file, 0 when none does, -1 on an error.
int clinux_is_locked(int descriptor);

/// O_PATH, which Glibc shows only to _GNU_SOURCE.
extern const int clinux_o_path;

/// O_TMPFILE, likewise.
extern const int clinux_o_tmpfile;

/// syncfs(2).
int clinux_sync_filesystem(int descriptor);

/// A non-blocking eventfd(2).
int clinux_event_descriptor(void);

/// Names the calling thread, at most 15 characters.
void clinux_name_thread(const char *name);

/// Marks the descriptor close-on-exec.
int clinux_set_close_on_exec(int descriptor);

/// What statfs(2) says that the spool needs, in fixed types.
struct clinux_filesystem {
    uint64_t type;
    uint64_t free_bytes;
    uint64_t free_inodes;
    uint64_t total_inodes;
};
int clinux_read_filesystem(int descriptor, struct clinux_filesystem *result);

/// One datagram to an AF_UNIX address; a leading '@' means the abstract namespace. -1 with errno on failure.
int clinux_send_datagram(const char *address, const void *bytes, size_t count);

/// A bound datagram socket of such an address, or -1: the other side of sd_notify, for tests.
int clinux_bind_datagram(const char *address);

/// Device number of a stat record as one integer.
static inline uint64_t clinux_device(const struct stat *s) { return (uint64_t)s->st_dev; }

/// Modification time of a stat record in nanoseconds since the epoch.
static inline int64_t clinux_modified(const struct stat *s) {
    return (int64_t)s->st_mtim.tv_sec * 1000000000 + s->st_mtim.tv_nsec;
}

/// Change time of a stat record in nanoseconds since the epoch.
static inline int64_t clinux_changed(const struct stat *s) {
    return (int64_t)s->st_ctim.tv_sec * 1000000000 + s->st_ctim.tv_nsec;
}
