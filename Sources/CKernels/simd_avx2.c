// The row kernels for AVX2 with FMA: 8 floats a vector, 16 registers.
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define LANES 8
#define TILE_VECTORS 2
#include "simd_body.h"

const row_kernels avx2_kernels = {
    to_bf16, to_f32, silu, gelu, quick_gelu, geglu, layer_norm, channel_sums, scale_shift, winograd_input, winograd_output,
    f32_attention_block, f32_attention_pack};
#pragma clang attribute pop
