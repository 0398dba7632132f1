// The row kernels for AVX-512: 16 floats a vector, 32 registers.
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#define LANES 16
#define TILE_VECTORS 4
#include "simd_body.h"

const row_kernels avx512_kernels = {
    to_bf16, to_f32, silu, gelu, quick_gelu, geglu, layer_norm, channel_sums, scale_shift, winograd_input, winograd_output,
    f32_attention_block, f32_attention_pack};
#pragma clang attribute pop
