#include "CCheckpoint.h"

#include <string.h>

// Such a number has an exponent of ones. Blocks are searched without a branch inside, so that the compiler uses vectors.
enum { BLOCK = 4096 };

#define SEARCH(name, type, mask)                                                                                       \
    static int64_t name(const char *numbers, int64_t count) {                                                          \
        type block[BLOCK];                                                                                             \
        for (int64_t first = 0; first < count; first += BLOCK) {                                                       \
            int64_t n = count - first < BLOCK ? count - first : BLOCK;                                                 \
            memcpy(block, numbers + first * (int64_t)sizeof(type), (size_t)n * sizeof(type));                          \
            type found = 0;                                                                                            \
            for (int64_t i = 0; i < n; i++) found |= (type)((block[i] & (mask)) == (mask));                            \
            for (int64_t i = 0; found && i < n; i++)                                                                   \
                if ((block[i] & (mask)) == (mask)) return first + i;                                                   \
        }                                                                                                              \
        return -1;                                                                                                     \
    }

SEARCH(search_f16, uint16_t, 0x7c00u)
SEARCH(search_bf16, uint16_t, 0x7f80u)
SEARCH(search_f32, uint32_t, 0x7f800000u)
SEARCH(search_f64, uint64_t, 0x7ff0000000000000u)

int64_t numbers_first_special(const void *numbers, numbers_type type, int64_t count) {
    switch (type) {
    case NUMBERS_F16: return search_f16(numbers, count);
    case NUMBERS_BF16: return search_bf16(numbers, count);
    case NUMBERS_F32: return search_f32(numbers, count);
    case NUMBERS_F64: return search_f64(numbers, count);
    }
    return -1;
}
