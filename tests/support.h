/*
 * support.h - what tests of whole models share: files, opening with given options, comparing logits.
 */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flashinfer.h"

/* Fail the test with the library's own words. */
#define assert_ok(call)                                                                            \
    do {                                                                                           \
        int assert_code_ = (call);                                                                 \
        if (assert_code_ != 0)                                                                     \
            fail_msg("%s: %s: %s", #call, flashinfer_error_name(assert_code_), error.text);        \
    } while (0)

static inline const char *environment(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : otherwise;
}

/* Is the model there that lies beside the project's own checkout only? Says so if not. */
static inline int is_here(const char *model)
{
    FILE *file = fopen(model, "rb");

    if (file == NULL) {
        print_message("[  SKIPPED ] everything on a gated model: %s\n", model);
        return 0;
    }
    return fclose(file) == 0;
}

/* A whole file, or NULL. */
static inline void *read_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    char *data = NULL;
    long length;

    *bytes = 0;
    if (file == NULL) return NULL;
    if (fseek(file, 0, SEEK_END) == 0 && (length = ftell(file)) >= 0 &&
        fseek(file, 0, SEEK_SET) == 0) {
        data = malloc((size_t)length + 1);
        if (data != NULL && fread(data, 1, (size_t)length, file) == (size_t)length) {
            data[length] = '\0';
            *bytes = (size_t)length;
        } else {
            free(data);
            data = NULL;
        }
    }
    (void)fclose(file);
    return data;
}

static inline void write_file(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

#endif
