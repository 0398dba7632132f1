// Max-pooling with a window of 2 x 2 and a stride of 2. Where a side is odd, the last window has what is there
// (PyTorch's ceil_mode).
#include "kernels.h"

typedef struct {
    const float *x;
    float *y;
    int64_t h, w, c, oh, ow;
} pooling;

static void pool_row(void *context, int64_t index) {
    const pooling *p = context;
    int64_t image = index / p->oh, i = index % p->oh, c = p->c;
    const float *top = p->x + (image * p->h + 2 * i) * p->w * c;
    // A window that reaches beyond the picture reads its own row or column twice: the maximum is the same.
    const float *bottom = 2 * i + 1 < p->h ? top + p->w * c : top;
    float *y = p->y + index * p->ow * c;
    for (int64_t j = 0; j < p->ow; j++, y += c) {
        int64_t left = 2 * j * c, right = 2 * j + 1 < p->w ? left + c : left;
        for (int64_t k = 0; k < c; k++) {
            float a = top[left + k], b = top[right + k], d = bottom[left + k], e = bottom[right + k];
            float ab = a > b ? a : b, de = d > e ? d : e;
            y[k] = ab > de ? ab : de;
        }
    }
}

void kernels_max_pool2(const float *x, float *y, int64_t n, int64_t h, int64_t w, int64_t c) {
    pooling p = {x, y, h, w, c, (h + 1) / 2, (w + 1) / 2};
    kernels_parallel_for(n * p.oh, pool_row, &p);
}

void reference_max_pool2(const float *x, float *y, int64_t n, int64_t h, int64_t w, int64_t c) {
    int64_t oh = (h + 1) / 2, ow = (w + 1) / 2;
    for (int64_t image = 0; image < n; image++)
        for (int64_t i = 0; i < oh; i++)
            for (int64_t j = 0; j < ow; j++)
                for (int64_t k = 0; k < c; k++) {
                    float most = -__builtin_inff();
                    for (int64_t yy = 2 * i; yy < KERNELS_MIN(h, 2 * i + 2); yy++)
                        for (int64_t xx = 2 * j; xx < KERNELS_MIN(w, 2 * j + 2); xx++) {
                            float value = x[((image * h + yy) * w + xx) * c + k];
                            most = value > most ? value : most;
                        }
                    y[((image * oh + i) * ow + j) * c + k] = most;
                }
}
