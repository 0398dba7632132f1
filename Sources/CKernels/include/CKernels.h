// The arithmetic that neither oneDNN nor OpenBLAS offers: normalisation, activations, fused attention, layout work.
//
// Conventions
//   * Activations are channels-last: [n, h, w, c] and [n, tokens, c] have the same memory.
//   * Operands do not overlap, unless a kernel says that they may. Where a kernel accumulates, it reads what its result
//     holds before; elsewhere a result's memory may hold anything.
//   * Nothing here allocates: a kernel that needs room takes `scratch` and has a `..._scratch_bytes` beside it.
//   * Each operation has its own file. There, below the kernel, stands its scalar twin, named `reference_...`, which follows
//     the textbook; tests compare the two.
//   * A result never depends on the number of threads: work is cut into pieces whose size does not depend on it,
//     and partial sums are combined in a fixed order.
//   * AVX-512 or AVX2 is chosen at run time; on another CPU the scalar twins do the work.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Element type of an activation.
typedef enum { KERNELS_F32 = 0, KERNELS_BF16 = 1 } kernels_type;

// MARK: CPU and threads

/// What the running CPU offers, as far as a choice here depends on it.
typedef struct {
    bool avx2;         // AVX2 and FMA
    bool avx512;       // AVX-512 F, BW, DQ, VL
    bool avx512_bf16;  // the dot product of bfloat16 pairs
} kernels_cpu_features;

kernels_cpu_features kernels_cpu(void);

/// Lets a test run the kernels of a smaller CPU: what the calling thread asks for uses no features but `allowed`.
void kernels_limit_cpu(kernels_cpu_features allowed);

/// Sets the number of threads of the one pool (libgomp's) that both our kernels and oneDNN use, for work that the calling
/// thread asks for.
void kernels_set_threads(int count);
int kernels_threads(void);

/// Calls `body(context, i)` for every i in 0..<count on the pool; i is handed out in order, a piece at a time.
void kernels_parallel_for(int64_t count, void (*body)(void *context, int64_t index), void *context);

// MARK: Conversion and layout

void kernels_f32_to_bf16(const float *x, uint16_t *y, int64_t count);
void kernels_bf16_to_f32(const uint16_t *x, float *y, int64_t count);
/// memcpy, by all threads.
void kernels_copy(const void *x, void *y, int64_t bytes);
/// y[r] = a[r] ++ b[r]: joins rows of `a_row` and `b_row` floats.
void kernels_concat_rows(const float *a, int64_t a_row, const float *b, int64_t b_row, float *y, int64_t rows);
/// y[r] = columns of x[r]: `width` floats of each row from `x` on; rows of x are `stride` apart. Backward of concat_rows.
void kernels_copy_columns(const float *x, int64_t stride, float *y, int64_t width, int64_t rows);
/// Nearest neighbour, twice as high and wide or one less: x [n,h,w,c] -> y [n,oh,ow,c], oh 2h or 2h-1 and ow likewise, in
/// pieces of `pixel_bytes`.
void kernels_upsample2(const void *x, void *y, int64_t n, int64_t h, int64_t w, int64_t oh, int64_t ow,
                       int64_t pixel_bytes);
/// Its backward: dx [n,h,w,c] gets the sum of the up to four pixels of dy [n,oh,ow,c] that were made of each.
void kernels_upsample2_gradient(const float *dy, float *dx, int64_t n, int64_t h, int64_t w, int64_t oh, int64_t ow,
                                int64_t c);
/// One tile of im2col: rows `first ..< first + rows`, columns `from ..< to` of the patch matrix [n*oh*ow, kernel*kernel*c] of
/// x [n,h,w,c], as floats. By the calling thread, for one of several pieces of work.
void kernels_patches(const void *x, kernels_type type, float *y, int64_t first, int64_t rows, int64_t from, int64_t to,
                     int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int64_t kernel, int64_t stride,
                     int64_t pad);

/// turned [inputs, outputs, area] of weights [outputs, inputs, area], each kernel of `area` taps turned by half a circle: a
/// convolution's gradient by its input is a convolution with these. With area 1 it transposes.
void kernels_turned_weights(const float *weights, float *turned, int64_t outputs, int64_t inputs, int64_t area);

// MARK: Sums

