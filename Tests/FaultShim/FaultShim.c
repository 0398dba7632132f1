#include "FaultShim.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void *original(const char *name) {
    void *function = dlsym(RTLD_NEXT, name);
    if (!function) abort();
    return function;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    static atomic_int count;
    int (*rename_original)(int, const char *, int, const char *) =
        (int (*)(int, const char *, int, const char *))original("renameat");
    const char *setting = getenv("DREAMCACHE_TEST_KILL");
    size_t length = strlen(to);
    if (!setting || length < 11 || strcmp(to + length - 11, "/checkpoint") != 0)
        return rename_original(from_folder, from, to_folder, to);
    char when[16] = "";
    int number = 0;
    sscanf(setting, "%15[a-z]:%d", when, &number);
    int isIt = atomic_fetch_add(&count, 1) + 1 == number;
    if (isIt && strcmp(when, "before") == 0) kill(getpid(), SIGKILL);
    int result = rename_original(from_folder, from, to_folder, to);
    if (isIt && strcmp(when, "after") == 0) kill(getpid(), SIGKILL);
    return result;
}

// void png_read_update_info(png_structrp png, png_inforp info)
void png_read_update_info(void *png, void *info) {
    void (*update_original)(void *, void *) = (void (*)(void *, void *))original("png_read_update_info");
    unsigned (*width)(const void *, const void *)
        = (unsigned (*)(const void *, const void *))original("png_get_image_width");
    switch (width(png, info)) {
    case FAULT_CRASH: *(volatile int *)8 = 1; break;
    case FAULT_HANG: for (volatile int i = 0;; i++) {}
    case FAULT_MEMORY:
        // The compiler may do away with a malloc(3) that nobody uses.
        while (mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) {}
        abort();
    case FAULT_FILE: open("/etc/passwd", O_RDONLY); break;
    case FAULT_CODE: mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); break;
    case FAULT_ANSWER: {
        // A picture of 2^32 - 1 pixels a side.
        static const unsigned char answer[16] = {0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 3, 0, 0, 0};
        ssize_t written = write(1, answer, sizeof answer);
        (void)written;
        _exit(0);
    }
    case FAULT_ABORT: abort();
    case FAULT_DRIP: {
        // 4096 pixels a side, and then as little as keeps a reader waiting. Sleeping is not allowed here.
        static const unsigned char start[16] = {0, 0, 0, 0, 0, 16, 0, 0, 0, 16, 0, 0, 3, 0, 0, 0};
        ssize_t written = write(1, start, sizeof start);
        for (;; written = write(1, start, 1))
            for (volatile int i = 0; i < 10000000; i++) {}
        (void)written;
    }
    default: break;
    }
    update_original(png, info);
}
