/*
 * test_badfile.c - damaged, truncated, hostile and unknown model files: one clear error each, nothing else happens.
 *
 * usage: test_badfile MODEL.gguf
 */
#include "fault/host_file.h"

static host_file good;

/* A private copy that a test may spoil. */
static host_file copy_of(const host_file *file)
{
    host_file copy;

    memset(&copy, 0, sizeof copy);
    copy.bytes = file->bytes;
    copy.data = malloc(file->bytes);
    assert_non_null(copy.data);
    memcpy(copy.data, file->data, file->bytes);
    return copy;
}

/* Opening fails with one line of text and no handle. */
static int refused(host_file *file, const flashinfer_options *options)
{
    flashinfer_model *model = (flashinfer_model *)(void *)file;
    flashinfer_error error;
    int code;

    flashinfer_error_init(&error, sizeof error);
    code = host_open(file, options, &model, &error);
    if (code == 0) {
        assert_int_equal(flashinfer_model_close(model), 0);
        return 0;
    }
    assert_null(model);
    assert_int_equal(error.code, code);
    assert_true(error.text[0] != '\0' && strchr(error.text, '\n') == NULL);
    return code;
}

static void truncation_is_refused(void **state)
{
    flashinfer_options options = host_options(FLASHINFER_PREDICTOR_SKETCH);

    (void)state;
    for (uint64_t part = 0; part < 16; part++) {
        host_file file = good;
        int code;
        file.bytes = good.bytes * part / 16;
        code = refused(&file, &options);
        assert_true(code == FLASHINFER_EFORMAT || code == FLASHINFER_EIO ||
                    code == FLASHINFER_EINVAL);
        options.flags ^= FLASHINFER_OPEN_METADATA;
        assert_int_not_equal(refused(&file, &options), 0);
    }
    for (uint64_t cut = 1; cut < 200000; cut = cut * 3 + 1) {
        host_file file = good;
        file.bytes = cut;
        assert_int_not_equal(refused(&file, &options), 0);
    }
}

/* Every byte of the first KiB, then a sample up to the end of the header. */
static void flipped_header_bytes_are_refused(void **state)
{
    flashinfer_options options = host_options(FLASHINFER_PREDICTOR_SKETCH);
    host_file file = copy_of(&good);

    (void)state;
    options.flags = FLASHINFER_OPEN_METADATA;
    for (uint64_t at = 0; at < 100000; at += at < 1024 ? 1 : 997) {
        file.data[at] ^= 0x10;
        if (refused(&file, &options) == 0)
            fail_msg("byte %llu of the header may be flipped", (unsigned long long)at);
        file.data[at] ^= 0x10;
    }
    assert_int_equal(refused(&file, &options), 0);
    free(file.data);
}

typedef struct place {
    char name[64];
    uint64_t offset, bytes;
} place;

/* Offset and size of a tensor of the good file. */
static place tensor_at(const char *name)
{
    flashinfer_options options = host_options(0);
    flashinfer_tensor_info tensor = {.size = sizeof tensor};
    flashinfer_model *model;
    flashinfer_error error;
    place found = {"", 0, 0};

    flashinfer_error_init(&error, sizeof error);
    options.flags = FLASHINFER_OPEN_METADATA;
    assert_ok(host_open(&good, &options, &model, &error));
    for (uint32_t i = 0; flashinfer_model_tensor(model, i, &tensor) == 0; i++) {
        if (strcmp(tensor.name, name) != 0) continue;
        found.offset = tensor.offset;
        found.bytes = tensor.bytes;
    }
    assert_int_equal(flashinfer_model_close(model), 0);
    assert_true(found.bytes != 0);
    return found;
}

