// Vectors of one instruction set: loads, stores and functions. Included by simd_avx2.c, simd_avx512.c and
// simd_avx512_bf16.c through simd_body.h. They set LANES (floats in a vector), TILE_VECTORS (vectors in a row of a register
// tile), and the target attribute for all that follows; HAS_BF16 where the instructions for bfloat16 are at hand.
#include <string.h>
#include "attention.h"

#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((ext_vector_type(LANES)));
typedef int32_t vi __attribute__((ext_vector_type(LANES)));
typedef uint32_t vu __attribute__((ext_vector_type(LANES)));
typedef uint16_t vh __attribute__((ext_vector_type(LANES)));

// MARK: Loads and stores, unaligned; the `_any` forms take a type and stop after `left` elements.

INLINE vf load(const float *p) { vf v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(float *p, vf v) { memcpy(p, &v, sizeof v); }

INLINE vf widened(vh h) { vu u = __builtin_convertvector(h, vu) << 16; vf f; memcpy(&f, &u, sizeof f); return f; }
#ifdef HAS_BF16
INLINE vh narrowed(vf f) {
    __m256bh h = _mm512_cvtneps_pbh((__m512)f);
    vh v;
    memcpy(&v, &h, sizeof v);
    return v;
}
#else
INLINE vh narrowed(vf f) {
    vu u;
    memcpy(&u, &f, sizeof u);
    vu rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    vu nan = (vu)((u & 0x7fffffff) > 0x7f800000);
    return __builtin_convertvector((rounded & ~nan) | ((u >> 16 | 0x40) & nan), vh);
}
#endif

INLINE vf load_any(const void *x, kernels_type type, int64_t i, int64_t left) {
    size_t n = left < LANES ? (size_t)left : LANES;
    if (type == KERNELS_F32) {
        if (n == LANES) return load((const float *)x + i);
        vf v = (vf)(0.0f);
        memcpy(&v, (const float *)x + i, n * 4);
        return v;
    }
    vh h = (vh)(0);
    if (n == LANES) memcpy(&h, (const uint16_t *)x + i, sizeof h);
    else memcpy(&h, (const uint16_t *)x + i, n * 2);
    return widened(h);
}
INLINE void store_any(void *y, kernels_type type, int64_t i, int64_t left, vf v) {
    size_t n = left < LANES ? (size_t)(left < 0 ? 0 : left) : LANES;
    if (type == KERNELS_F32) {
        if (n == LANES) store((float *)y + i, v);
        else memcpy((float *)y + i, &v, n * 4);
        return;
    }
    vh h = narrowed(v);
    if (n == LANES) memcpy((uint16_t *)y + i, &h, sizeof h);
    else memcpy((uint16_t *)y + i, &h, n * 2);
}

// MARK: Functions of a vector

// Both are trees, so that the order of the additions is fixed.
typedef float vf8 __attribute__((ext_vector_type(8)));
#if LANES == 16
INLINE vf8 halved_sum(vf v) { return v.lo + v.hi; }
INLINE vf8 halved_maximum(vf v) { return v.lo > v.hi ? v.lo : v.hi; }
#else
INLINE vf8 halved_sum(vf v) { return v; }
INLINE vf8 halved_maximum(vf v) { return v; }
#endif
INLINE float sum_of(vf v) {
    vf8 s = halved_sum(v);
    s.lo += s.hi;
    return (s.x + s.z) + (s.y + s.w);
}
INLINE float maximum_of(vf v) {
    vf8 m = halved_maximum(v);
    m.lo = m.lo > m.hi ? m.lo : m.hi;
    m.xy = m.xy > m.zw ? m.xy : m.zw;
    return m.x > m.y ? m.x : m.y;
}

// 2^n p for whole n, given as n + 1.5 * 2^23: its low bits are n, which belongs into the bits of the exponent.
#define TO_WHOLE 12582912.0f
INLINE vf scaled_by_power(vf p, vf whole) {
    vi bits;
    memcpy(&bits, &whole, sizeof bits);
    bits = (bits + 127) << 23;
    vf power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}
// v where x >= least, else 0; what is not a number stays.
INLINE vf zero_below(vf x, float least, vf v) {
    vi keep = ~(vi)(x < least), bits;
    memcpy(&bits, &v, sizeof bits);
    bits &= keep;
    memcpy(&v, &bits, sizeof v);
    return v;
}

// e^x: x = n ln 2 + r, |r| <= ln 2 / 2 (ln 2 in two parts: Cody & Waite), a polynomial for e^r, 2^n by the exponent's
// bits. Two units in the last place; 0 below -87.3. Comparisons are such that what is not a number stays.
INLINE vf exponential(vf x) {
    vf held = x < -87.3f ? -87.3f : x;
    held = held > 88.7f ? 88.7f : held;
    vf whole = __builtin_elementwise_fma(held, (vf)(1.44269504f), (vf)(TO_WHOLE));
    vf n = whole - TO_WHOLE;
    vf r = __builtin_elementwise_fma(n, (vf)(-0.693359375f), held);
    r = __builtin_elementwise_fma(n, (vf)(2.12194440e-4f), r);
    vf p = __builtin_elementwise_fma(r, (vf)(1.3888889e-3f), (vf)(8.3333333e-3f));
    p = __builtin_elementwise_fma(p, r, (vf)(4.1666667e-2f));
    p = __builtin_elementwise_fma(p, r, (vf)(1.6666667e-1f));
    p = __builtin_elementwise_fma(p, r, (vf)(0.5f));
    p = __builtin_elementwise_fma(p, r, (vf)(1.0f));
    p = __builtin_elementwise_fma(p, r, (vf)(1.0f));
    return zero_below(x, -87.3f, scaled_by_power(p, whole));
}

// 2^t for t up to about 0, as a softmax below its maximum wants it: t = n + r, |r| <= 1/2, a minimax polynomial for 2^r
// (relative error 9e-8, or 3e-6 where the result is rounded to bfloat16 anyway). 0 below -150 at the latest.
INLINE vf power_of_two(vf t, const bool coarse) {
#if LANES == 16
    vf held = t < -200.0f ? -200.0f : t;
    vf n = (vf)_mm512_roundscale_ps((__m512)held, _MM_FROUND_TO_NEAREST_INT);
    vf r = held - n;
#else
    vf held = t < -126.0f ? -126.0f : t;
    vf whole = held + TO_WHOLE;
    vf r = held - (whole - TO_WHOLE);
#endif
    vf p;
    if (coarse) {
        p = __builtin_elementwise_fma(r, (vf)(9.582853e-3f), (vf)(5.5906426e-2f));
        p = __builtin_elementwise_fma(p, r, (vf)(2.4024099e-1f));
        p = __builtin_elementwise_fma(p, r, (vf)(6.9312418e-1f));
    } else {
        p = __builtin_elementwise_fma(r, (vf)(1.3264727e-3f), (vf)(9.671513e-3f));
        p = __builtin_elementwise_fma(p, r, (vf)(5.5507336e-2f));
        p = __builtin_elementwise_fma(p, r, (vf)(2.4022243e-1f));
        p = __builtin_elementwise_fma(p, r, (vf)(6.93147e-1f));
    }
    p = __builtin_elementwise_fma(p, r, (vf)(1.0f));
#if LANES == 16
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    return zero_below(t, -126.0f, scaled_by_power(p, whole));
#endif
}
