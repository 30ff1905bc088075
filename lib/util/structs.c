/*
 * structs.c - size-first structs, so that callers compiled against another version of the header
 * keep working.
 */
#include "util/structs.h"

#include <string.h>

int flin_struct_accept(const void *user, void *own, size_t own_bytes, const char *name,
                       flashinfer_error *error)
{
    const unsigned char *bytes = user;
    uint32_t size;

    memcpy(&size, user, sizeof size);
    if (size < sizeof size)
        return flin_fail(error, FLASHINFER_EINVAL, "%s.size is %u: it must be sizeof(%s)", name,
                         size, name);
    for (size_t i = own_bytes; i < size; i++) {
        if (bytes[i] != 0)
            return flin_fail(error, FLASHINFER_EINVAL,
                             "%s has a field set at byte %zu that this version of the "
                             "library does not know; use a newer library or leave it zero",
                             name, i);
    }
    memcpy(own, user, size < own_bytes ? size : own_bytes);
    return 0;
}

int flin_struct_answer(void *user, const void *own, size_t own_bytes)
{
    uint32_t size;

    if (user == NULL) return FLASHINFER_EINVAL;
    memcpy(&size, user, sizeof size);
    if (size < sizeof size) return FLASHINFER_EINVAL;
    memcpy((char *)user + sizeof size, (const char *)own + sizeof size,
           (size < own_bytes ? size : own_bytes) - sizeof size);
    return 0;
}
