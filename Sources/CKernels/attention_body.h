// Fused attention for one instruction set and one element type. Included with
//   ELEMENT   float or uint16_t (bfloat16)
//   PAIR      1, or 2 where one lane of a product holds two bfloat16 elements
//   NAME(x)   the suffixed name
//   DOT(acc, a, b), BROADCAST(pointer), STORE_P(...)
//   READ(s, x, at, count, room)   elements of q, k or v from `at` on: as they lie, or converted into `room`
// Registers: a tile of 6 rows x TILE_VECTORS vectors of accumulators, one row of B, one broadcast of A.

// C[R, V vectors] (+)= A[R, depth] B[depth, V vectors]; strides in lanes (32 bit) for B and in elements for A.
INLINE void NAME(tile)(const int R, const int V, const ELEMENT *a, int64_t lda, const float *b, int64_t ldb, float *c,
                       int64_t ldc, int64_t depth, bool accumulate) {
    vf acc[6][TILE_VECTORS];
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) acc[r][v] = accumulate ? load(c + r * ldc + v * LANES) : (vf)(0.0f);
    for (int64_t p = 0; p < depth; p++) {
        vf row[TILE_VECTORS];
        for (int v = 0; v < V; v++) row[v] = load(b + p * ldb + v * LANES);
        // A tile of AVX2 reads one cache line of each row, too few in sequence for the hardware to foresee: 2 to 3 per cent of
        // an attention over 4096 keys, 6 where a head has 512 channels (Zen 3). A tile of AVX-512 reads four lines.
        if (LANES == 8) __builtin_prefetch(b + (p + 6) * ldb, 0, 3);
        for (int r = 0; r < R; r++) {
            vf x = BROADCAST(a + r * lda + p * PAIR);
            for (int v = 0; v < V; v++) acc[r][v] = DOT(acc[r][v], x, row[v]);
        }
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) store(c + r * ldc + v * LANES, acc[r][v]);
}

// The same for any number of rows and of vectors: whole tiles first, then the rests with their own constants.
INLINE void NAME(tile_rows)(int64_t rows, const int V, const ELEMENT *a, int64_t lda, const float *b, int64_t ldb,
                            float *c, int64_t ldc, int64_t depth, bool accumulate) {
    int64_t r = 0;
    for (; r + 6 <= rows; r += 6) NAME(tile)(6, V, a + r * lda, lda, b, ldb, c + r * ldc, ldc, depth, accumulate);
    a += r * lda, c += r * ldc;
    switch (rows - r) {
        case 5: NAME(tile)(5, V, a, lda, b, ldb, c, ldc, depth, accumulate); break;
        case 4: NAME(tile)(4, V, a, lda, b, ldb, c, ldc, depth, accumulate); break;
        case 3: NAME(tile)(3, V, a, lda, b, ldb, c, ldc, depth, accumulate); break;
        case 2: NAME(tile)(2, V, a, lda, b, ldb, c, ldc, depth, accumulate); break;
        case 1: NAME(tile)(1, V, a, lda, b, ldb, c, ldc, depth, accumulate); break;
        default: break;
    }
}

static void NAME(product)(int64_t rows, int64_t vectors, const ELEMENT *a, int64_t lda, const float *b, int64_t ldb,
                          float *c, int64_t ldc, int64_t depth, bool accumulate) {
    int64_t v = 0;
    for (; v + TILE_VECTORS <= vectors; v += TILE_VECTORS)
        NAME(tile_rows)(rows, TILE_VECTORS, a, lda, b + v * LANES, ldb, c + v * LANES, ldc, depth, accumulate);
    b += v * LANES, c += v * LANES;
    switch (vectors - v) {
        case 3: NAME(tile_rows)(rows, 3, a, lda, b, ldb, c, ldc, depth, accumulate); break;
        case 2: NAME(tile_rows)(rows, 2, a, lda, b, ldb, c, ldc, depth, accumulate); break;
        case 1: NAME(tile_rows)(rows, 1, a, lda, b, ldb, c, ldc, depth, accumulate); break;
        default: break;
    }
}

