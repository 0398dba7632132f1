// Sums of what is there, and of rows.
#include "kernels.h"

typedef struct {
    const float *x;
    float *y;
    int64_t count, c;
} sum_work;

static void add_piece(void *context, int64_t index) {
    sum_work *w = context;
    for (int64_t i = index * PIECE; i < KERNELS_MIN(w->count, (index + 1) * PIECE); i++) w->y[i] += w->x[i];
}
void kernels_add(const float *x, float *y, int64_t count) {
    sum_work w = {x, y, count, 0};
    kernels_parallel_for(pieces(count), add_piece, &w);
}

// A piece covers COLUMNS columns of all rows, so that each sum has one order.
enum { COLUMNS = 64 };

static void column_sums_piece(void *context, int64_t index) {
    sum_work *w = context;
    int64_t first = index * COLUMNS, count = KERNELS_MIN(COLUMNS, w->c - first);
    float sums[COLUMNS] = {0};
    for (int64_t r = 0; r < w->count; r++)
        for (int64_t i = 0; i < count; i++) sums[i] += w->x[r * w->c + first + i];
    for (int64_t i = 0; i < count; i++) w->y[first + i] += sums[i];
}
void kernels_add_column_sums(const float *x, float *y, int64_t rows, int64_t c) {
    sum_work w = {x, y, rows, c};
    kernels_parallel_for((c + COLUMNS - 1) / COLUMNS, column_sums_piece, &w);
}