static void flipped_resident_bytes_are_refused(void **state)
{
    const char *const names[] = {"token_embd.weight",     "blk.0.attn_q.weight",
                                 "blk.5.ffn_norm.bias",   "blk.3.ffn_up.bias",
                                 "blk.2.ffn_bundle.xxh3", "blk.1.ffn_sketch.weight",
                                 "flashinfer.xxh3"};
    flashinfer_options options = host_options(FLASHINFER_PREDICTOR_SKETCH);
    host_file file = copy_of(&good);

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        place at = tensor_at(names[i]);
        uint64_t spots[] = {0, at.bytes / 2, at.bytes - 1};
        for (size_t spot = 0; spot < 3; spot++) {
            file.data[at.offset + spots[spot]] ^= 1;
            assert_int_equal(refused(&file, &options), FLASHINFER_ECORRUPT);
            file.data[at.offset + spots[spot]] ^= 1;
        }
    }
    free(file.data);
}

/* A flipped bundle is found when it is read; the session and later steps stay right. */
static void flipped_bundles_are_found_when_read(void **state)
{
    const uint32_t predictors[] = {FLASHINFER_PREDICTOR_SKETCH, FLASHINFER_PREDICTOR_ALL};
    place at = tensor_at("blk.0.ffn_bundle.weight");
    flashinfer_error error;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        flashinfer_options options = host_options(predictors[i]);
        host_file file = copy_of(&good);
        flashinfer_model *model;
        float *expected, *got;
        int code;
        flashinfer_error_init(&error, sizeof error);
        assert_ok(host_open(&file, &options, &model, &error));
        expected = host_run(model, &code, &error);
        assert_ok(code);
        assert_int_equal(flashinfer_model_close(model), 0);
        for (uint64_t neuron = 0; neuron < 2560; neuron++)
            file.data[at.offset + neuron * (at.bytes / 2560) + 77] ^= 2;
        assert_ok(host_open(&file, &options, &model, &error));
        got = host_run(model, &code, &error);
        assert_int_equal(code, FLASHINFER_ECORRUPT);
        assert_null(got);
        assert_int_equal(error.layer, 0);
        assert_true(error.neuron >= 0 && error.offset > 0);
        assert_int_equal(flashinfer_model_verify(model, &error), FLASHINFER_ECORRUPT);
        assert_int_equal(error.layer, 0);
        for (uint64_t neuron = 0; neuron < 2560; neuron++)
            file.data[at.offset + neuron * (at.bytes / 2560) + 77] ^= 2;
        got = host_run(model, &code, &error);
        assert_ok(code);
        assert_memory_equal(expected, got, 4096 * sizeof *got);
        assert_ok(flashinfer_model_verify(model, &error));
        assert_int_equal(flashinfer_model_close(model), 0);
        free(expected);
        free(got);
        free(file.data);
    }
}

/* Make a spoilt place good again. */
static void heal(host_file *file, uint64_t at, size_t count)
{
    memcpy(file->data + at, good.data + at, count);
}

static void put(host_file *file, uint64_t at, const void *bytes, size_t count)
{
    memcpy(file->data + at, bytes, count);
}

/* Where a text stands in the header. */
static uint64_t find(const host_file *file, const char *text)
{
    size_t length = strlen(text);

    for (uint64_t at = 0; at + length < 400000 && at + length < file->bytes; at++)
        if (memcmp(file->data + at, text, length) == 0) return at;
    fail_msg("the header has no %s", text);
    return 0;
}

