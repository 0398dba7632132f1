#include "decoder.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

// The program's own ceiling on one side; callers have stricter limits of their own.
enum { MAXIMUM_SIDE = 1 << 20, MAXIMUM_CHUNK = 8 << 20, MAXIMUM_CHUNKS = 1000 };

typedef struct {
    const uint8_t *bytes;
    size_t count;
    size_t position;
    uint8_t *output;
    size_t output_count;
    size_t output_capacity;
    image_result result;
    char *message;
} png_state;

static void set_message(char *message, const char *text) {
    strncpy(message, text, IMAGE_MESSAGE_SIZE - 1);
    message[IMAGE_MESSAGE_SIZE - 1] = 0;
}

static void on_error(png_structp png, png_const_charp text) {
    png_state *state = png_get_error_ptr(png);
    if (state->result == IMAGE_OK) state->result = IMAGE_CORRUPT;
    set_message(state->message, text);
    png_longjmp(png, 1);
}

// Warnings concern ancillary chunks, such as a colour profile with a wrong checksum, which do not change the pixels.
static void on_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep target, size_t count) {
    png_state *state = png_get_io_ptr(png);
    if (count > state->count - state->position) {
        state->result = IMAGE_TRUNCATED;
        png_error(png, "the data ends inside a chunk");
    }
    memcpy(target, state->bytes + state->position, count);
    state->position += count;
}

static void on_write(png_structp png, png_bytep source, size_t count) {
    png_state *state = png_get_io_ptr(png);
    if (count > state->output_capacity - state->output_count) {
        size_t capacity = state->output_capacity * 2 + count + 4096;
        uint8_t *grown = realloc(state->output, capacity);
        if (!grown) {
            state->result = IMAGE_NO_MEMORY;
            png_error(png, "out of memory");
        }
        state->output = grown;
        state->output_capacity = capacity;
    }
    memcpy(state->output + state->output_count, source, count);
    state->output_count += count;
}

static void on_flush(png_structp png) { (void)png; }

// What one call of the decoder needs, in one place that longjmp leaves as it is.
typedef struct {
    png_state io;
    png_structp png;
    png_infop info;
    uint8_t *picture;
    image_sink sink;
} png_decoder;

static void close_png(image_decoder *decoder) {
    png_decoder *state = decoder->state;
    png_destroy_read_struct(&state->png, &state->info, NULL);
    image_sink_end(&state->sink);
    free(state->picture);
    free(state);
}

// All rows of an interlaced picture are there only after the last pass.
static void read_interlaced(png_decoder *state, size_t stride, uint32_t height) {
    state->picture = malloc(stride * height);
    if (!state->picture) {
        state->io.result = IMAGE_NO_MEMORY;
        png_error(state->png, "out of memory");
    }
    for (int pass = 0; pass < PNG_INTERLACE_ADAM7_PASSES; pass++)
        for (uint32_t y = 0; y < height; y++) png_read_row(state->png, state->picture + y * stride, NULL);
    for (uint32_t y = 0; y < height; y++) image_sink_row(&state->sink, state->picture + y * stride);
}

static image_result read_png(image_decoder *decoder, const image_request *request, uint8_t *pixels) {
    png_decoder *state = decoder->state;
    state->io.message = decoder->message;
    if (setjmp(png_jmpbuf(state->png))) return state->io.result;
    uint32_t width = decoder->header.width, height = decoder->header.height;
    if (!image_sink_begin(&state->sink, decoder, request, pixels, width, height, request->reduction)) {
        return IMAGE_NO_MEMORY;
    }
    size_t stride = png_get_rowbytes(state->png, state->info);
    if (decoder->header.held_bits) {
        read_interlaced(state, stride, height);
    } else {
        state->picture = malloc(stride);
        if (!state->picture) return IMAGE_NO_MEMORY;
        for (uint32_t y = 0; y < height; y++) {
            png_read_row(state->png, state->picture, NULL);
            image_sink_row(&state->sink, state->picture);
        }
    }
    png_read_end(state->png, NULL);
    return IMAGE_OK;
}

