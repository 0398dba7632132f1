// The public kernels: choose the instruction set, cut the work into pieces, hand the pieces to the pool.
#include <string.h>
#include "attention.h"

extern const row_kernels avx512_bf16_kernels;

// MARK: Which CPU

static _Thread_local kernels_cpu_features limit = {true, true, true};

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
    const void *x;
    void *y;
    kernels_type xt, yt;
    int64_t count;
} elementwise;

static const void *at_element(const void *x, kernels_type type, int64_t i) {
    return (const char *)x + i * (type == KERNELS_F32 ? 4 : 2);
}
static int64_t pieces(int64_t count) { return (count + PIECE - 1) / PIECE; }

static void activate_piece(void *context, int64_t index) {
    elementwise *e = context;
    int64_t first = index * PIECE, n = KERNELS_MIN(PIECE, e->count - first);
    e->function(at_element(e->x, e->xt, first), e->xt, (void *)at_element(e->y, e->yt, first), e->yt, n);
}
static void activate(activation f, const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count) {
    elementwise e = {0, f, x, y, xt, yt, count};
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

static void to_bf16_piece(void *context, int64_t index) {
    elementwise *e = context;
    int64_t first = index * PIECE, n = KERNELS_MIN(PIECE, e->count - first);
    e->kernels->to_bf16((const float *)e->x + first, (uint16_t *)e->y + first, n);
}
void kernels_f32_to_bf16(const float *x, uint16_t *y, int64_t count) {
    elementwise e = {kernels_chosen(), 0, x, y, KERNELS_F32, KERNELS_BF16, count};
    kernels_parallel_for(pieces(count), to_bf16_piece, &e);
}
static void to_f32_piece(void *context, int64_t index) {
    elementwise *e = context;
    int64_t first = index * PIECE, n = KERNELS_MIN(PIECE, e->count - first);
    e->kernels->to_f32((const uint16_t *)e->x + first, (float *)e->y + first, n);
}
void kernels_bf16_to_f32(const uint16_t *x, float *y, int64_t count) {
    elementwise e = {kernels_chosen(), 0, x, y, KERNELS_BF16, KERNELS_F32, count};
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
// First pass: sums of each channel over each block of SUM_ROWS pixels, in fp32, relative to the block's first pixel. Then,
// in double and in a fixed order, the blocks are joined to mean and variance of each group, and those to a scale and a
// shift of each channel. Last pass: scale, shift, SiLU.

enum { SUM_ROWS = 64 };

typedef struct {
    row_work rows;
    float *sums, *scale, *shift;  // [n, blocks, 2, c], [n, c], [n, c]
    int64_t pixels, blocks, groups;
    bool silu;
} group_work;

static void group_sums_piece(void *context, int64_t index) {
    group_work *g = context;
    int64_t c = g->rows.c, first = index % g->blocks * SUM_ROWS;
    float *sums = g->sums + index * 2 * c;
    g->rows.kernels->channel_sums((const float *)g->rows.x + (index / g->blocks * g->pixels + first) * c,
                                  KERNELS_MIN(SUM_ROWS, g->pixels - first), c, sums, sums + c);
}
// index: (image, group). With a block's first pixel p, d = x - p, and the mean m of the group:
// sum x = sum d + rows p, sum (x - m)^2 = sum d^2 + 2 (p - m) sum d + rows (p - m)^2.
static void group_join_piece(void *context, int64_t index) {
    group_work *g = context;
    int64_t c = g->rows.c, size = c / g->groups, image = index / g->groups, first = index % g->groups * size;
    const float *x = (const float *)g->rows.x + image * g->pixels * c;
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
    double inverse = 1 / __builtin_sqrt((variance < 0 ? 0 : variance) + g->rows.eps);
    for (int64_t i = first; i < first + size; i++) {
        double scale = g->rows.weight[i] * inverse;
        g->scale[image * c + i] = (float)scale;
        g->shift[image * c + i] = (float)(g->rows.bias[i] - mean * scale);
    }
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
    int64_t blocks = (pixels + SUM_ROWS - 1) / SUM_ROWS;
    float *sums = scratch, *scale = sums + n * blocks * 2 * c, *shift = scale + n * c;
    group_work g = {{kernels_chosen(), x, weight, bias, eps, y, KERNELS_F32, yt, n * pixels, c},
                    sums, scale, shift, pixels, blocks, groups, silu};
    kernels_parallel_for(n * blocks, group_sums_piece, &g);
    kernels_parallel_for(n * groups, group_join_piece, &g);
    kernels_parallel_for(n * blocks, group_apply_piece, &g);
}

// MARK: Layout

// Bound by memory, which one core does not saturate: pieces of about COPY_BYTES go to the pool.

enum { COPY_BYTES = 1 << 18 };

typedef struct {
    const char *a, *b;
    char *y;
    int64_t a_bytes, b_bytes;  // of a row
    int64_t rows, piece;       // of all, of a piece
} row_copy;

// Rows of which a piece writes about COPY_BYTES.
static int64_t piece_rows(int64_t row_bytes) { return row_bytes < COPY_BYTES ? COPY_BYTES / (row_bytes + 1) + 1 : 1; }

static void copy_piece(void *context, int64_t index) {
    row_copy *j = context;
    int64_t first = index * COPY_BYTES;
    memcpy(j->y + first, j->a + first, (size_t)KERNELS_MIN(COPY_BYTES, j->a_bytes - first));
}
void kernels_copy(const void *x, void *y, int64_t bytes) {
    row_copy j = {.a = x, .y = y, .a_bytes = bytes};
    kernels_parallel_for((bytes + COPY_BYTES - 1) / COPY_BYTES, copy_piece, &j);
}

static void concat_piece(void *context, int64_t index) {
    row_copy *j = context;
    int64_t y_bytes = j->a_bytes + j->b_bytes;
    for (int64_t r = index * j->piece; r < KERNELS_MIN(j->rows, (index + 1) * j->piece); r++) {
        memcpy(j->y + r * y_bytes, j->a + r * j->a_bytes, (size_t)j->a_bytes);
        memcpy(j->y + r * y_bytes + j->a_bytes, j->b + r * j->b_bytes, (size_t)j->b_bytes);
    }
}
void kernels_concat_rows(const float *a, int64_t a_row, const float *b, int64_t b_row, float *y, int64_t rows) {
    int64_t size = sizeof(float), piece = piece_rows((a_row + b_row) * size);
    row_copy j = {(const char *)a, (const char *)b, (char *)y, a_row * size, b_row * size, rows, piece};
    kernels_parallel_for((rows + piece - 1) / piece, concat_piece, &j);
}

typedef struct {
    const char *x;
    char *y;
    int64_t h, w, oh, ow, pixel_bytes, rows, piece;  // rows of all pictures that are written, of a piece
} upsampling;

static void upsample_piece(void *context, int64_t index) {
    upsampling *u = context;
    for (int64_t r = index * u->piece; r < KERNELS_MIN(u->rows, (index + 1) * u->piece); r++) {
        const char *line = u->x + (r / u->oh * u->h + r % u->oh / 2) * u->w * u->pixel_bytes;
        char *to = u->y + r * u->ow * u->pixel_bytes;
        for (int64_t j = 0; j < u->ow; j++, to += u->pixel_bytes)
            memcpy(to, line + j / 2 * u->pixel_bytes, (size_t)u->pixel_bytes);
    }
}
void kernels_upsample2(const void *x, void *y, int64_t n, int64_t h, int64_t w, int64_t oh, int64_t ow,
                       int64_t pixel_bytes) {
    int64_t piece = piece_rows(ow * pixel_bytes);
    upsampling u = {x, y, h, w, oh, ow, pixel_bytes, n * oh, piece};
    kernels_parallel_for((n * oh + piece - 1) / piece, upsample_piece, &u);
}

void kernels_patches(const void *x, kernels_type type, float *y, int64_t first, int64_t rows, int64_t from, int64_t to,
                     int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int64_t kernel, int64_t stride,
                     int64_t pad) {
    const row_kernels *kernels = kernels_chosen();  // of the pool's thread; every one widens exactly
    for (int64_t p = first; p < first + rows; p++) {
        int64_t image = p / (oh * ow), i = p / ow % oh, j = p % ow;
        for (int64_t column = from, run; column < to; column += run, y += run) {
            int64_t tap = column / c, channel = column % c;
            run = KERNELS_MIN(c - channel, to - column);
            int64_t yy = i * stride + tap / kernel - pad, xx = j * stride + tap % kernel - pad;
            if (yy < 0 || yy >= h || xx < 0 || xx >= w) {
                memset(y, 0, (size_t)run * sizeof(float));
                continue;
            }
            const void *pixels = at_element(x, type, ((image * h + yy) * w + xx) * c + channel);
            if (type == KERNELS_F32) memcpy(y, pixels, (size_t)run * sizeof(float));
            else kernels->to_f32(pixels, y, run);
        }
    }
}

// MARK: Winograd convolution: `TILES` tiles a piece

enum { TILES = 8 };

typedef struct {
    const row_kernels *kernels;
    const void *from;
    const float *bias;
    void *to;
    int64_t first, count, stride, h, w, c;
    kernels_type type;
    bool accumulate;
    int halving;  // of input coordinates, in powers of two
} winograd_work;

static const row_kernels *winograd_kernels(void) {
    return kernels_cpu().avx512_bf16 ? &avx512_bf16_kernels : kernels_chosen();
}

// The first row and column of results of a tile, and its picture.
typedef struct {
    int64_t image, y, x;
} tile_place;

static tile_place place_of(const winograd_work *work, int64_t tile) {
    int64_t high = (work->h + 1) / 2, wide = (work->w + 1) / 2;
    return (tile_place){tile / (high * wide), tile / wide % high * 2, tile % wide * 2};
}

static void winograd_input_piece(void *context, int64_t index) {
    winograd_work *k = context;
    int64_t high = (k->h + k->halving) >> k->halving, wide = (k->w + k->halving) >> k->halving;
    for (int64_t t = index * TILES; t < KERNELS_MIN(k->count, (index + 1) * TILES); t++) {
        tile_place at = place_of(k, k->first + t);
        const void *pixels[16];
        for (int p = 0; p < 16; p++) {
            int64_t y = at.y + p / 4 - 1, x = at.x + p % 4 - 1;
            bool inside = y >= 0 && y < k->h && x >= 0 && x < k->w;
            int64_t pixel = (at.image * high + (y >> k->halving)) * wide + (x >> k->halving);
            pixels[p] = inside ? at_element(k->from, k->type, pixel * k->c) : 0;
        }
        k->kernels->winograd_input(pixels, k->type, (void *)at_element(k->to, k->type, t * k->c), k->stride * k->c, k->c);
    }
}
void kernels_winograd_input(const void *x, kernels_type type, bool doubled, void *v, int64_t stride, int64_t first,
                            int64_t count, int64_t h, int64_t w, int64_t c) {
    winograd_work k = {winograd_kernels(), x, 0, v, first, count, stride, h, w, c, type, false, doubled};
    kernels_parallel_for((count + TILES - 1) / TILES, winograd_input_piece, &k);
}

static void winograd_output_piece(void *context, int64_t index) {
    winograd_work *k = context;
    for (int64_t t = index * TILES; t < KERNELS_MIN(k->count, (index + 1) * TILES); t++) {
        tile_place at = place_of(k, k->first + t);
        float *pixels[4];
        for (int p = 0; p < 4; p++) {
            int64_t y = at.y + p / 2, x = at.x + p % 2;
            pixels[p] = y < k->h && x < k->w ? (float *)k->to + ((at.image * k->h + y) * k->w + x) * k->c : 0;
        }
        k->kernels->winograd_output((const float *)k->from + t * k->c, k->stride * k->c, k->bias, k->accumulate, pixels,
                                    k->c);
    }
}
void kernels_winograd_output(const float *m, int64_t stride, const float *bias, bool accumulate, float *y, int64_t first,
                             int64_t count, int64_t h, int64_t w, int64_t c) {
    winograd_work k = {winograd_kernels(), m, bias, y, first, count, stride, h, w, c, KERNELS_F32, accumulate, 0};
    kernels_parallel_for((count + TILES - 1) / TILES, winograd_output_piece, &k);
}

static void winograd_weights_piece(void *context, int64_t output) {
    static const float g[4][3] = {{1, 0, 0}, {0.5f, 0.5f, 0.5f}, {0.5f, -0.5f, 0.5f}, {0, 0, 1}};
    winograd_work *k = context;
    for (int64_t i = output * k->c; i < (output + 1) * k->c; i++) {
        const float *weights = (const float *)k->from + i * 9;
        float half[4][3];
        for (int y = 0; y < 4; y++)
            for (int b = 0; b < 3; b++)
                half[y][b] = g[y][0] * weights[b] + g[y][1] * weights[3 + b] + g[y][2] * weights[6 + b];
        for (int y = 0; y < 4; y++)
            for (int x = 0; x < 4; x++)
                ((float *)k->to)[(y * 4 + x) * k->stride + i] =
                    half[y][0] * g[x][0] + half[y][1] * g[x][1] + half[y][2] * g[x][2];
    }
}
void kernels_winograd_weights(const float *weights, float *u, int64_t outputs, int64_t c) {
    winograd_work k = {.from = weights, .to = u, .stride = outputs * c, .c = c};
    kernels_parallel_for(outputs, winograd_weights_piece, &k);
}

// MARK: Attention

// bfloat16 products want whole pairs of channels.
static bool has_bf16_products(const kernels_attention_shape *s) {
    return s->type == KERNELS_BF16 && kernels_cpu().avx512_bf16 && s->head_size % 2 == 0;
}

// All but the places in the scratch memory, whose size follows from this.
static attention_plan plan_of(const kernels_attention_shape *s) {
    attention_plan plan = {.shape = *s};
    plan.element_bytes = has_bf16_products(s) ? 2 : 4;
    plan.padded_keys = (s->keys + PANEL - 1) / PANEL * PANEL;
    plan.padded_width = (s->head_size + 15) / 16 * 16;
    plan.query_blocks = (s->queries + QUERY_BLOCK - 1) / QUERY_BLOCK;
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
    // The fused kernels hold one block of queries, scores and outputs on the stack.
    if (!kernels_cpu().avx2 || s->head_size > 512) {
        reference_attention(s);
        return;
    }
    attention_work a = {has_bf16_products(s) ? &avx512_bf16_kernels : kernels_chosen(), plan_of(s)};
    size_t keys = (size_t)(s->kv_n * s->heads * a.plan.padded_keys * s->head_size);
    a.plan.packed_k = s->scratch;
    a.plan.packed_v = a.plan.packed_k + keys * a.plan.element_bytes;
    kernels_parallel_for(s->kv_n * s->heads * (a.plan.padded_keys / PANEL), pack_piece, &a);
    kernels_parallel_for(s->n * s->heads * a.plan.query_blocks, block_piece, &a);
}