/* Hostile and unknown contents, with checksums off so that they reach the parser. */
static void hostile_contents_are_refused(void **state)
{
    flashinfer_options options = host_options(FLASHINFER_PREDICTOR_SKETCH);
    const struct {
        const char *after; /* text in the header; NULL: offset counts from the start */
        uint64_t offset;   /* from the end of that text */
        uint64_t number;   /* written little-endian */
        uint32_t bytes;
        int code;
    } edits[] = {
        {NULL, 0, 0x46554746u, 4, FLASHINFER_EFORMAT}, /* magic */
        {NULL, 4, 2, 4, FLASHINFER_EFORMAT},           /* version */
        {NULL, 8, UINT64_MAX, 8, FLASHINFER_EFORMAT},  /* tensor count */
        {NULL, 8, 0, 8, FLASHINFER_EFORMAT},           /* no tensors */
        {NULL, 16, UINT64_MAX, 8, FLASHINFER_EFORMAT}, /* metadata count */
        {NULL, 24, UINT64_MAX, 8, FLASHINFER_EFORMAT}, /* length of the first key */
        {NULL, 24, 1u << 30, 8, FLASHINFER_EFORMAT},
        {"general.alignment", 4, 3, 4, FLASHINFER_EFORMAT},
        {"opt.block_count", 4, 0, 4, FLASHINFER_EFORMAT},
        {"opt.block_count", 4, 7, 4, FLASHINFER_EFORMAT}, /* tensors of layer 6 are missing */
        {"opt.embedding_length", 4, 321, 4, FLASHINFER_EFORMAT},
        {"opt.feed_forward_length", 4, 4000000, 4, FLASHINFER_EFORMAT},
        {"opt.attention.head_count", 4, 3, 4, FLASHINFER_EFORMAT},
        {"opt.vocab_size", 4, 4097, 4, FLASHINFER_EFORMAT},
        {"opt.context_length", 4, 100, 4, FLASHINFER_EFORMAT},
        {"flashinfer.version", 4, 9, 4, FLASHINFER_EUNSUPPORTED},
        {"flashinfer.ffn.stride", 4, 8, 8, FLASHINFER_EFORMAT},
        {"flashinfer.ffn.part_types", 16, 12, 4,
         FLASHINFER_EUNSUPPORTED}, /* a dtype not built in */
        {"flashinfer.ffn.part_types", 16, 30, 4, FLASHINFER_EUNSUPPORTED}, /* BF16 beside F16 */
        {"flashinfer.ffn.part_types", 16, 8, 4, FLASHINFER_EFORMAT}, /* Q8_0 of F16's length */
        {"blk.2.attn_k.weight", 20, 30, 4, FLASHINFER_EUNSUPPORTED}, /* k BF16, q and v F16 */
        {"flashinfer.ffn.part_bytes", 16, UINT64_MAX, 8, FLASHINFER_EFORMAT},
        {"token_embd.weight", 4, UINT64_MAX, 8, FLASHINFER_EFORMAT}, /* a dimension */
        {"token_embd.weight", 4, 319, 8, FLASHINFER_EFORMAT},        /* misshapen */
        {"output_norm.weight", 4, 319, 8, FLASHINFER_EFORMAT},
        {"token_embd.weight", 20, 24, 4, FLASHINFER_EUNSUPPORTED}, /* type: I8 */
        {"token_embd.weight", 20, 99, 4, FLASHINFER_EUNSUPPORTED},
        {"token_embd.weight", 24, UINT64_MAX - 4095, 8, FLASHINFER_EFORMAT}, /* offset */
    };

    host_file file = copy_of(&good);

    (void)state;
    options.verify = FLASHINFER_VERIFY_NONE;
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        uint64_t at = edits[i].offset;
        int code;
        if (edits[i].after != NULL) at += find(&file, edits[i].after) + strlen(edits[i].after);
        put(&file, at, &edits[i].number, edits[i].bytes);
        code = refused(&file, &options);
        if (code != edits[i].code) fail_msg("edit %zu gives %d, not %d", i, code, edits[i].code);
        heal(&file, at, edits[i].bytes);
    }
    free(file.data);
}

static void refused_in_words(host_file *file, int expected, const char *words)
{
    flashinfer_options options = host_options(FLASHINFER_PREDICTOR_SKETCH);
    flashinfer_model *model;
    flashinfer_error error;

    options.verify = FLASHINFER_VERIFY_NONE;
    flashinfer_error_init(&error, sizeof error);
    assert_int_equal(host_open(file, &options, &model, &error), expected);
    assert_null(model);
    assert_null(strchr(error.text, '\n'));
    if (strstr(error.text, words) == NULL) fail_msg("\"%s\" does not say %s", error.text, words);
}

/* The same file with resident matrices in Q8_0 and bundles in Q4_0: damage is found as ever, and types, widths and
   lengths that contradict each other are refused. Width is 320, a bundle's part 180 bytes. */
