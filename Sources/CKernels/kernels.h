// Shared by the kernels' own files only.
#pragma once
#include "include/CKernels.h"

#define KERNELS_MIN(a, b) ((a) < (b) ? (a) : (b))

// MARK: Elements

static inline const void *at_element(const void *x, kernels_type type, int64_t i) {
    return (const char *)x + i * (type == KERNELS_F32 ? 4 : 2);
}

static inline float bf16_value(uint16_t x) {
    union { uint32_t u; float f; } v = {(uint32_t)x << 16};
    return v.f;
}

/// Round to nearest, ties to even, as the CPU's vcvtneps2bf16; a NaN stays one.
static inline uint16_t bf16_rounded(float f) {
    union { float f; uint32_t u; } v = {f};
    if ((v.u & 0x7fffffff) > 0x7f800000) return (uint16_t)(v.u >> 16 | 0x40);
    return (uint16_t)((v.u + 0x7fff + (v.u >> 16 & 1)) >> 16);
}

// MARK: Pieces of work

enum {
    PIECE = 16384,  // elements of an elementwise operation that one piece of work covers
    ROWS = 32,      // rows of an operation by rows that one piece of work covers
};
static inline int64_t pieces(int64_t count) { return (count + PIECE - 1) / PIECE; }
static inline int64_t row_pieces(int64_t rows) { return (rows + ROWS - 1) / ROWS; }

// MARK: Row kernels

/// Rows of one image on the way back through group normalisation; see group_norm.c.
typedef struct {
    const float *x, *dy;                                  // [rows, c]
    float *dx;                                            // [rows, c]
    const float *weight, *bias;                           // [c]
    const float *mean, *inverse, *mean_g, *mean_gn;       // [c]
    bool silu;
    int64_t rows, c;
} group_gradient_rows;

/// The row kernels that exist once for each instruction set: name and parameters. The bodies (`..._body.h`) define them for
/// the vectors of `simd.h`; `scalar_NAME` stands in the operation's own file. To add one, name it here and define both.
#define ROW_KERNELS(X)                                                                                                 \
    X(to_bf16, (const float *x, uint16_t *y, int64_t count))                                                           \
    X(to_f32, (const uint16_t *x, float *y, int64_t count))                                                            \
    X(silu, (const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count))                                 \
    X(gelu, (const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count))                                 \
    X(quick_gelu, (const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count))                           \
    X(silu_gradient, (const void *x, kernels_type xt, const float *dy, float *dx, int64_t count))                      \
    X(gelu_gradient, (const void *x, kernels_type xt, const float *dy, float *dx, int64_t count))                      \
    X(quick_gelu_gradient, (const void *x, kernels_type xt, const float *dy, float *dx, int64_t count))                \
    X(geglu, (const void *x, kernels_type xt, void *y, kernels_type yt, int64_t c))                                    \
    X(geglu_gradient, (const void *x, kernels_type xt, const float *dy, float *dx, int64_t c))                         \
    X(layer_norm, (const float *x, const float *weight, const float *bias, float eps, void *y, kernels_type yt,        \
                   float *statistics, int64_t c))                                                                      \
    X(layer_norm_gradient, (const float *x, const float *weight, const float *statistics, const float *dy, float *dx,  \
                            int64_t c))                                                                                \
    /* Sets sum[c] and square[c] to the sums over `rows` rows of x - x[0] and of its square. */                        \
    X(channel_sums, (const float *x, int64_t rows, int64_t c, float *sum, float *square))                              \
    /* y = x * scale[c] + shift[c], then SiLU where asked. */                                                          \
    X(scale_shift, (const float *x, const float *scale, const float *shift, bool with_silu, void *y, kernels_type yt,  \
                    int64_t rows, int64_t c))                                                                          \
    /* Sets sum[c] and dot[c] to the sums over the rows of g and of g n. */                                            \
    X(group_gradient_sums, (const group_gradient_rows *g, float *sum, float *dot))                                     \
    X(group_gradient_apply, (const group_gradient_rows *g))                                                            \
    /* B^T d B of one tile: 16 pixels of c channels, null where the picture ends, to 16 rows of c, `stride` apart, of  \
       one type. */                                                                                                    \
    X(winograd_input, (const void *const pixels[16], kernels_type type, void *v, int64_t stride, int64_t c))           \
    /* A^T M A of one tile, plus a bias if any, to four pixels, null where the picture ends. */                        \
    X(winograd_output, (const float *m, int64_t stride, const float *bias, bool accumulate, float *const pixels[4],    \
                        int64_t c))

/// The kernels that work on an attention's plan; see attention.h. There are no scalar ones: the twin does the whole.
#define ATTENTION_KERNELS(X)                                                                                           \
    /* One block of queries of one head against all keys. */                                                           \
    X(attention_block)                                                                                                 \
    /* One block of keys of one head, laid out for attention_block. */                                                 \
    X(attention_pack)

/// Likewise for the way back, always in fp32.
#define ATTENTION_GRADIENT_KERNELS(X)                                                                                  \
    X(attention_gradient_pack_keys)                                                                                    \
    X(attention_gradient_pack_queries)                                                                                 \
    X(attention_gradient_queries)                                                                                      \
    X(attention_gradient_keys)

/// Likewise for the map of what was read, always in fp32.
#define ATTENTION_MAP_KERNELS(X) X(attention_map_panel)

struct attention_plan;
struct attention_gradient_plan;

typedef struct {
#define FIELD(name, parameters) void(*name) parameters;
#define ATTENTION_FIELD(name) void (*name)(const struct attention_plan *plan, int64_t index);
#define GRADIENT_FIELD(name) void (*name)(const struct attention_gradient_plan *plan, int64_t index);
#define MAP_FIELD(name) void (*name)(const kernels_attention_map_shape *shape, int64_t index);
    ROW_KERNELS(FIELD)
    ATTENTION_KERNELS(ATTENTION_FIELD)
    ATTENTION_GRADIENT_KERNELS(GRADIENT_FIELD)
    ATTENTION_MAP_KERNELS(MAP_FIELD)
#undef FIELD
#undef ATTENTION_FIELD
#undef GRADIENT_FIELD
#undef MAP_FIELD
} row_kernels;

#define SCALAR(name, parameters) void scalar_##name parameters;
ROW_KERNELS(SCALAR)
#undef SCALAR

extern const row_kernels scalar_kernels, avx2_kernels, avx512_kernels, avx512_bf16_kernels;
/// The kernels for what the calling thread may use of this CPU.
const row_kernels *kernels_chosen(void);
