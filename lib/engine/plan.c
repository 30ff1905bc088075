/*
 * plan.c - options become a configuration, and a budget is divided: what must be there first, then
 * up rows (exact mode), then slots of the neuron cache until the budget is full.
 */
#include "engine/model.h"

#include <stdio.h>
#include <string.h>

#define TABLE_ENTRY_BYTES 8u /* of the system's page tables, for a page each */
#define TABLE_PAGES_SPARE 4u /* the tables above those, and mappings that begin within one */
#define SLOTS_MIN 32u        /* for each layer; a token that needs more is computed in waves */
/* Devices that serve a page cheaper than they begin another request are all there are; slower ones
   to begin say so in a probe. */
#define GAP_DEFAULT_BYTES 4096u
/* Another thread must have enough to do to be worth its stack and the waiting for it. */
#define FFN_BYTES_PER_THREAD (8u << 20)

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

static int resolve_predictor(flin_config *config, uint32_t wanted, const flin_gguf *gguf,
                             const flin_shape *shape, flashinfer_error *error)
{
    uint32_t found = flin_weights_predictor(gguf, shape->layers);

    switch (wanted) {
    case FLASHINFER_PREDICTOR_DEFAULT:
        config->predictor = found != 0 ? found : FLASHINFER_PREDICTOR_EXACT;
        return 0;
    case FLASHINFER_PREDICTOR_SKETCH:
    case FLASHINFER_PREDICTOR_LOWRANK:
        /* layers without any are found missing when the weights are laid out */
        if (found != wanted && !flin_weights_have(gguf, shape->layers, wanted)) break;
        config->predictor = wanted;
        return 0;
    case FLASHINFER_PREDICTOR_MIXED:
        if (found == 0) break;
        config->predictor = found;
        return 0;
    case FLASHINFER_PREDICTOR_EXACT:
    case FLASHINFER_PREDICTOR_ALL:
        config->predictor = wanted;
        return 0;
    default:
        return out_of_range("predictor", wanted, error);
    }
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "the file has no %s predictor for every layer; use the exact predictor, give "
                     "a predictor file or pack the model again with one",
                     kind_name(wanted));
}

static uint32_t threads_default(const flin_shape *shape)
{
    uint64_t ffn_bytes = (uint64_t)shape->layers * shape->ffn * shape->bundle.stride_bytes;
    uint64_t busy = ffn_bytes / FFN_BYTES_PER_THREAD;
    uint32_t most = flin_pool_default_count();

    return busy < 1 ? 1 : busy < most ? (uint32_t)busy : most;
}

static int resolve_numbers(flin_config *config, const flashinfer_options *options,
                           const flin_shape *shape, flashinfer_error *error)
{
    config->threads = options->threads != 0 ? options->threads : threads_default(shape);
    config->context = options->context_tokens != 0 ? options->context_tokens : shape->context;
    config->sessions = options->session_count != 0 ? options->session_count : 1;
    config->window_tokens = options->window_tokens;
    config->audit_interval = options->audit_interval;
    config->audit_layers = options->audit_layers != 0 ? options->audit_layers : 1;
    if (config->audit_layers > shape->layers) config->audit_layers = shape->layers;
    config->gap_bytes = options->io_gap_bytes != 0 ? options->io_gap_bytes : GAP_DEFAULT_BYTES;
    if (config->threads > FLIN_POOL_THREADS_MAX)
        return flin_fail(error, FLASHINFER_EINVAL, "options.threads is %u; the most is %u",
                         config->threads, FLIN_POOL_THREADS_MAX);
    if (config->context > shape->context)
        return flin_fail(
            error, FLASHINFER_EINVAL,
            "options.context_tokens is %u; the model has %u positions: ask for fewer tokens",
            config->context, shape->context);
    if (config->gap_bytes > FLIN_BATCH_GAP_MAX)
        return flin_fail(error, FLASHINFER_EINVAL, "options.io_gap_bytes is %u; the most is %u",
                         config->gap_bytes, FLIN_BATCH_GAP_MAX);
    if (config->sessions > 1024)
        return flin_fail(error, FLASHINFER_EINVAL, "options.session_count is %u; the most is 1024",
                         config->sessions);
    return 0;
}

