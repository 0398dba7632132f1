#include "decoder.h"
#include "heif_decoders.h"

#include <libheif/heif.h>
#include <stdlib.h>
#include <string.h>

// HEIC (ISO/IEC 23008-12): the primary image, with the rotations, mirrors and crops of its properties applied by
// libheif.
typedef struct {
    struct heif_context *context;
    struct heif_image_handle *handle;
    struct heif_image *image;
    uint8_t *icc, *exif;
    int depth;
    image_sink sink;
} heif_decoder;

void image_prepare_heif(void) {
    heif_init(NULL);
    heif_register_decoder_plugin(&image_hevc_decoder);
}

static void close_heif(image_decoder *decoder) {
    heif_decoder *state = decoder->state;
    heif_image_release(state->image);
    heif_image_handle_release(state->handle);
    heif_context_free(state->context);
    image_sink_end(&state->sink);
    free(state->icc);
    free(state->exif);
    free(state);
}

static image_result failure(image_decoder *decoder, struct heif_error error) {
    image_result result = IMAGE_CORRUPT;
    // libheif calls it want of memory, too, where a file asks for more than its limits allow.
    if (error.code == heif_error_Memory_allocation_error && error.subcode != heif_suberror_Security_limit_exceeded)
        result = IMAGE_NO_MEMORY;
    else if (error.code == heif_error_Unsupported_filetype || error.code == heif_error_Unsupported_feature)
        result = IMAGE_UNSUPPORTED;
    else if (error.subcode == heif_suberror_End_of_data)
        result = IMAGE_TRUNCATED;
    return image_fail(decoder, result, error.message && *error.message ? error.message : "an error without a message");
}

// Profiles and metadata are small; what is larger than this is left alone.
enum { MAXIMUM_BLOCK = 16 << 20 };

static void read_colour(heif_decoder *state, image_header *header) {
    size_t count = heif_image_handle_get_raw_color_profile_size(state->handle);
    if (count > 0 && count <= MAXIMUM_BLOCK) {
        state->icc = malloc(count);
        if (state->icc && heif_image_handle_get_raw_color_profile(state->handle, state->icc).code == heif_error_Ok) {
            header->icc = state->icc;
            header->icc_count = count;
        }
    }
    struct heif_color_profile_nclx *colours = NULL;
    if (heif_image_handle_get_nclx_color_profile(state->handle, &colours).code == heif_error_Ok && colours) {
        header->primaries = (int)colours->color_primaries;
        header->transfer = (int)colours->transfer_characteristics;
    }
    heif_nclx_color_profile_free(colours);
}

// The block begins with the distance to the TIFF header behind these four bytes.
static void read_exif(heif_decoder *state, image_header *header) {
    heif_item_id id;
    if (heif_image_handle_get_list_of_metadata_block_IDs(state->handle, "Exif", &id, 1) < 1) return;
    size_t count = heif_image_handle_get_metadata_size(state->handle, id);
    if (count <= 4 || count > MAXIMUM_BLOCK) return;
    state->exif = malloc(count);
    if (!state->exif || heif_image_handle_get_metadata(state->handle, id, state->exif).code != heif_error_Ok) return;
    const uint8_t *at = state->exif;
    size_t offset = (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];
    if (offset >= count - 4) return;
    header->exif = at + 4 + offset;
    header->exif_count = count - 4 - offset;
}

// Colours that were multiplied by their alpha, as they were.
static unsigned divided(unsigned value, unsigned alpha, unsigned most) {
    if (alpha == 0) return 0;
    unsigned long quotient = ((unsigned long)value * most + alpha / 2) / alpha;
    return quotient < most ? (unsigned)quotient : most;
}

static void unmultiply(const image_header *header, void *row) {
    uint8_t *narrow = row;
    uint16_t *wide = row;
    for (size_t x = 0; x < (size_t)header->width * 4; x += 4)
        for (int c = 0; c < 3; c++) {
            if (header->bits == 16) {
                wide[x + c] = (uint16_t)divided(wide[x + c], wide[x + 3], 65535);
            } else {
                narrow[x + c] = (uint8_t)divided(narrow[x + c], narrow[x + 3], 255);
            }
        }
}

