#include "CConfinement.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

#if defined __x86_64__
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "The system calls of this architecture are to be listed here."
#endif

// The process ends when a filter says no, so that nothing it left half done is gone on with.
#define DENY BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ALLOW_CALL(name) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), ALLOW
// Memory may be had, but none that can be run. The protection is the third argument of both calls; its bits are in the
// lower half, which comes first on the machines above.
#define ALLOW_UNLESS_EXECUTABLE(name)                                                                                  \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 4), LOAD(args[2]),                                              \
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1), DENY, ALLOW

int confinement_begin(uint64_t memory, unsigned processor_seconds) {
    struct rlimit limits[] = {
        {memory, memory}, {processor_seconds, processor_seconds + 1}, {0, 0}, {0, 0},
    };
    const int resources[] = {RLIMIT_AS, RLIMIT_CPU, RLIMIT_CORE, RLIMIT_FSIZE};
    for (size_t i = 0; i < sizeof resources / sizeof *resources; i++)
        if (setrlimit(resources[i], &limits[i]) != 0) return -1;

    // What decoding needs: reading and writing what is open, memory, an end. SYS_futex and SYS_getrandom are what locks
    // and hash tables of the language's runtime use; SYS_tgkill is how abort(3) ends.
    struct sock_filter filter[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
        DENY,
        LOAD(nr),
        ALLOW_CALL(read),
        ALLOW_CALL(write),
        ALLOW_CALL(brk),
        ALLOW_CALL(munmap),
        ALLOW_CALL(mremap),
        ALLOW_CALL(madvise),
        ALLOW_CALL(futex),
        ALLOW_CALL(getrandom),
        ALLOW_CALL(clock_gettime),
        ALLOW_CALL(sched_yield),
        ALLOW_CALL(getpid),
        ALLOW_CALL(gettid),
        ALLOW_CALL(tgkill),
        ALLOW_CALL(rt_sigprocmask),
        ALLOW_CALL(rt_sigreturn),
        ALLOW_CALL(restart_syscall),
        ALLOW_CALL(exit),
        ALLOW_CALL(exit_group),
        ALLOW_UNLESS_EXECUTABLE(mmap),
        // After the argument was looked at, the accumulator holds it; each such call ends the filter either way.
        ALLOW_UNLESS_EXECUTABLE(mprotect),
        DENY,
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return -1;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

int confinement_spawn(const char *name, const char *argument, int input, int *output) {
    // Threads of libraries would be outside of the filter, and cost time; a crash is told by its signal, and nobody is to
    // catch that.
    static const char *const settings[] = {"OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1", "SWIFT_BACKTRACE=enable=no"};
    enum { SETTINGS = sizeof settings / sizeof *settings, ROOM = 512 };
    char *environment[ROOM];
    size_t count = 0;
    for (; count < SETTINGS; count++) environment[count] = (char *)settings[count];
    for (char **entry = environ; *entry && count < ROOM - 1; entry++) {
        size_t i = 0;
        while (i < SETTINGS && strncmp(*entry, settings[i], strchr(settings[i], '=') + 1 - settings[i]) != 0) i++;
        if (i == SETTINGS) environment[count++] = *entry;
    }
    environment[count] = NULL;

    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    // A larger pipe means fewer turns of the two processes; without it they only take longer.
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
    // Descriptors 0 and 1 may be the very ones that are passed: both are moved out of the way first.
    int in = fcntl(input, F_DUPFD_CLOEXEC, 3), out = fcntl(ends[1], F_DUPFD_CLOEXEC, 3);
    int failure = in < 0 || out < 0 ? errno : 0;

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    // Neither of these two fails in glibc; nor do the others but for want of memory.
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (!failure) failure = posix_spawn_file_actions_adddup2(&actions, in, 0);
    if (!failure) failure = posix_spawn_file_actions_adddup2(&actions, out, 1);
    if (!failure) failure = posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    if (!failure) failure = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    pid_t child = -1;
    char *arguments[] = {(char *)name, (char *)argument, NULL};
    if (!failure) failure = posix_spawn(&child, "/proc/self/exe", &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (in >= 0) close(in);
    if (out >= 0) close(out);
    close(ends[1]);
    if (failure) {
        close(ends[0]);
        errno = failure;
        return -1;
    }
    *output = ends[0];
    return child;
}
