// Fused attention.
#include <string.h>
#include "attention.h"
#include "scalar.h"

// bfloat16 products want whole pairs of channels.
static bool has_bf16_products(const kernels_attention_shape *s) {
    return s->type == KERNELS_BF16 && kernels_cpu().avx512_bf16 && s->head_size % 2 == 0;
}

// All but the places in the scratch memory, whose size follows from this.
static attention_plan plan_of(const kernels_attention_shape *s) {
    attention_plan plan = {.shape = *s};
    plan.element_bytes = has_bf16_products(s) ? 2 : 4;
    plan.padded_keys = (s->keys + PANEL - 1) / PANEL * PANEL;
    plan.padded_width = (s->head_size + 15) / 16 * 16;
    plan.query_blocks = (s->queries + QUERY_BLOCK - 1) / QUERY_BLOCK;
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
    size_t keys = (size_t)(s->kv_n * s->heads * a.plan.padded_keys * s->head_size);
    a.plan.packed_k = s->scratch;
    a.plan.packed_v = a.plan.packed_k + keys * a.plan.element_bytes;
    kernels_parallel_for(s->kv_n * s->heads * (a.plan.padded_keys / PANEL), pack_piece, &a);
    kernels_parallel_for(s->n * s->heads * a.plan.query_blocks, block_piece, &a);
}

// MARK: Backward

// Sets the plan's places in the scratch memory; returns how many floats they take.
static int64_t plan_gradient(attention_gradient_plan *plan, const kernels_attention_gradient_shape *g) {
    const kernels_attention_shape *s = &g->forward;
    *plan = (attention_gradient_plan){.shape = *g};
    plan->padded_keys = (s->keys + PANEL - 1) / PANEL * PANEL;
    plan->padded_queries = (s->queries + PANEL - 1) / PANEL * PANEL;
    plan->padded_width = (s->head_size + 15) / 16 * 16;
    int64_t keys = s->kv_n * s->heads * plan->padded_keys, queries = s->n * s->heads * plan->padded_queries;
    int64_t used = 0;
    float **places[] = {&plan->k_panels, &plan->v_panels, &plan->k_rows, &plan->exponents, &plan->dots,
                        &plan->q_panels, &plan->dy_panels, &plan->q_rows, &plan->dy_rows};
    int64_t sizes[] = {keys * s->head_size, keys * s->head_size, keys * plan->padded_width, queries, queries,
                       queries * s->head_size, queries * s->head_size, queries * plan->padded_width,
                       queries * plan->padded_width};
    for (int i = 0; i < (g->dk ? 9 : 5); i++) {
        if (g->scratch) *places[i] = (float *)g->scratch + used;
        used += sizes[i];
    }
    return used;
}

size_t kernels_attention_gradient_scratch_bytes(const kernels_attention_gradient_shape *g) {
    attention_gradient_plan plan;
    return (size_t)plan_gradient(&plan, g) * sizeof(float);
}

typedef struct {
    void (*function)(const attention_gradient_plan *, int64_t);
    attention_gradient_plan plan;
} attention_gradient_work;

static void attention_gradient_piece(void *context, int64_t index) {
    attention_gradient_work *a = context;
    a->function(&a->plan, index);
}

void kernels_attention_gradient(const kernels_attention_gradient_shape *g) {
    const kernels_attention_shape *s = &g->forward;
    if (!kernels_cpu().avx2 || s->head_size > 512) {
        reference_attention_gradient(g);
        return;
    }
    const row_kernels *kernels = kernels_chosen();
    attention_gradient_work a;
    (void)plan_gradient(&a.plan, g);
    int64_t key_blocks = (s->keys + QUERY_BLOCK - 1) / QUERY_BLOCK;
    int64_t query_blocks = (s->queries + QUERY_BLOCK - 1) / QUERY_BLOCK;
    a.function = kernels->attention_gradient_pack_keys;
    kernels_parallel_for(s->kv_n * s->heads * (a.plan.padded_keys / PANEL), attention_gradient_piece, &a);
    a.function = kernels->attention_gradient_pack_queries;
    kernels_parallel_for(s->n * s->heads * (a.plan.padded_queries / PANEL), attention_gradient_piece, &a);
    a.function = kernels->attention_gradient_queries;
    kernels_parallel_for(s->n * s->heads * query_blocks, attention_gradient_piece, &a);
    if (!g->dk) return;
    a.function = kernels->attention_gradient_keys;
    kernels_parallel_for(s->kv_n * s->heads * key_blocks, attention_gradient_piece, &a);
}

// MARK: The scalar twins

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
                    if (pass > 0 && s->log_sums)
                        s->log_sums[(image * s->heads + head) * s->queries + i] = maximum + logf((float)sum);
                }
            }
}

// One query: its score and the slope of its weight at key j.
static double score_of(const kernels_attention_shape *s, int64_t q, int64_t k) {
    double score = 0;
    for (int64_t p = 0; p < s->head_size; p++)
        score += (double)element(s->q, s->type, q + p) * element(s->k, s->type, k + p);
    return score / sqrt((double)s->head_size);
}
static void reference_query_gradient(const kernels_attention_gradient_shape *g, int64_t image, int64_t head, int64_t i) {
    const kernels_attention_shape *s = &g->forward;
    int64_t d = s->head_size, memory = s->kv_n == 1 ? 0 : image, row = image * s->queries + i;
    int64_t q = row * s->q_stride + head * d;
    const float *dy = g->dy + row * g->dy_stride + head * d;
    float *dq = g->dq + row * g->dq_stride + head * d;
    double maximum = -INFINITY, sum = 0, dot = 0;
    for (int64_t j = 0; j < s->keys; j++) {
        double score = score_of(s, q, (memory * s->keys + j) * s->k_stride + head * d);
        maximum = score > maximum ? score : maximum;
    }
    // First the sum of the weights and the mean slope, then the gradients.
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = 0; j < s->keys; j++) {
            int64_t key = memory * s->keys + j, k = key * s->k_stride + head * d, v = key * s->v_stride + head * d;
            double weight = exp(score_of(s, q, k) - maximum), slope = 0;
            for (int64_t p = 0; p < d; p++) slope += (double)dy[p] * element(s->v, s->type, v + p);
            if (pass == 0) {
                sum += weight, dot += weight * slope;
                continue;
            }
            weight /= sum;
            double ds = weight * (slope - dot / sum) / sqrt((double)d);
            for (int64_t p = 0; p < d; p++) {
                dq[p] += (float)(ds * element(s->k, s->type, k + p));
                if (!g->dk) continue;
                g->dk[key * g->dk_stride + head * d + p] += (float)(ds * element(s->q, s->type, q + p));
                g->dv[key * g->dv_stride + head * d + p] += (float)(weight * dy[p]);
            }
        }
}
void reference_attention_gradient(const kernels_attention_gradient_shape *g) {
    const kernels_attention_shape *s = &g->forward;
    size_t width = (size_t)(s->heads * s->head_size) * sizeof(float);
    for (int64_t i = 0; i < s->n * s->queries; i++) memset(g->dq + i * g->dq_stride, 0, width);
    for (int64_t j = 0; g->dk && j < s->kv_n * s->keys; j++) {
        memset(g->dk + j * g->dk_stride, 0, width);
        memset(g->dv + j * g->dv_stride, 0, width);
    }
    for (int64_t image = 0; image < s->n; image++)
        for (int64_t head = 0; head < s->heads; head++)
            for (int64_t i = 0; i < s->queries; i++) reference_query_gradient(g, image, head, i);
}
