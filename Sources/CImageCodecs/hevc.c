#include "heif_decoders.h"

#include <libde265/de265.h>
#include <stdlib.h>
#include <string.h>

// libheif's own way to libde265 starts a thread for each picture, which a confined process may not do. This is another
// way to the same decoder, without one; it stops at the first error instead of going on with what there is.

static const struct heif_error OK = {heif_error_Ok, heif_suberror_Unspecified, "Success"};

static struct heif_error failed(const char *text) {
    return (struct heif_error){heif_error_Decoder_plugin_error, heif_suberror_Unspecified, text};
}

static const char *name(void) { return "libde265 without threads"; }
static void begin(void) { de265_init(); }
static void end(void) { de265_free(); }
static int priority(enum heif_compression_format format) { return format == heif_compression_HEVC ? 1000 : 0; }

static struct heif_error new_decoder(void **decoder) {
    *decoder = de265_new_decoder();
    return *decoder ? OK : failed("no memory for the decoder");
}

static void free_decoder(void *decoder) { de265_free_decoder(decoder); }

// NAL units, each behind its length in four bytes.
static struct heif_error push_data(void *decoder, const void *data, size_t size) {
    const uint8_t *bytes = data;
    while (size > 0) {
        if (size < 4) return failed("a NAL unit that is cut off");
        size_t length = (size_t)bytes[0] << 24 | (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
        if (length > size - 4 || length > INT32_MAX) return failed("a NAL unit that is cut off");
        de265_error error = de265_push_NAL(decoder, bytes + 4, (int)length, 0, NULL);
        if (error != DE265_OK) return failed(de265_get_error_text(error));
        bytes += 4 + length;
        size -= 4 + length;
    }
    return OK;
}

static struct heif_error copy_plane(
    const struct de265_image *from, int plane, enum heif_channel channel, struct heif_image *to) {
    int width = de265_get_image_width(from, plane), height = de265_get_image_height(from, plane);
    int bits = de265_get_bits_per_pixel(from, plane);
    if (width <= 0 || height <= 0 || bits != de265_get_bits_per_pixel(from, 0)) return failed("planes that differ");
    struct heif_error error = heif_image_add_plane(to, channel, width, height, bits);
    if (error.code != heif_error_Ok) return error;
    int from_stride, to_stride;
    const uint8_t *source = de265_get_image_plane(from, plane, &from_stride);
    uint8_t *target = heif_image_get_plane(to, channel, &to_stride);
    if (!source || !target) return failed("a plane that is missing");
    size_t row = (size_t)width * (bits > 8 ? 2 : 1);
    for (int y = 0; y < height; y++)
        memcpy(target + (ptrdiff_t)y * to_stride, source + (ptrdiff_t)y * from_stride, row);
    return OK;
}

static struct heif_error convert(const struct de265_image *from, struct heif_image **to) {
    static const enum heif_channel channels[] = {heif_channel_Y, heif_channel_Cb, heif_channel_Cr};
    enum de265_chroma chroma = de265_get_chroma_format(from);
    int is_grey = chroma == de265_chroma_mono;
    struct heif_error error = heif_image_create(
        de265_get_image_width(from, 0), de265_get_image_height(from, 0),
        is_grey ? heif_colorspace_monochrome : heif_colorspace_YCbCr, (enum heif_chroma)chroma, to);
    for (int plane = 0; error.code == heif_error_Ok && plane < (is_grey ? 1 : 3); plane++)
        error = copy_plane(from, plane, channels[plane], *to);
    if (error.code != heif_error_Ok) return error;
    struct heif_color_profile_nclx *colours = heif_nclx_color_profile_alloc();
    if (!colours) return failed("no memory for the colours");
    // Values that H.273 does not know leave what the allocation set, which is unspecified.
    (void)heif_nclx_color_profile_set_color_primaries(colours, (uint16_t)de265_get_image_colour_primaries(from));
    (void)heif_nclx_color_profile_set_transfer_characteristics(
        colours, (uint16_t)de265_get_image_transfer_characteristics(from));
    (void)heif_nclx_color_profile_set_matrix_coefficients(colours, (uint16_t)de265_get_image_matrix_coefficients(from));
    colours->full_range_flag = de265_get_image_full_range_flag(from) != 0;
    error = heif_image_set_nclx_color_profile(*to, colours);
    heif_nclx_color_profile_free(colours);
    return error;
}

static struct heif_error decode_image(void *decoder, struct heif_image **image) {
    *image = NULL;
    de265_error status = de265_flush_data(decoder);
    int more = 1;
    while (status == DE265_OK && more) {
        status = de265_decode(decoder, &more);
        const struct de265_image *picture = de265_get_next_picture(decoder);
        if (!picture) continue;
        struct heif_error error = convert(picture, image);
        if (error.code != heif_error_Ok) {
            heif_image_release(*image);
            *image = NULL;
        }
        return error;
    }
    return failed(status == DE265_OK ? "no picture in it" : de265_get_error_text(status));
}

const struct heif_decoder_plugin image_hevc_decoder = {
    .plugin_api_version = 3,
    .get_plugin_name = name,
    .init_plugin = begin,
    .deinit_plugin = end,
    .does_support_format = priority,
    .new_decoder = new_decoder,
    .free_decoder = free_decoder,
    .push_data = push_data,
    .decode_image = decode_image,
    .set_strict_decoding = NULL,
    .id_name = "dreamcache-hevc",
};