// index: (memory, head, panel).
static void NAME(attention_pack)(const attention_plan *plan, int64_t index) {
    const kernels_attention_shape *s = &plan->shape;
    int64_t panels = plan->padded_keys / PANEL, d = s->head_size, width = plan->padded_width;
    int64_t panel = index % panels, head = index / panels % s->heads, memory = index / panels / s->heads;
    int64_t first = panel * PANEL, keys = KERNELS_MIN(PANEL, s->keys - first), group = memory * s->heads + head;

    ELEMENT room[PAIR][512];
    ELEMENT *pk = (ELEMENT *)plan->packed_k + (group * plan->padded_keys + first) * d;
    for (int64_t j = 0; j < keys; j++) {
        const ELEMENT *k = READ(s, s->k, (memory * s->keys + first + j) * s->k_stride + head * d, d, room[0]);
        for (int64_t p = 0; p < d; p += PAIR) memcpy(pk + p * PANEL + j * PAIR, k + p, PAIR * sizeof *k);
    }
    for (int64_t p = 0; p < d; p += PAIR)
        memset(pk + p * PANEL + keys * PAIR, 0, (size_t)(PANEL - keys) * PAIR * sizeof *pk);

    ELEMENT *pv = (ELEMENT *)plan->packed_v + (group * plan->padded_keys + first) * width;
    for (int64_t j = 0; j < PANEL; j += PAIR, pv += PAIR * width) {
        memset(pv, 0, (size_t)width * PAIR * sizeof *pv);
        for (int64_t e = 0; e < KERNELS_MIN(PAIR, keys - j); e++) {
            const ELEMENT *v = READ(s, s->v, (memory * s->keys + first + j + e) * s->v_stride + head * d, d, room[e]);
            for (int64_t p = 0; p < d; p++) pv[p * PAIR + e] = v[p];
        }
    }
}

// index: (image, head, block of queries).
static void NAME(attention_block)(const attention_plan *plan, int64_t index) {
    const kernels_attention_shape *s = &plan->shape;
    int64_t d = s->head_size, width = plan->padded_width;
    int64_t block = index % plan->query_blocks, head = index / plan->query_blocks % s->heads;
    int64_t image = index / plan->query_blocks / s->heads;
    int64_t first = block * QUERY_BLOCK, rows = KERNELS_MIN(QUERY_BLOCK, s->queries - first);
    int64_t group = (s->kv_n == 1 ? 0 : image) * s->heads + head;
    int64_t at = (image * s->queries + first) * s->q_stride + head * d, q_stride = s->q_stride;
    ELEMENT room[QUERY_BLOCK * 512];
    const ELEMENT *q = READ(s, s->q, at, d, room);
    if (q == room) {  // converted: the other rows too
        for (int64_t i = 1; i < rows; i++) (void)READ(s, s->q, at + i * q_stride, d, room + i * d);
        q_stride = d;
    }
    const ELEMENT *k = (const ELEMENT *)plan->packed_k + group * plan->padded_keys * d;
    const ELEMENT *v = (const ELEMENT *)plan->packed_v + group * plan->padded_keys * width;

    float scores[QUERY_BLOCK * KEY_BLOCK] __attribute__((aligned(64)));
    float out[QUERY_BLOCK * 512] __attribute__((aligned(64)));
    float maximum[QUERY_BLOCK], sum[QUERY_BLOCK];
    for (int64_t i = 0; i < rows; i++) maximum[i] = -__builtin_inff(), sum[i] = 0;
    // Scores are kept as exponents of 2: e^(s / sqrt d) = 2^(s log2(e) / sqrt d).
    float scale = 1.44269504f / __builtin_sqrtf((float)d);
    // Under a causal mask no query of this block sees a key past its last row.
    int64_t seen = s->causal ? KERNELS_MIN(s->keys, first + rows) : s->keys;

    for (int64_t start = 0; start < seen; start += KEY_BLOCK) {
        int64_t valid = KERNELS_MIN(KEY_BLOCK, seen - start);
        // Whole vectors of keys; what is past the last key in them is masked, and weighs nothing.
        int64_t padded = (valid + 15) / 16 * 16;
        for (int64_t p = 0; p < padded; p += PANEL)
            NAME(product)(rows, KERNELS_MIN(PANEL, padded - p) / LANES, q, q_stride,
                          (const float *)(k + (start + p) * d), PANEL, scores + p, KEY_BLOCK, d / PAIR, false);

        for (int64_t i = 0; i < rows; i++) {
            float *row = scores + i * KEY_BLOCK;
            int64_t visible = s->causal ? first + i + 1 - start : valid;
            visible = visible < 0 ? 0 : KERNELS_MIN(visible, valid);
            for (int64_t j = visible; j < padded; j++) row[j] = -__builtin_inff();

            // By comparison, which passes over what is not a number: that one shows in the sum.
            vf top = load(row), top2 = top;
            int64_t ahead = LANES;
            for (; ahead + LANES < padded; ahead += 2 * LANES) {
                vf x = load(row + ahead), x2 = load(row + ahead + LANES);
                top = x > top ? x : top;
                top2 = x2 > top2 ? x2 : top2;
            }
            if (ahead < padded) {
                vf x = load(row + ahead);
                top = x > top ? x : top;
            }
            float highest = maximum_of(top > top2 ? top : top2) * scale;
            float next = highest > maximum[i] ? highest : maximum[i];
            if (next == -__builtin_inff()) next = 0;  // the row sees nothing yet: every weight becomes zero
            float fade = power_of_two((vf)(maximum[i] - next), false)[0];

            vf total = (vf)(0.0f);
            for (int64_t j = 0; j < padded; j += LANES) {
                vf e = power_of_two(__builtin_elementwise_fma(load(row + j), (vf)(scale), (vf)(-next)), PAIR == 2);
                total += e;
                STORE_P(row, j, e);
            }
            sum[i] = sum[i] * fade + sum_of(total);
            maximum[i] = next;
            if (start > 0 && fade != 1.0f)
                for (int64_t p = 0; p < width; p += LANES) store(out + i * width + p, load(out + i * width + p) * fade);
        }
        NAME(product)(rows, width / LANES, (const ELEMENT *)scores, KEY_BLOCK * (4 / (int64_t)sizeof(ELEMENT)),
                      (const float *)(v + start * width), width, out, width, padded / PAIR, start > 0);
    }

    for (int64_t i = 0; i < rows; i++) {
        float inverse = 1.0f / sum[i];
        if (s->log_sums)
            s->log_sums[(image * s->heads + head) * s->queries + first + i] = maximum[i] * 0.69314718f + logf(sum[i]);
        int64_t row = (image * s->queries + first + i) * s->y_stride + head * d;
        for (int64_t p = 0; p < width; p += LANES)
            store_any(s->y, s->type, row + p, d - p, load(out + i * width + p) * inverse);
    }
}

