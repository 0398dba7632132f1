// Winograd's way to a 3x3 convolution: its three transforms.
#include "scalar.h"

enum { TILES = 8 };

typedef struct {
    const row_kernels *kernels;
    const void *from;
    const float *bias;
    void *to;
    int64_t first, count, stride, h, w, c;
    kernels_type type;
    bool accumulate;
    int halving;  // of input coordinates, in powers of two
} winograd_work;

static const row_kernels *winograd_kernels(void) {
    return kernels_cpu().avx512_bf16 ? &avx512_bf16_kernels : kernels_chosen();
}

// The first row and column of results of a tile, and its picture.
typedef struct {
    int64_t image, y, x;
} tile_place;

static tile_place place_of(const winograd_work *work, int64_t tile) {
    int64_t high = (work->h + 1) / 2, wide = (work->w + 1) / 2;
    return (tile_place){tile / (high * wide), tile / wide % high * 2, tile % wide * 2};
}

static void winograd_input_piece(void *context, int64_t index) {
    winograd_work *k = context;
    int64_t high = (k->h + k->halving) >> k->halving, wide = (k->w + k->halving) >> k->halving;
    for (int64_t t = index * TILES; t < KERNELS_MIN(k->count, (index + 1) * TILES); t++) {
        tile_place at = place_of(k, k->first + t);
        const void *pixels[16];
        for (int p = 0; p < 16; p++) {
            int64_t y = at.y + p / 4 - 1, x = at.x + p % 4 - 1;
            bool inside = y >= 0 && y < k->h && x >= 0 && x < k->w;
            int64_t pixel = (at.image * high + (y >> k->halving)) * wide + (x >> k->halving);
            pixels[p] = inside ? at_element(k->from, k->type, pixel * k->c) : 0;
        }
        k->kernels->winograd_input(pixels, k->type, (void *)at_element(k->to, k->type, t * k->c), k->stride * k->c, k->c);
    }
}
void kernels_winograd_input(const void *x, kernels_type type, bool doubled, void *v, int64_t stride, int64_t first,
                            int64_t count, int64_t h, int64_t w, int64_t c) {
    winograd_work k = {winograd_kernels(), x, 0, v, first, count, stride, h, w, c, type, false, doubled};
    kernels_parallel_for((count + TILES - 1) / TILES, winograd_input_piece, &k);
}

static void winograd_output_piece(void *context, int64_t index) {
    winograd_work *k = context;
    for (int64_t t = index * TILES; t < KERNELS_MIN(k->count, (index + 1) * TILES); t++) {
        tile_place at = place_of(k, k->first + t);
        float *pixels[4];
        for (int p = 0; p < 4; p++) {
            int64_t y = at.y + p / 2, x = at.x + p % 2;
            pixels[p] = y < k->h && x < k->w ? (float *)k->to + ((at.image * k->h + y) * k->w + x) * k->c : 0;
        }
        k->kernels->winograd_output((const float *)k->from + t * k->c, k->stride * k->c, k->bias, k->accumulate, pixels,
                                    k->c);
    }
}
void kernels_winograd_output(const float *m, int64_t stride, const float *bias, bool accumulate, float *y, int64_t first,
                             int64_t count, int64_t h, int64_t w, int64_t c) {
    winograd_work k = {winograd_kernels(), m, bias, y, first, count, stride, h, w, c, KERNELS_F32, accumulate, 0};
    kernels_parallel_for((count + TILES - 1) / TILES, winograd_output_piece, &k);
}

static void winograd_weights_piece(void *context, int64_t output) {
    static const float g[4][3] = {{1, 0, 0}, {0.5f, 0.5f, 0.5f}, {0.5f, -0.5f, 0.5f}, {0, 0, 1}};
    winograd_work *k = context;
    for (int64_t i = output * k->c; i < (output + 1) * k->c; i++) {
        const float *weights = (const float *)k->from + i * 9;
        float half[4][3];
        for (int y = 0; y < 4; y++)
            for (int b = 0; b < 3; b++)
                half[y][b] = g[y][0] * weights[b] + g[y][1] * weights[3 + b] + g[y][2] * weights[6 + b];
        for (int y = 0; y < 4; y++)
            for (int x = 0; x < 4; x++)
                ((float *)k->to)[(y * 4 + x) * k->stride + i] =
                    half[y][0] * g[x][0] + half[y][1] * g[x][1] + half[y][2] * g[x][2];
    }
}
void kernels_winograd_weights(const float *weights, float *u, int64_t outputs, int64_t c) {
    winograd_work k = {.from = weights, .to = u, .stride = outputs * c, .c = c};
    kernels_parallel_for(outputs, winograd_weights_piece, &k);
}

// MARK: The scalar row kernels

// Lavin & Gray 2016, section 4.1.
static const float winograd_bt[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};
static const float winograd_at[2][4] = {{1, 1, 1, 0}, {0, 1, -1, -1}};

void scalar_winograd_input(const void *const pixels[16], kernels_type type, void *v, int64_t stride, int64_t c) {
    for (int64_t i = 0; i < c; i++)
        for (int y = 0; y < 4; y++)
            for (int x = 0; x < 4; x++) {
                float sum = 0;
                for (int a = 0; a < 4; a++)
                    for (int b = 0; b < 4; b++)
                        if (pixels[a * 4 + b])
                            sum += winograd_bt[y][a] * element(pixels[a * 4 + b], type, i) * winograd_bt[x][b];
                set_element(v, type, (y * 4 + x) * stride + i, sum);
            }
}
void scalar_winograd_output(const float *m, int64_t stride, const float *bias, bool accumulate, float *const pixels[4],
                            int64_t c) {
    for (int64_t i = 0; i < c; i++)
        for (int p = 0; p < 4; p++) {
            if (!pixels[p]) continue;
            float sum = bias ? bias[i] : 0;
            for (int a = 0; a < 4; a++)
                for (int b = 0; b < 4; b++)
                    sum += winograd_at[p / 2][a] * m[(a * 4 + b) * stride + i] * winograd_at[p % 2][b];
            pixels[p][i] = accumulate ? pixels[p][i] + sum : sum;
        }
}
