// The map of what an attention read, for one instruction set; included after attention_body.h of fp32 products.

// index: panel of keys. Nobody else writes to its columns of the map.
static void f32_attention_map_panel(const kernels_attention_map_shape *m, int64_t index) {
    const kernels_attention_shape *s = &m->forward;
    int64_t d = s->head_size, from = index * PANEL, keys = KERNELS_MIN(PANEL, m->key_count - from);
    int64_t memory = s->kv_n == 1 ? 0 : m->image;
    float *panel = (float *)m->scratch + from * d;
    float scores[QUERY_BLOCK * PANEL] __attribute__((aligned(64)));
    float room[QUERY_BLOCK * 512];
    float scale = 1.44269504f / __builtin_sqrtf((float)d);

    for (int64_t head = 0; head < s->heads; head++) {
        for (int64_t j = 0; j < PANEL; j++) {
            int64_t row = memory * s->keys + m->first_key + from + j;
            const float *k = j < keys ? as_floats(s, s->k, row * s->k_stride + head * d, d, room) : 0;
            for (int64_t p = 0; p < d; p++) panel[p * PANEL + j] = k ? k[p] : 0;
        }
        for (int64_t first = 0; first < s->queries; first += QUERY_BLOCK) {
            int64_t rows = KERNELS_MIN(QUERY_BLOCK, s->queries - first), q_stride = s->q_stride;
            int64_t at = (m->image * s->queries + first) * s->q_stride + head * d;
            const float *q = as_floats(s, s->q, at, d, room);
            if (q == room) {  // converted: the other rows too
                for (int64_t i = 1; i < rows; i++) (void)as_floats(s, s->q, at + i * q_stride, d, room + i * d);
                q_stride = d;
            }
            f32_product(rows, PANEL / LANES, q, q_stride, panel, PANEL, scores, PANEL, d, false);
            const float *log_sums = s->log_sums + (m->image * s->heads + head) * s->queries + first;
            for (int64_t i = 0; i < rows; i++) {
                float *row = scores + i * PANEL, *cell = m->map + m->cells[first + i] * m->map_stride + from;
                vf shift = (vf)(-1.44269504f * log_sums[i]);
                for (int64_t j = 0; j < PANEL; j += LANES)
                    store(row + j, power_of_two(__builtin_elementwise_fma(load(row + j), (vf)(scale), shift), false));
                for (int64_t j = 0; j < keys; j++) cell[j] += m->weight * row[j];
            }
        }
    }
}