// MARK: Backward, in fp32 whatever the elements' type

#if PAIR == 1

// Row `j` of a panel of [padded, d]: its elements become a column of the panel, and, where asked, a row of `rows`, both of
// which hold zeros past the end.
static void pack_row(const float *x, int64_t j, int64_t d, int64_t width, float *panel, float *rows) {
    for (int64_t p = 0; p < d; p++) panel[p * PANEL + j] = x ? x[p] : 0;
    if (!rows) return;
    memset(rows + j * width, 0, (size_t)width * sizeof *rows);
    if (x) memcpy(rows + j * width, x, (size_t)d * sizeof *x);
}

// index: (memory, head, panel of keys).
static void f32_attention_gradient_pack_keys(const attention_gradient_plan *plan, int64_t index) {
    const kernels_attention_shape *s = &plan->shape.forward;
    int64_t d = s->head_size, width = plan->padded_width, panels = plan->padded_keys / PANEL;
    int64_t group = index / panels, head = group % s->heads, memory = group / s->heads, first = index % panels * PANEL;
    int64_t place = group * plan->padded_keys + first;
    float room[512];
    for (int64_t j = 0; j < PANEL; j++) {
        bool inside = first + j < s->keys;
        int64_t row = memory * s->keys + first + j;
        const float *k = inside ? as_floats(s, s->k, row * s->k_stride + head * d, d, room) : 0;
        pack_row(k, j, d, width, plan->k_panels + place * d, plan->k_rows + place * width);
        const float *v = inside ? as_floats(s, s->v, row * s->v_stride + head * d, d, room) : 0;
        pack_row(v, j, d, width, plan->v_panels + place * d, 0);
    }
}

