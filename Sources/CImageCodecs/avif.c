#include "decoder.h"

#include <avif/avif.h>
#include <stdlib.h>

// AVIF (AV1 Image File Format 1.1): the primary image, or the first of a sequence.
typedef struct {
    avifDecoder *decoder;
    avifRGBImage rgb;
    // The picture as it is coded, and the part of it that is meant to be seen.
    uint32_t width, height;
    avifCropRect shown;
    image_sink sink;
} avif_decoder;

static void close_avif(image_decoder *decoder) {
    avif_decoder *state = decoder->state;
    avifRGBImageFreePixels(&state->rgb);
    if (state->decoder) avifDecoderDestroy(state->decoder);
    image_sink_end(&state->sink);
    free(state);
}

static image_result failure(image_decoder *decoder, avifResult error) {
    image_result result = IMAGE_CORRUPT;
    switch (error) {
        case AVIF_RESULT_OUT_OF_MEMORY: result = IMAGE_NO_MEMORY; break;
        case AVIF_RESULT_TRUNCATED_DATA: result = IMAGE_TRUNCATED; break;
        case AVIF_RESULT_NOT_IMPLEMENTED:
        case AVIF_RESULT_UNSUPPORTED_DEPTH:
        case AVIF_RESULT_NO_CODEC_AVAILABLE: result = IMAGE_UNSUPPORTED; break;
        default: break;
    }
    return image_fail(decoder, result, avifResultToString(error));
}

// Rotation against the clock, then mirror, as one of EXIF's orientations.
static int orientation(const avifImage *image) {
    int angle = image->transformFlags & AVIF_TRANSFORM_IROT ? image->irot.angle & 3 : 0;
    if (!(image->transformFlags & AVIF_TRANSFORM_IMIR)) return (const int[]){1, 8, 3, 6}[angle];
    int exchanges_sides = image->imir.mode == 1;
    return exchanges_sides ? (const int[]){2, 7, 4, 5}[angle] : (const int[]){4, 5, 2, 7}[angle];
}

// What the clean aperture (ISO/IEC 14496-12, 12.1.4) leaves; all of it where there is none, or one that reaches beyond.
static avifCropRect shown(const avifImage *image) {
    avifCropRect part;
    avifDiagnostics diagnostics;
    if (image->transformFlags & AVIF_TRANSFORM_CLAP
        && avifCropRectConvertCleanApertureBox(
            &part, &image->clap, image->width, image->height, image->yuvFormat, &diagnostics)) {
        return part;
    }
    return (avifCropRect){0, 0, image->width, image->height};
}

static image_result read_avif(image_decoder *decoder, const image_request *request, uint8_t *pixels) {
    avif_decoder *state = decoder->state;
    const image_header *header = &decoder->header;
    avifResult error = avifDecoderNextImage(state->decoder);
    if (error != AVIF_RESULT_OK) return failure(decoder, error);
    avifImage *image = state->decoder->image;
    if (image->width != state->width || image->height != state->height) {
        return image_fail(decoder, IMAGE_CORRUPT, "a picture of another size than its properties say");
    }
    // Without a profile nothing is left to do at 16 bits: libavif itself rounds to 8.
    if (!request->colour) decoder->header.bits = 8;
    avifRGBImageSetDefaults(&state->rgb, image);
    state->rgb.depth = (uint32_t)header->bits;
    state->rgb.format = header->has_alpha ? AVIF_RGB_FORMAT_RGBA : AVIF_RGB_FORMAT_RGB;
    avifRGBImageAllocatePixels(&state->rgb);
    if (!state->rgb.pixels) return IMAGE_NO_MEMORY;
    error = avifImageYUVToRGB(image, &state->rgb);
    if (error != AVIF_RESULT_OK) return failure(decoder, error);
    if (!image_sink_begin(&state->sink, decoder, request, pixels, header->width, header->height, request->reduction)) {
        return IMAGE_NO_MEMORY;
    }
    const uint8_t *first = state->rgb.pixels + (size_t)state->shown.y * state->rgb.rowBytes
        + (size_t)state->shown.x * avifRGBImagePixelSize(&state->rgb);
    for (uint32_t y = 0; y < header->height; y++)
        image_sink_row(&state->sink, first + (size_t)y * state->rgb.rowBytes);
    return IMAGE_OK;
}

image_result image_open_avif(image_decoder *decoder) {
    avif_decoder *state = calloc(1, sizeof *state);
    if (!state) return IMAGE_NO_MEMORY;
    decoder->state = state;
    decoder->read = read_avif;
    decoder->close = close_avif;
    state->decoder = avifDecoderCreate();
    if (!state->decoder) return IMAGE_NO_MEMORY;
    // No threads: a confined process may not start any.
    state->decoder->maxThreads = 1;
    state->decoder->codecChoice = AVIF_CODEC_CHOICE_DAV1D;
    state->decoder->ignoreXMP = AVIF_TRUE;
    // Older encoders leave out properties that the decoding does not need.
    state->decoder->strictFlags = AVIF_STRICT_DISABLED;
    avifResult error = avifDecoderSetIOMemory(state->decoder, decoder->bytes, decoder->count);
    if (error == AVIF_RESULT_OK) error = avifDecoderParse(state->decoder);
    if (error != AVIF_RESULT_OK) return failure(decoder, error);
    const avifImage *image = state->decoder->image;
    image_header *header = &decoder->header;
    state->width = image->width;
    state->height = image->height;
    state->shown = shown(image);
    header->width = state->shown.width;
    header->height = state->shown.height;
    header->model = IMAGE_RGB;
    header->has_alpha = state->decoder->alphaPresent;
    header->depth = (int)image->depth;
    header->bits = image->depth > 8 ? 16 : 8;
    // The planes as they are coded, twice as the decoder keeps its own, and RGB made of them.
    header->held_bits = (uint32_t)header->bits * (header->has_alpha ? 6 : 5);
    header->orientation = orientation(image);
    header->icc = image->icc.size ? image->icc.data : NULL;
    header->icc_count = image->icc.size;
    header->exif = image->exif.size ? image->exif.data : NULL;
    header->exif_count = image->exif.size;
    header->primaries = image->colorPrimaries;
    header->transfer = image->transferCharacteristics;
    return IMAGE_OK;
}
