// Layer normalisation.
#include "scalar.h"

typedef struct {
    const row_kernels *kernels;
    const float *x, *weight, *bias;
    float eps;
    void *y;
    kernels_type yt;
    int64_t rows, c;
} layer_norm_work;

static void layer_norm_piece(void *context, int64_t index) {
    layer_norm_work *w = context;
    for (int64_t r = index * ROWS; r < KERNELS_MIN(w->rows, (index + 1) * ROWS); r++)
        w->kernels->layer_norm(w->x + r * w->c, w->weight, w->bias, w->eps,
                               (void *)at_element(w->y, w->yt, r * w->c), w->yt, w->c);
}
void kernels_layer_norm(const float *x, const float *weight, const float *bias, float eps, void *y, kernels_type yt,
                        int64_t rows, int64_t c) {
    layer_norm_work w = {kernels_chosen(), x, weight, bias, eps, y, yt, rows, c};
    kernels_parallel_for(row_pieces(rows), layer_norm_piece, &w);
}

// MARK: The scalar twin

void reference_layer_norm(const float *x, const float *weight, const float *bias, float eps, float *y, int64_t rows,
                          int64_t c) {
    for (int64_t r = 0; r < rows; r++, x += c, y += c) {
        double mean = 0, square = 0;
        for (int64_t i = 0; i < c; i++) mean += x[i];
        mean /= (double)c;
        for (int64_t i = 0; i < c; i++) square += (x[i] - mean) * (x[i] - mean);
        double inverse = 1 / sqrt(square / (double)c + eps);
        for (int64_t i = 0; i < c; i++) y[i] = (float)((x[i] - mean) * inverse) * weight[i] + bias[i];
    }
}

// MARK: The scalar row kernel

void scalar_layer_norm(const float *x, const float *weight, const float *bias, float eps, void *y, kernels_type yt,
                       int64_t c) {
    float row[c];
    reference_layer_norm(x, weight, bias, eps, row, 1, c);
    for (int64_t i = 0; i < c; i++) set_element(y, yt, i, row[i]);
}
