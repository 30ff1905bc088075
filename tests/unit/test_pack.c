/*
 * test_pack.c - packing: every tensor and checksum of what is written, and how the file
 * comes to be under its name. Checkpoints that must be refused are in test_pack_refusals.c.
 *
 * Values and layout are compared by tests/tools/check_gguf.py, which shares no code with the
 * library; sums here.
 */
#define _GNU_SOURCE
#include "packed_file.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#include "kernels/sketch/sketch.h"
#include "pack/map.h"
#include "pack/pack.h"

/* ------------------------------------------------------------------------- what is written */

static void test_stride(void **state)
{
    (void)state;
    assert_int_equal(flin_packing_stride(1280), 1536); /* fable-14m: 20% on 512 */
    assert_int_equal(flin_packing_stride(2560), 2560); /* the same in float32 */
    assert_int_equal(flin_packing_stride(3072), 3072); /* fable-74m */
    assert_int_equal(flin_packing_stride(4096), 4096);
    assert_int_equal(flin_packing_stride(16384), 16384); /* OPT 6.7B */
    assert_int_equal(flin_packing_stride(3640), 4096);   /* just below one eighth */
    assert_int_equal(flin_packing_stride(3641), 4096);   /* 455 of 3641: 12.497% */
    assert_int_equal(flin_packing_stride(3584), 3584);   /* 14.3% on 4096 */
    assert_int_equal(flin_packing_stride(1228), 1280);   /* 25.1% on 512 */
    assert_int_equal(flin_packing_stride(1229), 1536);   /* 24.98% */
    assert_int_equal(flin_packing_stride(8), 64);
}

/* The worked example of docs/format.md, byte for byte. */
static void test_example(void **state)
{
    static const uint8_t rows[2][64] = {{0x00, 0x3c, 0x00, 0x40, 0x00, 0x3c, 0x00, 0x42},
                                        {0x00, 0x42, 0x00, 0x44, 0x00, 0x40, 0x00, 0x44}};
    static const uint64_t sums[4] = {0x85e39b6e314ef226u, 0x36dcb4fbb9ff1008u, 0x8783894be3051b74u,
                                     0x23449714a88062c1u};
    const workspace *made = *state;
    flashinfer_pack_options options = plain;
    const flin_gguf_tensor *tensor;
    packed *file;

    options.no_sketch = 1;
    cook(made,
         &(recipe){
             .width = 2, .neurons = 2, .layers = 1, .heads = 1, .positions = 2, .counting = 1});
    pack_well(made, &options);
    file = open_packed(made->path);
    tensor = tensor_of(file, "blk.0.ffn_bundle.weight");
    assert_int_equal(tensor->bytes, sizeof rows);
    assert_memory_equal(file->bytes + tensor->offset, rows, sizeof rows);
    tensor = tensor_of(file, "blk.0.ffn_bundle.xxh3");
    assert_memory_equal(file->bytes + tensor->offset, sums, sizeof sums);
    tensor = tensor_of(file, "position_embd.weight"); /* rows 0 and 1 were 1 2 and 3 4 */
    assert_memory_equal(file->bytes + tensor->offset, "\x00\x45\x00\x46\x00\x47\x00\x48", 8);
    assert_int_equal(file->gguf.header_bytes, 2781);
    assert_int_equal(file->length, 90112);
    tensor = tensor_of(file, FLIN_SUMS_TENSOR);
    assert_int_equal(tensor->offset, 86016);
    assert_int_equal(sum_at(file, tensor, 0), 0x208e6db40dc36179u);
    assert_int_equal(sum_at(file, tensor, 20), 0xaaa4686324c27955u);
    assert_int_equal(sum_at(file, tensor, 21), 0x574b2ac114e4a5deu);
    close_packed(file);
    check_all(made);
}

static const recipe variants[] = {
    {.layers = 1},
    {.source = SOURCE_BF16,
     .post_norm = 1,
     .embedding_width = 8,
     .width = 32,
     .heads = 4}, /* as opt-350m */
    {.source = SOURCE_F32, .shards = 3},
    {.source = SOURCE_F32,
     .width = 7,
     .heads = 7,
     .neurons = 33}, /* nothing is a multiple of anything */
    {.plain_tokenizer = 1, .short_prefix = 1},
    {.paired_merges = 1, .no_bias = 1, .plain_norms = 1},
    {.untied = 1, .removed_norm = 1, .source = SOURCE_BF16},
    {.spare_head = 1},
    {.width = 256,
     .heads = 4,
     .neurons = 1300,
     .layers = 1,
     .source = SOURCE_F32}, /* several batches of rows */
};