/// y += x.
void kernels_add(const float *x, float *y, int64_t count);
/// y[c] += the sum over the rows of x [rows, c]: the gradient of a bias.
void kernels_add_column_sums(const float *x, float *y, int64_t rows, int64_t c);
/// y += share * (x - y), both [n, queries, heads, head_size] of one type; shares [n, heads, queries].
void kernels_blend_heads(const void *x, void *y, kernels_type type, const float *shares, int64_t n, int64_t queries,
                         int64_t heads, int64_t head_size);

// MARK: Elementwise

/// y = x * sigmoid(x), any mixture of types.
void kernels_silu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count);
/// y = x * Phi(x), the exact (erf) GELU.
void kernels_gelu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count);
/// y = x * sigmoid(1.702 x), the GELU of OpenAI's CLIP.
void kernels_quick_gelu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count);
/// GEGLU (Shazeer 2020): x [rows, 2c] holds value ++ gate; y [rows, c] = value * gelu(gate).
void kernels_geglu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t rows, int64_t c);

/// Backward: dx = dy f'(x). dx may be dy.
void kernels_silu_gradient(const void *x, kernels_type xt, const float *dy, float *dx, int64_t count);
void kernels_gelu_gradient(const void *x, kernels_type xt, const float *dy, float *dx, int64_t count);
void kernels_quick_gelu_gradient(const void *x, kernels_type xt, const float *dy, float *dx, int64_t count);
/// Backward of GEGLU: of x [rows, 2c] and dy [rows, c] the gradient dx [rows, 2c].
void kernels_geglu_gradient(const void *x, kernels_type xt, const float *dy, float *dx, int64_t rows, int64_t c);

void reference_silu_gradient(const float *x, const float *dy, float *dx, int64_t count);
void reference_gelu_gradient(const float *x, const float *dy, float *dx, int64_t count);
void reference_quick_gelu_gradient(const float *x, const float *dy, float *dx, int64_t count);
void reference_geglu_gradient(const float *x, const float *dy, float *dx, int64_t rows, int64_t c);

void reference_silu(const float *x, float *y, int64_t count);
void reference_gelu(const float *x, float *y, int64_t count);
void reference_quick_gelu(const float *x, float *y, int64_t count);
void reference_geglu(const float *x, float *y, int64_t rows, int64_t c);

// MARK: Normalisation

/// y[r] = (x[r] - mean) / sqrt(var + eps) * weight + bias over rows of c floats. Where `statistics` is not null it gets
/// [rows, 2], mean and 1 / sqrt(var + eps), for the way back.
void kernels_layer_norm(const float *x, const float *weight, const float *bias, float eps, void *y, kernels_type yt,
                        float *statistics, int64_t rows, int64_t c);
/// Backward: dx by x and by the statistics that forward kept.
void kernels_layer_norm_gradient(const float *x, const float *weight, const float *statistics, const float *dy, float *dx,
                                 int64_t rows, int64_t c);
/// Adds the gradients of weight and bias to dweight [c] and dbias [c].
void kernels_layer_norm_parameter_gradient(const float *x, const float *statistics, const float *dy, float *dweight,
                                           float *dbias, int64_t rows, int64_t c);
/// Writes dx, adds to dweight and dbias.
void reference_layer_norm_gradient(const float *x, const float *weight, float eps, const float *dy, float *dx,
                                   float *dweight, float *dbias, int64_t rows, int64_t c);
void reference_layer_norm(const float *x, const float *weight, const float *bias, float eps, float *y, int64_t rows,
                          int64_t c);

/// Group normalisation of x [n, pixels, c], followed by SiLU where `silu`. Where `statistics` is not null it gets
/// [n, groups, 2], mean and 1 / sqrt(var + eps), for the way back.
void kernels_group_norm(const float *x, const float *weight, const float *bias, float eps, bool silu, void *y,
                        kernels_type yt, float *statistics, int64_t n, int64_t pixels, int64_t c, int64_t groups,
                        void *scratch);
/// Backward: dx by x and by the statistics that forward kept. dx may be dy.
void kernels_group_norm_gradient(const float *x, const float *weight, const float *bias, const float *statistics, bool silu,
                                 const float *dy, float *dx, int64_t n, int64_t pixels, int64_t c, int64_t groups,
                                 void *scratch);
