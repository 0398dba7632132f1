// Group normalisation.
#include "scalar.h"

// First pass: sums of each channel over each block of SUM_ROWS pixels, in fp32, relative to the block's first pixel. Then,
// in double and in a fixed order, the blocks are joined to mean and variance of each group, and those to a scale and a
// shift of each channel. Last pass: scale, shift, SiLU.

enum { SUM_ROWS = 64 };

typedef struct {
    const row_kernels *kernels;
    const float *x, *weight, *bias;
    float eps;
    void *y;
    kernels_type yt;
    int64_t c;
    float *statistics;            // [n, groups, 2], or null
    float *sums, *scale, *shift;  // [n, blocks, 2, c], [n, c], [n, c]
    int64_t pixels, blocks, groups;
    bool silu;
} group_work;

static void group_sums_piece(void *context, int64_t index) {
    group_work *g = context;
    int64_t c = g->c, first = index % g->blocks * SUM_ROWS;
    float *sums = g->sums + index * 2 * c;
    g->kernels->channel_sums(g->x + (index / g->blocks * g->pixels + first) * c,
                             KERNELS_MIN(SUM_ROWS, g->pixels - first), c, sums, sums + c);
}
// index: (image, group). With a block's first pixel p, d = x - p, and the mean m of the group:
// sum x = sum d + rows p, sum (x - m)^2 = sum d^2 + 2 (p - m) sum d + rows (p - m)^2.
static void group_join_piece(void *context, int64_t index) {
    group_work *g = context;
    int64_t c = g->c, size = c / g->groups, image = index / g->groups, first = index % g->groups * size;
    const float *x = g->x + image * g->pixels * c;
    const float *sums = g->sums + image * g->blocks * 2 * c;
    double count = (double)(g->pixels * size), mean = 0, square = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t b = 0; b < g->blocks; b++) {
            double rows = (double)KERNELS_MIN(SUM_ROWS, g->pixels - b * SUM_ROWS);
            for (int64_t i = first; i < first + size; i++) {
                double pivot = x[b * SUM_ROWS * c + i], sum = sums[b * 2 * c + i];
                if (pass == 0) mean += sum + rows * pivot;
                else square += sums[b * 2 * c + c + i] + (pivot - mean) * (2 * sum + rows * (pivot - mean));
            }
        }
        if (pass == 0) mean /= count;
    }
    double variance = square / count;
    double inverse = 1 / __builtin_sqrt((variance < 0 ? 0 : variance) + g->eps);
    if (g->statistics) g->statistics[2 * index] = (float)mean, g->statistics[2 * index + 1] = (float)inverse;
    for (int64_t i = first; i < first + size; i++) {
        double scale = g->weight[i] * inverse;
        g->scale[image * c + i] = (float)scale;
        g->shift[image * c + i] = (float)(g->bias[i] - mean * scale);
    }
}
static void group_apply_piece(void *context, int64_t index) {
    group_work *g = context;
    int64_t c = g->c, image = index / g->blocks, first = image * g->pixels + index % g->blocks * SUM_ROWS;
    int64_t rows = KERNELS_MIN(SUM_ROWS, (image + 1) * g->pixels - first);
    g->kernels->scale_shift(g->x + first * c, g->scale + image * c, g->shift + image * c, g->silu,
                            (void *)at_element(g->y, g->yt, first * c), g->yt, rows, c);
}

size_t kernels_group_norm_scratch_bytes(int64_t n, int64_t pixels, int64_t c) {
    int64_t blocks = (pixels + SUM_ROWS - 1) / SUM_ROWS;
    return (size_t)(n * (blocks + 1) * 2 * c) * sizeof(float);
}

void kernels_group_norm(const float *x, const float *weight, const float *bias, float eps, bool silu, void *y,
                        kernels_type yt, float *statistics, int64_t n, int64_t pixels, int64_t c, int64_t groups,
                        void *scratch) {
    int64_t blocks = (pixels + SUM_ROWS - 1) / SUM_ROWS;
    float *sums = scratch, *scale = sums + n * blocks * 2 * c, *shift = scale + n * c;
    group_work g = {kernels_chosen(), x, weight, bias, eps, y, yt, c, statistics, sums, scale, shift, pixels,
                    blocks, groups, silu};
    kernels_parallel_for(n * blocks, group_sums_piece, &g);
    kernels_parallel_for(n * groups, group_join_piece, &g);
    kernels_parallel_for(n * blocks, group_apply_piece, &g);
}