static void test_variants(void **state)
{
    const workspace *made = *state;

    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        flashinfer_pack_options options = plain;
        cook(made, &variants[i]);
        pack_well(made, &options);
        check_all(made);
        options.dtype = FLASHINFER_DTYPE_F32;
        options.no_sketch = 1;
        pack_well(made, &options);
        check_all(made);
    }
}

/* More columns of down than one tile takes. */
static void test_tiles(void **state)
{
    const workspace *made = *state;

    cook(made, &(recipe){.width = 2, .heads = 1, .neurons = 262144 + 1001, .layers = 1});
    pack_well(made, &plain);
    check_all(made);
}

/* Bundles in a learned order, in models of several tiles too. */
static void test_order(void **state)
{
    const recipe recipes[] = {{0},
                              {.width = 400, .neurons = 700, .heads = 4, .source = SOURCE_F32}};
    const workspace *made = *state;

    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        recipe whole = complete(&recipes[i]);
        flashinfer_pack_options options = plain;
        flashinfer_order *order = NULL;
        uint64_t random = 7;

        assert_int_equal(flashinfer_order_create(whole.layers, whole.neurons, &order, NULL), 0);
        for (uint32_t record = 0; record < 200 * whole.layers; record++) {
            uint32_t ids[8] = {0};
            flashinfer_trace asked = {.size = sizeof asked,
                                      .layer = record % whole.layers,
                                      .layer_count = whole.layers,
                                      .ffn_length = whole.neurons,
                                      .count = 8,
                                      .ids = ids};
            for (int at = 0; at < 8; at++)
                ids[at] = (uint32_t)((random = mix(random)) % whole.neurons);
            assert_int_equal(flashinfer_order_add(order, &asked, NULL), 0);
        }
        options.order = order;
        cook(made, &recipes[i]);
        pack_well(made, &options);
        check_all(made);
        flashinfer_order_destroy(order);
    }
}

static void test_keys(void **state)
{
    const workspace *made = *state;
    flin_string text;
    packed *file;

    cook(made, &(recipe){.config = "\"_name_or_path\":\"facebook/opt-tiny/\","});
    pack_well(made, &plain);
    file = open_packed(made->path);
    assert_int_equal(flin_gguf_string(&file->gguf, "general.name", &text, NULL), 0);
    assert_true(flin_string_is(text, "opt-tiny"));
    assert_int_equal(number_of(file, "tokenizer.ggml.bos_token_id"), 2);
    assert_int_equal(number_of(file, "tokenizer.ggml.eos_token_id"), 2);
    assert_int_equal(number_of(file, "tokenizer.ggml.padding_token_id"), 1);
    assert_int_equal(number_of(file, "tokenizer.ggml.add_bos_token"), 1);
    assert_int_equal(number_of(file, "flashinfer.sketch.bits"), 3);
    assert_int_equal(number_of(file, "opt.norm_before"), 1);
    assert_null(flin_gguf_find_tensor(&file->gguf, "output.weight"));
    close_packed(file);
    assert_int_equal(unlink(made->path), 0);

    cook(made, &(recipe){.post_norm = 1, .untied = 1});
    pack_well(made, &plain);
    file = open_packed(made->path);
    assert_int_equal(flin_gguf_string(&file->gguf, "general.name", &text, NULL), 0);
    assert_true(flin_string_is(text, "model")); /* the folder's */
    assert_int_equal(number_of(file, "opt.norm_before"), 0);
    assert_null(flin_gguf_find_tensor(&file->gguf, "output_norm.weight"));
    assert_non_null(flin_gguf_find_tensor(&file->gguf, "output.weight"));
    close_packed(file);
}

static void test_sketch_bits(void **state)
{
    const workspace *made = *state;

    cook(made, &(recipe){.neurons = 50, .width = 40, .heads = 4});
    for (uint32_t bits = 1; bits <= 4; bits++) {
        flashinfer_pack_options options = plain;
        const flin_gguf_tensor *tensor;
        packed *file;

        options.sketch_bits = bits;
        pack_well(made, &options);
        file = open_packed(made->path);
        assert_int_equal(number_of(file, "flashinfer.sketch.bits"), bits);
        tensor = tensor_of(file, "blk.1.ffn_sketch.weight");
        assert_int_equal(tensor->bytes, flin_sketch_bytes(50, 40, bits));
        assert_int_equal(tensor->dimensions[0], flin_sketch_tile_bytes(40, bits));
        close_packed(file);
        check_all(made);
    }
}

