// Layer normalisation.
#include "scalar.h"

typedef struct {
    const row_kernels *kernels;
    const float *x, *weight, *bias;
    float eps;
    void *y;
    kernels_type yt;
    float *statistics;
    int64_t rows, c;
} layer_norm_work;

static void layer_norm_piece(void *context, int64_t index) {
    layer_norm_work *w = context;
    for (int64_t r = index * ROWS; r < KERNELS_MIN(w->rows, (index + 1) * ROWS); r++)
        w->kernels->layer_norm(w->x + r * w->c, w->weight, w->bias, w->eps,
                               (void *)at_element(w->y, w->yt, r * w->c), w->yt, w->statistics ? w->statistics + 2 * r : 0, w->c);
}
void kernels_layer_norm(const float *x, const float *weight, const float *bias, float eps, void *y, kernels_type yt,
                        float *statistics, int64_t rows, int64_t c) {
    layer_norm_work w = {kernels_chosen(), x, weight, bias, eps, y, yt, statistics, rows, c};
    kernels_parallel_for(row_pieces(rows), layer_norm_piece, &w);
}

// MARK: Backward

typedef struct {
    const row_kernels *kernels;
    const float *x, *weight, *statistics, *dy;
    float *dx, *dweight, *dbias;
    int64_t rows, c;
} layer_norm_gradient_work;

static void layer_norm_gradient_piece(void *context, int64_t index) {
    layer_norm_gradient_work *w = context;
    for (int64_t r = index * ROWS; r < KERNELS_MIN(w->rows, (index + 1) * ROWS); r++)
        w->kernels->layer_norm_gradient(w->x + r * w->c, w->weight, w->statistics + 2 * r, w->dy + r * w->c,
                                        w->dx + r * w->c, w->c);
}
void kernels_layer_norm_gradient(const float *x, const float *weight, const float *statistics, const float *dy, float *dx,
                                 int64_t rows, int64_t c) {
    layer_norm_gradient_work w = {kernels_chosen(), x, weight, statistics, dy, dx, 0, 0, rows, c};
    kernels_parallel_for(row_pieces(rows), layer_norm_gradient_piece, &w);
}

// A piece covers CHANNELS channels of all rows, so that each sum has one order.
enum { CHANNELS = 64 };

static void layer_norm_parameters_piece(void *context, int64_t index) {
    layer_norm_gradient_work *w = context;
    int64_t first = index * CHANNELS, count = KERNELS_MIN(CHANNELS, w->c - first);
    float dweight[CHANNELS] = {0}, dbias[CHANNELS] = {0};
    for (int64_t r = 0; r < w->rows; r++) {
        const float *x = w->x + r * w->c + first, *dy = w->dy + r * w->c + first;
        float mean = w->statistics[2 * r], inverse = w->statistics[2 * r + 1];
        for (int64_t i = 0; i < count; i++) {
            dweight[i] += dy[i] * ((x[i] - mean) * inverse);
            dbias[i] += dy[i];
        }
    }
    for (int64_t i = 0; i < count; i++) w->dweight[first + i] += dweight[i], w->dbias[first + i] += dbias[i];
}
void kernels_layer_norm_parameter_gradient(const float *x, const float *statistics, const float *dy, float *dweight,
                                           float *dbias, int64_t rows, int64_t c) {
    layer_norm_gradient_work w = {0, x, 0, statistics, dy, 0, dweight, dbias, rows, c};
    kernels_parallel_for((c + CHANNELS - 1) / CHANNELS, layer_norm_parameters_piece, &w);
}

// MARK: The scalar twins

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

void reference_layer_norm_gradient(const float *x, const float *weight, float eps, const float *dy, float *dx,
                                   float *dweight, float *dbias, int64_t rows, int64_t c) {
    for (int64_t r = 0; r < rows; r++, x += c, dy += c, dx += c) {
        double mean = 0, square = 0, sum = 0, dot = 0;
        for (int64_t i = 0; i < c; i++) mean += x[i];
        mean /= (double)c;
        for (int64_t i = 0; i < c; i++) square += (x[i] - mean) * (x[i] - mean);
        double inverse = 1 / sqrt(square / (double)c + eps);
        for (int64_t i = 0; i < c; i++) {
            double n = (x[i] - mean) * inverse, g = (double)dy[i] * weight[i];
            sum += g, dot += g * n;
            dweight[i] += (float)(dy[i] * n), dbias[i] += dy[i];
        }
        for (int64_t i = 0; i < c; i++) {
            double n = (x[i] - mean) * inverse, g = (double)dy[i] * weight[i];
            dx[i] = (float)(inverse * (g - sum / (double)c - n * dot / (double)c));
        }
    }
}

// MARK: The scalar row kernels

void scalar_layer_norm(const float *x, const float *weight, const float *bias, float eps, void *y, kernels_type yt,
                       float *statistics, int64_t c) {
    float row[c];
    reference_layer_norm(x, weight, bias, eps, row, 1, c);
    for (int64_t i = 0; i < c; i++) set_element(y, yt, i, row[i]);
    if (!statistics) return;
    double mean = 0, square = 0;
    for (int64_t i = 0; i < c; i++) mean += x[i];
    mean /= (double)c;
    for (int64_t i = 0; i < c; i++) square += (x[i] - mean) * (x[i] - mean);
    statistics[0] = (float)mean, statistics[1] = (float)(1 / sqrt(square / (double)c + eps));
}
void scalar_layer_norm_gradient(const float *x, const float *weight, const float *statistics, const float *dy, float *dx,
                                int64_t c) {
    float mean = statistics[0], inverse = statistics[1];
    double sum = 0, dot = 0;
    for (int64_t i = 0; i < c; i++) {
        double g = (double)dy[i] * weight[i];
        sum += g, dot += g * ((x[i] - mean) * inverse);
    }
    for (int64_t i = 0; i < c; i++)
        dx[i] = (float)(inverse * (dy[i] * weight[i] - sum / (double)c - (x[i] - mean) * inverse * dot / (double)c));
}
