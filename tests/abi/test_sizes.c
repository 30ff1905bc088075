/*
 * test_sizes.c - structs of an older and of a newer header, through every function that takes one.
 *
 * A table row is a call that works with a struct of the first header's size. The same call is then made with a longer
 * struct whose tail is zero (works), is not zero (a struct that is handed in is refused, one that is filled is left
 * alone there), and with every shorter one down to nothing.
 */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flashinfer.h"
#include "flashinfer_backend.h"

#define TAIL 24u
#define ROOM 1024u

static const char *model_path;
static flashinfer_model *model;

/* Filled by the callers of a row; as long as the longest struct and its tail. */
typedef union record {
    uint32_t size;
    unsigned char bytes[ROOM];
    flashinfer_options options;
    flashinfer_storage_ops ops;
    flashinfer_sampler_options sampler;
    flashinfer_probe_options probe;
    struct flashinfer_probe_result result;
    flashinfer_pack_options pack;
    flashinfer_trace trace;
    flashinfer_plan plan;
} record;

typedef struct row {
    const char *name;
    uint32_t bytes; /* today's */
    uint32_t least; /* that a caller may have */
    void (*prepare)(record *with);
    int (*call)(const record *with, flashinfer_error *error); /* for structs handed in */
    int (*fill)(record *with);                                /* for structs that come back */
} row;

/* structs handed in ---------------------------------------------------------------------------------------------- */

static void nothing(record *with)
{
    (void)with;
}

static int open_path(const record *with, flashinfer_error *error)
{
    flashinfer_model *opened;
    int code = flashinfer_model_open(model_path, &with->options, &opened, error);

    (void)flashinfer_model_close(opened);
    return code;
}

static int open_fd(const record *with, flashinfer_error *error)
{
    flashinfer_model *opened;
    int fd = open(model_path, O_RDONLY | O_CLOEXEC);
    int code = flashinfer_model_open_fd(fd, 0, 0, &with->options, &opened, error);

    (void)close(fd);
    (void)flashinfer_model_close(opened);
    return code;
}

static int host_caps(void *user, flashinfer_storage_caps *caps)
{
    caps->alignment = 1;
    caps->length_bytes = (uint64_t)lseek(*(int *)user, 0, SEEK_END);
    return 0;
}

static int64_t host_read(void *user, uint64_t offset, void *data, size_t bytes)
{
    return pread(*(int *)user, data, bytes, (off_t)offset);
}

static int host_fd;

static void prepare_ops(record *with)
{
    with->ops.user = &host_fd;
    with->ops.caps = host_caps;
    with->ops.read = host_read;
}

static int open_host(const flashinfer_storage_ops *ops, const flashinfer_options *options,
                     flashinfer_error *error)
{
    flashinfer_model *opened;
    int code;

    host_fd = open(model_path, O_RDONLY | O_CLOEXEC);
    code = flashinfer_model_open_storage(ops, options, &opened, error);
    (void)flashinfer_model_close(opened);
    (void)close(host_fd);
    return code;
}

static int open_ops(const record *with, flashinfer_error *error)
{
    return open_host(&with->ops, NULL, error);
}

static int open_storage(const record *with, flashinfer_error *error)
{
    record ops = {.size = sizeof(flashinfer_storage_ops)};

    prepare_ops(&ops);
    return open_host(&ops.ops, &with->options, error);
}

static int plan_with(const record *with, flashinfer_error *error)
{
    flashinfer_plan plan = {.size = sizeof plan};

    return flashinfer_plan_file(model_path, &with->options, &plan, error);
}

static int sampler(const record *with, flashinfer_error *error)
{
    flashinfer_sampler *made;
    int code = flashinfer_sampler_create(&with->sampler, 8, &made, error);

    flashinfer_sampler_destroy(made);
    return code;
}

static void prepare_probe(record *with)
{
    with->probe.time_ms = 20;
}

/* Without time_ms in the struct it would take five seconds: a wrong path is refused after the struct is. */
static int probe_with(const record *with, flashinfer_error *error)
{
    struct flashinfer_probe_result result = {.size = sizeof result};
    int missing = with->size < offsetof(flashinfer_probe_options, threads);
    int code = flashinfer_probe(missing ? "/nowhere" : model_path, &with->probe, &result, error);

    return missing && code == FLASHINFER_EIO ? 0 : code;
}

static int save_probe(const record *with, flashinfer_error *error)
{
    return flashinfer_probe_save(&with->result, "/dev/null/nowhere", error) == FLASHINFER_EIO
               ? 0
               : error->code;
}

