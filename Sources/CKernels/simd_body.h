// All row kernels of one instruction set; see simd.h for what the including file sets.
#include "simd.h"
#include "conversion_body.h"
#include "activation_body.h"
#include "layer_norm_body.h"
#include "group_norm_body.h"
#include "winograd_body.h"

// Attention with fp32 products, of bfloat16 elements too. The file of the bfloat16 products includes the body with macros
// of its own instead.
#ifndef HAS_BF16
static const float *as_floats(const kernels_attention_shape *s, const void *x, int64_t at, int64_t count, float *room) {
    if (s->type == KERNELS_F32) return (const float *)x + at;
    to_f32((const uint16_t *)x + at, room, count);
    return room;
}

#define ELEMENT float
#define PAIR 1
#define NAME(x) f32_##x
#define BROADCAST(pointer) ((vf)(*(pointer)))
#define DOT(acc, a, b) __builtin_elementwise_fma(a, b, acc)
#define STORE_P(row, j, e) store((row) + (j), e)
#define READ(s, x, at, count, room) as_floats(s, x, at, count, room)
#include "attention_body.h"
#include "attention_map_body.h"
#undef ELEMENT
#undef PAIR
#undef NAME
#undef BROADCAST
#undef DOT
#undef STORE_P
#undef READ
#endif

// The table of these kernels. ATTENTION names the kernels of attention: by fp32 or by bfloat16 products.
#define OF_THIS_SET(name, parameters) name,
#ifdef HAS_BF16
#define GRADIENT(name) 0,
#else
#define GRADIENT(name) f32_##name,
#endif
#define TABLE                                                                                                          \
    {ROW_KERNELS(OF_THIS_SET) ATTENTION_KERNELS(ATTENTION) ATTENTION_GRADIENT_KERNELS(GRADIENT)                        \
         ATTENTION_MAP_KERNELS(GRADIENT)}
