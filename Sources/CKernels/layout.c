// Copies, joined rows, pictures of twice the size.
#include <string.h>
#include "kernels.h"

// Bound by memory, which one core does not saturate: pieces of about COPY_BYTES go to the pool.

enum { COPY_BYTES = 1 << 18 };

typedef struct {
    const char *a, *b;
    char *y;
    int64_t a_bytes, b_bytes;  // of a row
    int64_t rows, piece;       // of all, of a piece
} row_copy;

// Rows of which a piece writes about COPY_BYTES.
static int64_t piece_rows(int64_t row_bytes) { return row_bytes < COPY_BYTES ? COPY_BYTES / (row_bytes + 1) + 1 : 1; }

static void copy_piece(void *context, int64_t index) {
    row_copy *j = context;
    int64_t first = index * COPY_BYTES;
    memcpy(j->y + first, j->a + first, (size_t)KERNELS_MIN(COPY_BYTES, j->a_bytes - first));
}
void kernels_copy(const void *x, void *y, int64_t bytes) {
    row_copy j = {.a = x, .y = y, .a_bytes = bytes};
    kernels_parallel_for((bytes + COPY_BYTES - 1) / COPY_BYTES, copy_piece, &j);
}

static void concat_piece(void *context, int64_t index) {
    row_copy *j = context;
    int64_t y_bytes = j->a_bytes + j->b_bytes;
    for (int64_t r = index * j->piece; r < KERNELS_MIN(j->rows, (index + 1) * j->piece); r++) {
        memcpy(j->y + r * y_bytes, j->a + r * j->a_bytes, (size_t)j->a_bytes);
        memcpy(j->y + r * y_bytes + j->a_bytes, j->b + r * j->b_bytes, (size_t)j->b_bytes);
    }
}
void kernels_concat_rows(const float *a, int64_t a_row, const float *b, int64_t b_row, float *y, int64_t rows) {
    int64_t size = sizeof(float), piece = piece_rows((a_row + b_row) * size);
    row_copy j = {(const char *)a, (const char *)b, (char *)y, a_row * size, b_row * size, rows, piece};
    kernels_parallel_for((rows + piece - 1) / piece, concat_piece, &j);
}

typedef struct {
    const char *x;
    char *y;
    int64_t h, w, oh, ow, pixel_bytes, rows, piece;  // rows of all pictures that are written, of a piece
} upsampling;

static void upsample_piece(void *context, int64_t index) {
    upsampling *u = context;
    for (int64_t r = index * u->piece; r < KERNELS_MIN(u->rows, (index + 1) * u->piece); r++) {
        const char *line = u->x + (r / u->oh * u->h + r % u->oh / 2) * u->w * u->pixel_bytes;
        char *to = u->y + r * u->ow * u->pixel_bytes;
        for (int64_t j = 0; j < u->ow; j++, to += u->pixel_bytes)
            memcpy(to, line + j / 2 * u->pixel_bytes, (size_t)u->pixel_bytes);
    }
}
void kernels_upsample2(const void *x, void *y, int64_t n, int64_t h, int64_t w, int64_t oh, int64_t ow,
                       int64_t pixel_bytes) {
    int64_t piece = piece_rows(ow * pixel_bytes);
    upsampling u = {x, y, h, w, oh, ow, pixel_bytes, n * oh, piece};
    kernels_parallel_for((n * oh + piece - 1) / piece, upsample_piece, &u);
}

// MARK: Backward

typedef struct {
    const float *x;
    float *y;
    int64_t stride, width, rows, piece;
} column_copy;

static void columns_piece(void *context, int64_t index) {
    column_copy *w = context;
    for (int64_t r = index * w->piece; r < KERNELS_MIN(w->rows, (index + 1) * w->piece); r++)
        memcpy(w->y + r * w->width, w->x + r * w->stride, (size_t)w->width * sizeof(float));
}
void kernels_copy_columns(const float *x, int64_t stride, float *y, int64_t width, int64_t rows) {
    int64_t piece = piece_rows(width * (int64_t)sizeof(float));
    column_copy w = {x, y, stride, width, rows, piece};
    kernels_parallel_for((rows + piece - 1) / piece, columns_piece, &w);
}

typedef struct {
    const float *dy;
    float *dx;
    int64_t h, w, oh, ow, c;
} upsampling_gradient;

// index: a row of pixels of dx.
static void upsample_gradient_piece(void *context, int64_t index) {
    upsampling_gradient *u = context;
    int64_t image = index / u->h, i = index % u->h;
    float *dx = u->dx + index * u->w * u->c;
    memset(dx, 0, (size_t)(u->w * u->c) * sizeof *dx);
    for (int64_t y = 2 * i; y < KERNELS_MIN(u->oh, 2 * i + 2); y++) {
        const float *dy = u->dy + (image * u->oh + y) * u->ow * u->c;
        for (int64_t x = 0; x < u->ow; x++, dy += u->c)
            for (int64_t p = 0; p < u->c; p++) dx[x / 2 * u->c + p] += dy[p];
    }
}
void kernels_upsample2_gradient(const float *dy, float *dx, int64_t n, int64_t h, int64_t w, int64_t oh, int64_t ow,
                                int64_t c) {
    upsampling_gradient u = {dy, dx, h, w, oh, ow, c};
    kernels_parallel_for(n * h, upsample_gradient_piece, &u);
}
