/*
 * json.c - reads and checks the text files of a checkpoint; cJSON does the parsing.
 *
 * cJSON ends strings at the first NUL and takes any bytes for text, so both are refused before it
 * sees them: what arrives in a model file is whole and valid UTF-8.
 */
#define _GNU_SOURCE
#include "pack/json.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/utf8.h"

int flin_checkpoint_open(int directory, const char *name, int required, int *fd,
                         flashinfer_error *error)
{
    struct stat status;

    /* without O_NONBLOCK a named pipe would wait for its writer */
    *fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) {
        if (errno == ENOENT && !required) return 0;
        if (errno == ENOENT)
            return flin_fail_errno(error, FLASHINFER_ECHECKPOINT, errno, "the checkpoint has no %s",
                                   name);
        return flin_fail_errno(error, FLASHINFER_EIO, errno, "cannot open %s of the checkpoint",
                               name);
    }
    if (fstat(*fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        (void)close(*fd);
        *fd = -1;
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "%s of the checkpoint is not a regular file", name);
    }
    return 0;
}

int flin_text_check(const char *text, size_t bytes, const char *what, flashinfer_error *error)
{
    flin_utf8 next;

    for (size_t i = 0; i < bytes; i += next.bytes) {
        next = flin_utf8_read((const uint8_t *)text + i, bytes - i);
        if (next.kind != FLIN_UTF8_CHARACTER || next.code == 0)
            return flin_fail_at(error, FLASHINFER_ECHECKPOINT, -1, -1, (int64_t)i,
                                "%s is not UTF-8 text (byte %llu)", what, (unsigned long long)i);
    }
    return 0;
}

static int read_whole(int fd, char *text, size_t bytes, const char *name, flashinfer_error *error)
{
    size_t done = 0;

    while (done < bytes) {
        ssize_t got = pread(fd, text + done, bytes - done, (off_t)done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return flin_fail_errno(error, FLASHINFER_EIO, errno, "cannot read %s of the checkpoint",
                                   name);
        if (got == 0)
            return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s shrank while it was read", name);
        done += (size_t)got;
    }
    return 0;
}

int flin_bytes_load(int directory, const char *name, int required, char **text, size_t *bytes,
                    flashinfer_error *error)
{
    struct stat status;
    int fd;
    int code = flin_checkpoint_open(directory, name, required, &fd, error);

    *text = NULL;
    *bytes = 0;
    if (code != 0 || fd < 0) return code;
    if (fstat(fd, &status) != 0) {
        code =
            flin_fail_errno(error, FLASHINFER_EIO, errno, "cannot read %s of the checkpoint", name);
    } else if (status.st_size < 0 || status.st_size > (off_t)FLIN_JSON_BYTES_MAX) {
        code = flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "%s of the checkpoint is %lld bytes long; at most %u are read", name,
                         (long long)status.st_size, FLIN_JSON_BYTES_MAX);
    } else {
        *bytes = (size_t)status.st_size;
        *text = malloc(*bytes + 1);
        if (*text == NULL) {
            code = flin_fail(error, FLASHINFER_ENOMEM, "no memory for %s of the checkpoint", name);
        } else {
            (*text)[*bytes] = '\0';
            code = read_whole(fd, *text, *bytes, name, error);
        }
    }
    (void)close(fd);
    if (code != 0) {
        free(*text);
        *text = NULL;
    }
    return code;
}

int flin_text_load(int directory, const char *name, int required, char **text, size_t *bytes,
                   flashinfer_error *error)
{
    int code = flin_bytes_load(directory, name, required, text, bytes, error);

    if (code == 0 && *text != NULL) code = flin_text_check(*text, *bytes, name, error);
    if (code != 0) {
        free(*text);
        *text = NULL;
    }
    return code;
}

/* Is there an escape \u0000? Backslashes only occur in strings, always followed by one character or
 * u and digits. */
static int holds_escaped_nul(const char *text, size_t bytes)
{
    const char *end = text + bytes;
    const char *at = text;

    while ((at = memchr(at, '\\', (size_t)(end - at))) != NULL) {
        if (end - at >= 6 && memcmp(at, "\\u0000", 6) == 0) return 1;
        at += end - at >= 2 ? 2 : 1;
    }
    return 0;
}

