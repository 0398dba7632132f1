// How an attention is cut into independent pieces; shared by every instruction set's attention_body.h.
#pragma once
#include <math.h>
#include "kernels.h"

enum {
    QUERY_BLOCK = 48,  // queries a piece of work covers: 8 register tiles of 6 rows
    KEY_BLOCK = 256,   // keys between two updates of the running maximum
    PANEL = 64,        // keys a packed panel holds: 4 vectors of 16 lanes
};

typedef struct attention_plan {
    kernels_attention_shape shape;
    int64_t padded_keys;   // keys rounded up to whole panels; the padding holds zeros
    int64_t padded_width;  // head_size rounded up to 16, the width of a row of packed v
    int64_t query_blocks;
    size_t element_bytes;
    // Packed k: [kv_n, heads, panels, head_size, PANEL]; for bfloat16 products pairs of consecutive channels lie together.
    // Packed v: [kv_n, heads, padded_keys, padded_width]; for bfloat16 products pairs of consecutive keys lie together.
    char *packed_k, *packed_v;
} attention_plan;

// The same for the way back. Panels hold 64 rows as columns, [panels, head_size, PANEL]; rows are padded to padded_width.
typedef struct attention_gradient_plan {
    kernels_attention_gradient_shape shape;
    int64_t padded_keys, padded_queries, padded_width;
    float *k_panels, *v_panels, *k_rows;                 // [kv_n, heads, padded_keys, head_size or padded_width]
    float *q_panels, *dy_panels, *q_rows, *dy_rows;      // [n, heads, padded_queries, likewise]; none without dk
    float *exponents, *dots;                             // [n, heads, padded_queries]
} attention_gradient_plan;
