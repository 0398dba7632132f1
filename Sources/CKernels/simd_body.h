// The row kernels for one instruction set. Included by simd_avx2.c and simd_avx512.c, which set LANES (floats in a
// vector), TILE_VECTORS (vectors in a row of a register tile), and the target attribute for all that follows.
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
INLINE vh narrowed(vf f) {
    vu u;
    memcpy(&u, &f, sizeof u);
    vu rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    vu nan = (vu)((u & 0x7fffffff) > 0x7f800000);
    return __builtin_convertvector((rounded & ~nan) | ((u >> 16 | 0x40) & nan), vh);
}

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

// A tree, so that the order of the additions is fixed.
INLINE float sum_of(vf v) {
    float s[LANES];
    memcpy(s, &v, sizeof v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}
INLINE float maximum_of(vf v) {
    float m = v[0];
    for (int i = 1; i < LANES; i++) m = v[i] > m ? v[i] : m;
    return m;
}

// e^x: x = n ln 2 + r, |r| <= ln 2 / 2 (ln 2 in two parts: Cody & Waite), a polynomial for e^r, 2^n by the exponent's
// bits. Two units in the last place; 0 below -87.3, so that a masked score weighs exactly nothing.
INLINE vf exponential(vf x) {
    vf held = __builtin_elementwise_min(__builtin_elementwise_max(x, (vf)(-87.3f)), (vf)(88.7f));
    vf n = __builtin_elementwise_roundeven(held * 1.44269504f);
    vf r = __builtin_elementwise_fma(n, (vf)(-0.693359375f), held);
    r = __builtin_elementwise_fma(n, (vf)(2.12194440e-4f), r);
    vf p = __builtin_elementwise_fma(r, (vf)(1.3888889e-3f), (vf)(8.3333333e-3f));
    p = __builtin_elementwise_fma(p, r, (vf)(4.1666667e-2f));
    p = __builtin_elementwise_fma(p, r, (vf)(1.6666667e-1f));
    p = __builtin_elementwise_fma(p, r, (vf)(0.5f));
    p = __builtin_elementwise_fma(p, r, (vf)(1.0f));
    p = __builtin_elementwise_fma(p, r, (vf)(1.0f));
    vi exponent = (__builtin_convertvector(n, vi) + 127) << 23;
    vf power;
    memcpy(&power, &exponent, sizeof power);
    vi keep = (vi)(x >= -87.3f), bits;
    vf y = p * power;
    memcpy(&bits, &y, sizeof bits);
    bits &= keep;
    memcpy(&y, &bits, sizeof y);
    return y;
}

INLINE vf sigmoid_times(vf x, float k) { return x / (1.0f + exponential(-k * x)); }

// Phi(x) through erf by Abramowitz & Stegun 7.1.26, absolute error 1.5e-7.
INLINE vf gelu_of(vf x) {
    vf z = __builtin_elementwise_abs(x) * 0.70710678f;
    vf t = 1.0f / __builtin_elementwise_fma(z, (vf)(0.3275911f), (vf)(1.0f));
    vf p = __builtin_elementwise_fma(t, (vf)(1.061405429f), (vf)(-1.453152027f));
    p = __builtin_elementwise_fma(p, t, (vf)(1.421413741f));
    p = __builtin_elementwise_fma(p, t, (vf)(-0.284496736f));
    p = __builtin_elementwise_fma(p, t, (vf)(0.254829592f)) * t;
    vf tail = 0.5f * p * exponential(-z * z);  // Phi(-|x|)
    vf phi = x < 0.0f ? tail : 1.0f - tail;
    return x * phi;
}

// MARK: Rows

static void to_bf16(const float *x, uint16_t *y, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES)
        store_any(y, KERNELS_BF16, i, count - i, load_any(x, KERNELS_F32, i, count - i));
}
static void to_f32(const uint16_t *x, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES)
        store_any(y, KERNELS_F32, i, count - i, load_any(x, KERNELS_BF16, i, count - i));
}
static void add(const float *a, const float *b, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES)
        store_any(y, KERNELS_F32, i, count - i,
                  load_any(a, KERNELS_F32, i, count - i) + load_any(b, KERNELS_F32, i, count - i));
}

