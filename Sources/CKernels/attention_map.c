// Which keys an attention read, and from where.
#include "attention.h"
#include "scalar.h"

size_t kernels_attention_map_scratch_bytes(const kernels_attention_map_shape *m) {
    return (size_t)((m->key_count + PANEL - 1) / PANEL * PANEL * m->forward.head_size) * sizeof(float);
}

typedef struct {
    const row_kernels *kernels;
    const kernels_attention_map_shape *shape;
} attention_map_work;

static void map_piece(void *context, int64_t index) {
    attention_map_work *a = context;
    a->kernels->attention_map_panel(a->shape, index);
}

void kernels_attention_map(const kernels_attention_map_shape *m) {
    if (!kernels_cpu().avx2 || m->forward.head_size > 512) {
        reference_attention_map(m);
        return;
    }
    attention_map_work a = {kernels_chosen(), m};
    kernels_parallel_for((m->key_count + PANEL - 1) / PANEL, map_piece, &a);
}

void reference_attention_map(const kernels_attention_map_shape *m) {
    const kernels_attention_shape *s = &m->forward;
    int64_t d = s->head_size, memory = s->kv_n == 1 ? 0 : m->image;
    for (int64_t head = 0; head < s->heads; head++)
        for (int64_t i = 0; i < s->queries; i++) {
            int64_t q = (m->image * s->queries + i) * s->q_stride + head * d;
            float log_sum = s->log_sums[(m->image * s->heads + head) * s->queries + i];
            for (int64_t j = 0; j < m->key_count; j++) {
                int64_t k = (memory * s->keys + m->first_key + j) * s->k_stride + head * d;
                double score = 0;
                for (int64_t p = 0; p < d; p++)
                    score += (double)element(s->q, s->type, q + p) * element(s->k, s->type, k + p);
                m->map[m->cells[i] * m->map_stride + j] +=
                    m->weight * expf((float)(score / sqrt((double)d)) - log_sum);
            }
        }
}
