#include "decoder.h"

#include <lcms2.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// littleCMS turns samples of 16 bits by a coarse table, up to 12 levels off, or exactly and very slowly. For profiles that
// are three curves and a matrix, which nearly all are, the exact way is short.
typedef struct {
    // 16-bit sample to light, each channel.
    float curves[3][65536];
    // Light of the profile to light of sRGB.
    float matrix[3][3];
    // Light, as 16 bits, to sRGB.
    uint8_t encoded[65536];
} matrix_shaper;

struct image_colour {
    cmsHTRANSFORM transform;
    matrix_shaper *shaper;
    image_model model;
    int has_alpha, bits;
};

// A profile carries the time of its making, for which the C library once reads the time zone from a file.
void image_prepare_colour(void) {
    cmsHPROFILE srgb = cmsCreate_sRGBProfile();
    if (srgb) cmsCloseProfile(srgb);
}

static cmsUInt32Number format(image_model model, int has_alpha, int bytes) {
    cmsUInt32Number space = PT_CMYK;
    if (model == IMAGE_GREY) space = PT_GRAY;
    if (model == IMAGE_RGB) space = PT_RGB;
    return COLORSPACE_SH(space) | CHANNELS_SH((cmsUInt32Number)model) | EXTRA_SH((cmsUInt32Number)has_alpha)
        | BYTES_SH((cmsUInt32Number)bytes) | FLAVOR_SH(model == IMAGE_CMYK);
}

// Perceptual, without flags: what ImageCms.profileToProfile of Pillow does when nothing else is asked for.
static cmsHTRANSFORM transform(cmsHPROFILE from, cmsUInt32Number input, int has_alpha) {
    cmsHPROFILE srgb = cmsCreate_sRGBProfile();
    if (!srgb) return NULL;
    cmsHTRANSFORM made
        = cmsCreateTransform(from, input, srgb, format(IMAGE_RGB, has_alpha, 1), INTENT_PERCEPTUAL, 0);
    cmsCloseProfile(srgb);
    return made;
}

// Whether colours stay what they are, to one level.
static int changes_nothing(cmsHPROFILE from) {
    enum { STEPS = 9 };
    cmsHTRANSFORM probe = transform(from, TYPE_RGB_8, 0);
    if (!probe) return 0;
    int same = 1;
    for (int i = 0; same && i < STEPS * STEPS * STEPS; i++) {
        int levels[3] = {i % STEPS, i / STEPS % STEPS, i / STEPS / STEPS};
        uint8_t in[3], out[3];
        for (int c = 0; c < 3; c++) in[c] = levels[c] * 255 / (STEPS - 1);
        cmsDoTransform(probe, in, out, 1);
        for (int c = 0; c < 3; c++) same = same && abs(in[c] - out[c]) <= 1;
    }
    cmsDeleteTransform(probe);
    return same;
}

static int read_matrix(cmsHPROFILE profile, double matrix[3][3]) {
    static const cmsTagSignature tags[] = {cmsSigRedColorantTag, cmsSigGreenColorantTag, cmsSigBlueColorantTag};
    for (int c = 0; c < 3; c++) {
        const cmsCIEXYZ *colour = cmsReadTag(profile, tags[c]);
        if (!colour) return 0;
        matrix[0][c] = colour->X;
        matrix[1][c] = colour->Y;
        matrix[2][c] = colour->Z;
    }
    return 1;
}

// to = inverse of a, times b. 0 where a has none.
static int solve(double a[3][3], double b[3][3], float to[3][3]) {
    double inverse[3][3], determinant = 0;
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 3; c++) {
            int r1 = (c + 1) % 3, r2 = (c + 2) % 3, c1 = (r + 1) % 3, c2 = (r + 2) % 3;
            inverse[r][c] = a[r1][c1] * a[r2][c2] - a[r1][c2] * a[r2][c1];
        }
    for (int c = 0; c < 3; c++) determinant += a[0][c] * inverse[c][0];
    if (fabs(determinant) < 1e-9) return 0;
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 3; c++) {
            double sum = 0;
            for (int k = 0; k < 3; k++) sum += inverse[r][k] * b[k][c];
            to[r][c] = (float)(sum / determinant);
        }
    return 1;
}

static matrix_shaper *make_shaper(cmsHPROFILE profile) {
    static const cmsTagSignature tags[] = {cmsSigRedTRCTag, cmsSigGreenTRCTag, cmsSigBlueTRCTag};
    if (!cmsIsMatrixShaper(profile)) return NULL;
    matrix_shaper *shaper = malloc(sizeof *shaper);
    cmsHPROFILE srgb = cmsCreate_sRGBProfile();
    double from[3][3], to[3][3];
    int is_made = shaper && srgb && read_matrix(profile, from) && read_matrix(srgb, to) && solve(to, from, shaper->matrix);
    for (int c = 0; is_made && c < 3; c++) {
        const cmsToneCurve *curve = cmsReadTag(profile, tags[c]);
        is_made = curve != NULL;
        for (int i = 0; curve && i < 65536; i++) shaper->curves[c][i] = cmsEvalToneCurveFloat(curve, (float)i / 65535);
    }
    if (srgb) cmsCloseProfile(srgb);
    if (!is_made) {
        free(shaper);
        return NULL;
    }
    for (int i = 0; i < 65536; i++) {
        double light = i / 65535.0;
        double value = light <= 0.0031308 ? 12.92 * light : 1.055 * pow(light, 1 / 2.4) - 0.055;
        shaper->encoded[i] = (uint8_t)lround(255 * value);
    }
    return shaper;
}

