// The passes of group normalisation over rows of channels, for one instruction set.

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

// MARK: Backward

// g = dz weight at channels i... of row r; *n becomes the normalised values. Past the end both are zero.
INLINE vf gradient_of_normalised(const group_gradient_rows *g, int64_t r, int64_t i, vf *n) {
    int64_t left = g->c - i;
    vf weight = load_any(g->weight, KERNELS_F32, i, left);
    *n = (load_any(g->x + r * g->c, KERNELS_F32, i, left) - load_any(g->mean, KERNELS_F32, i, left)) *
         load_any(g->inverse, KERNELS_F32, i, left);
    vf dz = load_any(g->dy + r * g->c, KERNELS_F32, i, left);
    if (g->silu)
        dz *= sigmoid_times_slope(__builtin_elementwise_fma(*n, weight, load_any(g->bias, KERNELS_F32, i, left)), 1.0f);
    return dz * weight;
}
static void group_gradient_sums(const group_gradient_rows *g, float *sum, float *dot) {
    for (int64_t i = 0; i < g->c; i += LANES) {
        vf s = (vf)(0.0f), d = (vf)(0.0f);
        for (int64_t r = 0; r < g->rows; r++) {
            vf n, v = gradient_of_normalised(g, r, i, &n);
            s += v;
            d = __builtin_elementwise_fma(v, n, d);
        }
        store_any(sum, KERNELS_F32, i, g->c - i, s);
        store_any(dot, KERNELS_F32, i, g->c - i, d);
    }
}
static void group_gradient_apply(const group_gradient_rows *g) {
    for (int64_t r = 0; r < g->rows; r++)
        for (int64_t i = 0; i < g->c; i += LANES) {
            int64_t left = g->c - i;
            vf n, v = gradient_of_normalised(g, r, i, &n);
            vf centred = v - load_any(g->mean_g, KERNELS_F32, i, left) - n * load_any(g->mean_gn, KERNELS_F32, i, left);
            store_any(g->dx + r * g->c, KERNELS_F32, i, left, centred * load_any(g->inverse, KERNELS_F32, i, left));
        }
}
