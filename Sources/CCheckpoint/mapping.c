#include "CCheckpoint.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WATCHES = 4096 };

// A handler may run in any thread at any moment, so it reads atomics and nothing else.
static struct {
    atomic_uintptr_t start; // 0: free; 1: being filled
    atomic_size_t size;
    atomic_bool is_damaged;
} watches[WATCHES];
static atomic_uint_fast64_t faults;
static struct sigaction previous;
static uintptr_t page_size;

// mmap(2) is not on POSIX's list of what a handler may call. On Linux it is a bare system call, and the fault is
// synchronous: the thread was reading memory, not inside of the C library's allocator.
static void on_bus_error(int number, siginfo_t *info, void *context) {
    int saved = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    // Sent by kill(2) it has no address of a fault.
    for (int i = 0; info->si_code > 0 && i < WATCHES; i++) {
        uintptr_t start = atomic_load(&watches[i].start);
        if (start <= 1 || address < start || address - start >= atomic_load(&watches[i].size)) continue;
        uintptr_t page = address & ~(page_size - 1);
        size_t rest = start + atomic_load(&watches[i].size) - page;
        atomic_store(&watches[i].is_damaged, true);
        atomic_fetch_add(&faults, 1);
        if (mmap((void *)page, rest, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) {
            errno = saved;
            return;
        }
        break;
    }
    errno = saved;
    if (previous.sa_flags & SA_SIGINFO && previous.sa_sigaction) {
        previous.sa_sigaction(number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(number);
    } else {
        // The read is tried again, and ends the process.
        signal(number, SIG_DFL);
        if (info->si_code <= 0) raise(number);
    }
}

static void install(void) {
    page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &previous);
}

int mapping_watch(void *start, size_t size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
    for (int i = 0; i < WATCHES; i++) {
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong(&watches[i].start, &none, 1)) continue;
        atomic_store(&watches[i].size, size);
        atomic_store(&watches[i].is_damaged, false);
        atomic_store(&watches[i].start, (uintptr_t)start);
        return i;
    }
    return -1;
}

void mapping_unwatch(int watch) {
    if (watch >= 0) atomic_store(&watches[watch].start, 0);
}

bool mapping_is_damaged(int watch) { return watch >= 0 && atomic_load(&watches[watch].is_damaged); }

uint64_t mapping_faults(void) { return atomic_load(&faults); }