static void quantised_files_are_refused_alike(void **state)
{
    const struct {
        const char *after; /* text in the header */
        uint64_t offset;   /* from the end of that text */
        uint64_t number;   /* written little-endian */
        uint32_t bytes;
        int code;
        const char *words;
    } edits[] = {
        {"token_embd.weight", 4, 300, 8, FLASHINFER_EFORMAT, "not a whole number of blocks"},
        {"blk.1.attn_q.weight", 4, 352, 8, FLASHINFER_EFORMAT, "blk.1.attn_q.weight"},
        {"opt.embedding_length", 4, 325, 4, FLASHINFER_EFORMAT, "no whole blocks of 32"},
        {"blk.2.attn_k.weight", 20, 2, 4, FLASHINFER_EUNSUPPORTED, "different types"},
        {"blk.3.attn_v.weight", 20, 1, 4, FLASHINFER_EUNSUPPORTED, "different types"},
        {"blk.4.attn_output.weight", 20, 16, 4, FLASHINFER_EUNSUPPORTED, "blk.4.attn_output"},
        {"blk.4.attn_output.weight", 20, 19, 4, FLASHINFER_EUNSUPPORTED, "type 19 (iq1_s)"},
        {"blk.4.attn_output.weight", 20, 40, 4, FLASHINFER_EUNSUPPORTED, "type 40 (nvfp4)"},
        {"blk.4.attn_output.weight", 20, 31, 4, FLASHINFER_EUNSUPPORTED, "type 31 (unknown)"},
        {"flashinfer.ffn.part_types", 16, 8, 4, FLASHINFER_EFORMAT, "part_bytes"},
        {"flashinfer.ffn.part_types", 20, 8, 4, FLASHINFER_EFORMAT, "part_bytes"},
        {"flashinfer.ffn.part_types", 16, 6, 4, FLASHINFER_EUNSUPPORTED, "GGUF type 6 (q5_0)"},
        {"flashinfer.ffn.part_bytes", 16, 162, 8, FLASHINFER_EFORMAT, "part_bytes"},
        {"flashinfer.ffn.part_bytes", 24, 182, 8, FLASHINFER_EFORMAT, "part_bytes"},
        {"flashinfer.ffn.part_offsets", 24, 192, 8, FLASHINFER_EFORMAT, "part_offsets"},
        {"flashinfer.ffn.stride", 4, 359, 8, FLASHINFER_EFORMAT, "flashinfer.ffn.stride"},
    };
    const host_file float16 = good;
    host_file file;
    size_t bytes;

    good.data =
        read_file(environment("FLASHINFER_TEST_MODEL_MIXED", "fable-14m-mixed.gguf"), &bytes);
    good.bytes = bytes;
    assert_non_null(good.data);
    truncation_is_refused(state);
    flipped_resident_bytes_are_refused(state);
    flipped_bundles_are_found_when_read(state);
    file = copy_of(&good);
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        uint64_t at = find(&file, edits[i].after) + strlen(edits[i].after) + edits[i].offset;
        put(&file, at, &edits[i].number, edits[i].bytes);
        refused_in_words(&file, edits[i].code, edits[i].words);
        heal(&file, at, edits[i].bytes);
    }
    free(file.data);
    free(good.data);
    good = float16;
}