// index: (image, head, panel of queries). Of each query the sum of dy y, and its log-sum in powers of two.
static void f32_attention_gradient_pack_queries(const attention_gradient_plan *plan, int64_t index) {
    const kernels_attention_gradient_shape *g = &plan->shape;
    const kernels_attention_shape *s = &g->forward;
    int64_t d = s->head_size, width = plan->padded_width, panels = plan->padded_queries / PANEL;
    int64_t group = index / panels, head = group % s->heads, image = group / s->heads, first = index % panels * PANEL;
    int64_t place = group * plan->padded_queries + first;
    float room[512];
    for (int64_t j = 0; j < PANEL; j++) {
        bool inside = first + j < s->queries;
        int64_t row = image * s->queries + first + j;
        const float *dy = inside ? g->dy + row * g->dy_stride + head * d : 0;
        float dot = 0;
        if (inside) {
            const float *y = as_floats(s, s->y, row * s->y_stride + head * d, d, room);
            for (int64_t p = 0; p < d; p++) dot += dy[p] * y[p];
        }
        plan->dots[place + j] = dot;
        // A query that is not there weighs nothing: 2^-infinity.
        plan->exponents[place + j] =
            inside ? s->log_sums[group * s->queries + first + j] * 1.44269504f : __builtin_inff();
        if (!g->dk) continue;
        pack_row(dy, j, d, width, plan->dy_panels + place * d, plan->dy_rows + place * width);
        const float *q = inside ? as_floats(s, s->q, row * s->q_stride + head * d, d, room) : 0;
        pack_row(q, j, d, width, plan->q_panels + place * d, plan->q_rows + place * width);
    }
}

// The rows of a block as floats; *stride becomes theirs.
static const float *block_rows(const kernels_attention_shape *s, const void *x, int64_t at, int64_t rows, int64_t *stride,
                               float *room) {
    const float *first = as_floats(s, x, at, s->head_size, room);
    if (first != room) return first;
    for (int64_t i = 1; i < rows; i++) (void)as_floats(s, x, at + i * *stride, s->head_size, room + i * s->head_size);
    *stride = s->head_size;
    return room;
}

// Products of a block's rows with `padded` columns of panels.
INLINE void f32_panel_product(int64_t rows, const float *a, int64_t lda, const float *panels, int64_t d, float *c,
                              int64_t padded) {
    for (int64_t p = 0; p < padded; p += PANEL)
        f32_product(rows, KERNELS_MIN(PANEL, padded - p) / LANES, a, lda, panels + p * d, PANEL, c + p, KEY_BLOCK, d, false);
}

// index: (image, head, block of queries). With weights P = exp(S - log-sum): dS = P (dy v^T - sum of dy y), dq = dS k scale.
static void f32_attention_gradient_queries(const attention_gradient_plan *plan, int64_t index) {
    const kernels_attention_gradient_shape *g = &plan->shape;
    const kernels_attention_shape *s = &g->forward;
    int64_t d = s->head_size, width = plan->padded_width, blocks = (s->queries + QUERY_BLOCK - 1) / QUERY_BLOCK;
    int64_t group = index / blocks, head = group % s->heads, image = group / s->heads, first = index % blocks * QUERY_BLOCK;
    int64_t rows = KERNELS_MIN(QUERY_BLOCK, s->queries - first), row = image * s->queries + first;
    int64_t memory = (s->kv_n == 1 ? 0 : image) * s->heads + head, q_stride = s->q_stride;
    float room[QUERY_BLOCK * 512];
    const float *q = block_rows(s, s->q, row * s->q_stride + head * d, rows, &q_stride, room);
    const float *dy = g->dy + row * g->dy_stride + head * d;
    const float *exponents = plan->exponents + group * plan->padded_queries + first;
    const float *dots = plan->dots + group * plan->padded_queries + first;
    float scores[QUERY_BLOCK * KEY_BLOCK] __attribute__((aligned(64)));
    float slopes[QUERY_BLOCK * KEY_BLOCK] __attribute__((aligned(64)));
    float out[QUERY_BLOCK * 512] __attribute__((aligned(64)));
    float scale = 1.0f / __builtin_sqrtf((float)d), scale2 = 1.44269504f / __builtin_sqrtf((float)d);

    for (int64_t start = 0; start < s->keys; start += KEY_BLOCK) {
        int64_t valid = KERNELS_MIN(KEY_BLOCK, s->keys - start), padded = (valid + 15) / 16 * 16;
        int64_t place = memory * plan->padded_keys + start;
        f32_panel_product(rows, q, q_stride, plan->k_panels + place * d, d, scores, padded);
        f32_panel_product(rows, dy, g->dy_stride, plan->v_panels + place * d, d, slopes, padded);
        for (int64_t i = 0; i < rows; i++) {
            float *score = scores + i * KEY_BLOCK, *slope = slopes + i * KEY_BLOCK;
            for (int64_t j = 0; j < padded; j += LANES) {
                vf t = __builtin_elementwise_fma(load(score + j), (vf)(scale2), (vf)(-exponents[i]));
                store(score + j, power_of_two(t, false) * (load(slope + j) - dots[i]) * scale);
            }
            for (int64_t j = valid; j < padded; j++) score[j] = 0;
        }
        f32_product(rows, width / LANES, scores, KEY_BLOCK, plan->k_rows + place * width, width, out, width, padded, start > 0);
    }
    for (int64_t i = 0; i < rows; i++)
        memcpy(g->dq + (row + i) * g->dq_stride + head * d, out + i * width, (size_t)d * sizeof *out);
}

