// Activations.
#include "scalar.h"

typedef void (*activation)(const void *, kernels_type, void *, kernels_type, int64_t);
typedef struct {
    activation function;
    const void *x;
    void *y;
    kernels_type xt, yt;
    int64_t count;
} elementwise;

static void activate_piece(void *context, int64_t index) {
    elementwise *e = context;
    int64_t first = index * PIECE, n = KERNELS_MIN(PIECE, e->count - first);
    e->function(at_element(e->x, e->xt, first), e->xt, (void *)at_element(e->y, e->yt, first), e->yt, n);
}
static void activate(activation f, const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count) {
    elementwise e = {f, x, y, xt, yt, count};
    kernels_parallel_for(pieces(count), activate_piece, &e);
}
void kernels_silu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count) {
    activate(kernels_chosen()->silu, x, xt, y, yt, count);
}
void kernels_gelu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count) {
    activate(kernels_chosen()->gelu, x, xt, y, yt, count);
}
void kernels_quick_gelu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count) {
    activate(kernels_chosen()->quick_gelu, x, xt, y, yt, count);
}

typedef struct {
    const row_kernels *kernels;
    const void *x;
    void *y;
    kernels_type xt, yt;
    int64_t rows, c;
} geglu_work;

static void geglu_piece(void *context, int64_t index) {
    geglu_work *w = context;
    for (int64_t r = index * ROWS; r < KERNELS_MIN(w->rows, (index + 1) * ROWS); r++)
        w->kernels->geglu(at_element(w->x, w->xt, r * 2 * w->c), w->xt, (void *)at_element(w->y, w->yt, r * w->c), w->yt,
                          w->c);
}
void kernels_geglu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t rows, int64_t c) {
    geglu_work w = {kernels_chosen(), x, y, xt, yt, rows, c};
    kernels_parallel_for(row_pieces(rows), geglu_piece, &w);
}

// MARK: The scalar twins

static float gelu_f(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678f)); }
static float quick_gelu_f(float x) { return x * sigmoid_f(1.702f * x); }

void reference_silu(const float *x, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = silu_f(x[i]);
}
void reference_gelu(const float *x, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = gelu_f(x[i]);
}
void reference_quick_gelu(const float *x, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = quick_gelu_f(x[i]);
}
void reference_geglu(const float *x, float *y, int64_t rows, int64_t c) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < c; i++) y[r * c + i] = x[r * 2 * c + i] * gelu_f(x[r * 2 * c + c + i]);
}

// MARK: The scalar row kernels

#define ELEMENTWISE(name)                                                                            \
    void scalar_##name(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count) {    \
        for (int64_t i = 0; i < count; i++) set_element(y, yt, i, name##_f(element(x, xt, i)));      \
    }
ELEMENTWISE(silu)
ELEMENTWISE(gelu)
ELEMENTWISE(quick_gelu)

void scalar_geglu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t c) {
    for (int64_t i = 0; i < c; i++) set_element(y, yt, i, element(x, xt, i) * gelu_f(element(x, xt, c + i)));
}
