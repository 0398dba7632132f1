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
        int64_t row = (image * s->queries + first + i) * s->y_stride + head * d;
        for (int64_t p = 0; p < width; p += LANES)
            store_any(s->y, s->type, row + p, d - p, load(out + i * width + p) * inverse);
    }
}