static int resolve_kinds(flin_config *config, const flashinfer_options *options,
                         const flin_shape *shape, flashinfer_error *error)
{
    static const enum flin_type kv_types[] = {FLIN_F32, FLIN_F32, FLIN_F16, FLIN_Q8_0};

    if (options->kv_type > FLASHINFER_KV_Q8_0)
        return out_of_range("kv_type", options->kv_type, error);
    config->kv_type = kv_types[options->kv_type];
    if (flin_type_quantised(config->kv_type) && shape->head_width % FLIN_BLOCK != 0)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "options.kv_type asks for Q8_0, whose blocks of %u do not fit this "
                         "model's heads of %u; use FLASHINFER_KV_F16",
                         FLIN_BLOCK, shape->head_width);
    if (options->verify > FLASHINFER_VERIFY_OPEN)
        return out_of_range("verify", options->verify, error);
    config->verify =
        options->verify == FLASHINFER_VERIFY_DEFAULT ? FLIN_VERIFY_READ : options->verify;
    if (flin_kernels_choose(options->kernels) == NULL)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "options.kernels asks for number %u, which this CPU or build "
                         "does not have; leave it 0",
                         options->kernels);
    config->kernels = options->kernels;
    return 0;
}

int flin_config_resolve(flin_config *config, const flashinfer_options *options,
                        const flin_gguf *predictors, const flin_shape *shape,
                        flashinfer_error *error)
{
    int code;

    config->budget_bytes = options->memory_budget;
    config->flags = options->flags;
    code = resolve_predictor(config, options->predictor, predictors, shape, error);
    if (code != 0) return code;
    if ((code = resolve_numbers(config, options, shape, error)) != 0) return code;
    code = flin_policy_resolve(&config->cache_policy, options->cache_policy, options->window_tokens,
                               error);
    return code != 0 ? code : resolve_kinds(config, options, shape, error);
}

/* Bytes of all slots, or of a layer's rows, as they are mapped. */
static uint64_t slab_bytes(uint32_t count, uint32_t unit_bytes)
{
    return flin_round_up((uint64_t)count * unit_bytes, flin_page_bytes());
}

static uint32_t fit(uint64_t bytes, uint32_t unit_bytes, uint32_t most)
{
    uint64_t count = flin_round_down(bytes, flin_page_bytes()) / unit_bytes;
    return count < most ? (uint32_t)count : most;
}

/* The largest slot any layer needs: bundles begin at different offsets in every layer. */
static uint32_t slot_bytes(const flashinfer_model *model)
{
    uint32_t most = 0;

    for (uint32_t i = 0; i < model->shape.layers; i++) {
        char name[64];
        const flin_gguf_tensor *bundles;
        flin_cache_extent extent;
        uint32_t bytes;
        (void)snprintf(name, sizeof name, "blk.%u.ffn_bundle.weight", i);
        bundles = flin_gguf_find_tensor(&model->gguf, name);
        extent = flin_slot_extent(model, bundles != NULL ? bundles->offset : 0);
        bytes = flin_cache_slot_bytes(&extent, model->shape.ffn);
        if (bytes > most) most = bytes;
    }
    return most;
}

/* What there may be beyond the fixed part, turned into rows and slots. */
static flin_share divide(const flashinfer_model *model, uint64_t bytes, uint32_t slots_min)
{
    flin_share share = {0, 0};
    uint32_t ffn = model->shape.ffn, row_bytes = model->shape.bundle.parts[FLIN_PART_UP].bytes;
    uint32_t slot = model->slot_bytes, layers = model->shape.layers;

    if (!flin_uses_cache(&model->config)) return share;
    share.slots = slots_min;
    if (flin_uses_rows(&model->config)) {
        uint64_t rest = bytes - slab_bytes(slots_min, slot);
        share.rows = fit(rest / layers, row_bytes, ffn);
        bytes -= layers * slab_bytes(share.rows, row_bytes);
    }
    share.slots = fit(bytes, slot, layers * ffn);
    if (share.slots < slots_min) share.slots = slots_min;
    return share;
}

static uint64_t rows_bytes_of(const flashinfer_model *model, flin_share share)
{
    return model->shape.layers *
           slab_bytes(share.rows, model->shape.bundle.parts[FLIN_PART_UP].bytes);
}

static uint64_t bytes_of(const flashinfer_model *model, flin_share share)
{
    return slab_bytes(share.slots, model->slot_bytes) + rows_bytes_of(model, share);
}

/* Whole pages of what is planned, and the system's page tables of them: a control group charges
   these too, and large pages keep them in reserve. */
static uint64_t with_page_tables(uint64_t bytes)
{
    uint64_t page_bytes = flin_page_bytes(), entries = page_bytes / TABLE_ENTRY_BYTES;
    uint64_t pages = flin_round_up(bytes, page_bytes) / page_bytes;
    uint64_t tables = (pages + entries - 1) / entries;
    return (pages + tables + TABLE_PAGES_SPARE) * page_bytes;
}

