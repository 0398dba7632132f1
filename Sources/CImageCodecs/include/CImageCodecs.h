#pragma once
#include <stddef.h>
#include <stdint.h>

// Pictures through the C libraries that know their formats. Errors leave libpng and libjpeg by longjmp: they are caught
// here, so that Swift sees a result and a message.

enum { IMAGE_MESSAGE_SIZE = 256 };

typedef enum {
    IMAGE_OK = 0,
    IMAGE_TRUNCATED,    // the bytes end before the image does
    IMAGE_CORRUPT,      // the library's message says how
    IMAGE_UNSUPPORTED,  // sound, but of a kind that is not read
    IMAGE_NO_MEMORY,
} image_result;

typedef enum { IMAGE_PNG, IMAGE_JPEG, IMAGE_WEBP, IMAGE_HEIC, IMAGE_AVIF } image_format;

// The value is the number of samples a pixel has, without alpha. CMYK is stored as Adobe does: 255 is no ink.
typedef enum { IMAGE_GREY = 1, IMAGE_RGB = 3, IMAGE_CMYK = 4 } image_model;

// What a file says of its picture before a pixel is decoded. Pointers are the decoder's.
typedef struct {
    uint32_t width, height;
    image_model model;
    int has_alpha;
    // Bits of a sample as the file has it.
    int depth;
    // 8 or 16: the samples that the decoder hands on. Those of 10 and 12 bits are spread over 16.
    int bits;
    // What the decoder holds of the whole picture while it works, in bits a pixel; 0 where it works row by row.
    uint32_t held_bits;
    // HEIC and AVIF alone; of the other formats the caller reads these itself.
    const uint8_t *icc, *exif;
    size_t icc_count, exif_count;
    // Code points of ITU-T H.273; 0 where the file has none.
    int primaries, transfer;
    // AVIF alone: which way is up, as EXIF counts. HEIC is turned by its decoder.
    int orientation;
} image_header;

typedef struct image_decoder image_decoder;
typedef struct image_colour image_colour;

// Registers decoders and what else asks the operating system for more than decoding does. Done once; image_open does it
// where nobody has.
void image_prepare(void);

// Reads the header. The bytes must stay where they are until image_close, which takes null too.
image_result image_open(
    image_format format, const uint8_t *bytes, size_t count, image_decoder **decoder, char message[IMAGE_MESSAGE_SIZE]);
const image_header *image_get_header(const image_decoder *decoder);
void image_close(image_decoder *decoder);

typedef struct {
    // 1, 2, 4 or 8: each side of the result is the picture's divided by this, rounded up. JPEG is decoded at that size,
    // of the other formats squares of pixels are averaged.
    uint32_t reduction;
    // EXIF's, 1 to 8; the result is upright.
    int orientation;
    // Null leaves colours as they are.
    image_colour *colour;
} image_request;

// Decodes the whole picture, once: 8-bit RGB, or RGBA where it has alpha, rows from the top, without padding. `pixels` has
// room for all of them.
image_result image_read(
    image_decoder *decoder, const image_request *request, uint8_t *pixels, char message[IMAGE_MESSAGE_SIZE]);

// Colours as the file means them, to sRGB. Null where littleCMS cannot use the profile, or where it is of another model
// than the picture; and where it is sRGB, to one grey level.
image_colour *image_colour_from_profile(const uint8_t *icc, size_t count, const image_header *header);

// Chromaticities as x, y of white, red, green and blue; a curve as `gamma`, or that of sRGB where `gamma` is 0.
image_colour *image_colour_from_values(const double chromaticities[8], double gamma, const image_header *header);
void image_colour_free(image_colour *colour);

// The description in a profile, in ASCII; empty where it has none, or is none.
void image_profile_name(const uint8_t *icc, size_t count, char *name, size_t room);

// Encodes 8-bit RGB or RGBA as PNG: no chunks but IHDR, IDAT, IEND. `is_quick` takes a third of the time, and some more
// bytes. On success *output is to be freed by the caller.
image_result image_encode_png(
    const uint8_t *pixels, uint32_t width, uint32_t height, uint32_t channels, int is_quick, uint8_t **output,
    size_t *output_count, char message[IMAGE_MESSAGE_SIZE]);

// Encodes 8-bit RGB as baseline JPEG (JFIF) of quality 1 to 100, with chroma at full or at half resolution both ways.
// On success *output is to be freed by the caller.
image_result image_encode_jpeg(
    const uint8_t *pixels, uint32_t width, uint32_t height, int quality, int full_chroma, uint8_t **output,
    size_t *output_count, char message[IMAGE_MESSAGE_SIZE]);

// Inflates a zlib stream into at most *output_count bytes, and sets *output_count to what it held.
image_result image_inflate(const uint8_t *bytes, size_t count, uint8_t *output, size_t *output_count);

// CRC-32 as PNG chunks carry it.
uint32_t image_crc32(const uint8_t *bytes, size_t count);