/* Factors of a low-rank predictor are float16 or float32, and both of a layer the same. */
static void other_factors_are_refused(void **state)
{
    static const char path[] = "factors.gguf";
    static const float zeros[4 * 2560];
    const struct {
        const char *name;
        uint32_t type;
        int code;
        const char *words;
    } edits[] = {
        {"blk.2.fc1.weight", 30, FLASHINFER_EUNSUPPORTED, "blk.2.fc1.weight must be F16 or F32"},
        {"blk.0.fc2.weight", 30, FLASHINFER_EUNSUPPORTED, "blk.0.fc2.weight must be F16 or F32"},
        {"blk.2.fc1.weight", 8, FLASHINFER_EUNSUPPORTED, "blk.2.fc1.weight must be F16 or F32"},
        {"blk.2.fc2.weight", 2, FLASHINFER_EFORMAT, "not a whole number of blocks"}, /* but 4 */
    };
    flashinfer_options options = host_options(FLASHINFER_PREDICTOR_LOWRANK);
    flashinfer_predictor *predictor;
    flashinfer_model *model;
    flashinfer_error error;
    host_file made = {0}, file = good;
    size_t bytes;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    assert_ok(host_open(&file, NULL, &model, &error));
    assert_ok(flashinfer_predictor_create(model, &predictor, &error));
    for (uint32_t layer = 0; layer < 6; layer++)
        assert_ok(
            flashinfer_predictor_set_lowrank(predictor, layer, 4, 0, zeros, zeros, zeros, &error));
    assert_ok(flashinfer_predictor_save(predictor, path, &error));
    flashinfer_predictor_destroy(predictor);
    assert_int_equal(flashinfer_model_close(model), 0);
    options.predictor_path = path;
    options.verify = FLASHINFER_VERIFY_NONE;
    assert_int_equal(refused(&file, &options), 0);
    made.data = read_file(path, &bytes);
    made.bytes = bytes;
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        unsigned char *type = made.data + find(&made, edits[i].name) + strlen(edits[i].name) + 20;
        uint32_t before;
        memcpy(&before, type, sizeof before);
        memcpy(type, &edits[i].type, sizeof before);
        write_file(path, made.data, made.bytes);
        memcpy(type, &before, sizeof before);
        assert_int_equal(host_open(&file, &options, &model, &error), edits[i].code);
        if (strstr(error.text, edits[i].words) == NULL)
            fail_msg("\"%s\" does not say %s", error.text, edits[i].words);
    }
    free(made.data);
    (void)remove(path);
}

static void unknown_names_are_refused(void **state)
{
    const struct {
        const char *text, *with;
        int code;
    } edits[] = {
        {"opt.block_count", "opx.block_count", FLASHINFER_EFORMAT},
        {"gpt-2", "xyz-2", FLASHINFER_EUNSUPPORTED},
        {"token_embd.weight", "token_embX.weight", FLASHINFER_EFORMAT},
        {"blk.3.attn_k.weight", "blk.3.attn_X.weight", FLASHINFER_EFORMAT},
        {"blk.3.attn_k.weight", "blk.3.attn_q.weight", FLASHINFER_EFORMAT},
    };
    flashinfer_options options = host_options(FLASHINFER_PREDICTOR_SKETCH);
    host_file file;
    uint64_t at;

    (void)state;
    options.verify = FLASHINFER_VERIFY_NONE;
    file = copy_of(&good);
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        at = find(&file, edits[i].text);
        put(&file, at, edits[i].with, strlen(edits[i].with));
        assert_int_equal(refused(&file, &options), edits[i].code);
        heal(&file, at, strlen(edits[i].with));
    }
    at = find(&file, "general.architecture") + strlen("general.architecture") + 4 + 8;
    put(&file, at, "abc", 3);
    assert_int_equal(refused(&file, &options), FLASHINFER_EUNSUPPORTED);
    heal(&file, at, 3);
    /* an unknown tokenizer may be opened without */
    put(&file, find(&file, "gpt-2"), "xyz-2", 5);
    options.flags = FLASHINFER_OPEN_NO_TOKENIZER;
    assert_int_equal(refused(&file, &options), 0);
    free(file.data);
}

/* A device whose blocks are larger than a bundle: neighbours share blocks, nothing else changes. */
static void coarse_alignment_changes_nothing(void **state)
{
    const uint32_t predictors[] = {FLASHINFER_PREDICTOR_SKETCH, FLASHINFER_PREDICTOR_EXACT,
                                   FLASHINFER_PREDICTOR_ALL};
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (size_t i = 0; i < sizeof predictors / sizeof predictors[0]; i++) {
        flashinfer_options options = host_options(predictors[i]);
        float *logits[2];
        for (uint32_t coarse = 0; coarse < 2; coarse++) {
            host_file file = good;
            flashinfer_model *model;
            int code;
            file.alignment = coarse ? 4096 : 1;
            assert_ok(host_open(&file, &options, &model, &error));
            logits[coarse] = host_run(model, &code, &error);
            assert_ok(code);
            assert_int_equal(flashinfer_model_close(model), 0);
            assert_int_equal(file.violations, 0);
        }
        assert_memory_equal(logits[0], logits[1], 4096 * sizeof *logits[0]);
        free(logits[0]);
        free(logits[1]);
    }
}

