/*
 * api.c - the public functions that run models: they check their arguments, take the model's lock
 * and call inward. No logic here.
 */
#include <stdio.h>
#include <string.h>

#include "api.h"
#include "probe/probe.h"
#include "text/decoder.h"
#include "util/structs.h"

/* errors --------------------------------------------------------------------------------------- */

void flashinfer_error_init(flashinfer_error *error, size_t size)
{
    init(error, size);
#define SET_NONE(field)                                                                            \
    do {                                                                                           \
        if (size >= offsetof(flashinfer_error, field) + sizeof error->field) error->field = -1;    \
    } while (0)
    if (error == NULL) return;
    SET_NONE(layer);
    SET_NONE(neuron);
    SET_NONE(offset);
#undef SET_NONE
}

const char *flashinfer_error_name(int code)
{
    switch (code) {
#define NAME(name, number, text)                                                                   \
    case number:                                                                                   \
        return "FLASHINFER_" #name;
        FLASHINFER_ERRORS(NAME)
#undef NAME
    default:
        return "FLASHINFER_E?";
    }
}

const char *flashinfer_error_describe(int code)
{
    switch (code) {
#define TEXT(name, number, text)                                                                   \
    case number:                                                                                   \
        return text;
        FLASHINFER_ERRORS(TEXT)
#undef TEXT
    default:
        return "unknown error";
    }
}

#define STRING_(x) #x
#define STRING(x) STRING_(x)

const char *flashinfer_version(void)
{
    return STRING(FLASHINFER_VERSION_MAJOR) "." STRING(FLASHINFER_VERSION_MINOR) "." STRING(
        FLASHINFER_VERSION_PATCH);
}

/* model ---------------------------------------------------------------------------------------- */

void flashinfer_options_init(flashinfer_options *options, size_t size)
{
    init(options, size);
}

static int accept_options(const flashinfer_options *options, flashinfer_options *own,
                          flashinfer_error *error)
{
    const uint32_t flags = FLASHINFER_OPEN_METADATA | FLASHINFER_OPEN_NO_TOKENIZER;
    int code = 0;

    flashinfer_options_init(own, sizeof *own);
    if (options != NULL)
        code = flin_struct_accept(options, own, sizeof *own, "flashinfer_options", error);
    if (code != 0) return code;
    if ((own->flags & ~flags) != 0)
        return flin_fail(error, FLASHINFER_EINVAL, "options.flags has unknown bits %#x",
                         own->flags & ~flags);
    return flin_probe_apply(own, error);
}

static flin_storage_config storage_config(const flashinfer_options *options)
{
    flin_storage_config config = {options->storage, options->io_depth, options->io_lanes, 0,
                                  options->io_timeout_ms * UINT64_C(1000000)};

    return config;
}

/* A new handle whose storage can be opened. */
static int begin_open(const flashinfer_options *options, flashinfer_options *own,
                      flin_storage_config *config, flashinfer_model **made, flashinfer_error *error)
{
    int code = accept_options(options, own, error);

    *made = NULL;
    if (code != 0) return code;
    *config = storage_config(own);
    return flin_model_create(own, made, error);
}

static int hand_over(int code, flashinfer_model *made, flashinfer_model **model)
{
    if (code == 0)
        *model = made;
    else if (made != NULL)
        flin_model_close(made);
    return code;
}

/* code: of opening the storage. The handle goes to the caller, or away. */
static int end_open(int code, flashinfer_model *made, const flashinfer_options *own,
                    flashinfer_model **model, flashinfer_error *error)
{
    if (code == 0) code = flin_model_open(made, own, error);
    return hand_over(code, made, model);
}

int flashinfer_model_open(const char *path, const flashinfer_options *options,
                          flashinfer_model **model, flashinfer_error *error)
{
    flashinfer_options own;
    flin_storage_config config;
    flashinfer_model *made;
    int code;

    NEED(model);
    *model = NULL;
    NEED(path);
    code = begin_open(options, &own, &config, &made, error);
    if (code == 0) code = flin_storage_open_path(&made->storage, path, &config, error);
    return end_open(code, made, &own, model, error);
}

