/*
 * budget.c - see budget.h. The claims are listed here, once: what must be there, then kept matrix
 * rows (exact mode), then slots of the neuron cache until the budget is full.
 */
#include "plan/budget.h"

#include <string.h>

#include "engine/keep.h"
#include "engine/run.h"
#include "plan/claims.h"
#include "plan/layout.h"

#define SLOTS_MIN 32u /* for each layer; a pass that needs more is computed in waves */

/* --------------------------------------------------------------------------------------- claims */

static int resize_kept(flashinfer_model *model, const flin_claim *claim, uint32_t units,
                       flashinfer_error *error)
{
    const flin_keeper keeper = {
        &model->compute, &model->fetcher, &model->stream,
        flin_bundle_part(&model->shape.bundle, flin_shape_decider(&model->shape))};
    int code = 0;

    (void)claim;
    for (uint32_t i = 0; i < model->shape.layers && code == 0; i++)
        code = flin_keep_resize(&keeper, &model->weights.layers[i].predictor.kept, &model->whole[i],
                                units, error);
    return code;
}

static int resize_slots(flashinfer_model *model, const flin_claim *claim, uint32_t units,
                        flashinfer_error *error)
{
    (void)claim;
    return flin_cache_resize(&model->cache, units, error);
}

static uint64_t share_bytes(const flashinfer_model *model, const flin_claim *claim, uint32_t units)
{
    return flin_residency_bytes(&model->residency, (enum flin_group)claim->index, units);
}

uint64_t flin_budget_open_bytes(const flin_weights *weights, const flin_residency *residency,
                                const flin_share *share)
{
    return weights->load_bytes + flin_residency_held(residency, share->groups);
}

static int tell_open(uint64_t done_bytes, void *user)
{
    const flashinfer_model *model = user;

    return flin_progress(&model->settings, "open", model->weights.load_bytes + done_bytes,
                         flin_budget_open_bytes(&model->weights, &model->residency, &model->share),
                         NULL);
}

static int resize_share(flashinfer_model *model, const flin_claim *claim, uint32_t units,
                        flashinfer_error *error)
{
    return flin_residency_resize(&model->residency, (enum flin_group)claim->index, units,
                                 &model->storage, model->opened ? NULL : tell_open, model, error);
}

#define FIELD(name) offsetof(flashinfer_plan, name)

static flin_claim claim_kept(const flashinfer_model *model)
{
    const flin_shape *shape = &model->shape;
    const flin_predictor_kind *kind = flin_predictor_kind_of(model->settings.predictor);
    const flin_part *decider =
        kind->keeps ? flin_bundle_part(&shape->bundle, flin_shape_decider(shape)) : NULL;

    return (flin_claim){.name = "kept matrix rows",
                        .field = FIELD(predictor_bytes),
                        .unit_bytes = decider != NULL ? decider->bytes : 1,
                        .parts = shape->layers,
                        .most = kind->keeps ? shape->ffn : 0,
                        .resize = resize_kept};
}

static flin_claim claim_slots(const flashinfer_model *model)
{
    const flin_shape *shape = &model->shape;
    const int caches = (int)flin_predictor_kind_of(model->settings.predictor)->caches;

    return (flin_claim){
        .name = "slots",
        .field = FIELD(cache_bytes),
        .unit_bytes = caches ? model->slot_bytes : 1,
        .parts = 1,
        .least = !caches ? 0 : shape->layers * (shape->ffn < SLOTS_MIN ? shape->ffn : SLOTS_MIN),
        .most = caches ? shape->layers * shape->ffn : 0,
        .resize = resize_slots};
}

/* A part of every matrix of a group, in plain files. */
static flin_claim claim_share(const flashinfer_model *model, enum flin_group group)
{
    static const char *const names[FLIN_GROUPS] = {"attention matrices", "head", "FFN matrices",
                                                   "embeddings"};

    return (flin_claim){.name = names[group],
                        .field = FIELD(resident_bytes),
                        .parts = 1,
                        .most = model->residency.count != 0 ? FLIN_SHARE_WHOLE : 0,
                        .index = group,
                        .resize = resize_share,
                        .bytes = share_bytes,
                        .model = model};
}

/* The last claims of the list: shares of groups, then these. */
enum { KEPT = FLIN_GROUPS, SLOTS, MOVING };

static flin_claims list_claims(const flashinfer_model *model)
{
    const flin_sections *sections = &model->sections;
    flin_claim moving[MOVING] = {[KEPT] = claim_kept(model), [SLOTS] = claim_slots(model)};
    flin_claims claims = {0};

    for (uint32_t group = 0; flin_shape_is_plain(&model->shape) && group < FLIN_GROUPS; group++)
        moving[group] = claim_share(model, (enum flin_group)group);

    flin_claims_add_fixed(&claims, "metadata", FIELD(metadata_bytes),
                          sizeof *model + model->gguf.arena.capacity +
                              model->predictor_gguf.arena.capacity + model->tables.capacity +
                              sections->tokenizer + model->home.bytes);
    flin_claims_add_fixed(&claims, "resident weights", FIELD(resident_bytes), sections->resident);
    flin_claims_add_fixed(&claims, "predictor", FIELD(predictor_bytes), sections->predictor);
    flin_claims_add_fixed(&claims, "cache tables", FIELD(cache_bytes), sections->cache);
    flin_claims_add_fixed(&claims, "sessions", FIELD(kv_bytes), sections->kv);
    flin_claims_add_fixed(&claims, "scratch", FIELD(scratch_bytes), sections->scratch);
    flin_claims_add_fixed(&claims, "reads", FIELD(io_bytes),
                          sections->io + model->storage.held_bytes +
                              model->predictor_storage.held_bytes);
    flin_claims_add_fixed(&claims, "threads", FIELD(thread_bytes),
                          (uint64_t)(model->settings.threads - 1) * FLIN_POOL_STACK_BYTES);
    for (uint32_t i = 0; i < MOVING; i++) flin_claims_add(&claims, &moving[i]);
    return claims;
}