static uint64_t sum_of_file(const char *path)
{
    packed *file = open_packed(path);
    uint64_t sum = flin_hash(file->bytes, file->length);

    close_packed(file);
    return sum;
}

static void test_determinism(void **state)
{
    const workspace *made = *state;
    uint64_t first;

    cook(made, &(recipe){.source = SOURCE_F32});
    pack_well(made, &plain);
    first = sum_of_file(made->path);
    pack_well(made, &plain); /* over the first */
    assert_int_equal(sum_of_file(made->path), first);
    cook(made, &(recipe){.source = SOURCE_F32,
                         .shards = 4,
                         .paired_merges = 1}); /* the same model, stored otherwise */
    pack_well(made, &plain);
    assert_int_equal(sum_of_file(made->path), first);
}

/* The model of the repository, and its larger sister where it lies beside the checkout. */
static void test_real_model(void **state)
{
    const workspace *made = *state;
    const char *checkpoint = getenv("FLASHINFER_TEST_CHECKPOINT");
    const char *models = getenv("FLASHINFER_TEST_MODELS");
    flashinfer_error error = {.size = sizeof error};
    char path[512];
    packed *file;

    if (checkpoint == NULL && models != NULL) {
        (void)snprintf(path, sizeof path, "%s/fable-14m", models);
        checkpoint = path;
    }
    if (checkpoint == NULL || access(checkpoint, R_OK) != 0) {
        print_message("[  NOTE    ] set FLASHINFER_TEST_CHECKPOINT to fable-14m for this test\n");
        skip();
    }
    if (flin_pack(checkpoint, made->path, &plain, &error) != 0) fail_msg("%s", error.text);
    file = open_packed(made->path);
    check_sums(file);
    assert_int_equal(number_of(file, "opt.block_count"), 6);
    assert_int_equal(number_of(file, "tokenizer.ggml.add_bos_token"), 1);
    assert_int_equal(tensor_of(file, "blk.5.ffn_bundle.weight")->dimensions[0], 1536);
    close_packed(file);
    (void)check_values(made->path, checkpoint);
}

static void test_overflow(void **state)
{
    const workspace *made = *state;
    recipe large = {.source = SOURCE_F32,
                    .poisoned = "model.decoder.layers.0.fc2.weight",
                    .poison_index = 3,
                    .poison = -65505.0f};
    flashinfer_pack_options wide = plain;

    wide.dtype = FLASHINFER_DTYPE_F32;
    cook(made, &large);
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "--dtype f32");
    pack_well(made, &wide);
    check_all(made);
    large.poison = 65504.0f; /* the largest float16 */
    cook(made, &large);
    pack_well(made, &plain);
    check_all(made);
    large.poisoned = "model.decoder.layers.0.fc2.bias"; /* float32 in either file */
    large.poison = 1e30f;
    cook(made, &large);
    pack_well(made, &plain);
    check_all(made);
}

/* ------------------------------------------------------------------------- tokenizers */

static uint64_t pack_and_read(const workspace *made, const char *key)
{
    packed *file;
    uint64_t number;

    pack_well(made, &plain);
    file = open_packed(made->path);
    number = number_of(file, key);
    close_packed(file);
    assert_int_equal(unlink(made->path), 0);
    return number;
}

static void test_bos(void **state)
{
    const workspace *made = *state;
    static const char add[] = "tokenizer.ggml.add_bos_token";

    cook(made, &(recipe){0});
    write_text(made, "tokenizer.json", TEST_TOKENIZER("[]", "null"));
    assert_int_equal(pack_and_read(made, add), 0);
    write_text(made, "tokenizer.json", TEST_TOKENIZER("[]", "{\"type\":\"ByteLevel\"}"));
    assert_int_equal(pack_and_read(made, add), 0);
    write_text(made, "tokenizer.json",
               TEST_TOKENIZER(
                   "[]",
                   "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"}," TEST_TEMPLATE
                   "]}"));
    assert_int_equal(pack_and_read(made, add), 1);
    write_text(
        made, "tokenizer.json",
        TEST_TOKENIZER(
            "[]", "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}}]}"));
    assert_int_equal(pack_and_read(made, add), 0);

    cook(made, &(recipe){.plain_tokenizer = 1});
    assert_int_equal(pack_and_read(made, add), 1); /* as OPT's slow tokenizer does */
    write_text(made, "tokenizer_config.json", "{\"add_bos_token\":false}");
    assert_int_equal(pack_and_read(made, add), 0);
    write_text(made, "tokenizer_config.json", "{\"bos_token\":{\"content\":\"<s>\"}}");
    assert_int_equal(pack_and_read(made, "tokenizer.ggml.bos_token_id"),
                     0); /* goes before the map and config.json */
    write_text(made, "tokenizer_config.json",
               "{\"added_tokens_decoder\":{\"15\":{\"content\":\"<x>\",\"special\":true}}}");
    assert_int_equal(pack_and_read(made, add), 1);
}

