#pragma once
#include "CImageCodecs.h"

// What the decoders of single formats have in common. Each opens with a function of its own, fills in the header, and
// hands rows to a sink.

// Where rows go: sRGB of 8 bits, smaller and upright.
typedef struct {
    const image_header *header;
    image_colour *colour;
    uint8_t *pixels;
    // Of the rows that come.
    uint32_t width, height;
    // Sides of the squares that become one pixel each.
    uint32_t square;
    // Rows so far.
    uint32_t y;
    // Of the result: samples per pixel, and in pixels the place of its first and the steps for a column and a row of the
    // source.
    uint32_t channels;
    ptrdiff_t origin, column, row;
    uint8_t *line;
    uint32_t *sums;
} image_sink;

struct image_decoder {
    image_header header;
    const uint8_t *bytes;
    size_t count;
    // Of the call that is running.
    char *message;
    void *state;
    image_result (*read)(image_decoder *decoder, const image_request *request, uint8_t *pixels);
    void (*close)(image_decoder *decoder);
};

image_result image_open_png(image_decoder *decoder);
image_result image_open_jpeg(image_decoder *decoder);
image_result image_open_webp(image_decoder *decoder);
image_result image_open_heif(image_decoder *decoder);
image_result image_open_avif(image_decoder *decoder);
void image_prepare_heif(void);
void image_prepare_colour(void);

// Sets the decoder's message and returns `result`.
image_result image_fail(image_decoder *decoder, image_result result, const char *text);

// `square` is what is left to reduce of rows of this size. 0 where there is no memory.
int image_sink_begin(
    image_sink *sink, const image_decoder *decoder, const image_request *request, uint8_t *pixels, uint32_t width,
    uint32_t height, uint32_t square);
// A row as the header says: samples of 8 or 16 bits, alpha last.
void image_sink_row(image_sink *sink, const void *row);
void image_sink_end(image_sink *sink);

// `count` pixels as the header says into RGB or RGBA of 8 bits.
void image_colour_convert(image_colour *colour, const void *from, uint8_t *to, uint32_t count);
