// All that knows oneDNN's C API, which makes primitives in one way in 2.x (Debian 12) and in another in 3.x (Debian 13).
#include "include/COneDNN.h"

#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_debug.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct onednn_engine {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

struct onednn_product {
    const onednn_engine *owner;
    dnnl_primitive_t primitive;
    dnnl_primitive_desc_t description;
    // How PyTorch lays the weights out, for packing.
    int dimensions;
    dnnl_dims_t weights_dims;
    dnnl_format_tag_t plain_tag;
    dnnl_memory_t source, weights, bias, destination, scratch;
};

#define TRY(call)                                   \
    do {                                            \
        int status_ = (call);                       \
        if (status_ != dnnl_success) return status_; \
    } while (0)

// What makes up a layout whose innermost part is blocks, or nothing.
typedef struct {
    int type, dimensions, inner;
    const dnnl_dim_t *extents, *strides;  // of the dimensions
    const dnnl_dim_t *blocks, *places;    // of the inner blocks: size, and the dimension it divides
} blocking;

// MARK: The difference between 2.x and 3.x

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t layout;
typedef const_dnnl_memory_desc_t layout_view;
static int make_layout(layout *l, int n, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag) {
    return dnnl_memory_desc_create_with_tag(l, n, dims, type, tag);
}
static void free_layout(layout *l) { dnnl_memory_desc_destroy(*l); }
static layout_view view(const layout *l) { return *l; }
static bool read_blocking(layout_view l, blocking *b) {
    dnnl_dims_t *extents, *strides, *blocks, *places;
    dnnl_format_kind_t kind;
    dnnl_data_type_t type;
    if (dnnl_memory_desc_query(l, dnnl_query_format_kind, &kind) || kind != dnnl_blocked ||
        dnnl_memory_desc_query(l, dnnl_query_data_type, &type) ||
        dnnl_memory_desc_query(l, dnnl_query_ndims_s32, &b->dimensions) ||
        dnnl_memory_desc_query(l, dnnl_query_padded_dims, &extents) ||
        dnnl_memory_desc_query(l, dnnl_query_strides, &strides) ||
        dnnl_memory_desc_query(l, dnnl_query_inner_nblks_s32, &b->inner) ||
        dnnl_memory_desc_query(l, dnnl_query_inner_blks, &blocks) ||
        dnnl_memory_desc_query(l, dnnl_query_inner_idxs, &places))
        return false;
    b->type = type, b->extents = *extents, b->strides = *strides, b->blocks = *blocks, b->places = *places;
    return true;
}
static int append_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef); }
static int describe_matmul(dnnl_primitive_desc_t *d, dnnl_engine_t e, layout_view src, layout_view weights,
                           layout_view bias, layout_view dst, dnnl_primitive_attr_t attributes) {
    return dnnl_matmul_primitive_desc_create(d, e, src, weights, bias, dst, attributes);
}
static int describe_convolution(dnnl_primitive_desc_t *d, dnnl_engine_t e, layout_view src, layout_view weights,
                                layout_view bias, layout_view dst, const dnnl_dims_t strides, const dnnl_dims_t begin,
                                const dnnl_dims_t end, dnnl_primitive_attr_t attributes) {
    const dnnl_dims_t dilation = {0, 0};
    return dnnl_convolution_forward_primitive_desc_create(d, e, dnnl_forward_inference, dnnl_convolution_direct, src,
                                                          weights, bias, dst, strides, dilation, begin, end, attributes);
}
#else
typedef dnnl_memory_desc_t layout;
typedef const dnnl_memory_desc_t *layout_view;
static int make_layout(layout *l, int n, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag) {
    return dnnl_memory_desc_init_by_tag(l, n, dims, type, tag);
}
static void free_layout(layout *l) { (void)l; }
static layout_view view(const layout *l) { return l; }
static bool read_blocking(layout_view l, blocking *b) {
    const dnnl_blocking_desc_t *d = &l->format_desc.blocking;
    if (l->format_kind != dnnl_blocked || l->extra.flags != dnnl_memory_extra_flag_none) return false;
    b->type = l->data_type, b->dimensions = l->ndims, b->extents = l->padded_dims, b->strides = d->strides;
    b->inner = d->inner_nblks, b->blocks = d->inner_blks, b->places = d->inner_idxs;
    return true;
}
static int append_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1.0f); }
static int describe_matmul(dnnl_primitive_desc_t *d, dnnl_engine_t e, layout_view src, layout_view weights,
                           layout_view bias, layout_view dst, dnnl_primitive_attr_t attributes) {
    dnnl_matmul_desc_t operation;
    TRY(dnnl_matmul_desc_init(&operation, src, weights, bias, dst));
    return dnnl_primitive_desc_create(d, &operation, attributes, e, NULL);
}
static int describe_convolution(dnnl_primitive_desc_t *d, dnnl_engine_t e, layout_view src, layout_view weights,
                                layout_view bias, layout_view dst, const dnnl_dims_t strides, const dnnl_dims_t begin,
                                const dnnl_dims_t end, dnnl_primitive_attr_t attributes) {
    dnnl_convolution_desc_t operation;
    TRY(dnnl_convolution_forward_desc_init(&operation, dnnl_forward_inference, dnnl_convolution_direct, src, weights,
                                           bias, dst, strides, begin, end));
    return dnnl_primitive_desc_create(d, &operation, attributes, e, NULL);
}
#endif

