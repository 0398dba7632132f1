#include "CImageCodecs.h"

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

static void leave(j_common_ptr info, image_result result, const char *text) {
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
    image_result result = code == JERR_OUT_OF_MEMORY ? IMAGE_NO_MEMORY
        : code == JERR_CONVERSION_NOTIMPL || code == JERR_SOF_UNSUPPORTED || code == JERR_BAD_PRECISION
            || code == JERR_ARITH_NOTIMPL || code == JERR_IMAGE_TOO_BIG ? IMAGE_UNSUPPORTED
        : code == JERR_INPUT_EMPTY || code == JERR_INPUT_EOF ? IMAGE_TRUNCATED
                                                             : IMAGE_CORRUPT;
    leave(info, result, text);
}

// libjpeg fills damaged parts with grey and only warns. Warnings that do not touch the pixels are let pass: bytes
// between two markers, which some cameras write, and odd versions in JFIF's and Adobe's headers.
static void on_message(j_common_ptr info, int level) {
    if (level >= 0) return;
    int code = info->err->msg_code;
    if (code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM) return;
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

// a * b / 255, rounded to nearest.
static uint8_t product(unsigned a, unsigned b) {
    unsigned t = a * b + 128;
    return (t + (t >> 8)) >> 8;
}

// Ink over white paper, without profiles: R = (255 - C)(255 - K) / 255, where the file holds the complements: Adobe
// writes 255 for no ink, and like Pillow we take every file of four components to follow Adobe.
static void convert_cmyk_row(const uint8_t *complements, uint8_t *rgb, uint32_t width) {
    for (uint32_t x = 0; x < width; x++, complements += 4, rgb += 3) {
        uint8_t paper = complements[3];
        for (int c = 0; c < 3; c++) rgb[c] = paper - product(255u - complements[c], paper);
    }
}

image_result image_decode_jpeg(
    const uint8_t *bytes, size_t count, image_allocator allocate, void *context, char message[IMAGE_MESSAGE_SIZE]) {
    struct jpeg_decompress_struct info;
    struct jpeg_progress_mgr progress = {.progress_monitor = on_progress};
    jpeg_errors errors;
    prepare(&errors, message);
    info.err = &errors.manager;
    uint8_t *volatile inks = NULL;
    if (setjmp(errors.jump)) {
        jpeg_destroy_decompress(&info);
        free(inks);
        return errors.result;
    }
    jpeg_create_decompress(&info);
    info.progress = &progress;
    jpeg_mem_src(&info, bytes, count);
    jpeg_read_header(&info, TRUE);
    int is_cmyk = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
    if (!is_cmyk && info.jpeg_color_space == JCS_UNKNOWN) {
        leave((j_common_ptr)&info, IMAGE_UNSUPPORTED, "an unknown colour space");
    }
    info.out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
    uint8_t *pixels = allocate(context, info.image_width, info.image_height, 3);
    if (!pixels) leave((j_common_ptr)&info, IMAGE_REFUSED, "refused");
    jpeg_start_decompress(&info);
    if (is_cmyk) {
        inks = malloc((size_t)info.output_width * 4);
        if (!inks) leave((j_common_ptr)&info, IMAGE_NO_MEMORY, "out of memory");
    }
    while (info.output_scanline < info.output_height) {
        uint8_t *target = pixels + (size_t)info.output_scanline * info.output_width * 3;
        JSAMPROW row = is_cmyk ? inks : target;
        jpeg_read_scanlines(&info, &row, 1);
        if (is_cmyk) convert_cmyk_row(inks, target, info.output_width);
    }
    jpeg_finish_decompress(&info);
    jpeg_destroy_decompress(&info);
    free(inks);
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