size_t kernels_group_norm_gradient_scratch_bytes(int64_t n, int64_t pixels, int64_t c);
void reference_group_norm_gradient(const float *x, const float *weight, const float *bias, float eps, bool silu,
                                   const float *dy, float *dx, int64_t n, int64_t pixels, int64_t c, int64_t groups);
size_t kernels_group_norm_scratch_bytes(int64_t n, int64_t pixels, int64_t c);
void reference_group_norm(const float *x, const float *weight, const float *bias, float eps, bool silu, float *y,
                          int64_t n, int64_t pixels, int64_t c, int64_t groups);

// MARK: Winograd convolution
// F(2x2, 3x3) (Winograd 1980; Lavin & Gray 2016): 16 products in place of 36. A picture [n, h, w] is cut into tiles of 2x2
// results, numbered along rows; each reads 4x4 pixels, one beyond its own on every side, zeros outside the picture.
//   U = G g G^T of each 3x3 kernel g;  V = B^T d B of each tile d;  M = sum over channels of U V;  y = A^T M A

/// u [16, outputs, c] of weights [outputs, c, 3, 3].
void kernels_winograd_weights(const float *weights, float *u, int64_t outputs, int64_t c);
/// v [16, stride, c] of tiles `first ..< first + count` of x [n, h, w, c], both of one type. With `doubled`, of what
/// kernels_upsample2 makes [n, h, w, c] of x [n, (h + 1) / 2, (w + 1) / 2, c], without its being made.
void kernels_winograd_input(const void *x, kernels_type type, bool doubled, void *v, int64_t stride, int64_t first,
                            int64_t count, int64_t h, int64_t w, int64_t c);
/// y [n, h, w, c] (+)= A^T M A + bias at tiles `first ..< first + count`, from m [16, stride, c]; bias may be null.
void kernels_winograd_output(const float *m, int64_t stride, const float *bias, bool accumulate, float *y, int64_t first,
                             int64_t count, int64_t h, int64_t w, int64_t c);

// MARK: Attention

/// softmax(q k^T / sqrt(head_size)) v for every head, without ever holding a whole score matrix
/// (online softmax: Milakov & Gimelshein 2018; blocks of queries and keys: FlashAttention, Dao et al. 2022).
///
/// q [n, queries, *], k and v [kv_n, keys, *], y [n, queries, heads * head_size]; the row strides, in elements, let q, k
/// and v be column ranges of one wider matrix. kv_n is n or 1 (one memory shared by the batch). q, k, v and y have one
/// type; sums and softmax are fp32. `causal`: query i sees keys 0...i only.
typedef struct {
    const void *q, *k, *v;
    void *y;
    int64_t q_stride, k_stride, v_stride, y_stride;
    int64_t n, kv_n, heads, head_size, queries, keys;
    bool causal;
    kernels_type type;
    void *scratch;    // kernels_attention_scratch_bytes(this)
    float *log_sums;  // gets log(sum of exp(score)) [n, heads, queries] for the way back, or null
} kernels_attention_shape;

size_t kernels_attention_scratch_bytes(const kernels_attention_shape *shape);
void kernels_attention(const kernels_attention_shape *shape);
/// The textbook: fp32 arithmetic, types and strides as above.
void reference_attention(const kernels_attention_shape *shape);

/// Backward of an attention that is not causal, by blocks of queries and keys as forward, whose scores are computed again
/// (Dao et al. 2022, algorithm 4). Arithmetic and gradients are fp32 whatever the type of q, k and v.
typedef struct {
    kernels_attention_shape forward;  // as it ran: y and log_sums hold its results; scratch is not used
    const float *dy;                  // [n, queries, *]
    float *dq, *dk, *dv;              // like q, k, v; dk and dv are null where nobody asks
    int64_t dy_stride, dq_stride, dk_stride, dv_stride;
    void *scratch;  // kernels_attention_gradient_scratch_bytes(this)
} kernels_attention_gradient_shape;

size_t kernels_attention_gradient_scratch_bytes(const kernels_attention_gradient_shape *shape);
void kernels_attention_gradient(const kernels_attention_gradient_shape *shape);
/// The textbook, from q, k, v and dy alone.
void reference_attention_gradient(const kernels_attention_gradient_shape *shape);