static layout_view described(const onednn_product *p, dnnl_query_t what) {
    return dnnl_primitive_desc_query_md(p->description, what, 0);
}

// MARK: Engine

int onednn_open(onednn_engine **engine) {
    onednn_engine *e = calloc(1, sizeof *e);
    if (!e) return dnnl_out_of_memory;
    int status = dnnl_engine_create(&e->engine, dnnl_cpu, 0);
    if (status == dnnl_success) status = dnnl_stream_create(&e->stream, e->engine, dnnl_stream_default_flags);
    if (status != dnnl_success) onednn_close(e);
    else *engine = e;
    return status;
}

void onednn_close(onednn_engine *e) {
    if (e->stream) dnnl_stream_destroy(e->stream);
    if (e->engine) dnnl_engine_destroy(e->engine);
    free(e);
}

const char *onednn_status_name(int status) { return dnnl_status2str((dnnl_status_t)status); }

const char *onednn_isa(void) {
    switch (dnnl_get_effective_cpu_isa()) {
        case dnnl_cpu_isa_sse41: return "sse41";
        case dnnl_cpu_isa_avx: return "avx";
        case dnnl_cpu_isa_avx2: return "avx2";
        case dnnl_cpu_isa_avx2_vnni: return "avx2_vnni";
        case dnnl_cpu_isa_avx512_core: return "avx512_core";
        case dnnl_cpu_isa_avx512_core_vnni: return "avx512_core_vnni";
        case dnnl_cpu_isa_avx512_core_bf16: return "avx512_core_bf16";
        case dnnl_cpu_isa_avx512_core_amx: return "avx512_core_amx";
        default: return "other";
    }
}

// MARK: Products

// The four operands of a product as its description wants them.
typedef struct {
    layout src, weights, bias, dst;
} operands;

static void free_operands(operands *o) {
    free_layout(&o->src), free_layout(&o->weights), free_layout(&o->bias), free_layout(&o->dst);
}

static dnnl_data_type_t type_of(onednn_type type) { return type == ONEDNN_BF16 ? dnnl_bf16 : dnnl_f32; }

static int make_attributes(onednn_options options, dnnl_primitive_attr_t *attributes) {
    TRY(dnnl_primitive_attr_create(attributes));
    TRY(dnnl_primitive_attr_set_scratchpad_mode(*attributes, dnnl_scratchpad_mode_user));
    if (options.accumulate) {
        dnnl_post_ops_t ops;
        TRY(dnnl_post_ops_create(&ops));
        int status = append_sum(ops);
        if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(*attributes, ops);
        dnnl_post_ops_destroy(ops);
        TRY(status);
    }
    return dnnl_success;
}

// The memory objects are made once; a run only points them at its buffers.
static int make_memory(onednn_product *p, bool bias) {
    dnnl_engine_t e = p->owner->engine;
    TRY(dnnl_primitive_create(&p->primitive, p->description));
    TRY(dnnl_memory_create(&p->source, described(p, dnnl_query_src_md), e, DNNL_MEMORY_NONE));
    TRY(dnnl_memory_create(&p->weights, described(p, dnnl_query_weights_md), e, DNNL_MEMORY_NONE));
    TRY(dnnl_memory_create(&p->destination, described(p, dnnl_query_dst_md), e, DNNL_MEMORY_NONE));
    if (bias) TRY(dnnl_memory_create(&p->bias, dnnl_primitive_desc_query_md(p->description, dnnl_query_weights_md, 1), e,
                                     DNNL_MEMORY_NONE));
    if (onednn_scratch_bytes(p) > 0)
        TRY(dnnl_memory_create(&p->scratch, described(p, dnnl_query_scratchpad_md), e, DNNL_MEMORY_NONE));
    return dnnl_success;
}

