// Which instruction set does the work.
#include "kernels.h"

static _Thread_local kernels_cpu_features limit = {true, true, true};

kernels_cpu_features kernels_cpu(void) {
    kernels_cpu_features has = {
        .avx2 = limit.avx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"),
        .avx512 = limit.avx512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"),
        .avx512_bf16 = limit.avx512_bf16 && limit.avx512 && __builtin_cpu_supports("avx512bf16"),
    };
    return has;
}

void kernels_limit_cpu(kernels_cpu_features allowed) { limit = allowed; }

#define SCALAR(name, parameters) scalar_##name,
#define NONE(name) 0,
const row_kernels scalar_kernels = {ROW_KERNELS(SCALAR) ATTENTION_KERNELS(NONE) ATTENTION_GRADIENT_KERNELS(NONE)
                                        ATTENTION_MAP_KERNELS(NONE)};
#undef SCALAR
#undef NONE

const row_kernels *kernels_chosen(void) {
    kernels_cpu_features has = kernels_cpu();
    if (has.avx512) return &avx512_kernels;
    return has.avx2 ? &avx2_kernels : &scalar_kernels;
}
