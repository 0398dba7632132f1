// Activations, for one instruction set.

INLINE vf sigmoid_times(vf x, float k) { return x / (1.0f + exponential(-k * x)); }

// Phi(x) through erf by Abramowitz & Stegun 7.1.26, absolute error 1.5e-7.
INLINE vf normal_distribution(vf x) {
    vf z = __builtin_elementwise_abs(x) * 0.70710678f;
    vf t = 1.0f / __builtin_elementwise_fma(z, (vf)(0.3275911f), (vf)(1.0f));
    vf p = __builtin_elementwise_fma(t, (vf)(1.061405429f), (vf)(-1.453152027f));
    p = __builtin_elementwise_fma(p, t, (vf)(1.421413741f));
    p = __builtin_elementwise_fma(p, t, (vf)(-0.284496736f));
    p = __builtin_elementwise_fma(p, t, (vf)(0.254829592f)) * t;
    vf tail = 0.5f * p * exponential(-z * z);  // Phi(-|x|)
    return x < 0.0f ? tail : 1.0f - tail;
}
INLINE vf gelu_of(vf x) { return x * normal_distribution(x); }

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

// MARK: Backward

// d/dx x sigmoid(k x) = s (1 + k x (1 - s))
INLINE vf sigmoid_times_slope(vf x, float k) {
    vf s = 1.0f / (1.0f + exponential(-k * x));
    return s * __builtin_elementwise_fma(k * x, 1.0f - s, (vf)(1.0f));
}
// d/dx x Phi(x) = Phi(x) + x phi(x)
INLINE vf gelu_slope(vf x) {
    return __builtin_elementwise_fma(x * 0.39894228f, exponential(-0.5f * x * x), normal_distribution(x));
}

#define ELEMENTWISE_GRADIENT(name, slope)                                                               \
    static void name(const void *x, kernels_type xt, const float *dy, float *dx, int64_t count) {       \
        for (int64_t i = 0; i < count; i += LANES) {                                                    \
            vf v = load_any(x, xt, i, count - i);                                                       \
            vf g = load_any(dy, KERNELS_F32, i, count - i);                                             \
            store_any(dx, KERNELS_F32, i, count - i, g * slope);                                        \
        }                                                                                               \
    }
ELEMENTWISE_GRADIENT(silu_gradient, sigmoid_times_slope(v, 1.0f))
ELEMENTWISE_GRADIENT(gelu_gradient, gelu_slope(v))
ELEMENTWISE_GRADIENT(quick_gelu_gradient, sigmoid_times_slope(v, 1.702f))

static void geglu_gradient(const void *x, kernels_type xt, const float *dy, float *dx, int64_t c) {
    const char *gates = (const char *)x + c * (xt == KERNELS_F32 ? 4 : 2);
    for (int64_t i = 0; i < c; i += LANES) {
        vf value = load_any(x, xt, i, c - i), gate = load_any(gates, xt, i, c - i);
        vf g = load_any(dy, KERNELS_F32, i, c - i);
        store_any(dx, KERNELS_F32, i, c - i, g * gelu_of(gate));
        store_any(dx + c, KERNELS_F32, i, c - i, g * value * gelu_slope(gate));
    }
}