// Ends the making of a product that was described with `status`: all of it, or none.
static int finish(onednn_product *p, int status, operands *o, dnnl_primitive_attr_t attributes, bool bias,
                  onednn_product **product) {
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    free_operands(o);
    if (status == dnnl_success) status = make_memory(p, bias);
    if (status != dnnl_success) onednn_release(p);
    else *product = p;
    return status;
}

static int matmul(onednn_product *p, int64_t batch, int64_t m, int64_t k, int64_t n, onednn_options options, operands *o,
                  dnnl_primitive_attr_t *attributes) {
    // Of one product the dimension of the batch is left out: oneDNN has more ways for two dimensions.
    int first = batch == 1 ? 1 : 0;
    p->dimensions = 3 - first, p->plain_tag = batch == 1 ? dnnl_ba : dnnl_acb;
    dnnl_format_tag_t tag = batch == 1 ? dnnl_ab : dnnl_abc;
    dnnl_data_type_t type = type_of(options.source);
    dnnl_dims_t src_dims = {batch, m, k}, weights_dims = {batch, k, n}, dst_dims = {batch, m, n}, bias_dims = {1, 1, n};
    memcpy(p->weights_dims, weights_dims + first, (size_t)p->dimensions * sizeof *weights_dims);
    TRY(make_layout(&o->src, p->dimensions, src_dims + first, type, tag));
    TRY(make_layout(&o->weights, p->dimensions, p->weights_dims, type, dnnl_format_tag_any));
    TRY(make_layout(&o->bias, p->dimensions, bias_dims + first, dnnl_f32, tag));
    TRY(make_layout(&o->dst, p->dimensions, dst_dims + first, type_of(options.destination), tag));
    TRY(make_attributes(options, attributes));
    return describe_matmul(&p->description, p->owner->engine, view(&o->src), view(&o->weights),
                           options.bias ? view(&o->bias) : NULL, view(&o->dst), *attributes);
}

int onednn_matmul(onednn_engine *engine, int64_t batch, int64_t m, int64_t k, int64_t n, onednn_options options,
                  onednn_product **product) {
    onednn_product *p = calloc(1, sizeof *p);
    if (!p) return dnnl_out_of_memory;
    p->owner = engine;
    operands o = {0};
    dnnl_primitive_attr_t attributes = NULL;
    int status = matmul(p, batch, m, k, n, options, &o, &attributes);
    return finish(p, status, &o, attributes, options.bias, product);
}

static int convolution(onednn_product *p, onednn_convolution_shape s, onednn_options options, operands *o,
                       dnnl_primitive_attr_t *attributes) {
    p->dimensions = 4, p->plain_tag = dnnl_abcd;
    p->weights_dims[0] = s.outputs, p->weights_dims[1] = s.c;
    p->weights_dims[2] = p->weights_dims[3] = s.kernel;
    dnnl_data_type_t type = type_of(options.source);
    int64_t oh = (s.h + s.pad_begin + s.pad_end - s.kernel) / s.stride + 1;
    int64_t ow = (s.w + s.pad_begin + s.pad_end - s.kernel) / s.stride + 1;
    // oneDNN names dimensions n, c, h, w whatever the layout; the tag acdb is nhwc.
    dnnl_dims_t src_dims = {s.n, s.c, s.h, s.w}, dst_dims = {s.n, s.outputs, oh, ow}, bias_dims = {s.outputs};
    dnnl_dims_t strides = {s.stride, s.stride}, begin = {s.pad_begin, s.pad_begin}, end = {s.pad_end, s.pad_end};
    TRY(make_layout(&o->src, 4, src_dims, type, dnnl_acdb));
    TRY(make_layout(&o->weights, 4, p->weights_dims, type, dnnl_format_tag_any));
    TRY(make_layout(&o->bias, 1, bias_dims, dnnl_f32, dnnl_a));
    TRY(make_layout(&o->dst, 4, dst_dims, type_of(options.destination), dnnl_acdb));
    TRY(make_attributes(options, attributes));
    return describe_convolution(&p->description, p->owner->engine, view(&o->src), view(&o->weights),
                                options.bias ? view(&o->bias) : NULL, view(&o->dst), strides, begin, end, *attributes);
}

int onednn_convolution(onednn_engine *engine, onednn_convolution_shape s, onednn_options options,
                       onednn_product **product) {
    onednn_product *p = calloc(1, sizeof *p);
    if (!p) return dnnl_out_of_memory;
    p->owner = engine;
    operands o = {0};
    dnnl_primitive_attr_t attributes = NULL;
    int status = convolution(p, s, options, &o, &attributes);
    return finish(p, status, &o, attributes, options.bias, product);
}