/* ------------------------------------------------------------------------- the output */

static void test_arguments(void **state)
{
    const workspace *made = *state;
    flashinfer_error error = {.size = sizeof error};
    flashinfer_pack_options options = plain;
    char path[512];

    cook(made, &(recipe){.layers = 1});
    assert_int_equal(flin_pack(NULL, made->path, &plain, &error), FLASHINFER_EINVAL);
    assert_int_equal(flin_pack(made->checkpoint, NULL, &plain, &error), FLASHINFER_EINVAL);
    assert_int_equal(flin_pack(made->checkpoint, "", &plain, &error), FLASHINFER_EINVAL);
    assert_int_equal(flin_pack("/does/not/exist", made->path, &plain, &error),
                     FLASHINFER_ECHECKPOINT);
    (void)snprintf(path, sizeof path, "%s/config.json", made->checkpoint);
    assert_int_equal(flin_pack(path, made->path, &plain, &error), FLASHINFER_ECHECKPOINT);
    assert_int_equal(flin_pack(made->checkpoint, made->output, &plain, &error), FLASHINFER_EINVAL);
    (void)snprintf(path, sizeof path, "%s/nowhere/model.gguf", made->output);
    assert_int_equal(flin_pack(made->checkpoint, path, &plain, &error), FLASHINFER_EIO);
    (void)snprintf(path, sizeof path, "%s/model.safetensors", made->checkpoint);
    assert_int_equal(flin_pack(made->checkpoint, path, &plain, &error), FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "part of the checkpoint"));
    (void)snprintf(path, sizeof path, "%s/tokenizer.json", made->checkpoint);
    assert_int_equal(flin_pack(made->checkpoint, path, &plain, &error), FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "part of the checkpoint"));
    (void)snprintf(path, sizeof path, "%s/packed.gguf", made->checkpoint);
    assert_int_equal(flin_pack(made->checkpoint, path, &plain, &error), 0);
    assert_int_equal(flin_pack(made->checkpoint, path, &plain, &error),
                     0); /* our own may be replaced */
    assert_int_equal(remove(path), 0);
    options.dtype = 6;
    refuse(made, &options, FLASHINFER_EINVAL, "dtype");
    options = plain;
    options.sketch_bits = 5;
    refuse(made, &options, FLASHINFER_EINVAL, "sketch_bits");
    options = plain;
    options.no_sketch = 2;
    refuse(made, &options, FLASHINFER_EINVAL, "no_sketch");
    pack_well(made, &plain); /* the source is still whole */
}

/* What stood under the name before stays there until the new file is complete. */
static void test_replacement(void **state)
{
    const workspace *made = *state;
    flashinfer_error error;
    char text[4] = "";
    FILE *file = fopen(made->path, "w");

    assert_non_null(file);
    assert_true(fputs("old", file) >= 0);
    assert_int_equal(fclose(file), 0);
    cook(made, &(recipe){.source = SOURCE_F32,
                         .poisoned = "model.decoder.layers.1.fc2.weight",
                         .poison = NAN});
    assert_int_equal(pack(made, &plain, &error), FLASHINFER_ECHECKPOINT);
    assert_int_equal(count_outputs(made), 1);
    file = fopen(made->path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    assert_int_equal(fclose(file), 0);
    assert_string_equal(text, "old");
    cook(made, &(recipe){0});
    pack_well(made, &plain);
    check_all(made);
}

/* The process may write a part of the file only: an error before SIGXFSZ would end it. */
static void test_no_room(void **state)
{
    const workspace *made = *state;
    struct rlimit old, small;
    flashinfer_error error;
    int code;

    cook(made, &(recipe){0});
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 65536;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    code = pack(made, &plain, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(code, FLASHINFER_EIO);
    assert_int_equal(error.sys_errno, EFBIG);
    assert_non_null(strstr(error.text, "RLIMIT_FSIZE"));
    assert_int_equal(count_outputs(made), 0);
}

static int die(const flashinfer_progress *progress, void *user)
{
    (void)user;
    if (progress->done > progress->total / 2) (void)raise(SIGKILL);
    return 0;
}

/* What a killed process left is removed by the next that writes the same name, and by no other. */
static void test_killed(void **state)
{
    const workspace *made = *state;
    flashinfer_pack_options options = plain;
    flashinfer_error error;
    char path[512];
    int status = 0;
    pid_t child;

    cook(made, &(recipe){0});
    options.progress = die;
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)pack(made, &options, &error);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(count_outputs(made), 1);
    (void)snprintf(path, sizeof path, "%s/other.gguf", made->output);
    assert_int_equal(flin_pack(made->checkpoint, path, &plain, &error), 0);
    assert_int_equal(count_outputs(made), 2);
    assert_int_equal(unlink(path), 0);
    pack_well(made, &plain);
}

/* The longest name a file can have, and what is no file. */
static void test_names(void **state)
{
    const workspace *made = *state;
    flashinfer_error error = {.size = sizeof error};
    char path[512];
    size_t used;

    cook(made, &(recipe){0});
    used = (size_t)snprintf(path, sizeof path, "%s/", made->output);
    memset(path + used, 'n', 255);
    path[used + 255] = '\0';
    assert_int_equal(flin_pack(made->checkpoint, path, &plain, &error), 0);
    assert_int_equal(unlink(path), 0);
    memset(path + used, 'n', 256);
    path[used + 256] = '\0';
    assert_int_equal(flin_pack(made->checkpoint, path, &plain, &error), FLASHINFER_EIO);
    assert_int_equal(error.sys_errno, ENAMETOOLONG);
    assert_int_equal(mkfifo(made->path, 0600), 0);
    assert_int_equal(pack(made, &plain, &error), FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "is a FIFO"));
    assert_int_equal(count_outputs(made), 1);
}

