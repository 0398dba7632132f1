// The row kernels for AVX-512: 16 floats per vector, 32 registers.
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#define LANES 16
#define TILE_VECTORS 4
#include "simd_body.h"

#define ATTENTION(name) f32_##name,
const row_kernels avx512_kernels = TABLE;
#pragma clang attribute pop
