// What the scalar twins share.
#pragma once
#include <math.h>
#include "kernels.h"

static inline float element(const void *x, kernels_type type, int64_t i) {
    return type == KERNELS_F32 ? ((const float *)x)[i] : bf16_value(((const uint16_t *)x)[i]);
}
static inline void set_element(void *y, kernels_type type, int64_t i, float v) {
    if (type == KERNELS_F32) ((float *)y)[i] = v;
    else ((uint16_t *)y)[i] = bf16_rounded(v);
}

static inline float sigmoid_f(float x) { return 1.0f / (1.0f + expf(-x)); }
static inline float silu_f(float x) { return x * sigmoid_f(x); }
