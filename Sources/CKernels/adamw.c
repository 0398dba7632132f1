// AdamW (Loshchilov & Hutter 2019), in the order of torch.optim.AdamW's operations.
#include "kernels.h"

typedef struct {
    const kernels_adamw_settings *settings;
    float *parameters, *first, *second;
    const float *gradients;
    int64_t count;
} adamw_work;

static void adamw_piece(void *context, int64_t index) {
    adamw_work *w = context;
    const kernels_adamw_settings *s = w->settings;
    float keep = (float)(1 - s->learning_rate * s->weight_decay), step = (float)(s->learning_rate / s->first_correction);
    float beta2 = (float)s->beta2, eps = (float)s->epsilon;
    float rest1 = (float)(1 - s->beta1), rest2 = (float)(1 - s->beta2);
    float root = (float)__builtin_sqrt(s->second_correction);
    for (int64_t i = index * PIECE; i < KERNELS_MIN(w->count, (index + 1) * PIECE); i++) {
        float g = w->gradients[i];
        float m = w->first[i] + rest1 * (g - w->first[i]);
        float v = w->second[i] * beta2 + rest2 * g * g;
        w->first[i] = m, w->second[i] = v;
        w->parameters[i] = w->parameters[i] * keep - step * (m / (__builtin_sqrtf(v) / root + eps));
    }
}
void kernels_adamw(const kernels_adamw_settings *settings, float *parameters, const float *gradients, float *first,
                   float *second, int64_t count) {
    adamw_work w = {settings, parameters, first, second, gradients, count};
    kernels_parallel_for(pieces(count), adamw_piece, &w);
}
