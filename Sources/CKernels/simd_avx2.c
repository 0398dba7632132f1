// The row kernels for AVX2 with FMA: 8 floats per vector, 16 registers.
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define LANES 8
#define TILE_VECTORS 2
#include "simd_body.h"

#define ATTENTION(name) f32_##name,
const row_kernels avx2_kernels = TABLE;
#pragma clang attribute pop
