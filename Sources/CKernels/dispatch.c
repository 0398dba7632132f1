// The public kernels: choose the instruction set, cut the work into pieces, hand the pieces to the pool.
#include <string.h>
#include "attention.h"

extern const row_kernels avx512_bf16_kernels;

// MARK: Which CPU

static kernels_cpu_features limit = {true, true, true};

kernels_cpu_features kernels_cpu(void) {
    kernels_cpu_features has = {
        .avx2 = limit.avx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"),
        .avx512 = limit.avx512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"),
        .avx512_bf16 = limit.avx512_bf16 && limit.avx512 && __builtin_cpu_supports("avx512bf16"),
    };
    return has;
}

void kernels_limit_cpu(kernels_cpu_features allowed) { limit = allowed; }

const row_kernels *kernels_chosen(void) {
    kernels_cpu_features has = kernels_cpu();
    return has.avx512 ? &avx512_kernels : has.avx2 ? &avx2_kernels : &scalar_kernels;
}

// MARK: Elementwise: pieces of `PIECE` elements

enum { PIECE = 16384 };

typedef void (*activation)(const void *, kernels_type, void *, kernels_type, int64_t);
typedef struct {
    const row_kernels *kernels;
    activation function;
    const void *a, *b;
    void *y;
    kernels_type at, yt;
    int64_t count;
} elementwise;

static const void *at_element(const void *x, kernels_type type, int64_t i) {
    return (const char *)x + i * (type == KERNELS_F32 ? 4 : 2);
}
static int64_t pieces(int64_t count) { return (count + PIECE - 1) / PIECE; }

static void activate_piece(void *context, int64_t index) {
    elementwise *e = context;
    int64_t first = index * PIECE, n = KERNELS_MIN(PIECE, e->count - first);
    e->function(at_element(e->a, e->at, first), e->at, (void *)at_element(e->y, e->yt, first), e->yt, n);
}
static void activate(activation f, const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count) {
    elementwise e = {0, f, x, 0, y, xt, yt, count};
    kernels_parallel_for(pieces(count), activate_piece, &e);
}
void kernels_silu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count) {
    activate(kernels_chosen()->silu, x, xt, y, yt, count);
}
void kernels_gelu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count) {
    activate(kernels_chosen()->gelu, x, xt, y, yt, count);
}
void kernels_quick_gelu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count) {
    activate(kernels_chosen()->quick_gelu, x, xt, y, yt, count);
}

static void add_piece(void *context, int64_t index) {
    elementwise *e = context;
    int64_t first = index * PIECE, n = KERNELS_MIN(PIECE, e->count - first);
    e->kernels->add((const float *)e->a + first, (const float *)e->b + first, (float *)e->y + first, n);
}
void kernels_add(const float *a, const float *b, float *y, int64_t count) {
    elementwise e = {kernels_chosen(), 0, a, b, y, KERNELS_F32, KERNELS_F32, count};
    kernels_parallel_for(pieces(count), add_piece, &e);
}

static void to_bf16_piece(void *context, int64_t index) {
    elementwise *e = context;
    int64_t first = index * PIECE, n = KERNELS_MIN(PIECE, e->count - first);
    e->kernels->to_bf16((const float *)e->a + first, (uint16_t *)e->y + first, n);
}
void kernels_f32_to_bf16(const float *x, uint16_t *y, int64_t count) {
    elementwise e = {kernels_chosen(), 0, x, 0, y, KERNELS_F32, KERNELS_BF16, count};
    kernels_parallel_for(pieces(count), to_bf16_piece, &e);
}
static void to_f32_piece(void *context, int64_t index) {
    elementwise *e = context;
    int64_t first = index * PIECE, n = KERNELS_MIN(PIECE, e->count - first);
    e->kernels->to_f32((const uint16_t *)e->a + first, (float *)e->y + first, n);
}
void kernels_bf16_to_f32(const uint16_t *x, float *y, int64_t count) {
    elementwise e = {kernels_chosen(), 0, x, 0, y, KERNELS_BF16, KERNELS_F32, count};
    kernels_parallel_for(pieces(count), to_f32_piece, &e);
}

// MARK: Rows: GEGLU and layer normalisation, `ROWS` rows a piece

enum { ROWS = 32 };

typedef struct {
    const row_kernels *kernels;
    const void *x;
    const float *weight, *bias;
    float eps;
    void *y;
    kernels_type xt, yt;
    int64_t rows, c;
} row_work;