#define ELEMENTWISE(name, expression)                                                                  \
    static void name(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t count) {        \
        for (int64_t i = 0; i < count; i += LANES) {                                                   \
            vf v = load_any(x, xt, i, count - i);                                                      \
            store_any(y, yt, i, count - i, expression);                                                \
        }                                                                                              \
    }
ELEMENTWISE(silu, sigmoid_times(v, 1.0f))
ELEMENTWISE(gelu, gelu_of(v))
ELEMENTWISE(quick_gelu, sigmoid_times(v, 1.702f))

static void geglu(const void *x, kernels_type xt, void *y, kernels_type yt, int64_t c) {
    const char *gate = (const char *)x + c * (xt == KERNELS_F32 ? 4 : 2);
    for (int64_t i = 0; i < c; i += LANES)
        store_any(y, yt, i, c - i, load_any(x, xt, i, c - i) * gelu_of(load_any(gate, xt, i, c - i)));
}

static void layer_norm(const float *x, const float *weight, const float *bias, float eps, void *y, kernels_type yt,
                       int64_t c) {
    vf total = (vf)(0.0f);
    for (int64_t i = 0; i < c; i += LANES) total += load_any(x, KERNELS_F32, i, c - i);
    float mean = sum_of(total) / (float)c;
    vf squares = (vf)(0.0f);
    int64_t whole = c / LANES * LANES;
    for (int64_t i = 0; i < whole; i += LANES) {
        vf d = load(x + i) - mean;
        squares = __builtin_elementwise_fma(d, d, squares);
    }
    float square = sum_of(squares);
    for (int64_t i = whole; i < c; i++) square += (x[i] - mean) * (x[i] - mean);
    float inverse = 1.0f / __builtin_sqrtf(square / (float)c + eps);
    for (int64_t i = 0; i < c; i += LANES) {
        int64_t left = c - i;
        vf v = (load_any(x, KERNELS_F32, i, left) - mean) * inverse;
        store_any(y, yt, i, left,
                  __builtin_elementwise_fma(v, load_any(weight, KERNELS_F32, i, left),
                                            load_any(bias, KERNELS_F32, i, left)));
    }
}

static void channel_sums(const float *x, int64_t rows, int64_t c, float *sum, float *square) {
    for (int64_t i = 0; i < c; i += LANES) {
        vf s = (vf)(0.0f), q = (vf)(0.0f);
        for (int64_t r = 0; r < rows; r++) {
            vf v = load_any(x + r * c, KERNELS_F32, i, c - i);
            s += v;
            q = __builtin_elementwise_fma(v, v, q);
        }
        store_any(sum, KERNELS_F32, i, c - i, s);
        store_any(square, KERNELS_F32, i, c - i, q);
    }
}

static void scale_shift(const float *x, const float *scale, const float *shift, bool with_silu, void *y,
                        kernels_type yt, int64_t rows, int64_t c) {
    for (int64_t r = 0; r < rows; r++, x += c) {
        for (int64_t i = 0; i < c; i += LANES) {
            int64_t left = c - i;
            vf v = __builtin_elementwise_fma(load_any(x, KERNELS_F32, i, left), load_any(scale, KERNELS_F32, i, left),
                                             load_any(shift, KERNELS_F32, i, left));
            store_any(y, yt, r * c + i, left, with_silu ? sigmoid_times(v, 1.0f) : v);
        }
    }
}

// MARK: Attention in fp32; the file of the bfloat16 kernels includes the body with its own macros instead.

#ifndef ATTENTION_IN_BF16
#define ELEMENT float
#define PAIR 1
#define NAME(x) f32_##x
#define BROADCAST(pointer) ((vf)(*(pointer)))
#define DOT(acc, a, b) __builtin_elementwise_fma(a, b, acc)
#define STORE_P(row, j, e) store((row) + (j), e)
#include "attention_body.h"
#undef ELEMENT
#undef PAIR
#undef NAME
#undef BROADCAST
#undef DOT
#undef STORE_P
#endif
