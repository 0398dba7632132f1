#pragma once
#include <libheif/heif_plugin.h>

extern const struct heif_decoder_plugin image_hevc_decoder;