static int open_with_probe(const record *with, flashinfer_error *error)
{
    record options = {.size = sizeof(flashinfer_options)};

    options.options.probe = &with->result;
    return open_path(&options, error);
}

static int pack_with(const record *with, flashinfer_error *error)
{
    int code = flashinfer_pack("/nowhere", "/nowhere/at/all", &with->pack, error);

    return code == FLASHINFER_EIO || code == FLASHINFER_ECHECKPOINT ? 0 : code;
}

static const uint32_t ids[] = {1, 2};

static void prepare_trace(record *with)
{
    with->trace.layer_count = 1;
    with->trace.ffn_length = 4;
    with->trace.count = 2;
    with->trace.ids = ids;
}

static int add_trace(const record *with, flashinfer_error *error)
{
    flashinfer_order *order;
    int code = flashinfer_order_create(1, 4, &order, error);

    assert_int_equal(code, 0);
    code = flashinfer_order_add(order, &with->trace, error);
    flashinfer_order_destroy(order);
    return code;
}

/* structs that come back ----------------------------------------------------------------------------------------- */

static int fill_info(record *with)
{
    return flashinfer_model_info(model, (flashinfer_info *)(void *)with);
}

static int fill_tensor(record *with)
{
    return flashinfer_model_tensor(model, 1, (flashinfer_tensor_info *)(void *)with);
}

static int fill_plan(record *with)
{
    return flashinfer_model_plan(model, &with->plan);
}

static int fill_plan_file(record *with)
{
    return flashinfer_plan_file(model_path, NULL, &with->plan, NULL);
}

static int fill_stats(record *with)
{
    return flashinfer_model_stats(model, (flashinfer_stats *)(void *)with);
}

static int fill_probe(record *with)
{
    flashinfer_probe_options options = {.size = sizeof options, .time_ms = 20};

    return flashinfer_probe(model_path, &options, &with->result, NULL);
}

static int fill_error(record *with)
{
    uint32_t size = with->size;

    flashinfer_error_init((flashinfer_error *)(void *)with, size);
    (void)flashinfer_model_open("/nowhere", NULL, &(flashinfer_model *){NULL},
                                (flashinfer_error *)(void *)with);
    return 0;
}

#define END(type, field) (uint32_t)(offsetof(type, field) + sizeof(((type *)0)->field))
#define IN(type, least, prepare, call)                                                             \
    {                                                                                              \
#call, sizeof(type), least, prepare, call, NULL                                            \
    }
#define OUT(type, fill)                                                                            \
    {                                                                                              \
#fill, sizeof(type), 4, nothing, NULL, fill                                                \
    }

static const row rows[] = {
    IN(flashinfer_options, 4, nothing, open_path),
    IN(flashinfer_options, 4, nothing, open_fd),
    IN(flashinfer_options, 4, nothing, open_storage),
    IN(flashinfer_options, 4, nothing, plan_with),
    IN(flashinfer_storage_ops, END(flashinfer_storage_ops, close), prepare_ops, open_ops),
    IN(flashinfer_sampler_options, 4, nothing, sampler),
    IN(flashinfer_probe_options, 4, prepare_probe, probe_with),
    IN(struct flashinfer_probe_result, 4, nothing, save_probe),
    IN(struct flashinfer_probe_result, 4, nothing, open_with_probe),
    IN(flashinfer_pack_options, 4, nothing, pack_with),
    IN(flashinfer_trace, END(flashinfer_trace, ids), prepare_trace, add_trace),
    OUT(flashinfer_info, fill_info),
    OUT(flashinfer_tensor_info, fill_tensor),
    OUT(flashinfer_plan, fill_plan),
    OUT(flashinfer_plan, fill_plan_file),
    OUT(flashinfer_stats, fill_stats),
    OUT(struct flashinfer_probe_result, fill_probe),
    OUT(flashinfer_error, fill_error),
};

/* The tests: each goes through all rows -------------------------------------------------------------------------- */

static int call_in(const row *of, uint32_t size, unsigned char tail, flashinfer_error *error)
{
    record *with = calloc(1, sizeof *with);
    int code;

    assert_non_null(with);
    of->prepare(with);
    with->size = size;
    if (size > of->bytes) with->bytes[size - 1] = tail;
    flashinfer_error_init(error, sizeof *error);
    code = of->call(with, error);
    free(with);
    return code;
}

static void newer_caller_with_zero_tail(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        flashinfer_error error;
        if (rows[i].call == NULL) continue;
        if (call_in(&rows[i], rows[i].bytes + TAIL, 0, &error) != 0)
            fail_msg("%s: %s", rows[i].name, error.text);
    }
}

