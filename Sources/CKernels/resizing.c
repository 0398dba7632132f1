// Bilinear interpolation with half-pixel centres (PyTorch's align_corners=False): result i stands at
// (i + 1/2) * in / out - 1/2 of the input, and before the first or behind the last pixel has that one's value.
#include "kernels.h"

typedef struct {
    const float *x;
    float *y;
    int64_t h, w, c, oh, ow;
} resizing;

// Between which two pixels a result stands, and the share of the second.
typedef struct {
    int64_t first, second;
    float share;
} place;

static place place_of(int64_t i, int64_t in, int64_t out) {
    float at = ((float)i + 0.5f) * ((float)in / (float)out) - 0.5f;
    if (at < 0) at = 0;
    int64_t first = KERNELS_MIN((int64_t)at, in - 1);
    return (place){first, KERNELS_MIN(first + 1, in - 1), at - (float)first};
}

static void resize_row(void *context, int64_t index) {
    const resizing *r = context;
    int64_t image = index / r->oh, c = r->c;
    place v = place_of(index % r->oh, r->h, r->oh);
    const float *top = r->x + (image * r->h + v.first) * r->w * c, *bottom = r->x + (image * r->h + v.second) * r->w * c;
    float *y = r->y + index * r->ow * c;
    for (int64_t j = 0; j < r->ow; j++, y += c) {
        place u = place_of(j, r->w, r->ow);
        const float *a = top + u.first * c, *b = top + u.second * c;
        const float *d = bottom + u.first * c, *e = bottom + u.second * c;
        float right = u.share, left = 1 - right, below = v.share, above = 1 - below;
        for (int64_t k = 0; k < c; k++)
            y[k] = above * (left * a[k] + right * b[k]) + below * (left * d[k] + right * e[k]);
    }
}

void kernels_resize_bilinear(const float *x, float *y, int64_t n, int64_t h, int64_t w, int64_t oh, int64_t ow,
                             int64_t c) {
    resizing r = {x, y, h, w, c, oh, ow};
    kernels_parallel_for(n * oh, resize_row, &r);
}

// In double, from the definition: each result is the sum of all pixels under triangles around its place.
void reference_resize_bilinear(const float *x, float *y, int64_t n, int64_t h, int64_t w, int64_t oh, int64_t ow,
                               int64_t c) {
    for (int64_t r = 0; r < n * oh * ow; r++) {
        double at[2] = {((double)(r / ow % oh) + 0.5) * (double)h / (double)oh - 0.5,
                        ((double)(r % ow) + 0.5) * (double)w / (double)ow - 0.5};
        int64_t last[2] = {h - 1, w - 1};
        for (int d = 0; d < 2; d++) {
            if (at[d] < 0) at[d] = 0;
            if (at[d] > (double)last[d]) at[d] = (double)last[d];
        }
        for (int64_t k = 0; k < c; k++) {
            double sum = 0;
            for (int64_t p = 0; p < h * w; p++) {
                double v = __builtin_fabs((double)(p / w) - at[0]), u = __builtin_fabs((double)(p % w) - at[1]);
                if (v < 1 && u < 1) sum += (1 - v) * (1 - u) * x[(r / (oh * ow) * h * w + p) * c + k];
            }
            y[r * c + k] = (float)sum;
        }
    }
}