int flashinfer_model_open_fd(int fd, uint64_t offset, uint64_t length,
                             const flashinfer_options *options, flashinfer_model **model,
                             flashinfer_error *error)
{
    flashinfer_options own;
    flin_storage_config config;
    flashinfer_model *made;
    int code;

    NEED(model);
    *model = NULL;
    code = begin_open(options, &own, &config, &made, error);
    if (code == 0) code = flin_storage_open_fd(&made->storage, fd, offset, length, &config, error);
    return end_open(code, made, &own, model, error);
}

int flashinfer_model_open_storage(const flashinfer_storage_ops *ops,
                                  const flashinfer_options *options, flashinfer_model **model,
                                  flashinfer_error *error)
{
    flashinfer_options own;
    flin_storage_config config;
    flashinfer_model *made;
    int code;

    NEED(model);
    *model = NULL;
    NEED(ops);
    code = begin_open(options, &own, &config, &made, error);
    if (code == 0) code = flin_storage_open_ops(&made->storage, ops, &config, error);
    if (code == 0) code = flin_model_open(made, &own, error);
    if (code != 0 && made != NULL) made->storage.host_close = NULL; /* stays the caller's */
    return hand_over(code, made, model);
}

int flashinfer_model_close(flashinfer_model *model)
{
    int why_not;

    if (model == NULL) return 0;
    why_not = lock(model);
    if (why_not != 0 && why_not != EOWNERDEAD) return FLASHINFER_EBUSY;
    for (uint32_t i = 0; model->sessions != NULL && i < model->settings.sessions; i++)
        if (model->sessions[i].in_use) return leave(model, why_not, FLASHINFER_EBUSY);
    (void)leave(model, why_not, 0);
    flin_model_close(model);
    return 0;
}

int flashinfer_model_info(const flashinfer_model *model, flashinfer_info *info)
{
    flashinfer_info own;

    NEED_QUIET(model);
    NEED_QUIET(info);
    flin_model_info(model, &own);
    return flin_struct_answer(info, &own, sizeof own);
}

int flashinfer_model_tensor(const flashinfer_model *model, uint32_t index,
                            flashinfer_tensor_info *tensor)
{
    flashinfer_tensor_info own;
    const flin_gguf_tensor *entry;

    NEED_QUIET(model);
    NEED_QUIET(tensor);
    if (index >= model->gguf.tensor_count) return FLASHINFER_EINVAL;
    entry = &model->gguf.tensors[index];
    memset(&own, 0, sizeof own);
    own.type = entry->type;
    own.dimension_count = entry->dimension_count;
    memcpy(own.dimensions, entry->dimensions, sizeof own.dimensions);
    own.offset = entry->offset;
    own.bytes = entry->bytes;
    own.xxh3 = entry->sum;
    own.name = entry->name.data;
    return flin_struct_answer(tensor, &own, sizeof own);
}

int flashinfer_model_metadata(const flashinfer_model *model, uint32_t index, const char **key,
                              char *value, size_t capacity)
{
    NEED_QUIET(model);
    NEED_QUIET(key);
    if (index >= model->gguf.value_count || (value == NULL && capacity != 0))
        return FLASHINFER_EINVAL;
    *key = model->gguf.values[index].key.data;
    flin_gguf_text(&model->gguf.values[index], value, capacity);
    return 0;
}

int flashinfer_model_verify(flashinfer_model *model, flashinfer_error *error)
{
    NEED(model);
    ENTER(model);
    return unlock(model, flin_model_verify(model, error));
}