static void newer_caller_with_unknown_field_set(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        flashinfer_error error;
        int code;
        if (rows[i].call == NULL) continue;
        code = call_in(&rows[i], rows[i].bytes + TAIL, 1, &error);
        if (code != FLASHINFER_EINVAL && code != FLASHINFER_EUNSUPPORTED)
            fail_msg("%s was not refused: %d", rows[i].name, code);
        if (strstr(error.text, "newer") == NULL)
            fail_msg("%s does not say why: %s", rows[i].name, error.text);
    }
}

static void older_caller(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        flashinfer_error error;
        if (rows[i].call == NULL) continue;
        for (uint32_t size = rows[i].least; size < rows[i].bytes; size += 44)
            if (call_in(&rows[i], size, 0, &error) != 0)
                fail_msg("%s of %u bytes: %s", rows[i].name, size, error.text);
        assert_int_equal(call_in(&rows[i], rows[i].least - 4, 0, &error), FLASHINFER_EINVAL);
        /* not to an _init function: not every struct has one */
        if (strstr(error.text, "sizeof") == NULL || strstr(error.text, "_init") != NULL)
            fail_msg("%s does not say what its size must be: %s", rows[i].name, error.text);
    }
}

/* What is filled of a struct of `size` bytes: those, and not a byte more. */
static void check_filled(const row *of, uint32_t size, const record *whole)
{
    record with;
    uint32_t common = size < of->bytes ? size : of->bytes;

    memset(&with, 0xa5, sizeof with);
    with.size = size;
    if (of->fill(&with) != 0) fail_msg("%s of %u bytes", of->name, size);
    assert_int_equal(with.size, size);
    for (uint32_t i = size; i < ROOM; i++)
        if (with.bytes[i] != 0xa5) fail_msg("%s of %u bytes wrote byte %u", of->name, size, i);
    /* times differ between two probes */
    if (of->fill != fill_probe && memcmp(with.bytes + 4, whole->bytes + 4, common - 4) != 0)
        fail_msg("%s of %u bytes: other contents", of->name, size);
}

static void callers_that_get_a_struct(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const row *of = &rows[i];
        const uint32_t step = of->fill == fill_probe ? 500 : 12;
        record whole;
        if (of->fill == NULL) continue;
        memset(&whole, 0, sizeof whole);
        whole.size = of->bytes;
        if (of->fill(&whole) != 0) fail_msg("%s", of->name);
        for (uint32_t size = 4; size < of->bytes; size += step) check_filled(of, size, &whole);
        check_filled(of, of->bytes, &whole);
        check_filled(of, of->bytes + TAIL, &whole);
        whole.size = 0;
        if (of->fill != fill_error) assert_int_equal(of->fill(&whole), FLASHINFER_EINVAL);
    }
}

/* Every number that was ever given out, by hand: the X-macro cannot vouch for itself. */
static void error_numbers(void **state)
{
    static const struct {
        int code;
        const char *name;
    } given[] = {{0, "OK"},
                 {-1, "EINVAL"},
                 {-2, "ENOMEM"},
                 {-3, "EIO"},
                 {-4, "EFORMAT"},
                 {-5, "ECORRUPT"},
                 {-6, "EUNSUPPORTED"},
                 {-7, "EBUDGET"},
                 {-8, "ETOKEN"},
                 {-9, "ECONTEXT"},
                 {-10, "ECANCELED"},
                 {-11, "ETIMEDOUT"},
                 {-12, "ECHECKPOINT"},
                 {-13, "EBUFFER"},
                 {-14, "ESTATE"},
                 {-15, "ETHREAD"},
                 {-16, "EBUSY"},
                 {-17, "ESESSIONS"}};

    (void)state;
    assert_int_equal(sizeof given / sizeof *given, FLASHINFER_ERROR_COUNT_);
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        const char *name = flashinfer_error_name(given[i].code);
        assert_int_equal(strncmp(name, "FLASHINFER_", 11), 0);
        assert_string_equal(name + 11, given[i].name);
        assert_string_not_equal(flashinfer_error_describe(given[i].code), "unknown error");
    }
    assert_string_equal(flashinfer_error_name(-18), "FLASHINFER_E?");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_numbers),
        cmocka_unit_test(newer_caller_with_zero_tail),
        cmocka_unit_test(newer_caller_with_unknown_field_set),
        cmocka_unit_test(older_caller),
        cmocka_unit_test(callers_that_get_a_struct),
    };
    int code;

    if (argc != 2) return 2;
    model_path = argv[1];
    if (flashinfer_model_open(model_path, NULL, &model, NULL) != 0) return 1;
    code = cmocka_run_group_tests(tests, NULL, NULL);
    return flashinfer_model_close(model) != 0 || code != 0;
}
