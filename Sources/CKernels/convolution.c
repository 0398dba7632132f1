// A convolution as a product over patches (im2col, Chellapilla et al. 2006).
#include <string.h>
#include "kernels.h"

void kernels_patches(const void *x, kernels_type type, float *y, int64_t first, int64_t rows, int64_t from, int64_t to,
                     int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int64_t kernel, int64_t stride,
                     int64_t pad) {
    const row_kernels *kernels = kernels_chosen();  // of the pool's thread; every one widens exactly
    for (int64_t p = first; p < first + rows; p++) {
        int64_t image = p / (oh * ow), i = p / ow % oh, j = p % ow;
        for (int64_t column = from, run; column < to; column += run, y += run) {
            int64_t tap = column / c, channel = column % c;
            run = KERNELS_MIN(c - channel, to - column);
            int64_t yy = i * stride + tap / kernel - pad, xx = j * stride + tap % kernel - pad;
            if (yy < 0 || yy >= h || xx < 0 || xx >= w) {
                memset(y, 0, (size_t)run * sizeof(float));
                continue;
            }
            const void *pixels = at_element(x, type, ((image * h + yy) * w + xx) * c + channel);
            if (type == KERNELS_F32) memcpy(y, pixels, (size_t)run * sizeof(float));
            else kernels->to_f32(pixels, y, run);
        }
    }
}

// MARK: Backward

typedef struct {
    const float *weights;
    float *turned;
    int64_t outputs, inputs, area;
} turning;

// index: an input.
static void turn_piece(void *context, int64_t input) {
    turning *t = context;
    float *to = t->turned + input * t->outputs * t->area;
    for (int64_t output = 0; output < t->outputs; output++) {
        const float *from = t->weights + (output * t->inputs + input) * t->area;
        for (int64_t tap = t->area - 1; tap >= 0; tap--) *to++ = from[tap];
    }
}
void kernels_turned_weights(const float *weights, float *turned, int64_t outputs, int64_t inputs, int64_t area) {
    turning t = {weights, turned, outputs, inputs, area};
    kernels_parallel_for(inputs, turn_piece, &t);
}
