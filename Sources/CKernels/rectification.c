// ReLU and the logistic function, each an element at a time.
#include "scalar.h"

typedef struct {
    const float *x;
    float *y;
    int64_t count;
} elements;

static void rectify_piece(void *context, int64_t index) {
    const elements *e = context;
    const float *x = e->x;
    float *y = e->y;
    for (int64_t i = index * PIECE; i < KERNELS_MIN(e->count, (index + 1) * PIECE); i++) y[i] = x[i] > 0 ? x[i] : 0;
}
static void add_rectified_piece(void *context, int64_t index) {
    const elements *e = context;
    const float *x = e->x;
    float *y = e->y;
    for (int64_t i = index * PIECE; i < KERNELS_MIN(e->count, (index + 1) * PIECE); i++) y[i] += x[i] > 0 ? x[i] : 0;
}
static void sigmoid_piece(void *context, int64_t index) {
    const elements *e = context;
    for (int64_t i = index * PIECE; i < KERNELS_MIN(e->count, (index + 1) * PIECE); i++)
        e->y[i] = sigmoid_f(e->x[i]);
}

static void each(void (*piece)(void *, int64_t), const float *x, float *y, int64_t count) {
    elements e = {x, y, count};
    kernels_parallel_for(pieces(count), piece, &e);
}
void kernels_relu(const float *x, float *y, int64_t count) { each(rectify_piece, x, y, count); }
void kernels_add_relu(const float *x, float *y, int64_t count) { each(add_rectified_piece, x, y, count); }
void kernels_sigmoid(const float *x, float *y, int64_t count) { each(sigmoid_piece, x, y, count); }

void reference_relu(const float *x, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = fmaxf(x[i], 0);
}
void reference_add_relu(const float *x, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = y[i] + fmaxf(x[i], 0);
}
void reference_sigmoid(const float *x, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = (float)(0.5 + 0.5 * tanh(x[i] / 2.0));
}
