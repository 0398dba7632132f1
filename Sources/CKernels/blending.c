// What heads read in two places, joined.
#include "scalar.h"

typedef struct {
    const void *x;
    void *y;
    kernels_type type;
    const float *shares;
    int64_t queries, heads, head_size, rows;
} blend_work;

static void blend_piece(void *context, int64_t index) {
    const blend_work *w = context;
    for (int64_t r = index * ROWS; r < KERNELS_MIN(w->rows, (index + 1) * ROWS); r++) {
        int64_t image = r / w->queries, query = r % w->queries;
        for (int64_t head = 0; head < w->heads; head++) {
            float share = w->shares[(image * w->heads + head) * w->queries + query];
            int64_t first = (r * w->heads + head) * w->head_size;
            if (w->type == KERNELS_F32) {
                const float *x = (const float *)w->x + first;
                float *y = (float *)w->y + first;
                for (int64_t i = 0; i < w->head_size; i++) y[i] += share * (x[i] - y[i]);
            } else {
                const uint16_t *x = (const uint16_t *)w->x + first;
                uint16_t *y = (uint16_t *)w->y + first;
                for (int64_t i = 0; i < w->head_size; i++) {
                    float own = bf16_value(y[i]);
                    y[i] = bf16_rounded(own + share * (bf16_value(x[i]) - own));
                }
            }
        }
    }
}

void kernels_blend_heads(const void *x, void *y, kernels_type type, const float *shares, int64_t n, int64_t queries,
                         int64_t heads, int64_t head_size) {
    blend_work w = {x, y, type, shares, queries, heads, head_size, n * queries};
    kernels_parallel_for(row_pieces(w.rows), blend_piece, &w);
}
