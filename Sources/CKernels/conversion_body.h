// Conversion between the element types, for one instruction set.

static void to_bf16(const float *x, uint16_t *y, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES)
        store_any(y, KERNELS_BF16, i, count - i, load_any(x, KERNELS_F32, i, count - i));
}
static void to_f32(const uint16_t *x, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES)
        store_any(y, KERNELS_F32, i, count - i, load_any(x, KERNELS_BF16, i, count - i));
}