// MARK: Backward
// With n = (x - mean) inverse, z = n weight + bias, y = silu(z) or z, and g = dz weight:
// dx = inverse (g - mean of g - n mean of g n), means over the group. The passes are those of forward.

typedef struct {
    const row_kernels *kernels;
    group_gradient_rows rows;
    const float *statistics;
    float *channels, *sums;  // [n, 4, c]: mean, inverse, mean of g, mean of g n; [n, blocks, 2, c]
    int64_t pixels, blocks, groups;
} group_gradient_work;

// The work on one block of pixels of one image.
static group_gradient_rows gradient_block(const group_gradient_work *g, int64_t index) {
    group_gradient_rows r = g->rows;
    int64_t image = index / g->blocks, first = image * g->pixels + index % g->blocks * SUM_ROWS;
    r.x += first * r.c, r.dy += first * r.c, r.dx += first * r.c;
    r.rows = KERNELS_MIN(SUM_ROWS, (image + 1) * g->pixels - first);
    r.mean = g->channels + image * 4 * r.c, r.inverse = r.mean + r.c;
    r.mean_g = r.inverse + r.c, r.mean_gn = r.mean_g + r.c;
    return r;
}
static void group_spread_piece(void *context, int64_t index) {
    group_gradient_work *g = context;
    int64_t c = g->rows.c, size = c / g->groups, image = index / g->groups, first = index % g->groups * size;
    float *mean = g->channels + image * 4 * c;
    for (int64_t i = first; i < first + size; i++)
        mean[i] = g->statistics[2 * index], mean[c + i] = g->statistics[2 * index + 1];
}
static void group_gradient_sums_piece(void *context, int64_t index) {
    group_gradient_work *g = context;
    group_gradient_rows r = gradient_block(g, index);
    float *sums = g->sums + index * 2 * r.c;
    g->kernels->group_gradient_sums(&r, sums, sums + r.c);
}
static void group_gradient_join_piece(void *context, int64_t index) {
    group_gradient_work *g = context;
    int64_t c = g->rows.c, size = c / g->groups, image = index / g->groups, first = index % g->groups * size;
    const float *sums = g->sums + image * g->blocks * 2 * c;
    double count = (double)(g->pixels * size), sum = 0, dot = 0;
    for (int64_t b = 0; b < g->blocks; b++)
        for (int64_t i = first; i < first + size; i++) sum += sums[b * 2 * c + i], dot += sums[b * 2 * c + c + i];
    float *mean_g = g->channels + (image * 4 + 2) * c;
    for (int64_t i = first; i < first + size; i++) mean_g[i] = (float)(sum / count), mean_g[c + i] = (float)(dot / count);
}
static void group_gradient_apply_piece(void *context, int64_t index) {
    group_gradient_work *g = context;
    group_gradient_rows r = gradient_block(g, index);
    g->kernels->group_gradient_apply(&r);
}

size_t kernels_group_norm_gradient_scratch_bytes(int64_t n, int64_t pixels, int64_t c) {
    int64_t blocks = (pixels + SUM_ROWS - 1) / SUM_ROWS;
    return (size_t)(n * (2 * blocks + 4) * c) * sizeof(float);
}
void kernels_group_norm_gradient(const float *x, const float *weight, const float *bias, const float *statistics, bool silu,
                                 const float *dy, float *dx, int64_t n, int64_t pixels, int64_t c, int64_t groups,
                                 void *scratch) {
    int64_t blocks = (pixels + SUM_ROWS - 1) / SUM_ROWS;
    float *channels = scratch;
    group_gradient_work g = {
        .kernels = kernels_chosen(), .statistics = statistics, .channels = channels, .sums = channels + n * 4 * c,
        .rows = {.x = x, .weight = weight, .bias = bias, .dy = dy, .dx = dx, .silu = silu, .c = c},
        .pixels = pixels, .blocks = blocks, .groups = groups};
    kernels_parallel_for(n * groups, group_spread_piece, &g);
    kernels_parallel_for(n * blocks, group_gradient_sums_piece, &g);
    kernels_parallel_for(n * groups, group_gradient_join_piece, &g);
    kernels_parallel_for(n * blocks, group_gradient_apply_piece, &g);
}

// MARK: The scalar twins

