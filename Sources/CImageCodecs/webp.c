#include "decoder.h"

#include <stdlib.h>
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

// The first frame of a WebP, on the canvas of its file (WebP Container Specification, RFC 9649).
typedef struct {
    WebPDemuxer *demuxer;
    WebPIterator frame;
    WebPDecoderConfig config;
    image_sink sink;
} webp_decoder;

static void close_webp(image_decoder *decoder) {
    webp_decoder *state = decoder->state;
    WebPFreeDecBuffer(&state->config.output);
    WebPDemuxReleaseIterator(&state->frame);
    WebPDemuxDelete(state->demuxer);
    image_sink_end(&state->sink);
    free(state);
}

static image_result failure(image_decoder *decoder, VP8StatusCode status) {
    switch (status) {
        case VP8_STATUS_OUT_OF_MEMORY: return IMAGE_NO_MEMORY;
        case VP8_STATUS_NOT_ENOUGH_DATA: return image_fail(decoder, IMAGE_TRUNCATED, "the data ends inside the picture");
        case VP8_STATUS_UNSUPPORTED_FEATURE: return image_fail(decoder, IMAGE_UNSUPPORTED, "an unknown feature");
        default: return image_fail(decoder, IMAGE_CORRUPT, "damaged data");
    }
}

static image_result read_webp(image_decoder *decoder, const image_request *request, uint8_t *pixels) {
    webp_decoder *state = decoder->state;
    uint32_t width = decoder->header.width, height = decoder->header.height;
    size_t samples = decoder->header.has_alpha ? 4 : 3;
    state->config.options.use_threads = 0;
    state->config.output.colorspace = decoder->header.has_alpha ? MODE_RGBA : MODE_RGB;
    VP8StatusCode status = WebPDecode(state->frame.fragment.bytes, state->frame.fragment.size, &state->config);
    if (status != VP8_STATUS_OK) return failure(decoder, status);
    const WebPRGBABuffer *buffer = &state->config.output.u.RGBA;
    uint32_t frame_width = (uint32_t)state->frame.width, frame_height = (uint32_t)state->frame.height;
    uint32_t left = (uint32_t)state->frame.x_offset, top = (uint32_t)state->frame.y_offset;
    uint8_t *line = calloc(width, samples), *clear = calloc(width, samples);
    image_result result = IMAGE_NO_MEMORY;
    if (line && clear && image_sink_begin(&state->sink, decoder, request, pixels, width, height, request->reduction)) {
        for (uint32_t y = 0; y < height; y++) {
            int is_inside = y >= top && y - top < frame_height;
            if (is_inside) {
                memcpy(
                    line + left * samples, buffer->rgba + (size_t)(y - top) * (size_t)buffer->stride,
                    frame_width * samples);
            }
            image_sink_row(&state->sink, is_inside ? line : clear);
        }
        result = IMAGE_OK;
    }
    free(line);
    free(clear);
    return result;
}

image_result image_open_webp(image_decoder *decoder) {
    webp_decoder *state = calloc(1, sizeof *state);
    if (!state) return IMAGE_NO_MEMORY;
    decoder->state = state;
    decoder->read = read_webp;
    decoder->close = close_webp;
    if (!WebPInitDecoderConfig(&state->config)) return image_fail(decoder, IMAGE_UNSUPPORTED, "another libwebp");
    WebPData data = {decoder->bytes, decoder->count};
    WebPDemuxState progress;
    state->demuxer = WebPDemuxPartial(&data, &progress);
    if (!state->demuxer || progress == WEBP_DEMUX_PARSE_ERROR) {
        return image_fail(decoder, IMAGE_CORRUPT, "chunks that do not fit together");
    }
    if (progress != WEBP_DEMUX_DONE) return image_fail(decoder, IMAGE_TRUNCATED, "the data ends before its last chunk");
    if (!WebPDemuxGetFrame(state->demuxer, 1, &state->frame)) {
        return image_fail(decoder, IMAGE_CORRUPT, "no picture in it");
    }
    VP8StatusCode status
        = WebPGetFeatures(state->frame.fragment.bytes, state->frame.fragment.size, &state->config.input);
    if (status != VP8_STATUS_OK) return failure(decoder, status);
    image_header *header = &decoder->header;
    header->width = WebPDemuxGetI(state->demuxer, WEBP_FF_CANVAS_WIDTH);
    header->height = WebPDemuxGetI(state->demuxer, WEBP_FF_CANVAS_HEIGHT);
    // libwebpdemux looks whether frames lie within the canvas; the copying above relies on it.
    const WebPIterator *frame = &state->frame;
    if (frame->width != state->config.input.width || frame->height != state->config.input.height
        || frame->x_offset < 0 || frame->y_offset < 0
        || (uint64_t)frame->x_offset + (uint64_t)frame->width > header->width
        || (uint64_t)frame->y_offset + (uint64_t)frame->height > header->height) {
        return image_fail(decoder, IMAGE_CORRUPT, "a frame that reaches beyond its canvas");
    }
    int fills = (uint32_t)frame->width == header->width && (uint32_t)frame->height == header->height;
    header->has_alpha = state->config.input.has_alpha || !fills;
    header->model = IMAGE_RGB;
    header->depth = header->bits = 8;
    // The output and, where the coding is lossless, the picture as the decoder has it.
    header->held_bits = (header->has_alpha ? 32 : 24) + (state->config.input.format == 2 ? 32 : 0);
    return IMAGE_OK;
}