typedef struct watcher {
    uint64_t calls, stop_at, last, total;
    int backwards;
} watcher;

static int watch(const flashinfer_progress *progress, void *user)
{
    watcher *seen = user;

    assert_string_equal(progress->stage, "pack");
    assert_int_equal(progress->size, sizeof *progress);
    seen->backwards |= progress->done < seen->last || progress->done > progress->total;
    seen->last = progress->done;
    seen->total = progress->total;
    return ++seen->calls == seen->stop_at;
}

static void test_progress(void **state)
{
    const workspace *made = *state;
    watcher seen = {0, 0, 0, 0, 0};
    flashinfer_pack_options options = plain;
    uint64_t calls;

    options.progress = watch;
    options.progress_user = &seen;
    cook(made, &(recipe){.layers = 1});
    pack_well(made, &options);
    assert_int_equal(unlink(made->path), 0);
    calls = seen.calls;
    assert_true(calls > 10);
    assert_int_equal(seen.last, seen.total);
    assert_false(seen.backwards);
    for (uint64_t stop = 1; stop <= calls; stop++) {
        flashinfer_error error;
        seen = (watcher){0, stop, 0, 0, 0};
        assert_int_equal(pack(made, &options, &error), FLASHINFER_ECANCELED);
        assert_int_equal(seen.calls, stop);
        assert_int_equal(count_outputs(made), 0);
    }
    seen = (watcher){0, 0, 0, 0, 0};
    refuse_edited(made, "\"type\":\"BPE\"", "\"type\":\"WordPiece\"", FLASHINFER_EUNSUPPORTED,
                  "BPE");
    assert_int_equal(seen.calls, 0); /* a refused call never fires its callback */
}

static void count_log(int level, const char *text, void *user)
{
    assert_int_equal(level, FLASHINFER_LOG_INFO);
    assert_non_null(strstr(text, "2 layers of 24"));
    ++*(int *)user;
}

static void test_log(void **state)
{
    const workspace *made = *state;
    flashinfer_pack_options options = plain;
    int lines = 0;

    options.log = count_log;
    options.log_user = &lines;
    cook(made, &(recipe){0});
    pack_well(made, &options);
    assert_int_equal(lines, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stride),  IN_WORKSPACE(test_example),
        IN_WORKSPACE(test_variants),    IN_WORKSPACE(test_tiles),
        IN_WORKSPACE(test_keys),        IN_WORKSPACE(test_sketch_bits),
        IN_WORKSPACE(test_determinism), IN_WORKSPACE(test_real_model),
        IN_WORKSPACE(test_bos),         IN_WORKSPACE(test_overflow),
        IN_WORKSPACE(test_arguments),   IN_WORKSPACE(test_replacement),
        IN_WORKSPACE(test_no_room),     IN_WORKSPACE(test_progress),
        IN_WORKSPACE(test_log),         IN_WORKSPACE(test_order),
        IN_WORKSPACE(test_killed),      IN_WORKSPACE(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