void reference_group_norm(const float *x, const float *weight, const float *bias, float eps, bool silu, float *y,
                          int64_t n, int64_t pixels, int64_t c, int64_t groups) {
    int64_t size = c / groups;
    for (int64_t image = 0; image < n; image++, x += pixels * c, y += pixels * c) {
        for (int64_t g = 0; g < groups; g++) {
            double mean = 0, square = 0, count = (double)(pixels * size);
            for (int64_t p = 0; p < pixels; p++)
                for (int64_t i = g * size; i < (g + 1) * size; i++) mean += x[p * c + i];
            mean /= count;
            for (int64_t p = 0; p < pixels; p++)
                for (int64_t i = g * size; i < (g + 1) * size; i++) square += (x[p * c + i] - mean) * (x[p * c + i] - mean);
            double inverse = 1 / sqrt(square / count + eps);
            for (int64_t p = 0; p < pixels; p++)
                for (int64_t i = g * size; i < (g + 1) * size; i++) {
                    float v = (float)((x[p * c + i] - mean) * inverse) * weight[i] + bias[i];
                    y[p * c + i] = silu ? silu_f(v) : v;
                }
        }
    }
}

static float slope_before_norm(float z, bool silu) {
    float s = sigmoid_f(z);
    return silu ? s * (1.0f + z * (1.0f - s)) : 1.0f;
}

void reference_group_norm_gradient(const float *x, const float *weight, const float *bias, float eps, bool silu,
                                   const float *dy, float *dx, int64_t n, int64_t pixels, int64_t c, int64_t groups) {
    int64_t size = c / groups;
    for (int64_t image = 0; image < n; image++, x += pixels * c, dy += pixels * c, dx += pixels * c)
        for (int64_t group = 0; group < groups; group++) {
            double mean = 0, square = 0, sum = 0, dot = 0, count = (double)(pixels * size);
            int64_t from = group * size, to = from + size;
            for (int64_t p = 0; p < pixels; p++)
                for (int64_t i = from; i < to; i++) mean += x[p * c + i];
            mean /= count;
            for (int64_t p = 0; p < pixels; p++)
                for (int64_t i = from; i < to; i++) square += (x[p * c + i] - mean) * (x[p * c + i] - mean);
            double inverse = 1 / sqrt(square / count + eps);
            for (int64_t p = 0; p < pixels; p++)
                for (int64_t i = from; i < to; i++) {
                    double v = (x[p * c + i] - mean) * inverse;
                    double g = dy[p * c + i] * slope_before_norm((float)(v * weight[i] + bias[i]), silu) * weight[i];
                    sum += g, dot += g * v;
                    dx[p * c + i] = (float)g;
                }
            for (int64_t p = 0; p < pixels; p++)
                for (int64_t i = from; i < to; i++) {
                    double v = (x[p * c + i] - mean) * inverse;
                    dx[p * c + i] = (float)(inverse * (dx[p * c + i] - sum / count - v * dot / count));
                }
        }
}

// MARK: The scalar row kernels

void scalar_channel_sums(const float *x, int64_t rows, int64_t c, float *sum, float *square) {
    for (int64_t i = 0; i < c; i++) sum[i] = 0, square[i] = 0;
    for (int64_t r = 1; r < rows; r++)
        for (int64_t i = 0; i < c; i++) {
            float d = x[r * c + i] - x[i];
            sum[i] += d, square[i] += d * d;
        }
}
void scalar_scale_shift(const float *x, const float *scale, const float *shift, bool with_silu, void *y, kernels_type yt,
                        int64_t rows, int64_t c) {
    for (int64_t j = 0; j < rows * c; j++) {
        float v = x[j] * scale[j % c] + shift[j % c];
        set_element(y, yt, j, with_silu ? silu_f(v) : v);
    }
}

// g = dz weight at channel i of row r; *n becomes the normalised value.
static float gradient_of_normalised(const group_gradient_rows *g, int64_t r, int64_t i, float *n) {
    *n = (g->x[r * g->c + i] - g->mean[i]) * g->inverse[i];
    return g->dy[r * g->c + i] * slope_before_norm(*n * g->weight[i] + g->bias[i], g->silu) * g->weight[i];
}
void scalar_group_gradient_sums(const group_gradient_rows *g, float *sum, float *dot) {
    for (int64_t i = 0; i < g->c; i++) sum[i] = 0, dot[i] = 0;
    for (int64_t r = 0; r < g->rows; r++)
        for (int64_t i = 0; i < g->c; i++) {
            float n, v = gradient_of_normalised(g, r, i, &n);
            sum[i] += v, dot[i] += v * n;
        }
}
void scalar_group_gradient_apply(const group_gradient_rows *g) {
    for (int64_t r = 0; r < g->rows; r++)
        for (int64_t i = 0; i < g->c; i++) {
            float n, v = gradient_of_normalised(g, r, i, &n);
            g->dx[r * g->c + i] = (v - g->mean_g[i] - n * g->mean_gn[i]) * g->inverse[i];
        }
}