void onednn_release(onednn_product *p) {
    dnnl_memory_t memories[] = {p->source, p->weights, p->bias, p->destination, p->scratch};
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        if (memories[i]) dnnl_memory_destroy(memories[i]);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->description) dnnl_primitive_desc_destroy(p->description);
    free(p);
}

bool onednn_same_layout(const onednn_product *a, const onednn_product *b) {
    return dnnl_memory_desc_equal(described(a, dnnl_query_weights_md), described(b, dnnl_query_weights_md));
}

// Appends "NAME n,n,n" to a text of `size` bytes; false when it does not fit.
static bool append(char *text, size_t size, const char *name, const dnnl_dim_t *values, int count) {
    size_t used = strlen(text);
    for (int i = -1; i < count; i++) {
        int n = i < 0 ? snprintf(text + used, size - used, " %s", name)
                      : snprintf(text + used, size - used, "%c%lld", i ? ',' : ' ', (long long)values[i]);
        if (n < 0 || (size_t)n >= size - used) return false;
        used += (size_t)n;
    }
    return true;
}

bool onednn_layout(const onednn_product *p, char *text, size_t size) {
    blocking b;
    if (size == 0 || !read_blocking(described(p, dnnl_query_weights_md), &b)) return false;
    int n = snprintf(text, size, "%s", b.type == dnnl_bf16 ? "bf16" : b.type == dnnl_f32 ? "f32" : "");
    return n > 0 && (size_t)n < size && append(text, size, "extents", b.extents, b.dimensions) &&
           append(text, size, "strides", b.strides, b.dimensions) && append(text, size, "blocks", b.blocks, b.inner) &&
           append(text, size, "of", b.places, b.inner);
}

size_t onednn_weights_bytes(const onednn_product *p) {
    return dnnl_memory_desc_get_size(described(p, dnnl_query_weights_md));
}
size_t onednn_scratch_bytes(const onednn_product *p) {
    layout_view scratch = described(p, dnnl_query_scratchpad_md);
    return scratch ? dnnl_memory_desc_get_size(scratch) : 0;
}
const char *onednn_implementation(const onednn_product *p) {
    const char *name = "";
    dnnl_primitive_desc_query(p->description, dnnl_query_impl_info_str, 0, &name);
    return name;
}

int onednn_pack(const onednn_product *p, const float *plain, void *packed) {
    dnnl_engine_t e = p->owner->engine;
    layout from;
    TRY(make_layout(&from, p->dimensions, p->weights_dims, dnnl_f32, p->plain_tag));
    dnnl_primitive_desc_t description = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_memory_t source = NULL, destination = NULL;
    int status = dnnl_reorder_primitive_desc_create(&description, view(&from), e, described(p, dnnl_query_weights_md), e, NULL);
    if (status == dnnl_success) status = dnnl_primitive_create(&reorder, description);
    if (status == dnnl_success) status = dnnl_memory_create(&source, view(&from), e, (void *)plain);
    if (status == dnnl_success)
        status = dnnl_memory_create(&destination, described(p, dnnl_query_weights_md), e, packed);
    if (status == dnnl_success) {
        dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, destination}};
        status = dnnl_primitive_execute(reorder, p->owner->stream, 2, arguments);
        if (status == dnnl_success) status = dnnl_stream_wait(p->owner->stream);
    }
    if (source) dnnl_memory_destroy(source);
    if (destination) dnnl_memory_destroy(destination);
    if (reorder) dnnl_primitive_destroy(reorder);
    if (description) dnnl_primitive_desc_destroy(description);
    free_layout(&from);
    return status;
}

static int point(dnnl_memory_t memory, const void *buffer) {
    return dnnl_memory_set_data_handle(memory, (void *)buffer);
}

int onednn_run(const onednn_product *p, const void *source, const void *packed, const float *bias, void *destination,
               void *scratch) {
    dnnl_exec_arg_t arguments[5] = {
        {DNNL_ARG_SRC, p->source}, {DNNL_ARG_WEIGHTS, p->weights}, {DNNL_ARG_DST, p->destination}};
    int count = 3;
    TRY(point(p->source, source));
    TRY(point(p->weights, packed));
    TRY(point(p->destination, destination));
    if (p->bias) {
        TRY(point(p->bias, bias));
        arguments[count++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, p->bias};
    }
    if (p->scratch) {
        TRY(point(p->scratch, scratch));
        arguments[count++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, p->scratch};
    }
    TRY(dnnl_primitive_execute(p->primitive, p->owner->stream, count, arguments));
    return dnnl_stream_wait(p->owner->stream);
}
