// Shared by the kernels' own files only.
#pragma once
#include "include/CKernels.h"

#define KERNELS_MIN(a, b) ((a) < (b) ? (a) : (b))

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

struct attention_plan;

/// The row kernels that exist once for each instruction set: `simd_body.h` defines them, `dispatch.c` chooses.
typedef struct {
    void (*to_bf16)(const float *x, uint16_t *y, int64_t count);
    void (*to_f32)(const uint16_t *x, float *y, int64_t count);
    void (*silu)(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count);
    void (*gelu)(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count);
    void (*quick_gelu)(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count);
    void (*geglu)(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t c);
    void (*layer_norm)(const float *x, const float *weight, const float *bias, float eps, void *y, kernels_type yt,
                       int64_t c);
    /// Sets sum[c] and square[c] to the sums over `rows` rows of x - x[0] and of its square.
    void (*channel_sums)(const float *x, int64_t rows, int64_t c, float *sum, float *square);
    /// y = x * scale[c] + shift[c], then SiLU where asked.
    void (*scale_shift)(const float *x, const float *scale, const float *shift, bool silu, void *y, kernels_type yt,
                        int64_t rows, int64_t c);
    /// B^T d B of one tile: 16 pixels of c channels, null where the picture ends, to 16 rows of c, `stride` apart, of one type.
    void (*winograd_input)(const void *const pixels[16], kernels_type type, void *v, int64_t stride, int64_t c);
    /// A^T M A of one tile, plus a bias if any, to four pixels, null where the picture ends.
    void (*winograd_output)(const float *m, int64_t stride, const float *bias, bool accumulate, float *const pixels[4],
                            int64_t c);
    /// One block of queries of one head against all keys; see attention.h.
    void (*attention_block)(const struct attention_plan *plan, int64_t index);
    /// One block of keys of one head, laid out for attention_block.
    void (*attention_pack)(const struct attention_plan *plan, int64_t index);
} row_kernels;

extern const row_kernels scalar_kernels, avx2_kernels, avx512_kernels;
const row_kernels *kernels_chosen(void);