int flashinfer_plan_file(const char *path, const flashinfer_options *options, flashinfer_plan *plan,
                         flashinfer_error *error)
{
    flashinfer_options own;
    flashinfer_plan planned;
    flin_storage_config config;
    flashinfer_model *made;
    int code;

    NEED(path);
    NEED(plan);
    code = begin_open(options, &own, &config, &made, error);
    if (code == 0) code = flin_storage_open_path(&made->storage, path, &config, error);
    if (code == 0) code = flin_model_plan_only(made, &own, &planned, error);
    if (made != NULL) flin_model_close(made);
    if (code == 0 && flin_struct_answer(plan, &planned, sizeof planned) != 0)
        code = flin_fail(error, FLASHINFER_EINVAL, "plan.size is %u: set it to sizeof *plan",
                         plan->size);
    return code;
}

int flin_api_check_layer(const flashinfer_model *model, uint32_t layer, flashinfer_error *error)
{
    if ((model->settings.flags & FLASHINFER_OPEN_METADATA) != 0)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "the model was opened for its metadata only: its weights are not at hand");
    if (layer < model->shape.layers) return 0;
    return flin_fail(error, FLASHINFER_EINVAL, "layer %u; the model's are 0 to %u", layer,
                     model->shape.layers - 1);
}

/* Parts of the interface and of bundles have the same numbers. */
static int check_part(const flin_shape *shape, uint32_t part, flashinfer_error *error)
{
    if (part < FLIN_PART_ROLES && shape->bundle.index_of[part] != FLIN_PART_ROLES) return 0;
    if (part == FLASHINFER_PART_GATE)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "part FLASHINFER_PART_GATE: the FFN of this model is not gated "
                         "(info.ffn_gated is 0); its deciding rows are FLASHINFER_PART_UP");
    return flin_fail(error, FLASHINFER_EINVAL, "part %u; use a FLASHINFER_PART_...", part);
}

int flashinfer_model_ffn_rows(flashinfer_model *model, uint32_t layer, uint32_t part,
                              uint32_t first, uint32_t count, float *rows, flashinfer_error *error)
{
    int code;

    NEED(model);
    NEED(rows);
    code = flin_api_check_layer(model, layer, error);
    if (code == 0) code = check_part(&model->shape, part, error);
    if (code == 0 && (first > model->shape.ffn || count > model->shape.ffn - first))
        code = flin_fail(error, FLASHINFER_EINVAL, "neurons %u to %llu; a layer's are 0 to %u",
                         first, (unsigned long long)first + count, model->shape.ffn - 1);
    if (code != 0) return code;
    ENTER(model);
    code = flin_model_part(model, layer, part, first, count, rows, error);
    return unlock(model, code);
}

int flashinfer_model_ffn_bias(flashinfer_model *model, uint32_t layer, float *bias,
                              flashinfer_error *error)
{
    const flin_ffn_layer *ffn;
    const float *own; /* NULL: zeros */
    int code;

    NEED(model);
    NEED(bias);
    code = flin_api_check_layer(model, layer, error);
    if (code != 0) return code;
    ffn = &model->weights.layers[layer].ffn;
    own = flin_ffn_decider_bias(ffn);
    for (uint32_t i = 0; i < ffn->neurons; i++) bias[i] = own != NULL ? own[i] : 0;
    return 0;
}

/* Copy a record of the model's, from a callback of its own and in a forked child too. */
static int answer(flashinfer_model *model, void *user, const void *own, size_t own_bytes)
{
    int why_not = lock(model);

    return leave(model, why_not, flin_struct_answer(user, own, own_bytes));
}

int flashinfer_model_plan(flashinfer_model *model, flashinfer_plan *plan)
{
    NEED_QUIET(model);
    NEED_QUIET(plan);
    if ((model->settings.flags & FLASHINFER_OPEN_METADATA) != 0) return FLASHINFER_EINVAL;
    return answer(model, plan, &model->plan, sizeof model->plan);
}

int flashinfer_model_set_budget(flashinfer_model *model, uint64_t budget_bytes,
                                flashinfer_error *error)
{
    NEED(model);
    ENTER(model);
    return unlock(model, flin_model_set_budget(model, budget_bytes, error));
}

