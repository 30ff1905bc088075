/*
 * options.c - options become settings: every default resolved, every value checked.
 */
#include "plan/options.h"

#include "util/cpus.h"

/* Devices that serve a page cheaper than they begin another request are all there are; slower ones
   to begin say so in a probe. */
#define GAP_DEFAULT_BYTES 4096u
/* Models have contexts of 131072 and more, whose keys and values are larger than their weights. */
#define CONTEXT_DEFAULT_MAX 8192u
/* Another thread must have enough to do to be worth its stack and the waiting for it. */
#define FFN_BYTES_PER_THREAD (8u << 20)

void flin_settings_begin(flin_settings *settings, const flashinfer_options *options)
{
    settings->log = options->log;
    settings->log_user = options->log_user;
    settings->progress = options->progress;
    settings->progress_user = options->progress_user;
    settings->watch.trace = options->trace;
    settings->watch.trace_user = options->trace_user;
    settings->watch.ffn_input = options->ffn_input;
    settings->watch.ffn_input_user = options->ffn_input_user;
    settings->watch.audit = options->audit;
    settings->watch.audit_user = options->audit_user;
}

static int out_of_range(const char *field, uint32_t value, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EINVAL, "options.%s is %u, which is not one of its values",
                     field, value);
}

static const char *kind_name(uint32_t kind)
{
    return kind == FLASHINFER_PREDICTOR_SKETCH    ? "sketch"
           : kind == FLASHINFER_PREDICTOR_LOWRANK ? "low-rank"
                                                  : "sketch or low-rank";
}

static int resolve_predictor(flin_settings *settings, uint32_t wanted, const flin_gguf *gguf,
                             const flin_shape *shape, flashinfer_error *error)
{
    uint32_t found = flin_weights_predictor(gguf, shape->layers);

    switch (wanted) {
    case FLASHINFER_PREDICTOR_DEFAULT:
        settings->predictor = found != 0 ? found : FLASHINFER_PREDICTOR_EXACT;
        return 0;
    case FLASHINFER_PREDICTOR_SKETCH:
    case FLASHINFER_PREDICTOR_LOWRANK:
        /* layers without any are found missing when the weights are laid out */
        if (found != wanted && !flin_weights_have(gguf, shape->layers, wanted)) break;
        settings->predictor = wanted;
        return 0;
    case FLASHINFER_PREDICTOR_MIXED:
        if (found == 0) break;
        settings->predictor = found;
        return 0;
    case FLASHINFER_PREDICTOR_EXACT:
    case FLASHINFER_PREDICTOR_ALL:
        settings->predictor = wanted;
        return 0;
    default:
        return out_of_range("predictor", wanted, error);
    }
    if (!flin_activation_has_zeros(&shape->activation))
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "the file has no %s predictor: every neuron of this model fires under its "
                         "activation %s; use the predictor exact or all",
                         kind_name(wanted), flin_activation_name(shape->activation.kind));
    if (flin_gguf_find(gguf, "flashinfer.predictor.version") != NULL)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "the predictor file has no %s predictor for every layer; make one from "
                         "this model or use another predictor",
                         kind_name(wanted));
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "the file has no %s predictor for every layer; use the exact predictor, give "
                     "a predictor file or pack the model again with one",
                     kind_name(wanted));
}

/* A plain file has no bundles: all of each matrix is used. */
static int resolve_plain(flin_settings *settings, const flashinfer_options *options,
                         flashinfer_error *error)
{
    settings->predictor = FLASHINFER_PREDICTOR_ALL;
    if (options->predictor_path == NULL && (options->predictor == FLASHINFER_PREDICTOR_DEFAULT ||
                                            options->predictor == FLASHINFER_PREDICTOR_ALL))
        return 0;
    if (options->predictor > FLASHINFER_PREDICTOR_MIXED)
        return out_of_range("predictor", options->predictor, error);
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "the model file is not in flash layout: no predictor can choose among its "
                     "neurons; leave options.predictor 0 and options.predictor_path NULL, or pack "
                     "the model first, with flashinfer_pack()");
}

static uint32_t threads_default(const flin_shape *shape, uint64_t file_bytes)
{
    uint64_t ffn_bytes = flin_shape_is_plain(shape)
                             ? file_bytes
                             : (uint64_t)shape->layers * shape->ffn * shape->bundle.stride_bytes;
    uint64_t busy = ffn_bytes / FFN_BYTES_PER_THREAD;
    uint32_t most = flin_pool_default_count();

    return busy < 1 ? 1 : busy < most ? (uint32_t)busy : most;
}