int flin_json_parse(const char *text, size_t bytes, const char *what, cJSON **json,
                    flashinfer_error *error)
{
    const char *stopped = text;
    int code = flin_text_check(text, bytes, what, error);

    *json = NULL;
    if (code != 0) return code;
    if (holds_escaped_nul(text, bytes))
        return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s holds the character U+0000", what);
    *json = cJSON_ParseWithLengthOpts(text, bytes + 1, &stopped, 1);
    if (*json != NULL) return 0;
    return flin_fail_at(error, FLASHINFER_ECHECKPOINT, -1, -1, stopped - text,
                        "%s is not valid JSON or nested too deep, or memory ran out (byte %lld)",
                        what, (long long)(stopped - text));
}

static int is_word(char at)
{
    return (at >= 'a' && at <= 'z') || (at >= 'A' && at <= 'Z') || (at >= '0' && at <= '9') ||
           at == '_' || at == '.' || at == '+' || at == '-';
}

/* Bytes of a number that is none, as Python writes them and JSON has not; 0: something else. */
static size_t not_a_number(const char *at)
{
    static const char *const names[] = {"NaN", "Infinity", "-Infinity"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t bytes = strlen(names[i]);
        if (strncmp(at, names[i], bytes) == 0 && !is_word(at[bytes])) return bytes;
    }
    return 0;
}

/* They become empty objects of the same length: nothing where their key is not read, and no number
   where it is. text: zero-terminated. */
static void hide_not_numbers(char *text)
{
    int quoted = 0;

    for (char *at = text; *at != '\0'; at++) {
        size_t bytes;
        if (quoted && *at == '\\' && at[1] != '\0')
            at++;
        else if (*at == '"')
            quoted = !quoted;
        else if (!quoted && (at == text || !is_word(at[-1])) && (bytes = not_a_number(at)) != 0) {
            memset(at, ' ', bytes);
            at[0] = '{';
            at[1] = '}';
            at += bytes - 1;
        }
    }
}

int flin_json_load(int directory, const char *name, int required, cJSON **json,
                   flashinfer_error *error)
{
    char *text;
    size_t bytes;
    int code = flin_text_load(directory, name, required, &text, &bytes, error);

    *json = NULL;
    if (code != 0 || text == NULL) return code;
    hide_not_numbers(text);
    code = flin_json_parse(text, bytes, name, json, error);
    free(text);
    return code;
}

int flin_json_integer(const cJSON *item, uint64_t maximum, uint64_t *value)
{
    double number;

    if (!cJSON_IsNumber(item)) return 0;
    number = item->valuedouble;
    /* above 2^53 doubles skip integers; no length or count comes near */
    if (!(number >= 0 && number <= 0x1p53) || number != floor(number)) return 0;
    if ((uint64_t)number > maximum) return 0;
    *value = (uint64_t)number;
    return 1;
}

int flin_json_u32(const cJSON *object, const char *file, const char *key, uint32_t minimum,
                  uint32_t maximum, const uint32_t *absent, uint32_t *value,
                  flashinfer_error *error)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    uint64_t number;

    if (absent != NULL && (item == NULL || cJSON_IsNull(item))) {
        *value = *absent;
        return 0;
    }
    if (item == NULL)
        return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s has no \"%s\"", file, key);
    if (!flin_json_integer(item, maximum, &number) || number < minimum) {
        if (cJSON_IsNumber(item))
            return flin_fail(error, FLASHINFER_ECHECKPOINT,
                             "%s: \"%s\" is %g; it must be a whole number from %u to %u", file, key,
                             item->valuedouble, minimum, maximum);
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "%s: \"%s\" must be a whole number from %u to %u", file, key, minimum,
                         maximum);
    }
    *value = (uint32_t)number;
    return 0;
}

int flin_json_flag(const cJSON *object, const char *file, const char *key, int absent, int *value,
                   flashinfer_error *error)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    *value = absent;
    if (item == NULL || cJSON_IsNull(item)) return 0;
    if (!cJSON_IsBool(item))
        return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s: \"%s\" must be true or false", file,
                         key);
    *value = cJSON_IsTrue(item);
    return 0;
}

int flin_json_is_plain(const char *text)
{
    for (const char *at = text; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f) return 0;
    return text[0] != '\0';
}

const char *flin_json_text(const cJSON *object, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}
