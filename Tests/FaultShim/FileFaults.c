// Errors of calls on chosen files, and a clock that runs fast: see FaultShim.h.
#include "FaultShim.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// Resolved at the first call: other libraries' constructors may run before this one's would.
#define ORIGINAL(name) \
    static __typeof__(&name) name##_original; \
    if (!name##_original) name##_original = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/// Writes down a call, and says whether it is one that fails; errno is then set.
static bool spoils(const char *call, const char *path) {
    static atomic_int count;
    const char *files = getenv("DREAMCACHE_TEST_FILES");
    if (!files || !path || strncmp(path, files, strlen(files)) != 0) return false;
    const char *trace = getenv("DREAMCACHE_TEST_TRACE");
    if (trace) {
        char line[512];
        int length = snprintf(line, sizeof line, "%s %s\n", call, path);
        int file = (int)syscall(SYS_openat, AT_FDCWD, trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (file >= 0 && length < (int)sizeof line) syscall(SYS_write, file, line, (size_t)length);
        if (file >= 0) syscall(SYS_close, file);
    }
    const char *setting = getenv("DREAMCACHE_TEST_FAIL");
    int number = 0, code = 0, start = 0;
    if (!setting || sscanf(setting, "%d:%d:%n", &number, &code, &start) != 2) return false;
    int index = atomic_fetch_add(&count, 1) + 1;
    bool lasts = setting[start] && syscall(SYS_faccessat, AT_FDCWD, setting + start, F_OK) == 0;
    if (index < number || (index > number && !lasts)) return false;
    errno = code;
    return true;
}

/// The same of an open file.
static bool spoils_open(const char *call, int file) {
    if (file < 0 || !getenv("DREAMCACHE_TEST_FILES")) return false;
    char link[32], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length < 0) return false;
    path[length] = 0;
    return spoils(call, path);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        ORIGINAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return spoils("open", path) ? -1 : name##_original(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

DIR *opendir(const char *path) {
    ORIGINAL(opendir);
    return spoils("list", path) ? NULL : opendir_original(path);
}

int stat(const char *restrict path, struct stat *restrict result) {
    ORIGINAL(stat);
    return spoils("stat", path) ? -1 : stat_original(path, result);
}

int lstat(const char *restrict path, struct stat *restrict result) {
    ORIGINAL(lstat);
    return spoils("stat", path) ? -1 : lstat_original(path, result);
}

int fstatat(int folder, const char *restrict path, struct stat *restrict result, int flags) {
    ORIGINAL(fstatat);
    return spoils("stat", path) ? -1 : fstatat_original(folder, path, result, flags);
}

int access(const char *path, int mode) {
    ORIGINAL(access);
    return spoils("stat", path) ? -1 : access_original(path, mode);
}

int fstat(int file, struct stat *result) {
    ORIGINAL(fstat);
    return spoils_open("fstat", file) ? -1 : fstat_original(file, result);
}

void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset) {
    ORIGINAL(mmap);
    return spoils_open("map", file) ? MAP_FAILED : mmap_original(address, size, protection, flags, file, offset);
}

ssize_t read(int file, void *bytes, size_t count) {
    ORIGINAL(read);
    return spoils_open("read", file) ? -1 : read_original(file, bytes, count);
}

ssize_t pread(int file, void *bytes, size_t count, off_t offset) {
    ORIGINAL(pread);
    return spoils_open("read", file) ? -1 : pread_original(file, bytes, count, offset);
}

static int haste(void) {
    const char *setting = getenv("DREAMCACHE_TEST_HASTE");
    return setting ? atoi(setting) : 1;
}

int clock_gettime(clockid_t clock, struct timespec *result) {
    ORIGINAL(clock_gettime);
    int status = clock_gettime_original(clock, result);
    if (status != 0 || clock != CLOCK_MONOTONIC || haste() <= 1) return status;
    long long nanoseconds = (result->tv_sec * 1000000000LL + result->tv_nsec) * haste();
    result->tv_sec = nanoseconds / 1000000000;
    result->tv_nsec = nanoseconds % 1000000000;
    return 0;
}

int poll(struct pollfd *files, nfds_t count, int timeout) {
    ORIGINAL(poll);
    return poll_original(files, count, timeout > 0 ? (timeout + haste() - 1) / haste() : timeout);
}