int flashinfer_model_stats(flashinfer_model *model, flashinfer_stats *stats)
{
    NEED_QUIET(model);
    NEED_QUIET(stats);
    return answer(model, stats, &model->stats, sizeof model->stats);
}

int flashinfer_model_reset_stats(flashinfer_model *model)
{
    flashinfer_error *error = NULL;

    NEED_QUIET(model);
    ENTER(model);
    memset(&model->stats, 0, sizeof model->stats);
    return unlock(model, 0);
}

/* session -------------------------------------------------------------------------------------- */

int flashinfer_session_create(flashinfer_model *model, flashinfer_session **session,
                              flashinfer_error *error)
{
    NEED(session);
    *session = NULL;
    NEED(model);
    ENTER(model);
    return unlock(model, flin_session_create(model, session, error));
}

void flashinfer_session_destroy(flashinfer_session *session)
{
    int why_not;

    if (session == NULL) return;
    why_not = lock(session->model);
    if (why_not == EDEADLK) return;
    flin_session_destroy(session);
    (void)leave(session->model, why_not, 0);
}

int flashinfer_step(flashinfer_session *session, int32_t token, flashinfer_error *error)
{
    uint64_t call;

    NEED(session);
    call = flin_session_call(session);
    ENTER(session->model);
    return unlock(session->model, flin_step(session, call, token, error));
}

int flashinfer_eval(flashinfer_session *session, const int32_t *tokens, size_t count,
                    flashinfer_error *error)
{
    uint64_t call;

    NEED(session);
    if (count != 0) NEED(tokens);
    call = flin_session_call(session);
    ENTER(session->model);
    return unlock(session->model, flin_eval(session, call, tokens, count, error));
}

const float *flashinfer_logits(const flashinfer_session *session, size_t *count)
{
    if (count != NULL) *count = session != NULL ? session->model->shape.vocab : 0;
    return session != NULL && session->has_logits ? session->logits : NULL;
}

uint32_t flashinfer_session_position(const flashinfer_session *session)
{
    return session != NULL ? session->position : 0;
}

int flashinfer_session_rewind(flashinfer_session *session, uint32_t position,
                              flashinfer_error *error)
{
    NEED(session);
    ENTER(session->model);
    return unlock(session->model, flin_session_rewind(session, position, error));
}

void flashinfer_session_cancel(flashinfer_session *session)
{
    if (session != NULL) flin_session_cancel(session);
}

size_t flashinfer_state_bytes(flashinfer_session *session)
{
    size_t bytes;
    int why_not;

    if (session == NULL) return 0;
    why_not = lock(session->model);
    bytes = flin_state_bytes(session);
    (void)leave(session->model, why_not, 0);
    return bytes;
}

int flashinfer_state_save(flashinfer_session *session, void *buffer, size_t capacity,
                          size_t *written, flashinfer_error *error)
{
    NEED(written);
    *written = 0;
    NEED(session);
    if (capacity != 0) NEED(buffer);
    ENTER(session->model);
    return unlock(session->model, flin_state_save(session, buffer, capacity, written, error));
}

int flashinfer_state_load(flashinfer_session *session, const void *buffer, size_t bytes,
                          flashinfer_error *error)
{
    NEED(session);
    NEED(buffer);
    ENTER(session->model);
    return unlock(session->model, flin_state_load(session, buffer, bytes, error));
}

/* text ----------------------------------------------------------------------------------------- */

static int need_tokenizer(const flashinfer_model *model, flashinfer_error *error)
{
    if (model->tokenizer != NULL) return 0;
    return flin_tokenizer_refuse(error);
}