// index: (memory, head, block of keys). The same by columns: dv = P^T dy, dk = dS^T q scale, over all images that read them.
static void f32_attention_gradient_keys(const attention_gradient_plan *plan, int64_t index) {
    const kernels_attention_gradient_shape *g = &plan->shape;
    const kernels_attention_shape *s = &g->forward;
    int64_t d = s->head_size, width = plan->padded_width, blocks = (s->keys + QUERY_BLOCK - 1) / QUERY_BLOCK;
    int64_t group = index / blocks, head = group % s->heads, memory = group / s->heads, first = index % blocks * QUERY_BLOCK;
    int64_t rows = KERNELS_MIN(QUERY_BLOCK, s->keys - first), row = memory * s->keys + first;
    int64_t k_stride = s->k_stride, v_stride = s->v_stride;
    float k_room[QUERY_BLOCK * 512], v_room[QUERY_BLOCK * 512];
    const float *k = block_rows(s, s->k, row * s->k_stride + head * d, rows, &k_stride, k_room);
    const float *v = block_rows(s, s->v, row * s->v_stride + head * d, rows, &v_stride, v_room);
    float scores[QUERY_BLOCK * KEY_BLOCK] __attribute__((aligned(64)));
    float slopes[QUERY_BLOCK * KEY_BLOCK] __attribute__((aligned(64)));
    float dk[QUERY_BLOCK * 512] __attribute__((aligned(64))), dv[QUERY_BLOCK * 512] __attribute__((aligned(64)));
    float scale = 1.0f / __builtin_sqrtf((float)d), scale2 = 1.44269504f / __builtin_sqrtf((float)d);
    int64_t from = s->kv_n == 1 ? 0 : memory, to = s->kv_n == 1 ? s->n : memory + 1;

    for (int64_t image = from; image < to; image++)
        for (int64_t start = 0; start < s->queries; start += KEY_BLOCK) {
            int64_t padded = (KERNELS_MIN(KEY_BLOCK, s->queries - start) + 15) / 16 * 16;
            int64_t place = (image * s->heads + head) * plan->padded_queries + start;
            f32_panel_product(rows, k, k_stride, plan->q_panels + place * d, d, scores, padded);
            f32_panel_product(rows, v, v_stride, plan->dy_panels + place * d, d, slopes, padded);
            for (int64_t i = 0; i < rows; i++) {
                float *score = scores + i * KEY_BLOCK, *slope = slopes + i * KEY_BLOCK;
                for (int64_t j = 0; j < padded; j += LANES) {
                    vf t = __builtin_elementwise_fma(load(score + j), (vf)(scale2), -load(plan->exponents + place + j));
                    vf weight = power_of_two(t, false);
                    store(score + j, weight);
                    store(slope + j, weight * (load(slope + j) - load(plan->dots + place + j)) * scale);
                }
            }
            bool add = image > from || start > 0;
            f32_product(rows, width / LANES, scores, KEY_BLOCK, plan->dy_rows + place * width, width, dv, width, padded, add);
            f32_product(rows, width / LANES, slopes, KEY_BLOCK, plan->q_rows + place * width, width, dk, width, padded, add);
        }
    for (int64_t i = 0; i < rows; i++) {
        memcpy(g->dk + (row + i) * g->dk_stride + head * d, dk + i * width, (size_t)d * sizeof *dk);
        memcpy(g->dv + (row + i) * g->dv_stride + head * d, dv + i * width, (size_t)d * sizeof *dv);
    }
}
#endif