/// Which keys were read from where, of an attention as it ran: to the map, `[cells, map_stride]`, is added
///
///     map[cells[i], j] += weight * sum over heads of exp(score(i, first_key + j) - log_sum(i))
///
/// for each query i of one entry of the batch and each j of `key_count` keys. Arithmetic is fp32 whatever the type of q and k.
/// Every sum is made in one order, for any number of threads.
typedef struct {
    kernels_attention_shape forward;  // not causal; log_sums hold its result; v, y and scratch are not used
    int64_t image, first_key, key_count;
    const int32_t *cells;  // [queries]
    float weight;
    float *map;
    int64_t map_stride;
    void *scratch;  // kernels_attention_map_scratch_bytes(this)
} kernels_attention_map_shape;

size_t kernels_attention_map_scratch_bytes(const kernels_attention_map_shape *shape);
void kernels_attention_map(const kernels_attention_map_shape *shape);
/// The textbook.
void reference_attention_map(const kernels_attention_map_shape *shape);

// MARK: Optimiser

/// Settings of one step of AdamW; the corrections are 1 - beta^step.
typedef struct {
    double learning_rate, beta1, beta2, epsilon, weight_decay, first_correction, second_correction;
} kernels_adamw_settings;

/// p -= rate * decay * p; m and v become the running means of g and g^2;
/// p -= rate * (m / first_correction) / (sqrt(v / second_correction) + epsilon).
void kernels_adamw(const kernels_adamw_settings *settings, float *parameters, const float *gradients, float *first,
                   float *second, int64_t count);

/// The sum of squares; `sums` is room for as many numbers as there are pieces.
int64_t kernels_square_sum_pieces(int64_t count);
double kernels_square_sum(const float *x, int64_t count, double *sums);
/// y *= factor.
void kernels_scale(float factor, float *y, int64_t count);
/// y += share * (x - y): a running mean.
void kernels_approach(const float *x, float share, float *y, int64_t count);

// MARK: Pooling, resizing, rectification, dilation: fp32, channels-last

/// Maxima of 2 x 2 pixels, x [n, h, w, c] to y [n, (h + 1) / 2, (w + 1) / 2, c]; a window at an odd end has fewer.
void kernels_max_pool2(const float *x, float *y, int64_t n, int64_t h, int64_t w, int64_t c);
void reference_max_pool2(const float *x, float *y, int64_t n, int64_t h, int64_t w, int64_t c);

/// Bilinear interpolation with half-pixel centres, x [n, h, w, c] to y [n, oh, ow, c]. It reads four pixels, so that
/// making a picture smaller than half leaves pixels out.
void kernels_resize_bilinear(const float *x, float *y, int64_t n, int64_t h, int64_t w, int64_t oh, int64_t ow, int64_t c);
void reference_resize_bilinear(const float *x, float *y, int64_t n, int64_t h, int64_t w, int64_t oh, int64_t ow,
                               int64_t c);

/// y = max(x, 0); x and y may be the same memory.
void kernels_relu(const float *x, float *y, int64_t count);
/// y += max(x, 0).
void kernels_add_relu(const float *x, float *y, int64_t count);
/// y = 1 / (1 + exp(-x)); x and y may be the same memory.
void kernels_sigmoid(const float *x, float *y, int64_t count);
void reference_relu(const float *x, float *y, int64_t count);
void reference_add_relu(const float *x, float *y, int64_t count);
void reference_sigmoid(const float *x, float *y, int64_t count);

/// Every `dilation`-th pixel in both directions as a picture of its own: x [n, h, w, c] to
/// y [n * d * d, ceil(h / d), ceil(w / d), c], zeros where a picture is smaller.
void kernels_split_dilated(const float *x, float *y, int64_t n, int64_t h, int64_t w, int64_t c, int64_t dilation);
/// The other way: x [n * d * d, ceil(h / d), ceil(w / d), c] to y [n, h, w, c].
void kernels_join_dilated(const float *x, float *y, int64_t n, int64_t h, int64_t w, int64_t c, int64_t dilation);
/// The convolution itself, of an odd kernel and with zeros around, so that it keeps the size; bias may be null.
void reference_dilated_convolution(const float *x, const float *weights, const float *bias, float *y, int64_t n,
                                   int64_t h, int64_t w, int64_t c, int64_t outputs, int64_t kernel, int64_t dilation);