/* The nth read fails once: retried, same result. It fails twice: one error, and afterwards all is well again. */
static void failing_reads_are_retried_then_reported(void **state)
{
    flashinfer_options options = host_options(FLASHINFER_PREDICTOR_SKETCH);
    host_file file = good;
    flashinfer_model *model;
    flashinfer_error error;
    float *expected, *got;
    uint64_t open_reads, all_reads, step;
    int code;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    file.reads = 0;
    assert_ok(host_open(&file, &options, &model, &error));
    open_reads = file.reads;
    expected = host_run(model, &code, &error);
    assert_ok(code);
    all_reads = file.reads;
    assert_int_equal(flashinfer_model_close(model), 0);
    assert_true(open_reads > 20 && all_reads > open_reads);

    for (uint64_t n = 1; n <= open_reads; n++) {
        file.reads = 0;
        file.fail_from = n;
        file.fail_to = n + 100;
        code = refused(&file, &options);
        if (code != FLASHINFER_EIO)
            fail_msg("failing read %llu at open gives %d", (unsigned long long)n, code);
    }
    step = (all_reads - open_reads) / 40 + 1;
    for (uint64_t n = open_reads + 1; n <= all_reads; n += step) {
        file.reads = file.fail_from = 0;
        assert_ok(host_open(&file, &options, &model, &error));
        file.fail_from = n;
        file.fail_to = n + 1;
        got = host_run(model, &code, &error);
        assert_ok(code);
        assert_memory_equal(expected, got, 4096 * sizeof *got);
        free(got);
        assert_int_equal(flashinfer_model_close(model), 0);

        file.reads = file.fail_from = 0;
        assert_ok(host_open(&file, &options, &model, &error));
        file.fail_from = n;
        file.fail_to = n + 100;
        got = host_run(model, &code, &error);
        assert_null(got);
        assert_int_equal(code, FLASHINFER_EIO);
        assert_true(error.layer >= 0 && error.neuron >= 0 && error.offset > 0);
        file.fail_from = 0;
        got = host_run(model, &code, &error);
        assert_ok(code);
        assert_memory_equal(expected, got, 4096 * sizeof *got);
        free(got);
        assert_int_equal(flashinfer_model_close(model), 0);
    }
    free(expected);
}

/* Bits that flip on the way are noticed and read again. */
static void spoilt_reads_are_read_again(void **state)
{
    flashinfer_options options = host_options(FLASHINFER_PREDICTOR_SKETCH);
    host_file file = good;
    flashinfer_model *model;
    flashinfer_error error;
    flashinfer_stats stats = {.size = sizeof stats};
    float *expected, *got;
    int code;

    (void)state;
    options.io_gap_bytes = 1; /* the middle of a read is then not a gap, which nobody looks at */
    flashinfer_error_init(&error, sizeof error);
    assert_ok(host_open(&file, &options, &model, &error));
    file.reads = 0;
    expected = host_run(model, &code, &error);
    assert_ok(code);
    assert_int_equal(flashinfer_model_close(model), 0);
    assert_ok(host_open(&file, &options, &model, &error));
    file.reads = 0;
    file.spoil_at = 11;
    got = host_run(model, &code, &error);
    assert_ok(code);
    assert_memory_equal(expected, got, 4096 * sizeof *got);
    assert_int_equal(flashinfer_model_stats(model, &stats), 0);
    assert_int_equal(stats.read_retries, 1);
    assert_int_equal(flashinfer_model_close(model), 0);
    free(expected);
    free(got);
}

/* Saved state names the file it belongs to by all of its contents, not by its header. */
enum { FAILING, CORRUPT, HANGING, TROUBLES };