static int resolve_numbers(flin_settings *settings, const flashinfer_options *options,
                           const flin_shape *shape, uint64_t file_bytes, flashinfer_error *error)
{
    /* one more would keep a CPU from another that the others wait for */
    const uint32_t cpus = flin_cpus();

    settings->threads =
        options->threads != 0 ? options->threads : threads_default(shape, file_bytes);
    settings->threads_asked = options->threads;
    settings->context = options->context_tokens;
    if (settings->context == 0)
        settings->context =
            shape->context < CONTEXT_DEFAULT_MAX ? shape->context : CONTEXT_DEFAULT_MAX;
    settings->sessions = options->session_count != 0 ? options->session_count : 1;
    settings->window_tokens = options->window_tokens;
    settings->watch.audit_interval = options->audit_interval;
    settings->watch.audit_layers = options->audit_layers != 0 ? options->audit_layers : 1;
    if (settings->watch.audit_layers > shape->layers) settings->watch.audit_layers = shape->layers;
    settings->gap_bytes = options->io_gap_bytes != 0 ? options->io_gap_bytes : GAP_DEFAULT_BYTES;
    if (settings->threads > FLIN_POOL_THREADS_MAX)
        return flin_fail(error, FLASHINFER_EINVAL, "options.threads is %u; the most is %u",
                         settings->threads, FLIN_POOL_THREADS_MAX);
    if (settings->threads > cpus) settings->threads = cpus;
    if (settings->context > shape->context)
        return flin_fail(
            error, FLASHINFER_EINVAL,
            "options.context_tokens is %u; the model has %u positions: ask for fewer tokens",
            settings->context, shape->context);
    if (settings->gap_bytes > FLIN_BATCH_GAP_MAX)
        return flin_fail(error, FLASHINFER_EINVAL, "options.io_gap_bytes is %u; the most is %u",
                         settings->gap_bytes, FLIN_BATCH_GAP_MAX);
    if (settings->sessions > 1024)
        return flin_fail(error, FLASHINFER_EINVAL, "options.session_count is %u; the most is 1024",
                         settings->sessions);
    return 0;
}

static int resolve_kinds(flin_settings *settings, const flashinfer_options *options,
                         const flin_shape *shape, flashinfer_error *error)
{
    static const enum flin_type kv_types[] = {FLIN_F32, FLIN_F32, FLIN_F16, FLIN_Q8_0};

    if (options->kv_type > FLASHINFER_KV_Q8_0)
        return out_of_range("kv_type", options->kv_type, error);
    settings->kv_type = kv_types[options->kv_type];
    if (flin_type_quantised(settings->kv_type) && shape->head_width % FLIN_BLOCK != 0)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "options.kv_type asks for Q8_0, whose blocks of %u do not fit this "
                         "model's heads of %u; use FLASHINFER_KV_F16",
                         FLIN_BLOCK, shape->head_width);
    if (options->verify > FLASHINFER_VERIFY_OPEN)
        return out_of_range("verify", options->verify, error);
    settings->verify =
        options->verify == FLASHINFER_VERIFY_DEFAULT ? FLIN_VERIFY_READ : options->verify;
    if (flin_kernels_choose(options->kernels) == NULL)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "options.kernels asks for number %u, which this CPU or build "
                         "does not have; leave it 0",
                         options->kernels);
    settings->kernels = options->kernels;
    if (flin_shape_is_plain(shape)) settings->verify = FLASHINFER_VERIFY_NONE; /* no checksums */
    return 0;
}

int flin_settings_resolve(flin_settings *settings, const flashinfer_options *options,
                          const flin_gguf *predictors, const flin_shape *shape, uint64_t file_bytes,
                          flashinfer_error *error)
{
    int code;

    settings->budget_bytes = options->memory_budget;
    settings->flags = options->flags;
    code = flin_shape_is_plain(shape)
               ? resolve_plain(settings, options, error)
               : resolve_predictor(settings, options->predictor, predictors, shape, error);
    if (code != 0) return code;
    if ((code = resolve_numbers(settings, options, shape, file_bytes, error)) != 0) return code;
    code = flin_policy_resolve(&settings->cache_policy, options->cache_policy,
                               options->window_tokens, error);
    return code != 0 ? code : resolve_kinds(settings, options, shape, error);
}
