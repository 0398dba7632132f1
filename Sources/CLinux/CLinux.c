#include "CLinux.h"

#include <errno.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

int clinux_open_beneath(int directory, const char *path, int flags, mode_t mode) {
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = (flags & (O_CREAT | O_TMPFILE)) ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    long result = syscall(SYS_openat2, directory, path, &how, sizeof how);
    if (result < 0 && errno == ENOSYS)
        return openat(directory, path, flags | O_CLOEXEC | O_NOFOLLOW, mode);
    return (int)result;
}

int clinux_open(const char *path, int flags, mode_t mode) { return open(path, flags | O_CLOEXEC, mode); }

int clinux_rename_noreplace(int from_directory, const char *from, int to_directory, const char *to) {
    return (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, (unsigned)RENAME_NOREPLACE);
}

int clinux_try_lock(int descriptor) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(descriptor, F_OFD_SETLK, &lock);
}

int clinux_is_locked(int descriptor) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(descriptor, F_OFD_GETLK, &lock) < 0) return -1;
    return lock.l_type != F_UNLCK;
}

const int clinux_o_path = O_PATH;
const int clinux_o_tmpfile = O_TMPFILE;

int clinux_sync_filesystem(int descriptor) { return syncfs(descriptor); }

int clinux_event_descriptor(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

void clinux_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

int clinux_set_close_on_exec(int descriptor) {
    int flags = fcntl(descriptor, F_GETFD);
    return flags < 0 ? -1 : fcntl(descriptor, F_SETFD, flags | FD_CLOEXEC);
}

int clinux_read_filesystem(int descriptor, struct clinux_filesystem *result) {
    struct statfs s;
    if (fstatfs(descriptor, &s) < 0) return -1;
    *result = (struct clinux_filesystem){
        .type = (uint64_t)(unsigned long)s.f_type,
        .free_bytes = (uint64_t)s.f_bavail * (uint64_t)s.f_bsize,
        .free_inodes = s.f_ffree,
        .total_inodes = s.f_files,
    };
    return 0;
}

/// Fills in a Unix address and returns its length, or 0 when it does not fit.
static socklen_t unix_address(const char *address, struct sockaddr_un *name) {
    size_t length = strlen(address);
    if (length < 2 || length >= sizeof name->sun_path) {
        errno = EINVAL;
        return 0;
    }
    *name = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(name->sun_path, address, length);
    if (address[0] == '@') name->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

int clinux_send_datagram(const char *address, const void *bytes, size_t count) {
    struct sockaddr_un name;
    socklen_t length = unix_address(address, &name);
    int descriptor = length ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (descriptor < 0) return -1;
    ssize_t sent = sendto(descriptor, bytes, count, MSG_NOSIGNAL, (struct sockaddr *)&name, length);
    int failure = errno;
    close(descriptor);
    errno = failure;
    return sent < 0 ? -1 : 0;
}

int clinux_bind_datagram(const char *address) {
    struct sockaddr_un name;
    socklen_t length = unix_address(address, &name);
    int descriptor = length ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (descriptor >= 0 && bind(descriptor, (struct sockaddr *)&name, length) == 0) return descriptor;
    if (descriptor >= 0) close(descriptor);
    return -1;
}
