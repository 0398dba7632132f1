#include "decoder.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t prepared = PTHREAD_ONCE_INIT;

static void prepare(void) {
    image_prepare_heif();
    image_prepare_colour();
}

void image_prepare(void) { pthread_once(&prepared, prepare); }

image_result image_fail(image_decoder *decoder, image_result result, const char *text) {
    strncpy(decoder->message, text, IMAGE_MESSAGE_SIZE - 1);
    decoder->message[IMAGE_MESSAGE_SIZE - 1] = 0;
    return result;
}

image_result image_open(
    image_format format, const uint8_t *bytes, size_t count, image_decoder **decoder, char message[IMAGE_MESSAGE_SIZE]) {
    image_prepare();
    image_decoder *opened = calloc(1, sizeof *opened);
    *decoder = opened;
    if (!opened) return IMAGE_NO_MEMORY;
    opened->bytes = bytes;
    opened->count = count;
    opened->message = message;
    image_result result = IMAGE_UNSUPPORTED;
    switch (format) {
        case IMAGE_PNG: result = image_open_png(opened); break;
        case IMAGE_JPEG: result = image_open_jpeg(opened); break;
        case IMAGE_WEBP: result = image_open_webp(opened); break;
        case IMAGE_HEIC: result = image_open_heif(opened); break;
        case IMAGE_AVIF: result = image_open_avif(opened); break;
    }
    opened->message = NULL;
    return result;
}

const image_header *image_get_header(const image_decoder *decoder) { return &decoder->header; }

image_result image_read(
    image_decoder *decoder, const image_request *request, uint8_t *pixels, char message[IMAGE_MESSAGE_SIZE]) {
    decoder->message = message;
    return decoder->read(decoder, request, pixels);
}

void image_close(image_decoder *decoder) {
    if (!decoder) return;
    if (decoder->close) decoder->close(decoder);
    free(decoder);
}
