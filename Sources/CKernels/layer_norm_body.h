// Layer normalisation, for one instruction set.

static void layer_norm(const float *x, const float *weight, const float *bias, float eps, void *y, kernels_type yt,
                       float *statistics, int64_t c) {
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
    if (statistics) statistics[0] = mean, statistics[1] = inverse;
    for (int64_t i = 0; i < c; i += LANES) {
        int64_t left = c - i;
        vf v = (load_any(x, KERNELS_F32, i, left) - mean) * inverse;
        store_any(y, yt, i, left,
                  __builtin_elementwise_fma(v, load_any(weight, KERNELS_F32, i, left),
                                            load_any(bias, KERNELS_F32, i, left)));
    }
}

// With n = (x - mean) inverse and g = dy weight: dx = inverse (g - mean of g - n mean of g n).
static void layer_norm_gradient(const float *x, const float *weight, const float *statistics, const float *dy, float *dx,
                                int64_t c) {
    float mean = statistics[0], inverse = statistics[1];
    vf sums = (vf)(0.0f), dots = (vf)(0.0f);
    for (int64_t i = 0; i < c; i += LANES) {
        // Past the end g is zero.
        vf g = load_any(dy, KERNELS_F32, i, c - i) * load_any(weight, KERNELS_F32, i, c - i);
        sums += g;
        dots = __builtin_elementwise_fma(g, (load_any(x, KERNELS_F32, i, c - i) - mean) * inverse, dots);
    }
    float sum = sum_of(sums) / (float)c, dot = sum_of(dots) / (float)c;
    for (int64_t i = 0; i < c; i += LANES) {
        vf g = load_any(dy, KERNELS_F32, i, c - i) * load_any(weight, KERNELS_F32, i, c - i);
        vf n = (load_any(x, KERNELS_F32, i, c - i) - mean) * inverse;
        store_any(dx, KERNELS_F32, i, c - i, (g - sum - n * dot) * inverse);
    }
}