/* From the third read from now on, until make_good(). */
static void make_trouble(host_file *file, int kind)
{
    uint64_t next = file->reads + 3;

    if (kind == FAILING) {
        file->fail_from = next;
        file->fail_to = UINT64_MAX;
    }
    if (kind == CORRUPT) file->spoil_from = next;
    if (kind == HANGING) {
        atomic_store(&file->hung, 1);
        file->hang_at = next;
    }
}

static void make_good(host_file *file)
{
    atomic_store(&file->hung, 0);
    file->fail_from = 0;
    file->spoil_from = 0;
    file->hang_at = 0;
}

/* After a time-out steps are refused until the read that hung has come back. */
static int step_again(flashinfer_session *session, int32_t token, flashinfer_error *error)
{
    int code = FLASHINFER_ETIMEDOUT;

    for (int i = 0; i < 10000 && code == FLASHINFER_ETIMEDOUT; i++) {
        if (i != 0) (void)poll(NULL, 0, 1);
        code = flashinfer_step(session, token, error);
    }
    return code;
}

/* A step in the middle of a sequence meets trouble: one error that says where; the same session then goes on as if nothing
   had been. */
static void check_trouble(uint32_t predictor, int kind, const float *expected)
{
    static const int codes[TROUBLES] = {FLASHINFER_EIO, FLASHINFER_ECORRUPT, FLASHINFER_ETIMEDOUT};
    flashinfer_options options = host_options(predictor);
    host_file file = good;
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_error error;
    size_t vocab;

    options.io_timeout_ms = kind == HANGING ? 3000 : 20000; /* a slow machine keeps the first */
    options.io_gap_bytes = 1;
    flashinfer_error_init(&error, sizeof error);
    assert_ok(host_open(&file, &options, &model, &error));
    assert_ok(flashinfer_session_create(model, &session, &error));
    assert_ok(flashinfer_step(session, 2, &error));
    make_trouble(&file, kind);
    assert_int_equal(flashinfer_step(session, 300, &error), codes[kind]);
    assert_int_equal(error.code, codes[kind]);
    assert_true(error.layer >= 0 && error.layer < 8);
    assert_true(error.neuron >= 0 && error.neuron < 2560);
    assert_true(error.offset > 0 && (uint64_t)error.offset < file.bytes);
    assert_int_equal(flashinfer_session_position(session), 1);
    make_good(&file);
    assert_ok(step_again(session, 300, &error));
    assert_memory_equal(expected, flashinfer_logits(session, &vocab), 4096 * sizeof *expected);
    assert_ok(flashinfer_step(session, 7, &error));
    assert_memory_equal(expected + 4096, flashinfer_logits(session, &vocab),
                        4096 * sizeof *expected);
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_close(model), 0);
}

static void sessions_survive_a_step_that_failed(void **state)
{
    const uint32_t predictors[] = {FLASHINFER_PREDICTOR_SKETCH, FLASHINFER_PREDICTOR_EXACT,
                                   FLASHINFER_PREDICTOR_ALL};
    static const int32_t ids[] = {2, 300, 7};

    (void)state;
    for (size_t i = 0; i < sizeof predictors / sizeof predictors[0]; i++) {
        flashinfer_options options = host_options(predictors[i]);
        host_file file = good;
        flashinfer_model *model;
        flashinfer_session *session;
        flashinfer_error error;
        float expected[2 * 4096];
        size_t vocab;
        flashinfer_error_init(&error, sizeof error);
        assert_ok(host_open(&file, &options, &model, &error));
        assert_ok(flashinfer_session_create(model, &session, &error));
        for (int t = 0; t < 3; t++) {
            assert_ok(flashinfer_step(session, ids[t], &error));
            if (t != 0)
                memcpy(expected + (t - 1) * 4096, flashinfer_logits(session, &vocab),
                       4096 * sizeof *expected);
        }
        flashinfer_session_destroy(session);
        assert_int_equal(flashinfer_model_close(model), 0);
        for (int kind = 0; kind < TROUBLES; kind++) check_trouble(predictors[i], kind, expected);
    }
}

