// Matrix products and convolutions by oneDNN, behind the few calls this project needs.
//
// A product is made once for its shape and run many times. oneDNN chooses the layout of the weights of each product;
// `onednn_same_layout` tells whether weights packed for one serve another.
// Every call returns 0 or a oneDNN status (`onednn_status_name`); nothing is printed, nothing aborts.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct onednn_engine onednn_engine;
typedef struct onednn_product onednn_product;

typedef enum { ONEDNN_F32 = 0, ONEDNN_BF16 = 1 } onednn_type;

/// What is common to both kinds of product. Bias and sums are fp32.
typedef struct {
    onednn_type source;       // type of the input and of the weights
    onednn_type destination;
    bool bias;
    bool accumulate;          // add to what the destination holds
} onednn_options;

typedef struct {
    int64_t n, h, w, c;         // input [n, h, w, c]
    int64_t outputs;            // output [n, oh, ow, outputs]
    int64_t kernel, stride;     // weights [outputs, c, kernel, kernel]
    int64_t pad_begin, pad_end; // rows above and columns left, rows below and columns right
} onednn_convolution_shape;

int onednn_open(onednn_engine **engine);
/// Every product made with it must have been released.
void onednn_close(onednn_engine *engine);
const char *onednn_status_name(int status);
/// Major, minor and patch number of the library.
void onednn_version(int version[3]);
/// The instruction set it will use, such as "avx512_core_bf16".
const char *onednn_isa(void);

/// destination [batch, m, n] = source [batch, m, k] * weights^T, with weights [batch, n, k].
int onednn_matmul(onednn_engine *engine, int64_t batch, int64_t m, int64_t k, int64_t n, onednn_options options,
                  onednn_product **product);
int onednn_convolution(onednn_engine *engine, onednn_convolution_shape shape, onednn_options options,
                       onednn_product **product);
void onednn_release(onednn_product *product);

/// Whether two products read the same packed weights.
bool onednn_same_layout(const onednn_product *a, const onednn_product *b);
/// The layout of the packed weights in words, equal for equal layouts of any oneDNN; false where words do not suffice.
bool onednn_layout(const onednn_product *product, char *text, size_t size);
size_t onednn_weights_bytes(const onednn_product *product);
size_t onednn_scratch_bytes(const onednn_product *product);
/// The implementation oneDNN chose, such as "brgconv:avx512_core_bf16".
const char *onednn_implementation(const onednn_product *product);

/// Reorders fp32 weights as PyTorch stores them ([n, k] or [outputs, c, kernel, kernel]) into `packed`.
int onednn_pack(const onednn_product *product, const float *weights, void *packed);
int onednn_run(const onednn_product *product, const void *source, const void *packed, const float *bias,
               void *destination, void *scratch);
