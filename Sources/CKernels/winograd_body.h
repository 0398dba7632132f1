// Winograd's transforms, for one instruction set; the matrices are those of winograd.c, multiplied out.

static void winograd_input(const void *const pixels[16], kernels_type type, void *v, int64_t stride, int64_t c) {
    for (int64_t i = 0; i < c; i += LANES) {
        vf d[16], e[16];
        for (int p = 0; p < 16; p++) d[p] = pixels[p] ? load_any(pixels[p], type, i, c - i) : (vf)(0.0f);
        for (int x = 0; x < 4; x++) {
            e[x] = d[x] - d[8 + x];
            e[4 + x] = d[4 + x] + d[8 + x];
            e[8 + x] = d[8 + x] - d[4 + x];
            e[12 + x] = d[4 + x] - d[12 + x];
        }
        for (int y = 0; y < 16; y += 4) {
            store_any(v, type, y * stride + i, c - i, e[y] - e[y + 2]);
            store_any(v, type, (y + 1) * stride + i, c - i, e[y + 1] + e[y + 2]);
            store_any(v, type, (y + 2) * stride + i, c - i, e[y + 2] - e[y + 1]);
            store_any(v, type, (y + 3) * stride + i, c - i, e[y + 1] - e[y + 3]);
        }
    }
}

static void winograd_output(const float *m, int64_t stride, const float *bias, bool accumulate, float *const pixels[4],
                            int64_t c) {
    for (int64_t i = 0; i < c; i += LANES) {
        int64_t left = c - i;
        vf d[16], e[8], y[4];
        for (int p = 0; p < 16; p++) d[p] = load_any(m + p * stride, KERNELS_F32, i, left);
        for (int x = 0; x < 4; x++) {
            e[x] = d[x] + d[4 + x] + d[8 + x];
            e[4 + x] = d[4 + x] - d[8 + x] - d[12 + x];
        }
        for (int r = 0; r < 2; r++) {
            y[2 * r] = e[4 * r] + e[4 * r + 1] + e[4 * r + 2];
            y[2 * r + 1] = e[4 * r + 1] - e[4 * r + 2] - e[4 * r + 3];
        }
        vf b = bias ? load_any(bias, KERNELS_F32, i, left) : (vf)(0.0f);
        for (int p = 0; p < 4; p++) {
            if (!pixels[p]) continue;
            vf sum = y[p] + b;
            if (accumulate) sum += load_any(pixels[p], KERNELS_F32, i, left);
            store_any(pixels[p], KERNELS_F32, i, left, sum);
        }
    }
}
