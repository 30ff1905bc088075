/*
 * source.c - shapes and places of elements as text.
 */
#include "pack/source.h"

#include <stdio.h>
#include <string.h>

void flin_source_shape(const flin_source_tensor *tensor, char *text, size_t capacity)
{
    size_t used = 0;

    if (tensor->dimension_count > FLIN_SOURCE_DIMENSIONS_MAX) {
        (void)snprintf(text, capacity, "more than %u dimensions", FLIN_SOURCE_DIMENSIONS_MAX);
        return;
    }
    (void)snprintf(text, capacity, "[");
    for (uint32_t i = 0; i < tensor->dimension_count; i++) {
        used = strlen(text);
        (void)snprintf(text + used, capacity - used, "%s%llu", i == 0 ? "" : ", ",
                       (unsigned long long)tensor->dimensions[i]);
    }
    used = strlen(text);
    (void)snprintf(text + used, capacity - used, "]");
}

void flin_source_element(const flin_source_tensor *tensor, uint64_t index, char *text,
                         size_t capacity)
{
    flin_source_tensor place = *tensor;

    for (uint32_t i = tensor->dimension_count; i-- > 0;) {
        place.dimensions[i] = index % tensor->dimensions[i];
        index /= tensor->dimensions[i];
    }
    flin_source_shape(&place, text, capacity);
}