static void geglu_piece(void *context, int64_t index) {
    row_work *w = context;
    for (int64_t r = index * ROWS; r < KERNELS_MIN(w->rows, (index + 1) * ROWS); r++)
        w->kernels->geglu(at_element(w->x, w->xt, r * 2 * w->c), w->xt, (void *)at_element(w->y, w->yt, r * w->c), w->yt,
                          w->c);
}
void kernels_geglu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t rows, int64_t c) {
    row_work w = {kernels_chosen(), x, 0, 0, 0, y, xt, yt, rows, c};
    kernels_parallel_for((rows + ROWS - 1) / ROWS, geglu_piece, &w);
}

static void layer_norm_piece(void *context, int64_t index) {
    row_work *w = context;
    for (int64_t r = index * ROWS; r < KERNELS_MIN(w->rows, (index + 1) * ROWS); r++)
        w->kernels->layer_norm((const float *)w->x + r * w->c, w->weight, w->bias, w->eps,
                               (void *)at_element(w->y, w->yt, r * w->c), w->yt, w->c);
}
void kernels_layer_norm(const float *x, const float *weight, const float *bias, float eps, void *y, kernels_type yt,
                        int64_t rows, int64_t c) {
    row_work w = {kernels_chosen(), x, weight, bias, eps, y, KERNELS_F32, yt, rows, c};
    kernels_parallel_for((rows + ROWS - 1) / ROWS, layer_norm_piece, &w);
}

// MARK: Group normalisation
// First pass: sums of each channel over each block of SUM_ROWS pixels, in fp32. Then, in double and in a fixed order, the
// blocks are joined to means and variances of the groups, and those to a scale and a shift of each channel. Second pass:
// scale, shift, SiLU.

enum { SUM_ROWS = 64 };

typedef struct {
    row_work rows;
    float *sums, *scale, *shift;  // [n, blocks, 2, c], [n, c], [n, c]
    int64_t pixels, blocks;
    bool silu;
} group_work;

static void group_sums_piece(void *context, int64_t index) {
    group_work *g = context;
    int64_t c = g->rows.c, first = index % g->blocks * SUM_ROWS;
    float *sums = g->sums + index * 2 * c;
    g->rows.kernels->channel_sums((const float *)g->rows.x + (index / g->blocks * g->pixels + first) * c,
                                  KERNELS_MIN(SUM_ROWS, g->pixels - first), c, sums, sums + c);
}
static void group_apply_piece(void *context, int64_t index) {
    group_work *g = context;
    int64_t c = g->rows.c, image = index / g->blocks, first = image * g->pixels + index % g->blocks * SUM_ROWS;
    int64_t rows = KERNELS_MIN(SUM_ROWS, (image + 1) * g->pixels - first);
    g->rows.kernels->scale_shift((const float *)g->rows.x + first * c, g->scale + image * c, g->shift + image * c, g->silu,
                                 (void *)at_element(g->rows.y, g->rows.yt, first * c), g->rows.yt, rows, c);
}

size_t kernels_group_norm_scratch_bytes(int64_t n, int64_t pixels, int64_t c) {
    int64_t blocks = (pixels + SUM_ROWS - 1) / SUM_ROWS;
    return (size_t)(n * (blocks + 1) * 2 * c) * sizeof(float);
}

void kernels_group_norm(const float *x, const float *weight, const float *bias, float eps, bool silu, void *y,
                        kernels_type yt, int64_t n, int64_t pixels, int64_t c, int64_t groups, void *scratch) {
    int64_t blocks = (pixels + SUM_ROWS - 1) / SUM_ROWS, size = c / groups;
    float *sums = scratch, *scale = sums + n * blocks * 2 * c, *shift = scale + n * c;
    group_work g = {{kernels_chosen(), x, weight, bias, eps, y, KERNELS_F32, yt, n * pixels, c},
                    sums, scale, shift, pixels, blocks, silu};
    kernels_parallel_for(n * blocks, group_sums_piece, &g);
    for (int64_t image = 0; image < n; image++)
        for (int64_t group = 0; group < groups; group++) {
            double sum = 0, square = 0, count = (double)(pixels * size);
            for (int64_t b = 0; b < blocks; b++)
                for (int64_t i = group * size; i < (group + 1) * size; i++) {
                    sum += sums[(image * blocks + b) * 2 * c + i];
                    square += sums[(image * blocks + b) * 2 * c + c + i];
                }
            double mean = sum / count, variance = square / count - mean * mean;
            double inverse = 1 / __builtin_sqrt((variance > 0 ? variance : 0) + eps);
            for (int64_t i = group * size; i < (group + 1) * size; i++) {
                scale[image * c + i] = (float)(weight[i] * inverse);
                shift[image * c + i] = (float)(bias[i] - mean * weight[i] * inverse);
            }
        }
    kernels_parallel_for(n * blocks, group_apply_piece, &g);
}

