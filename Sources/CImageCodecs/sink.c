#include "decoder.h"

#include <stdlib.h>
#include <string.h>

int image_sink_begin(
    image_sink *sink, const image_decoder *decoder, const image_request *request, uint8_t *pixels, uint32_t width,
    uint32_t height, uint32_t square) {
    *sink = (image_sink){
        .header = &decoder->header, .colour = request->colour, .pixels = pixels, .width = width, .height = height,
        .square = square, .channels = decoder->header.has_alpha ? 4 : 3};
    ptrdiff_t w = (width + square - 1) / square, h = (height + square - 1) / square;
    // Where a pixel of the source at column x and row y lands, by EXIF's orientation (tag 0x0112, CIPA DC-008).
    switch (request->orientation) {
        case 2: sink->origin = w - 1, sink->column = -1, sink->row = w; break;
        case 3: sink->origin = w * h - 1, sink->column = -1, sink->row = -w; break;
        case 4: sink->origin = (h - 1) * w, sink->column = 1, sink->row = -w; break;
        case 5: sink->origin = 0, sink->column = h, sink->row = 1; break;
        case 6: sink->origin = h - 1, sink->column = h, sink->row = -1; break;
        case 7: sink->origin = w * h - 1, sink->column = -h, sink->row = -1; break;
        case 8: sink->origin = (w - 1) * h, sink->column = -h, sink->row = 1; break;
        default: sink->origin = 0, sink->column = 1, sink->row = w;
    }
    sink->line = malloc((size_t)width * 4);
    sink->sums = square > 1 ? calloc((size_t)w * 4, sizeof *sink->sums) : NULL;
    if (sink->line && (square == 1 || sink->sums)) return 1;
    image_sink_end(sink);
    return 0;
}

void image_sink_end(image_sink *sink) {
    free(sink->line);
    free(sink->sums);
    sink->line = NULL;
    sink->sums = NULL;
}

// a * b / 255, rounded to nearest.
static uint8_t product(unsigned a, unsigned b) {
    unsigned t = a * b + 128;
    return (t + (t >> 8)) >> 8;
}

// Without a profile: grey is all three, ink lies over white paper (R = (255 - C)(255 - K) / 255, where the file holds the
// complements), and 16 bits give their high byte, as Pillow has it.
static void convert_plain(const image_sink *sink, const void *from, uint8_t *to) {
    int alpha = sink->header->has_alpha, samples = (int)sink->header->model + alpha;
    const uint8_t *narrow = from;
    const uint16_t *wide = from;
    for (uint32_t x = 0; x < sink->width; x++, to += 3 + alpha) {
        uint8_t value[5];
        for (int c = 0; c < samples; c++) value[c] = sink->header->bits == 16 ? *wide++ >> 8 : *narrow++;
        switch (sink->header->model) {
            case IMAGE_GREY: to[0] = to[1] = to[2] = value[0]; break;
            case IMAGE_RGB: memcpy(to, value, 3); break;
            case IMAGE_CMYK:
                for (int c = 0; c < 3; c++) to[c] = value[3] - product(255u - value[c], value[3]);
                break;
        }
        if (alpha) to[3] = value[samples - 1];
    }
}

static void place(const image_sink *sink, uint32_t y, const uint8_t *line, uint32_t width) {
    uint8_t *target = sink->pixels + (sink->origin + (ptrdiff_t)y * sink->row) * sink->channels;
    if (sink->column == 1) {
        memcpy(target, line, (size_t)width * sink->channels);
        return;
    }
    ptrdiff_t step = sink->column * sink->channels;
    for (uint32_t x = 0; x < width; x++, line += sink->channels, target += step)
        for (uint32_t c = 0; c < sink->channels; c++) target[c] = line[c];
}

// Adds a line to the sums of its squares; colours count by their alpha.
static void gather(image_sink *sink) {
    const uint8_t *line = sink->line;
    for (uint32_t x = 0; x < sink->width; x++, line += sink->channels) {
        uint32_t *sum = sink->sums + (size_t)(x / sink->square) * sink->channels;
        uint32_t alpha = sink->channels == 4 ? line[3] : 1;
        for (int c = 0; c < 3; c++) sum[c] += line[c] * alpha;
        if (sink->channels == 4) sum[3] += alpha;
    }
}

static void average(image_sink *sink, uint32_t rows) {
    uint32_t width = (sink->width + sink->square - 1) / sink->square;
    for (uint32_t x = 0; x < width; x++) {
        uint32_t *sum = sink->sums + (size_t)x * sink->channels;
        uint32_t left = sink->width - x * sink->square;
        uint32_t area = rows * (left < sink->square ? left : sink->square);
        uint32_t weight = sink->channels == 4 ? sum[3] : area;
        uint8_t *pixel = sink->line + (size_t)x * sink->channels;
        for (int c = 0; c < 3; c++) pixel[c] = weight ? (sum[c] + weight / 2) / weight : 0;
        if (sink->channels == 4) pixel[3] = (sum[3] + area / 2) / area;
        memset(sum, 0, sink->channels * sizeof *sum);
    }
    place(sink, sink->y / sink->square, sink->line, width);
}

void image_sink_row(image_sink *sink, const void *row) {
    if (sink->y >= sink->height) return;
    if (sink->colour) {
        image_colour_convert(sink->colour, row, sink->line, sink->width);
    } else {
        convert_plain(sink, row, sink->line);
    }
    if (sink->square == 1) {
        place(sink, sink->y, sink->line, sink->width);
    } else {
        gather(sink);
        uint32_t rows = sink->y % sink->square + 1;
        if (rows == sink->square || sink->y + 1 == sink->height) average(sink, rows);
    }
    sink->y++;
}