/* ------------------------------------------------------------------------------------- dividing */

/* The largest slot any layer needs: bundles begin at different offsets in every layer. */
static uint32_t slot_bytes(const flashinfer_model *model, const flin_predictor_kind *kind)
{
    const flin_shape *shape = &model->shape;
    uint32_t most = 0;

    for (uint32_t i = 0; i < shape->layers && kind->caches; i++) {
        const flin_bundles bundles = {flin_weights_bundle_offset(&model->gguf, i), NULL, NULL};
        const flin_extent extent = flin_extent_of(
            &shape->bundle, &bundles, i, kind->keeps ? flin_shape_decider(shape) : FLIN_PART_ROLES,
            model->storage.caps.alignment);
        uint32_t bytes = flin_extent_slot_bytes(&extent, shape->ffn);
        if (bytes > most) most = bytes;
    }
    return most;
}

int flin_budget_measure(flashinfer_model *model, flashinfer_error *error)
{
    flin_arena measure;
    int code;

    flin_arena_measure(&measure);
    model->slot_bytes = slot_bytes(model, flin_predictor_kind_of(model->settings.predictor));
    code = flin_layout(model, &measure, &model->sections, error);
    if (code != 0) return code;
    /* the arena is mapped in whole pages: the rest of its last page counts as scratch */
    model->sections.scratch += flin_round_up(measure.used, flin_page_bytes()) - measure.used;
    return 0;
}

void flin_budget_divide(const flashinfer_model *model, uint64_t budget_bytes, flashinfer_plan *plan,
                        flin_share *share)
{
    flin_claims claims = list_claims(model);
    const flin_claim *moving = &claims.list[claims.count - MOVING];
    uint32_t shares[FLIN_GROUPS];
    uint64_t given;

    memset(plan, 0, sizeof *plan);
    plan->size = sizeof *plan;
    plan->minimum_bytes = flin_claims_least(&claims);
    plan->maximum_bytes = flin_claims_most(&claims);
    plan->budget_bytes = budget_bytes != 0 ? budget_bytes : plan->maximum_bytes;
    given = flin_claims_divide(&claims, plan->budget_bytes);
    for (uint32_t i = 0; i < claims.count; i++)
        *(uint64_t *)(void *)((char *)plan + claims.list[i].field) +=
            flin_claim_bytes(&claims.list[i], claims.list[i].given);

    plan->predictor = model->settings.predictor;
    plan->planned_bytes = flin_with_page_tables(given);
    plan->page_table_bytes = plan->planned_bytes - given;
    plan->file_bytes = model->storage.caps.length_bytes;
    plan->slots = moving[SLOTS].given;
    plan->slots_per_layer = plan->slots / model->shape.layers;
    plan->cache_policy = model->settings.cache_policy;
    plan->slot_bytes = model->slot_bytes;
    plan->resident_rows = moving[KEPT].given;
    for (uint32_t group = 0; group < FLIN_GROUPS; group++) shares[group] = moving[group].given;
    plan->streamed_bytes = flin_residency_streamed(&model->residency, shares);
    if (share == NULL) return;
    share->slots = moving[SLOTS].given;
    share->kept = moving[KEPT].given;
    memcpy(share->groups, shares, sizeof shares);
}

int flin_budget_refuse(const flashinfer_plan *plan, flashinfer_error *error)
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

int flin_budget_apply(flashinfer_model *model, const flin_share *share, flashinfer_error *error)
{
    const flin_claims claims = list_claims(model);
    const flin_claim *moving = &claims.list[claims.count - MOVING];
    uint32_t wanted[MOVING] = {[KEPT] = share->kept, [SLOTS] = share->slots};
    uint32_t had[MOVING] = {[KEPT] = model->share.kept, [SLOTS] = model->cache.slots};
    int code = 0;

    memcpy(wanted, share->groups, sizeof share->groups);
    memcpy(had, model->residency.share, sizeof model->residency.share);
    flin_ring_reset(&model->ring);
    for (uint32_t i = 0; i < MOVING && code == 0; i++)
        if (wanted[i] < had[i]) code = moving[i].resize(model, &moving[i], wanted[i], error);
    for (uint32_t i = 0; i < MOVING && code == 0; i++)
        if (moving[i].most != 0 && wanted[i] >= had[i])
            code = moving[i].resize(model, &moving[i], wanted[i], error);
    return code;
}
