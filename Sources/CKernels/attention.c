// Fused attention.
#include "attention.h"
#include "scalar.h"

// bfloat16 products want whole pairs of channels.
static bool has_bf16_products(const kernels_attention_shape *s) {
    return s->type == KERNELS_BF16 && kernels_cpu().avx512_bf16 && s->head_size % 2 == 0;
}

static attention_plan plan_of(const kernels_attention_shape *s) {
    attention_plan plan = {.shape = *s};
    plan.element_bytes = has_bf16_products(s) ? 2 : 4;
    plan.padded_keys = (s->keys + PANEL - 1) / PANEL * PANEL;
    plan.padded_width = (s->head_size + 15) / 16 * 16;
    plan.query_blocks = (s->queries + QUERY_BLOCK - 1) / QUERY_BLOCK;
    plan.packed_k = s->scratch;
    plan.packed_v = plan.packed_k + (size_t)(s->kv_n * s->heads * plan.padded_keys * s->head_size) * plan.element_bytes;
    return plan;
}

size_t kernels_attention_scratch_bytes(const kernels_attention_shape *s) {
    attention_plan plan = plan_of(s);
    return (size_t)(s->kv_n * s->heads * plan.padded_keys * (s->head_size + plan.padded_width)) * plan.element_bytes;
}

typedef struct {
    const row_kernels *kernels;
    attention_plan plan;
} attention_work;

static void pack_piece(void *context, int64_t index) {
    attention_work *a = context;
    a->kernels->attention_pack(&a->plan, index);
}
static void block_piece(void *context, int64_t index) {
    attention_work *a = context;
    a->kernels->attention_block(&a->plan, index);
}

void kernels_attention(const kernels_attention_shape *s) {
    // The fused kernels hold one block of queries, scores and outputs on the stack.
    if (!kernels_cpu().avx2 || s->head_size > 512) {
        reference_attention(s);
        return;
    }
    attention_work a = {has_bf16_products(s) ? &avx512_bf16_kernels : kernels_chosen(), plan_of(s)};
    kernels_parallel_for(s->kv_n * s->heads * (a.plan.padded_keys / PANEL), pack_piece, &a);
    kernels_parallel_for(s->n * s->heads * a.plan.query_blocks, block_piece, &a);
}

// MARK: The scalar twin

void reference_attention(const kernels_attention_shape *s) {
    int64_t d = s->head_size;
    float scale = 1.0f / sqrtf((float)d);
    for (int64_t image = 0; image < s->n; image++)
        for (int64_t head = 0; head < s->heads; head++)
            for (int64_t i = 0; i < s->queries; i++) {
                int64_t memory = s->kv_n == 1 ? 0 : image;
                int64_t q = (image * s->queries + i) * s->q_stride + head * d;
                int64_t k = memory * s->keys * s->k_stride + head * d, v = memory * s->keys * s->v_stride + head * d;
                int64_t y = (image * s->queries + i) * s->y_stride + head * d;
                int64_t seen = s->causal ? KERNELS_MIN(s->keys, i + 1) : s->keys;
                float maximum = -INFINITY;
                // The scores are computed again rather than kept in memory: once for the maximum, then to weigh 512
                // columns of v at a time.
                for (int64_t pass = 0, from = 0; from < d; from += pass > 0 ? 512 : 0, pass++) {
                    int64_t columns = KERNELS_MIN(512, d - from);
                    double sum = 0, out[512] = {0};
                    for (int64_t j = 0; j < seen; j++) {
                        float score = 0;
                        for (int64_t p = 0; p < d; p++)
                            score += element(s->q, s->type, q + p) * element(s->k, s->type, k + j * s->k_stride + p);
                        score *= scale;
                        if (pass == 0) {
                            maximum = score > maximum ? score : maximum;
                            continue;
                        }
                        float weight = expf(score - maximum);
                        sum += weight;
                        for (int64_t p = 0; p < columns; p++)
                            out[p] += weight * element(s->v, s->type, v + j * s->v_stride + from + p);
                    }
                    for (int64_t p = 0; pass > 0 && p < columns; p++)
                        set_element(s->y, s->type, y + from + p, (float)(out[p] / sum));
                }
            }
}
