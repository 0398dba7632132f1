// What is done to all parameters, or to all of their gradients, at once. Pieces and their order depend on the count alone, so
// that the results do not depend on the number of threads.
#include "kernels.h"

typedef struct {
    const float *x;
    float *y;
    double *sums;
    float factor;
    int64_t count;
} parameters_work;

static void square_piece(void *context, int64_t index) {
    parameters_work *w = context;
    double sum = 0;
    for (int64_t i = index * PIECE; i < KERNELS_MIN(w->count, (index + 1) * PIECE); i++)
        sum += (double)w->x[i] * (double)w->x[i];
    w->sums[index] = sum;
}
int64_t kernels_square_sum_pieces(int64_t count) { return pieces(count); }
double kernels_square_sum(const float *x, int64_t count, double *sums) {
    parameters_work w = {x, 0, sums, 0, count};
    kernels_parallel_for(pieces(count), square_piece, &w);
    double sum = 0;
    for (int64_t i = 0; i < pieces(count); i++) sum += sums[i];
    return sum;
}

static void scale_piece(void *context, int64_t index) {
    parameters_work *w = context;
    for (int64_t i = index * PIECE; i < KERNELS_MIN(w->count, (index + 1) * PIECE); i++) w->y[i] *= w->factor;
}
void kernels_scale(float factor, float *y, int64_t count) {
    parameters_work w = {0, y, 0, factor, count};
    kernels_parallel_for(pieces(count), scale_piece, &w);
}

static void approach_piece(void *context, int64_t index) {
    parameters_work *w = context;
    for (int64_t i = index * PIECE; i < KERNELS_MIN(w->count, (index + 1) * PIECE); i++)
        w->y[i] += w->factor * (w->x[i] - w->y[i]);
}
void kernels_approach(const float *x, float share, float *y, int64_t count) {
    parameters_work w = {x, y, 0, share, count};
    kernels_parallel_for(pieces(count), approach_piece, &w);
}
