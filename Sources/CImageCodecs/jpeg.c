#include "decoder.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

// A progressive file may repeat scans without end, each of which costs a pass over the whole image; encoders use ten.
enum { MAXIMUM_SCANS = 100 };

typedef struct {
    struct jpeg_error_mgr manager;
    jmp_buf jump;
    image_result result;
    char *message;
} jpeg_errors;

// Memory for coefficients of the whole picture, which only files of several scans need: those of 58 megapixels at full
// chroma, of twice as many at a quarter.
static const long MAXIMUM_MEMORY = 350L << 20;

static _Noreturn void leave(j_common_ptr info, image_result result, const char *text) {
    jpeg_errors *errors = (jpeg_errors *)info->err;
    errors->result = result;
    strncpy(errors->message, text, IMAGE_MESSAGE_SIZE - 1);
    errors->message[IMAGE_MESSAGE_SIZE - 1] = 0;
    longjmp(errors->jump, 1);
}

static void on_error(j_common_ptr info) {
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    int code = info->err->msg_code;
    if (code == JERR_NO_BACKING_STORE) {
        leave(info, IMAGE_UNSUPPORTED, "progressive coding of so many pixels that it needs more than 350 MB");
    }
    switch (code) {
        case JERR_OUT_OF_MEMORY: leave(info, IMAGE_NO_MEMORY, text);
        case JERR_CONVERSION_NOTIMPL:
        case JERR_SOF_UNSUPPORTED:
        case JERR_BAD_PRECISION:
        case JERR_ARITH_NOTIMPL:
        case JERR_IMAGE_TOO_BIG: leave(info, IMAGE_UNSUPPORTED, text);
        case JERR_INPUT_EMPTY:
        case JERR_INPUT_EOF: leave(info, IMAGE_TRUNCATED, text);
        default: leave(info, IMAGE_CORRUPT, text);
    }
}

// libjpeg fills damaged parts with grey and only warns. Warnings that do not touch the pixels are let pass: bytes
// between two markers, which some cameras write; the spectral range of a sequential scan, which libjpeg does not go by and
// Samsung's cameras leave at 0; and odd versions in JFIF's and Adobe's headers.
static void on_message(j_common_ptr info, int level) {
    if (level >= 0) return;
    int code = info->err->msg_code;
    if (code == JWRN_EXTRANEOUS_DATA || code == JWRN_NOT_SEQUENTIAL || code == JWRN_JFIF_MAJOR
        || code == JWRN_ADOBE_XFORM) {
        return;
    }
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    leave(info, code == JWRN_JPEG_EOF ? IMAGE_TRUNCATED : IMAGE_CORRUPT, text);
}

static void on_output(j_common_ptr info) { (void)info; }

static void on_progress(j_common_ptr info) {
    if (((j_decompress_ptr)info)->input_scan_number > MAXIMUM_SCANS) {
        leave(info, IMAGE_UNSUPPORTED, "more than 100 scans");
    }
}

static void prepare(jpeg_errors *errors, char *message) {
    jpeg_std_error(&errors->manager);
    errors->manager.error_exit = on_error;
    errors->manager.emit_message = on_message;
    errors->manager.output_message = on_output;
    errors->message = message;
    errors->result = IMAGE_OK;
}

typedef struct {
    struct jpeg_decompress_struct info;
    struct jpeg_progress_mgr progress;
    jpeg_errors errors;
    uint8_t *line;
    image_sink sink;
} jpeg_decoder;

static void close_jpeg(image_decoder *decoder) {
    jpeg_decoder *state = decoder->state;
    jpeg_destroy_decompress(&state->info);
    image_sink_end(&state->sink);
    free(state->line);
    free(state);
}

static image_result read_jpeg(image_decoder *decoder, const image_request *request, uint8_t *pixels) {
    jpeg_decoder *state = decoder->state;
    struct jpeg_decompress_struct *info = &state->info;
    state->errors.message = decoder->message;
    if (setjmp(state->errors.jump)) return state->errors.result;
    // libjpeg itself decodes at a half, a quarter and an eighth, and rounds sides up.
    info->scale_num = 1;
    info->scale_denom = request->reduction;
    jpeg_start_decompress(info);
    state->line = malloc((size_t)info->output_width * (size_t)info->output_components);
    if (!state->line
        || !image_sink_begin(
            &state->sink, decoder, request, pixels, info->output_width, info->output_height, 1)) {
        return IMAGE_NO_MEMORY;
    }
    while (info->output_scanline < info->output_height) {
        JSAMPROW row = state->line;
        jpeg_read_scanlines(info, &row, 1);
        image_sink_row(&state->sink, row);
    }
    jpeg_finish_decompress(info);
    return IMAGE_OK;
}

image_result image_open_jpeg(image_decoder *decoder) {
    jpeg_decoder *state = calloc(1, sizeof *state);
    if (!state) return IMAGE_NO_MEMORY;
    struct jpeg_decompress_struct *info = &state->info;
    prepare(&state->errors, decoder->message);
    info->err = &state->errors.manager;
    decoder->state = state;
    decoder->read = read_jpeg;
    decoder->close = close_jpeg;
    if (setjmp(state->errors.jump)) return state->errors.result;
    jpeg_create_decompress(info);
    state->progress.progress_monitor = on_progress;
    info->progress = &state->progress;
    info->mem->max_memory_to_use = MAXIMUM_MEMORY;
    jpeg_mem_src(info, decoder->bytes, decoder->count);
    jpeg_read_header(info, TRUE);
    image_header *header = &decoder->header;
    switch (info->jpeg_color_space) {
        case JCS_UNKNOWN: return image_fail(decoder, IMAGE_UNSUPPORTED, "an unknown colour space");
        case JCS_GRAYSCALE: info->out_color_space = JCS_GRAYSCALE, header->model = IMAGE_GREY; break;
        // Like Pillow we take every file of four components to hold complements, as Adobe writes them.
        case JCS_CMYK:
        case JCS_YCCK: info->out_color_space = JCS_CMYK, header->model = IMAGE_CMYK; break;
        default: info->out_color_space = JCS_RGB, header->model = IMAGE_RGB;
    }
    header->width = info->image_width;
    header->height = info->image_height;
    header->depth = header->bits = 8;
    return IMAGE_OK;
}

image_result image_encode_jpeg(
    const uint8_t *pixels, uint32_t width, uint32_t height, int quality, int full_chroma, uint8_t **output,
    size_t *output_count, char message[IMAGE_MESSAGE_SIZE]) {
    struct jpeg_compress_struct info;
    jpeg_errors errors;
    prepare(&errors, message);
    info.err = &errors.manager;
    // In a structure of their own, whose address libjpeg holds: a local that changes after setjmp would be lost.
    struct {
        unsigned char *bytes;
        unsigned long count;
    } *buffer = calloc(1, sizeof *buffer);
    if (!buffer) return IMAGE_NO_MEMORY;
    if (setjmp(errors.jump)) {
        jpeg_destroy_compress(&info);
        free(buffer->bytes);
        free(buffer);
        return errors.result;
    }
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, &buffer->bytes, &buffer->count);
    info.image_width = width;
    info.image_height = height;
    info.input_components = 3;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, quality, TRUE);
    info.optimize_coding = TRUE;
    info.comp_info[0].h_samp_factor = full_chroma ? 1 : 2;
    info.comp_info[0].v_samp_factor = full_chroma ? 1 : 2;
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
        JSAMPROW row = (JSAMPROW)(pixels + (size_t)info.next_scanline * width * 3);
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    *output = buffer->bytes;
    *output_count = buffer->count;
    free(buffer);
    return IMAGE_OK;
}
