// One pool of threads for everything: libgomp's, which oneDNN runs on. Two spinning pools on few cores steal from one
// another, so our kernels enter the same pool through GOMP_parallel, the entry point that `#pragma omp parallel`
// compiles to (libgomp's ABI, GOMP_4.0), and need no OpenMP compiler.
#include "kernels.h"

void GOMP_parallel(void (*fn)(void *), void *data, unsigned num_threads, unsigned flags);
void omp_set_num_threads(int);
int omp_get_max_threads(void);

void kernels_set_threads(int count) { omp_set_num_threads(count > 0 ? count : 1); }
int kernels_threads(void) { return omp_get_max_threads(); }

typedef struct {
    int64_t count, next;
    void (*body)(void *, int64_t);
    void *context;
} loop;

static void take_turns(void *data) {
    loop *l = data;
    for (;;) {
        int64_t i = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);
        if (i >= l->count) return;
        l->body(l->context, i);
    }
}

void kernels_parallel_for(int64_t count, void (*body)(void *, int64_t), void *context) {
    loop l = {count, 0, body, context};
    if (count <= 1 || kernels_threads() == 1) take_turns(&l);
    else GOMP_parallel(take_turns, &l, 0, 0);
}
