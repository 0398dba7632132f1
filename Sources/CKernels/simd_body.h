// The row kernels for one instruction set. Included by simd_avx2.c, simd_avx512.c and attention_avx512_bf16.c, which set
// LANES (floats in a vector), TILE_VECTORS (vectors in a row of a register tile), and the target attribute for all that follows.
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
#ifdef ATTENTION_IN_BF16
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

// Sums over `rows` of x - x[0] and of its square: the first row stands near the mean, without which the squares of a
// channel far from zero would drown its variance. `V` vectors of channels at once, so that a row is read in long runs.
INLINE void channel_sums_of(const int V, const float *x, int64_t rows, int64_t c, int64_t left, float *sum,
                            float *square) {
    vf pivot[V], s[V], q[V];
    for (int v = 0; v < V; v++) pivot[v] = load_any(x, KERNELS_F32, v * LANES, left - v * LANES), s[v] = q[v] = (vf)(0.0f);
    for (int64_t r = 1; r < rows; r++)
        for (int v = 0; v < V; v++) {
            vf d = load_any(x + r * c, KERNELS_F32, v * LANES, left - v * LANES) - pivot[v];
            s[v] += d;
            q[v] = __builtin_elementwise_fma(d, d, q[v]);
        }
    for (int v = 0; v < V; v++) {
        store_any(sum, KERNELS_F32, v * LANES, left - v * LANES, s[v]);
        store_any(square, KERNELS_F32, v * LANES, left - v * LANES, q[v]);
    }
}
static void channel_sums(const float *x, int64_t rows, int64_t c, float *sum, float *square) {
    int64_t i = 0;
    for (; i + 4 * LANES <= c; i += 4 * LANES) channel_sums_of(4, x + i, rows, c, 4 * LANES, sum + i, square + i);
    for (; i < c; i += LANES) channel_sums_of(1, x + i, rows, c, c - i, sum + i, square + i);
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

// MARK: Winograd; the matrices are those of reference.c, multiplied out.

static void winograd_input(const void *const pixels[16], kernels_type type, void *v, int64_t stride, int64_t c) {
    for (int64_t i = 0; i < c; i += LANES) {
        vf d[16], e[16];
        for (int p = 0; p < 16; p++) d[p] = pixels[p] ? load_any(pixels[p], type, i, c - i) : (vf)(0.0f);
        for (int x = 0; x < 4; x++) {
            e[x] = d[x] - d[8 + x];
            e[4 + x] = d[4 + x] + d[8 + x];
            e[8 + x] = d[8 + x] - d[4 + x];
            e[12 + x] = d[4 + x] - d[12 + x];
        }
        for (int y = 0; y < 16; y += 4) {
            store_any(v, type, y * stride + i, c - i, e[y] - e[y + 2]);
            store_any(v, type, (y + 1) * stride + i, c - i, e[y + 1] + e[y + 2]);
            store_any(v, type, (y + 2) * stride + i, c - i, e[y + 2] - e[y + 1]);
            store_any(v, type, (y + 3) * stride + i, c - i, e[y + 1] - e[y + 3]);
        }
    }
}

static void winograd_output(const float *m, int64_t stride, const float *bias, bool accumulate, float *const pixels[4],
                            int64_t c) {
    for (int64_t i = 0; i < c; i += LANES) {
        int64_t left = c - i;
        vf d[16], e[8], y[4];
        for (int p = 0; p < 16; p++) d[p] = load_any(m + p * stride, KERNELS_F32, i, left);
        for (int x = 0; x < 4; x++) {
            e[x] = d[x] + d[4 + x] + d[8 + x];
            e[4 + x] = d[4 + x] - d[8 + x] - d[12 + x];
        }
        for (int r = 0; r < 2; r++) {
            y[2 * r] = e[4 * r] + e[4 * r + 1] + e[4 * r + 2];
            y[2 * r + 1] = e[4 * r + 1] - e[4 * r + 2] - e[4 * r + 3];
        }
        vf b = bias ? load_any(bias, KERNELS_F32, i, left) : (vf)(0.0f);
        for (int p = 0; p < 4; p++) {
            if (!pixels[p]) continue;
            vf sum = y[p] + b;
            if (accumulate) sum += load_any(pixels[p], KERNELS_F32, i, left);
            store_any(pixels[p], KERNELS_F32, i, left, sum);
        }
    }
}

// MARK: Attention with fp32 products, of bfloat16 too; the file of the bfloat16 products includes the body with its own
// macros instead.

#ifndef ATTENTION_IN_BF16
static const float *as_floats(const kernels_attention_shape *s, const void *x, int64_t at, int64_t count, float *room) {
    if (s->type == KERNELS_F32) return (const float *)x + at;
    to_f32((const uint16_t *)x + at, room, count);
    return room;
}

#define ELEMENT float
#define PAIR 1
#define NAME(x) f32_##x
#define BROADCAST(pointer) ((vf)(*(pointer)))
#define DOT(acc, a, b) __builtin_elementwise_fma(a, b, acc)
#define STORE_P(row, j, e) store((row) + (j), e)
#define READ(s, x, at, count, room) as_floats(s, x, at, count, room)
#include "attention_body.h"
#undef ELEMENT
#undef PAIR
#undef NAME
#undef BROADCAST
#undef DOT
#undef STORE_P
#undef READ
#endif
