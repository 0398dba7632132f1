// A dilated convolution is an ordinary one on each of the d x d pictures that hold every d-th pixel in both directions
// (Chen et al. 2015, DeepLab; "space to batch"). These two take a picture apart and put it together.
#include <string.h>
#include "kernels.h"

typedef struct {
    const float *x;
    float *y;
    int64_t h, w, c, d, sh, sw;
} splitting;

// index: (image, dy, dx, row of the small picture).
static void split_row(void *context, int64_t index) {
    const splitting *s = context;
    int64_t i = index % s->sh, dx = index / s->sh % s->d, dy = index / s->sh / s->d % s->d;
    int64_t image = index / s->sh / s->d / s->d, row = i * s->d + dy;
    float *y = s->y + index * s->sw * s->c;
    for (int64_t j = 0; j < s->sw; j++, y += s->c) {
        int64_t column = j * s->d + dx;
        if (row < s->h && column < s->w)
            memcpy(y, s->x + ((image * s->h + row) * s->w + column) * s->c, (size_t)s->c * sizeof(float));
        else memset(y, 0, (size_t)s->c * sizeof(float));
    }
}

// index: (image, row of the whole picture).
static void join_row(void *context, int64_t index) {
    const splitting *s = context;
    int64_t image = index / s->h, row = index % s->h;
    float *y = s->y + index * s->w * s->c;
    for (int64_t column = 0; column < s->w; column++, y += s->c) {
        int64_t part = (image * s->d + row % s->d) * s->d + column % s->d;
        memcpy(y, s->x + ((part * s->sh + row / s->d) * s->sw + column / s->d) * s->c, (size_t)s->c * sizeof(float));
    }
}

void kernels_split_dilated(const float *x, float *y, int64_t n, int64_t h, int64_t w, int64_t c, int64_t dilation) {
    int64_t d = dilation;
    splitting s = {x, y, h, w, c, d, (h + d - 1) / d, (w + d - 1) / d};
    kernels_parallel_for(n * d * d * s.sh, split_row, &s);
}

void kernels_join_dilated(const float *x, float *y, int64_t n, int64_t h, int64_t w, int64_t c, int64_t dilation) {
    int64_t d = dilation;
    splitting s = {x, y, h, w, c, d, (h + d - 1) / d, (w + d - 1) / d};
    kernels_parallel_for(n * h, join_row, &s);
}

void reference_dilated_convolution(const float *x, const float *weights, const float *bias, float *y, int64_t n,
                                   int64_t h, int64_t w, int64_t c, int64_t outputs, int64_t kernel, int64_t dilation) {
    for (int64_t p = 0; p < n * h * w; p++)
        for (int64_t o = 0; o < outputs; o++) {
            double sum = bias ? bias[o] : 0;
            for (int64_t t = 0; t < kernel * kernel; t++) {
                int64_t yy = p / w % h + (t / kernel - kernel / 2) * dilation;
                int64_t xx = p % w + (t % kernel - kernel / 2) * dilation;
                if (yy < 0 || yy >= h || xx < 0 || xx >= w) continue;
                const float *pixel = x + ((p / (h * w) * h + yy) * w + xx) * c;
                for (int64_t k = 0; k < c; k++) sum += pixel[k] * weights[(o * c + k) * kernel * kernel + t];
            }
            y[p * outputs + o] = (float)sum;
        }
}
