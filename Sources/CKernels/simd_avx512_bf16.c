// The row kernels for AVX-512 with BF16, and attention with bfloat16 products (vdpbf16ps: two products per lane, summed in
// fp32); softmax and sums are fp32.
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma"))), apply_to = function)
#define LANES 16
#define HAS_BF16
#define TILE_VECTORS 4
#include "simd_body.h"

INLINE vf broadcast_pair(const uint16_t *p) {
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    return (vf)_mm512_set1_epi32(pair);
}
INLINE vf dot_pairs(vf acc, vf a, vf b) { return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b); }
// The weights of a row overwrite its scores: a bfloat16 at j never reaches past the float at j.
INLINE void store_weights(float *row, int64_t j, vf e) {
    __m256bh h = _mm512_cvtneps_pbh((__m512)e);
    memcpy((uint16_t *)row + j, &h, sizeof h);
}

#define ELEMENT uint16_t
#define PAIR 2
#define NAME(x) bf16_##x
#define BROADCAST(pointer) broadcast_pair(pointer)
#define DOT(acc, a, b) dot_pairs(acc, a, b)
#define STORE_P(row, j, e) store_weights(row, j, e)
#define READ(s, x, at, count, room) ((void)(room), (const uint16_t *)(x) + (at))
#include "attention_body.h"

#define ATTENTION(name) bf16_##name,
const row_kernels avx512_bf16_kernels = TABLE;
#pragma clang attribute pop