// 9 to 15 bits to 16, so that the least stays the least and the most becomes the most.
static void spread(uint16_t *row, size_t count, int depth) {
    for (size_t i = 0; i < count; i++) row[i] = (uint16_t)(row[i] << (16 - depth) | row[i] >> (2 * depth - 16));
}

static image_result hand_on(image_decoder *decoder, const image_request *request, uint8_t *pixels) {
    heif_decoder *state = decoder->state;
    const image_header *header = &decoder->header;
    int stride;
    uint8_t *plane = heif_image_get_plane(state->image, heif_channel_interleaved, &stride);
    int width = heif_image_get_width(state->image, heif_channel_interleaved);
    int height = heif_image_get_height(state->image, heif_channel_interleaved);
    if (!plane || width != (int)header->width || height != (int)header->height) {
        return image_fail(decoder, IMAGE_CORRUPT, "a picture of another size than its properties say");
    }
    if (!image_sink_begin(&state->sink, decoder, request, pixels, header->width, header->height, request->reduction)) {
        return IMAGE_NO_MEMORY;
    }
    size_t samples = (size_t)header->width * (header->has_alpha ? 4 : 3);
    int is_premultiplied = header->has_alpha && heif_image_handle_is_premultiplied_alpha(state->handle);
    for (int y = 0; y < height; y++) {
        uint8_t *row = plane + (ptrdiff_t)y * stride;
        if (header->bits == 16) spread((uint16_t *)(void *)row, samples, state->depth);
        if (is_premultiplied) unmultiply(header, row);
        image_sink_row(&state->sink, row);
    }
    return IMAGE_OK;
}

static image_result read_heif(image_decoder *decoder, const image_request *request, uint8_t *pixels) {
    heif_decoder *state = decoder->state;
    struct heif_decoding_options *options = heif_decoding_options_alloc();
    if (!options) return IMAGE_NO_MEMORY;
    options->strict_decoding = 1;
    int is_wide = decoder->header.bits == 16;
    enum heif_chroma chroma = decoder->header.has_alpha
        ? (is_wide ? heif_chroma_interleaved_RRGGBBAA_LE : heif_chroma_interleaved_RGBA)
        : (is_wide ? heif_chroma_interleaved_RRGGBB_LE : heif_chroma_interleaved_RGB);
    struct heif_error error
        = heif_decode_image(state->handle, &state->image, heif_colorspace_RGB, chroma, options);
    heif_decoding_options_free(options);
    return error.code == heif_error_Ok ? hand_on(decoder, request, pixels) : failure(decoder, error);
}

image_result image_open_heif(image_decoder *decoder) {
    heif_decoder *state = calloc(1, sizeof *state);
    if (!state) return IMAGE_NO_MEMORY;
    decoder->state = state;
    decoder->read = read_heif;
    decoder->close = close_heif;
    state->context = heif_context_alloc();
    if (!state->context) return IMAGE_NO_MEMORY;
    heif_context_set_max_decoding_threads(state->context, 0);
    struct heif_error error
        = heif_context_read_from_memory_without_copy(state->context, decoder->bytes, decoder->count, NULL);
    if (error.code == heif_error_Ok) error = heif_context_get_primary_image_handle(state->context, &state->handle);
    if (error.code != heif_error_Ok) return failure(decoder, error);
    int width = heif_image_handle_get_width(state->handle), height = heif_image_handle_get_height(state->handle);
    state->depth = heif_image_handle_get_luma_bits_per_pixel(state->handle);
    if (width < 0 || height < 0 || state->depth > 16) {
        return image_fail(decoder, IMAGE_UNSUPPORTED, "samples of more than 16 bits");
    }
    image_header *header = &decoder->header;
    header->width = (uint32_t)width;
    header->height = (uint32_t)height;
    header->model = IMAGE_RGB;
    header->has_alpha = heif_image_handle_has_alpha_channel(state->handle) != 0;
    header->depth = state->depth;
    header->bits = state->depth > 8 ? 16 : 8;
    // The planes as they are coded, with chroma at a quarter, and RGB made of them.
    header->held_bits = (uint32_t)header->bits * (header->has_alpha ? 13 : 9) / 2;
    read_colour(state, header);
    read_exif(state, header);
    return IMAGE_OK;
}