image_result image_open_png(image_decoder *decoder) {
    png_decoder *state = calloc(1, sizeof *state);
    if (!state) return IMAGE_NO_MEMORY;
    state->io = (png_state){.bytes = decoder->bytes, .count = decoder->count, .message = decoder->message};
    decoder->state = state;
    decoder->read = read_png;
    decoder->close = close_png;
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &state->io, on_error, on_warning);
    state->png = png;
    state->info = png ? png_create_info_struct(png) : NULL;
    if (!state->info) return IMAGE_NO_MEMORY;
    if (setjmp(png_jmpbuf(png))) return state->io.result;
    png_set_read_fn(png, &state->io, on_read);
    png_set_user_limits(png, MAXIMUM_SIDE, MAXIMUM_SIDE);
    png_set_chunk_malloc_max(png, MAXIMUM_CHUNK);
    png_set_chunk_cache_max(png, MAXIMUM_CHUNKS);
    // Profiles, colours and texts are read elsewhere: better never parsed here.
    static const png_byte unused[] = "iCCP\0tEXt\0zTXt\0iTXt\0eXIf\0sPLT\0gAMA\0cHRM\0sRGB";
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, unused, sizeof unused / 5);
    png_read_info(png, state->info);
    decoder->header.depth = png_get_bit_depth(png, state->info);
    png_set_expand(png);
    png_set_swap(png);
    int is_interlaced = png_set_interlace_handling(png) > 1;
    png_read_update_info(png, state->info);

    image_header *header = &decoder->header;
    uint32_t channels = png_get_channels(png, state->info);
    header->width = png_get_image_width(png, state->info);
    header->height = png_get_image_height(png, state->info);
    header->bits = png_get_bit_depth(png, state->info);
    header->has_alpha = channels == 2 || channels == 4;
    header->model = channels < 3 ? IMAGE_GREY : IMAGE_RGB;
    header->held_bits = is_interlaced ? channels * (uint32_t)header->bits : 0;
    return IMAGE_OK;
}

image_result image_encode_png(
    const uint8_t *pixels, uint32_t width, uint32_t height, uint32_t channels, int is_quick, uint8_t **output,
    size_t *output_count, char message[IMAGE_MESSAGE_SIZE]) {
    png_state state = {.message = message};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &state, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        png_destroy_write_struct(&png, NULL);
        return IMAGE_NO_MEMORY;
    }
    if (setjmp(png_jmpbuf(png))) {
        png_destroy_write_struct(&png, &info);
        free(state.output);
        return state.result;
    }
    png_set_write_fn(png, &state, on_write, on_flush);
    png_set_user_limits(png, MAXIMUM_SIDE, MAXIMUM_SIDE);
    if (is_quick) {
        png_set_compression_level(png, 2);
        png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_UP);
    }
    png_set_IHDR(
        png, info, width, height, 8, channels == 4 ? PNG_COLOR_TYPE_RGBA : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
        PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (uint32_t y = 0; y < height; y++) png_write_row(png, pixels + (size_t)y * width * channels);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    *output = state.output;
    *output_count = state.output_count;
    return IMAGE_OK;
}

image_result image_inflate(const uint8_t *bytes, size_t count, uint8_t *output, size_t *output_count) {
    uLongf held = *output_count;
    uLong used = count;
    int status = uncompress2(output, &held, bytes, &used);
    *output_count = held;
    // Z_BUF_ERROR: more output than room, or an incomplete stream.
    if (status == Z_MEM_ERROR) return IMAGE_NO_MEMORY;
    return status == Z_OK ? IMAGE_OK : IMAGE_CORRUPT;
}

uint32_t image_crc32(const uint8_t *bytes, size_t count) { return crc32_z(0, bytes, count); }
