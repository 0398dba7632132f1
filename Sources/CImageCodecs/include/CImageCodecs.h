#pragma once
#include <stddef.h>
#include <stdint.h>

// PNG and JPEG through libpng and libjpeg, whose errors leave by longjmp: caught here, so that Swift sees a result and
// a message. All pixels are 8-bit, interleaved, rows from the top without padding.

enum { IMAGE_MESSAGE_SIZE = 256 };

typedef enum {
    IMAGE_OK = 0,
    IMAGE_TRUNCATED,    // the bytes end before the image does
    IMAGE_CORRUPT,      // the library's message says how
    IMAGE_UNSUPPORTED,  // sound, but of a kind that is not read
    IMAGE_REFUSED,      // the allocator returned null
    IMAGE_NO_MEMORY,
} image_result;

// Called once, after the header and before anything is decoded: returns width * height * channels bytes for the
// pixels (channels is 3 for RGB, 4 for RGBA), or null to refuse the image.
typedef uint8_t *(*image_allocator)(void *context, uint32_t width, uint32_t height, uint32_t channels);

// Decodes a PNG of any colour type and depth: palette and grey to RGB, tRNS to alpha, 16 bits to their high byte, no
// gamma correction. The file is read to its IEND.
image_result image_decode_png(
    const uint8_t *bytes, size_t count, image_allocator allocate, void *context, char message[IMAGE_MESSAGE_SIZE]);

// Decodes a JPEG, baseline or progressive, to RGB: grey, YCbCr, RGB, CMYK and YCCK (inverted, as
// Adobe writes them). The file is read to its end-of-image marker; libjpeg's warnings of damaged data are errors.
image_result image_decode_jpeg(
    const uint8_t *bytes, size_t count, image_allocator allocate, void *context, char message[IMAGE_MESSAGE_SIZE]);

// Encodes 8-bit RGB or RGBA as PNG: no chunks but IHDR, IDAT, IEND. On success *output is to be freed by the caller.
image_result image_encode_png(
    const uint8_t *pixels, uint32_t width, uint32_t height, uint32_t channels, uint8_t **output, size_t *output_count,
    char message[IMAGE_MESSAGE_SIZE]);

// Encodes 8-bit RGB as baseline JPEG (JFIF) of quality 1 to 100, with chroma at full or at half resolution both ways.
// On success *output is to be freed by the caller.
image_result image_encode_jpeg(
    const uint8_t *pixels, uint32_t width, uint32_t height, int quality, int full_chroma, uint8_t **output,
    size_t *output_count, char message[IMAGE_MESSAGE_SIZE]);

// Inflates a zlib stream into at most *output_count bytes, and sets *output_count to what it held.
image_result image_inflate(const uint8_t *bytes, size_t count, uint8_t *output, size_t *output_count);

// CRC-32 as PNG chunks carry it.
uint32_t image_crc32(const uint8_t *bytes, size_t count);
