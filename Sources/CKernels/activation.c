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

// MARK: Backward

typedef void (*slope)(const void *, kernels_type, const float *, float *, int64_t);
typedef struct {
    slope function;
    const void *x;
    kernels_type xt;
    const float *dy;
    float *dx;
    int64_t count, c;
} slope_work;

static void slope_piece(void *context, int64_t index) {
    slope_work *w = context;
    int64_t first = index * PIECE, n = KERNELS_MIN(PIECE, w->count - first);
    w->function(at_element(w->x, w->xt, first), w->xt, w->dy + first, w->dx + first, n);
}
void kernels_silu_gradient(const void *x, kernels_type xt, const float *dy, float *dx, int64_t count) {
    slope_work w = {kernels_chosen()->silu_gradient, x, xt, dy, dx, count, 0};
    kernels_parallel_for(pieces(count), slope_piece, &w);
}
void kernels_gelu_gradient(const void *x, kernels_type xt, const float *dy, float *dx, int64_t count) {
    slope_work w = {kernels_chosen()->gelu_gradient, x, xt, dy, dx, count, 0};
    kernels_parallel_for(pieces(count), slope_piece, &w);
}
void kernels_quick_gelu_gradient(const void *x, kernels_type xt, const float *dy, float *dx, int64_t count) {
    slope_work w = {kernels_chosen()->quick_gelu_gradient, x, xt, dy, dx, count, 0};
    kernels_parallel_for(pieces(count), slope_piece, &w);
}

static void geglu_gradient_piece(void *context, int64_t index) {
    slope_work *w = context;
    for (int64_t r = index * ROWS; r < KERNELS_MIN(w->count, (index + 1) * ROWS); r++)
        w->function(at_element(w->x, w->xt, r * 2 * w->c), w->xt, w->dy + r * w->c, w->dx + r * 2 * w->c, w->c);
}
void kernels_geglu_gradient(const void *x, kernels_type xt, const float *dy, float *dx, int64_t rows, int64_t c) {
    slope_work w = {kernels_chosen()->geglu_gradient, x, xt, dy, dx, rows, c};
    kernels_parallel_for(row_pieces(rows), geglu_gradient_piece, &w);
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

static float sigmoid_times_slope_f(float x, float k) {
    float s = sigmoid_f(k * x);
    return s * (1.0f + k * x * (1.0f - s));
}
static float silu_gradient_f(float x) { return sigmoid_times_slope_f(x, 1.0f); }
static float quick_gelu_gradient_f(float x) { return sigmoid_times_slope_f(x, 1.702f); }
static float gelu_gradient_f(float x) {
    return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
}

void reference_silu_gradient(const float *x, const float *dy, float *dx, int64_t count) {
    for (int64_t i = 0; i < count; i++) dx[i] = dy[i] * silu_gradient_f(x[i]);
}
void reference_gelu_gradient(const float *x, const float *dy, float *dx, int64_t count) {
    for (int64_t i = 0; i < count; i++) dx[i] = dy[i] * gelu_gradient_f(x[i]);
}
void reference_quick_gelu_gradient(const float *x, const float *dy, float *dx, int64_t count) {
    for (int64_t i = 0; i < count; i++) dx[i] = dy[i] * quick_gelu_gradient_f(x[i]);
}
void reference_geglu_gradient(const float *x, const float *dy, float *dx, int64_t rows, int64_t c) {
    for (int64_t r = 0; r < rows; r++, x += 2 * c, dx += 2 * c, dy += c) scalar_geglu_gradient(x, KERNELS_F32, dy, dx, c);
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

#define ELEMENTWISE_GRADIENT(name)                                                                        \
    void scalar_##name(const void *x, kernels_type xt, const float *dy, float *dx, int64_t count) {       \
        for (int64_t i = 0; i < count; i++) dx[i] = dy[i] * name##_f(element(x, xt, i));                  \
    }
ELEMENTWISE_GRADIENT(silu_gradient)
ELEMENTWISE_GRADIENT(gelu_gradient)
ELEMENTWISE_GRADIENT(quick_gelu_gradient)

void scalar_geglu_gradient(const void *x, kernels_type xt, const float *dy, float *dx, int64_t c) {
    for (int64_t i = 0; i < c; i++) {
        float value = element(x, xt, i), gate = element(x, xt, c + i), g = dy[i];
        dx[i] = g * gelu_f(gate);
        dx[c + i] = g * value * gelu_gradient_f(gate);
    }
}