static void state_of_another_file_is_refused(void **state)
{
    flashinfer_options options = host_options(FLASHINFER_PREDICTOR_SKETCH);
    place sums = tensor_at("flashinfer.xxh3");
    static unsigned char saved[100000];
    flashinfer_error error;
    size_t bytes = 0;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    options.verify = FLASHINFER_VERIFY_NONE;
    for (uint32_t other = 0; other < 2; other++) {
        host_file file = copy_of(&good);
        flashinfer_model *model;
        flashinfer_session *session;
        if (other) file.data[sums.offset + sums.bytes - 1] ^= 1;
        assert_ok(host_open(&file, &options, &model, &error));
        assert_ok(flashinfer_session_create(model, &session, &error));
        if (other) {
            assert_int_equal(flashinfer_state_load(session, saved, bytes, &error),
                             FLASHINFER_ESTATE);
        } else {
            assert_ok(flashinfer_step(session, 2, &error));
            assert_ok(flashinfer_state_save(session, saved, sizeof saved, &bytes, &error));
            assert_ok(flashinfer_state_load(session, saved, bytes, &error));
        }
        flashinfer_session_destroy(session);
        assert_int_equal(flashinfer_model_close(model), 0);
        free(file.data);
    }
}

/* Names from a file cannot break an error's one line. */
static void errors_are_one_clean_line(void **state)
{
    flashinfer_options options = host_options(FLASHINFER_PREDICTOR_SKETCH);
    host_file file = copy_of(&good);
    flashinfer_model *model;
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    options.verify = FLASHINFER_VERIFY_NONE;
    put(&file, find(&file, "blk.3.attn_k.weight"), "blk.3\n\033[2J\xff\xc2\x85\xc3\xa9.w", 17);
    assert_int_not_equal(host_open(&file, &options, &model, &error), 0);
    for (const char *at = error.text; *at != '\0'; at++)
        assert_true((unsigned char)*at >= 0x20 && (unsigned char)*at != 0xff);
    put(&file, find(&file, "gpt-2"), "g\n\033\xc2x", 5);
    put(&file, find(&file, "blk.3\n"), "blk.3.attn_k.weight", 19);
    assert_int_equal(host_open(&file, &options, &model, &error), FLASHINFER_EUNSUPPORTED);
    assert_non_null(strstr(error.text, "g???x"));
    free(file.data);
}

static void missing_and_empty_files_are_refused(void **state)
{
    flashinfer_model *model;
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    assert_int_equal(flashinfer_model_open("no-such-file.gguf", NULL, &model, &error),
                     FLASHINFER_EIO);
    assert_null(model);
    assert_int_not_equal(error.sys_errno, 0);
    assert_non_null(strstr(error.text, "no-such-file.gguf"));
    write_file("empty.gguf", "", 0);
    assert_int_not_equal(flashinfer_model_open("empty.gguf", NULL, &model, &error), 0);
    assert_null(model);
    assert_int_not_equal(flashinfer_model_open(".", NULL, &model, &error), 0);
    assert_null(model);
    (void)remove("empty.gguf");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_and_empty_files_are_refused),
        cmocka_unit_test(truncation_is_refused),
        cmocka_unit_test(flipped_header_bytes_are_refused),
        cmocka_unit_test(flipped_resident_bytes_are_refused),
        cmocka_unit_test(flipped_bundles_are_found_when_read),
        cmocka_unit_test(hostile_contents_are_refused),
        cmocka_unit_test(quantised_files_are_refused_alike),
        cmocka_unit_test(other_factors_are_refused),
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test(coarse_alignment_changes_nothing),
        cmocka_unit_test(failing_reads_are_retried_then_reported),
        cmocka_unit_test(spoilt_reads_are_read_again),
        cmocka_unit_test(sessions_survive_a_step_that_failed),
        cmocka_unit_test(state_of_another_file_is_refused),
        cmocka_unit_test(errors_are_one_clean_line),
    };
    size_t bytes;
    int failed;

    if (argc != 2) return 2;
    good.data = read_file(argv[1], &bytes);
    good.bytes = bytes;
    if (good.data == NULL) return 2;
    failed = cmocka_run_group_tests_name("bad files", tests, NULL, NULL);
    free(good.data);
    return failed;
}
