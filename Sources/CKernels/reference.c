// The scalar twins: each follows its formula and nothing else. Tests hold the fast kernels against them, and a CPU
// without AVX2 runs on them.
#include <math.h>
#include "attention.h"

static float element(const void *x, kernels_type type, int64_t i) {
    return type == KERNELS_F32 ? ((const float *)x)[i] : bf16_value(((const uint16_t *)x)[i]);
}
static void set_element(void *y, kernels_type type, int64_t i, float v) {
    if (type == KERNELS_F32) ((float *)y)[i] = v;
    else ((uint16_t *)y)[i] = bf16_rounded(v);
}

static float sigmoid_f(float x) { return 1.0f / (1.0f + expf(-x)); }
static float silu_f(float x) { return x * sigmoid_f(x); }
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

void reference_attention(const kernels_attention_shape *s) {
    int64_t d = s->head_size;
    float scale = 1.0f / sqrtf((float)d);
    for (int64_t image = 0; image < s->n; image++)
        for (int64_t head = 0; head < s->heads; head++)
            for (int64_t i = 0; i < s->queries; i++) {
                int64_t memory = s->kv_n == 1 ? 0 : image;
                int64_t q = (image * s->queries + i) * s->q_stride + head * d;
                int64_t k = memory * s->keys * s->k_stride + head * d, v = memory * s->keys * s->v_stride + head * d;
                int64_t y = (image * s->queries + i) * s->y_stride + head * d;
                int64_t seen = s->causal ? KERNELS_MIN(s->keys, i + 1) : s->keys;
                float maximum = -INFINITY;
                // The scores are computed again rather than kept in memory: once for the maximum, then to weigh 512
                // columns of v at a time.
                for (int64_t pass = 0, from = 0; from < d; from += pass > 0 ? 512 : 0, pass++) {
                    int64_t columns = KERNELS_MIN(512, d - from);
                    double sum = 0, out[512] = {0};
                    for (int64_t j = 0; j < seen; j++) {
                        float score = 0;
                        for (int64_t p = 0; p < d; p++)
                            score += element(s->q, s->type, q + p) * element(s->k, s->type, k + j * s->k_stride + p);
                        score *= scale;
                        if (pass == 0) {
                            maximum = score > maximum ? score : maximum;
                            continue;
                        }
                        float weight = expf(score - maximum);
                        sum += weight;
                        for (int64_t p = 0; p < columns; p++)
                            out[p] += weight * element(s->v, s->type, v + j * s->v_stride + from + p);
                    }
                    for (int64_t p = 0; pass > 0 && p < columns; p++)
                        set_element(s->y, s->type, y + from + p, (float)(out[p] / sum));
                }
            }
}

// MARK: The scalar row kernels

static void to_bf16(const float *x, uint16_t *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = bf16_rounded(x[i]);
}
static void to_f32(const uint16_t *x, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = bf16_value(x[i]);
}
#define ELEMENTWISE(name)                                                                          \
    static void name(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count) {    \
        for (int64_t i = 0; i < count; i++) set_element(y, yt, i, name##_f(element(x, xt, i)));    \
    }
ELEMENTWISE(silu)
ELEMENTWISE(gelu)
ELEMENTWISE(quick_gelu)

static void geglu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t c) {
    for (int64_t i = 0; i < c; i++) set_element(y, yt, i, element(x, xt, i) * gelu_f(element(x, xt, c + i)));
}
static void layer_norm(const float *x, const float *weight, const float *bias, float eps, void *y, kernels_type yt,
                       int64_t c) {
    float row[c];
    reference_layer_norm(x, weight, bias, eps, row, 1, c);
    for (int64_t i = 0; i < c; i++) set_element(y, yt, i, row[i]);
}
static void channel_sums(const float *x, int64_t rows, int64_t c, float *sum, float *square) {
    for (int64_t i = 0; i < c; i++) sum[i] = 0, square[i] = 0;
    for (int64_t r = 1; r < rows; r++)
        for (int64_t i = 0; i < c; i++) {
            float d = x[r * c + i] - x[i];
            sum[i] += d, square[i] += d * d;
        }
}
static void scale_shift(const float *x, const float *scale, const float *shift, bool silu, void *y, kernels_type yt,
                        int64_t rows, int64_t c) {
    for (int64_t j = 0; j < rows * c; j++) {
        float v = x[j] * scale[j % c] + shift[j % c];
        set_element(y, yt, j, silu ? silu_f(v) : v);
    }
}

// Lavin & Gray 2016, section 4.1.
static const float winograd_bt[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};
static const float winograd_at[2][4] = {{1, 1, 1, 0}, {0, 1, -1, -1}};

static void winograd_input(const void *const pixels[16], kernels_type type, void *v, int64_t stride, int64_t c) {
    for (int64_t i = 0; i < c; i++)
        for (int y = 0; y < 4; y++)
            for (int x = 0; x < 4; x++) {
                float sum = 0;
                for (int a = 0; a < 4; a++)
                    for (int b = 0; b < 4; b++)
                        if (pixels[a * 4 + b])
                            sum += winograd_bt[y][a] * element(pixels[a * 4 + b], type, i) * winograd_bt[x][b];
                set_element(v, type, (y * 4 + x) * stride + i, sum);
            }
}
static void winograd_output(const float *m, int64_t stride, const float *bias, bool accumulate, float *const pixels[4],
                            int64_t c) {
    for (int64_t i = 0; i < c; i++)
        for (int p = 0; p < 4; p++) {
            if (!pixels[p]) continue;
            float sum = bias ? bias[i] : 0;
            for (int a = 0; a < 4; a++)
                for (int b = 0; b < 4; b++)
                    sum += winograd_at[p / 2][a] * m[(a * 4 + b) * stride + i] * winograd_at[p % 2][b];
            pixels[p][i] = accumulate ? pixels[p][i] + sum : sum;
        }
}

const row_kernels scalar_kernels = {
    to_bf16, to_f32, silu, gelu, quick_gelu, geglu, layer_norm, channel_sums, scale_shift, winograd_input, winograd_output,
    0, 0};