// MARK: Layout

void kernels_concat_rows(const float *a, int64_t a_row, const float *b, int64_t b_row, float *y, int64_t rows) {
    for (int64_t r = 0; r < rows; r++, y += a_row + b_row) {
        memcpy(y, a + r * a_row, (size_t)a_row * sizeof(float));
        memcpy(y + a_row, b + r * b_row, (size_t)b_row * sizeof(float));
    }
}

void kernels_upsample2(const void *x, void *y, int64_t n, int64_t h, int64_t w, int64_t oh, int64_t ow,
                       int64_t pixel_bytes) {
    const char *from = x;
    char *to = y;
    for (int64_t image = 0; image < n; image++, from += h * w * pixel_bytes)
        for (int64_t i = 0; i < oh; i++) {
            const char *line = from + i / 2 * w * pixel_bytes;
            for (int64_t j = 0; j < ow; j++, to += pixel_bytes)
                memcpy(to, line + j / 2 * pixel_bytes, (size_t)pixel_bytes);
        }
}

void kernels_patches(const float *x, float *y, int64_t first, int64_t rows, int64_t h, int64_t w, int64_t c, int64_t oh,
                     int64_t ow, int64_t kernel, int64_t stride, int64_t pad) {
    for (int64_t p = first; p < first + rows; p++) {
        int64_t image = p / (oh * ow), i = p / ow % oh, j = p % ow;
        for (int64_t ky = 0; ky < kernel; ky++)
            for (int64_t kx = 0; kx < kernel; kx++, y += c) {
                int64_t yy = i * stride + ky - pad, xx = j * stride + kx - pad;
                if (yy < 0 || yy >= h || xx < 0 || xx >= w) memset(y, 0, (size_t)c * sizeof(float));
                else memcpy(y, x + ((image * h + yy) * w + xx) * c, (size_t)c * sizeof(float));
            }
    }
}

// MARK: Attention

static attention_plan plan_of(const kernels_attention_shape *s) {
    attention_plan plan = {.shape = *s};
    plan.element_bytes = s->type == KERNELS_F32 ? 4 : 2;
    plan.padded_keys = (s->keys + PANEL - 1) / PANEL * PANEL;
    plan.padded_width = (s->head_size + 15) / 16 * 16;
    plan.query_blocks = (s->queries + QUERY_BLOCK - 1) / QUERY_BLOCK;
    plan.packed_k = s->scratch;
    plan.packed_v = plan.packed_k + (size_t)(s->kv_n * s->heads * plan.padded_keys * s->head_size) * plan.element_bytes;
    return plan;
}

size_t kernels_attention_scratch_bytes(const kernels_attention_shape *s) {
    attention_plan plan = plan_of(s);
    return (size_t)(s->kv_n * s->heads * plan.padded_keys * (s->head_size + plan.padded_width)) * plan.element_bytes;
}

typedef struct {
    const row_kernels *kernels;
    attention_plan plan;
} attention_work;

static void pack_piece(void *context, int64_t index) {
    attention_work *a = context;
    a->kernels->attention_pack(&a->plan, index);
}
static void block_piece(void *context, int64_t index) {
    attention_work *a = context;
    a->kernels->attention_block(&a->plan, index);
}

void kernels_attention(const kernels_attention_shape *s) {
    kernels_cpu_features has = kernels_cpu();
    bool bf16 = s->type == KERNELS_BF16;
    // The fused kernels hold one block of outputs on the stack, and bfloat16 ones want whole pairs of channels.
    if (!has.avx2 || (bf16 && (!has.avx512_bf16 || s->head_size % 2)) || s->head_size > 512) {
        reference_attention(s);
        return;
    }
    attention_work a = {bf16 ? &avx512_bf16_kernels : kernels_chosen(), plan_of(s)};
    kernels_parallel_for(s->kv_n * s->heads * (a.plan.padded_keys / PANEL), pack_piece, &a);
    kernels_parallel_for(s->n * s->heads * a.plan.query_blocks, block_piece, &a);
}