int flashinfer_tokenize(const flashinfer_model *model, const char *text, size_t text_bytes,
                        uint32_t flags, int32_t *tokens, size_t capacity, size_t *count,
                        flashinfer_error *error)
{
    const uint32_t known = FLASHINFER_TOKENIZE_BOS | FLASHINFER_TOKENIZE_SPECIAL;
    int code;

    NEED(count);
    *count = 0;
    NEED(model);
    if (text_bytes != 0) NEED(text);
    if (capacity != 0) NEED(tokens);
    if ((flags & ~known) != 0)
        return flin_fail(error, FLASHINFER_EINVAL, "unknown flags %#x", flags & ~known);
    if ((code = need_tokenizer(model, error)) != 0) return code;
    return flin_tokenizer_encode(model->tokenizer, text, text_bytes, flags, tokens, capacity, count,
                                 error);
}

int flashinfer_detokenize(const flashinfer_model *model, const int32_t *tokens, size_t count,
                          char *text, size_t capacity, size_t *text_bytes, flashinfer_error *error)
{
    int code;

    NEED(text_bytes);
    *text_bytes = 0;
    NEED(model);
    if (count != 0) NEED(tokens);
    if (capacity != 0) NEED(text);
    if ((code = need_tokenizer(model, error)) != 0) return code;
    return flin_tokenizer_decode(model->tokenizer, tokens, count, text, capacity, text_bytes,
                                 error);
}

int flashinfer_decoder_create(const flashinfer_model *model, flashinfer_decoder **decoder,
                              flashinfer_error *error)
{
    int code;

    NEED(decoder);
    *decoder = NULL;
    NEED(model);
    if ((code = need_tokenizer(model, error)) != 0) return code;
    return flin_decoder_create(model->tokenizer, decoder, error);
}

int flashinfer_decoder_push(flashinfer_decoder *decoder, int32_t token, const char **text,
                            size_t *text_bytes, flashinfer_error *error)
{
    NEED(decoder);
    NEED(text);
    return flin_decoder_push(decoder, token, text, text_bytes, error);
}

void flashinfer_decoder_destroy(flashinfer_decoder *decoder)
{
    if (decoder != NULL) flin_decoder_destroy(decoder);
}

/* probe ---------------------------------------------------------------------------------------- */

void flashinfer_probe_options_init(flashinfer_probe_options *options, size_t size)
{
    init(options, size);
}

int flashinfer_probe(const char *path, const flashinfer_probe_options *options,
                     flashinfer_probe_result *result, flashinfer_error *error)
{
    flashinfer_probe_options own;
    flashinfer_probe_result measured;
    int code = 0;

    NEED(path);
    NEED(result);
    if (result->size < sizeof result->size)
        return flin_fail(error, FLASHINFER_EINVAL, "%s: result->size is not set", __func__);
    flashinfer_probe_options_init(&own, sizeof own);
    if (options != NULL)
        code = flin_struct_accept(options, &own, sizeof own, "flashinfer_probe_options", error);
    if (code == 0) code = flin_probe_run(path, &own, &measured, error);
    return code != 0 ? code : flin_struct_answer(result, &measured, sizeof measured);
}

int flashinfer_probe_save(const flashinfer_probe_result *result, const char *path,
                          flashinfer_error *error)
{
    flashinfer_probe_result own;
    int code;

    NEED(result);
    NEED(path);
    memset(&own, 0, sizeof own);
    code = flin_struct_accept(result, &own, sizeof own, "flashinfer_probe_result", error);
    return code != 0 ? code : flin_probe_save(&own, path, error);
}

int flashinfer_probe_load(const char *path, flashinfer_probe_result *result,
                          flashinfer_error *error)
{
    flashinfer_probe_result loaded;
    int code;

    NEED(path);
    NEED(result);
    if (result->size < sizeof result->size)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "flashinfer_probe_result.size is %u: set it to "
                         "sizeof(flashinfer_probe_result)",
                         result->size);
    code = flin_probe_load(path, &loaded, error);
    return code != 0 ? code : flin_struct_answer(result, &loaded, sizeof loaded);
}
