// Conversion between the element types.
#include "kernels.h"

typedef struct {
    const row_kernels *kernels;
    const void *x;
    void *y;
    int64_t count;
} conversion;

static void to_bf16_piece(void *context, int64_t index) {
    conversion *e = context;
    int64_t first = index * PIECE, n = KERNELS_MIN(PIECE, e->count - first);
    e->kernels->to_bf16((const float *)e->x + first, (uint16_t *)e->y + first, n);
}
void kernels_f32_to_bf16(const float *x, uint16_t *y, int64_t count) {
    conversion e = {kernels_chosen(), x, y, count};
    kernels_parallel_for(pieces(count), to_bf16_piece, &e);
}
static void to_f32_piece(void *context, int64_t index) {
    conversion *e = context;
    int64_t first = index * PIECE, n = KERNELS_MIN(PIECE, e->count - first);
    e->kernels->to_f32((const uint16_t *)e->x + first, (float *)e->y + first, n);
}
void kernels_bf16_to_f32(const uint16_t *x, float *y, int64_t count) {
    conversion e = {kernels_chosen(), x, y, count};
    kernels_parallel_for(pieces(count), to_f32_piece, &e);
}

// MARK: The scalar row kernels

void scalar_to_bf16(const float *x, uint16_t *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = bf16_rounded(x[i]);
}
void scalar_to_f32(const uint16_t *x, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = bf16_value(x[i]);
}