/* The most whose with_page_tables() is within `bytes`, which is no less than that of nothing. */
static uint64_t without_page_tables(uint64_t bytes)
{
    uint64_t page_bytes = flin_page_bytes(), entries = page_bytes / TABLE_ENTRY_BYTES;
    uint64_t pages = bytes / page_bytes - TABLE_PAGES_SPARE;
    return (pages - (pages + entries) / (entries + 1)) * page_bytes;
}

static void fill_fixed(const flashinfer_model *model, flashinfer_plan *plan)
{
    const flin_sections *sections = &model->sections;

    plan->metadata_bytes = sizeof *model + model->gguf.arena.capacity +
                           model->predictor_gguf.arena.capacity + sections->tokenizer;
    plan->resident_bytes = sections->resident;
    plan->predictor_bytes = sections->predictor;
    plan->cache_bytes = sections->cache;
    plan->kv_bytes = sections->kv;
    plan->scratch_bytes = sections->scratch;
    plan->io_bytes = sections->io + model->storage.held_bytes + model->predictor_storage.held_bytes;
    plan->thread_bytes = (uint64_t)(model->config.threads - 1) * FLIN_POOL_STACK_BYTES;
}

static uint64_t sum_of(const flashinfer_plan *plan)
{
    return plan->metadata_bytes + plan->resident_bytes + plan->predictor_bytes + plan->cache_bytes +
           plan->kv_bytes + plan->scratch_bytes + plan->io_bytes + plan->thread_bytes;
}

int flin_plan_measure(flashinfer_model *model, flashinfer_error *error)
{
    flin_arena measure;
    int code;

    flin_arena_measure(&measure);
    model->slot_bytes = flin_uses_cache(&model->config) ? slot_bytes(model) : 0;
    code = flin_layout(model, &measure, &model->sections, error);
    if (code != 0) return code;
    /* the arena is mapped in whole pages: the rest of its last page counts as scratch */
    model->sections.scratch += flin_round_up(measure.used, flin_page_bytes()) - measure.used;
    return 0;
}

void flin_plan_divide(const flashinfer_model *model, uint64_t budget_bytes, flashinfer_plan *plan,
                      flin_share *share)
{
    uint32_t ffn = model->shape.ffn, layers = model->shape.layers;
    uint32_t slots_min = layers * (ffn < SLOTS_MIN ? ffn : SLOTS_MIN);
    flin_share least = {slots_min, 0},
               most = {layers * ffn, flin_uses_rows(&model->config) ? ffn : 0}, chosen;
    uint64_t fixed_bytes;

    if (!flin_uses_cache(&model->config)) least.slots = most.slots = slots_min = 0;
    memset(plan, 0, sizeof *plan);
    plan->size = sizeof *plan;
    fill_fixed(model, plan);
    fixed_bytes = sum_of(plan);
    plan->minimum_bytes = with_page_tables(fixed_bytes + bytes_of(model, least));
    plan->maximum_bytes = with_page_tables(fixed_bytes + bytes_of(model, most));
    plan->budget_bytes = budget_bytes != 0 ? budget_bytes : plan->maximum_bytes;
    chosen = plan->budget_bytes < plan->minimum_bytes
                 ? least
                 : divide(model, without_page_tables(plan->budget_bytes) - fixed_bytes, slots_min);

    plan->predictor = model->config.predictor;
    plan->cache_bytes += slab_bytes(chosen.slots, model->slot_bytes);
    plan->predictor_bytes += rows_bytes_of(model, chosen);
    plan->planned_bytes = with_page_tables(sum_of(plan));
    plan->page_table_bytes = plan->planned_bytes - sum_of(plan);
    plan->file_bytes = model->storage.caps.length_bytes;
    plan->slots_per_layer = chosen.slots / layers;
    plan->slots = chosen.slots;
    plan->cache_policy = model->config.cache_policy;
    plan->slot_bytes = model->slot_bytes;
    plan->resident_rows = chosen.rows;
    if (share != NULL) *share = chosen;
}

int flin_plan_refuse(const flashinfer_plan *plan, flashinfer_error *error)
{
    return flin_fail(
        error, FLASHINFER_EBUDGET,
        "a memory budget of %llu bytes is too small; the smallest that works "
        "with these options is %llu bytes (resident weights %llu, predictor %llu, KV cache %llu: a "
        "shorter context or float16 KV needs less)",
        (unsigned long long)plan->budget_bytes, (unsigned long long)plan->minimum_bytes,
        (unsigned long long)plan->resident_bytes, (unsigned long long)plan->predictor_bytes,
        (unsigned long long)plan->kv_bytes);
}