static void shape(const matrix_shaper *shaper, const uint16_t *from, uint8_t *to, uint32_t count, int samples) {
    for (uint32_t x = 0; x < count; x++, from += samples, to += samples) {
        float light[3];
        for (int c = 0; c < 3; c++) light[c] = shaper->curves[c][from[c]];
        for (int c = 0; c < 3; c++) {
            const float *row = shaper->matrix[c];
            float sum = row[0] * light[0] + row[1] * light[1] + row[2] * light[2];
            // Written so that what is no number becomes 0.
            to[c] = shaper->encoded[sum > 0 ? sum < 1 ? (int)(sum * 65535 + 0.5f) : 65535 : 0];
        }
    }
}

static image_colour *make(cmsHPROFILE profile, const image_header *header) {
    if (!profile) return NULL;
    image_colour *colour = NULL;
    cmsColorSpaceSignature space = header->model == IMAGE_GREY ? cmsSigGrayData
        : header->model == IMAGE_RGB                           ? cmsSigRgbData
                                                               : cmsSigCmykData;
    cmsProfileClassSignature class = cmsGetDeviceClass(profile);
    int fits = cmsGetColorSpace(profile) == space
        && (class == cmsSigInputClass || class == cmsSigDisplayClass || class == cmsSigOutputClass
            || class == cmsSigColorSpaceClass);
    if (fits && !(header->model == IMAGE_RGB && changes_nothing(profile))) {
        cmsHTRANSFORM made
            = transform(profile, format(header->model, header->has_alpha, header->bits / 8), header->has_alpha);
        colour = made ? malloc(sizeof *colour) : NULL;
        if (colour) {
            int is_wide = header->model == IMAGE_RGB && header->bits == 16;
            *colour = (image_colour){
                made, is_wide ? make_shaper(profile) : NULL, header->model, header->has_alpha, header->bits};
        } else if (made) {
            cmsDeleteTransform(made);
        }
    }
    cmsCloseProfile(profile);
    return colour;
}

image_colour *image_colour_from_profile(const uint8_t *icc, size_t count, const image_header *header) {
    return count <= UINT32_MAX ? make(cmsOpenProfileFromMem(icc, (cmsUInt32Number)count), header) : NULL;
}

void image_profile_name(const uint8_t *icc, size_t count, char *name, size_t room) {
    memset(name, 0, room);
    cmsHPROFILE profile = count <= UINT32_MAX ? cmsOpenProfileFromMem(icc, (cmsUInt32Number)count) : NULL;
    if (!profile) return;
    cmsGetProfileInfoASCII(profile, cmsInfoDescription, "en", "US", name, (cmsUInt32Number)room);
    name[room - 1] = 0;
    cmsCloseProfile(profile);
}

image_colour *image_colour_from_values(const double chromaticities[8], double gamma, const image_header *header) {
    // IEC 61966-2-1, as littleCMS's own sRGB profile has it.
    static const cmsFloat64Number srgb[] = {2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045};
    cmsToneCurve *curve
        = gamma > 0 ? cmsBuildGamma(NULL, gamma) : cmsBuildParametricToneCurve(NULL, 4, srgb);
    if (!curve) return NULL;
    cmsCIExyY white = {chromaticities[0], chromaticities[1], 1};
    cmsHPROFILE profile = NULL;
    if (header->model == IMAGE_GREY) {
        profile = cmsCreateGrayProfile(cmsD50_xyY(), curve);
    } else if (header->model == IMAGE_RGB) {
        cmsCIExyYTRIPLE primaries = {
            {chromaticities[2], chromaticities[3], 1},
            {chromaticities[4], chromaticities[5], 1},
            {chromaticities[6], chromaticities[7], 1},
        };
        cmsToneCurve *curves[] = {curve, curve, curve};
        profile = cmsCreateRGBProfile(&white, &primaries, curves);
    }
    cmsFreeToneCurve(curve);
    return make(profile, header);
}

void image_colour_convert(image_colour *colour, const void *from, uint8_t *to, uint32_t count) {
    if (colour->shaper) {
        shape(colour->shaper, from, to, count, 3 + colour->has_alpha);
    } else {
        cmsDoTransform(colour->transform, from, to, count);
    }
    if (!colour->has_alpha) return;
    uint32_t samples = (uint32_t)colour->model + 1;
    const uint8_t *narrow = (const uint8_t *)from + samples - 1;
    const uint16_t *wide = (const uint16_t *)from + samples - 1;
    for (uint32_t x = 0; x < count; x++) to[4 * x + 3] = colour->bits == 16 ? wide[x * samples] >> 8 : narrow[x * samples];
}

void image_colour_free(image_colour *colour) {
    if (!colour) return;
    cmsDeleteTransform(colour->transform);
    free(colour->shaper);
    free(colour);
}
