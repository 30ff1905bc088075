/*
 * apart.c - see apart.h.
 */
#include "kernels/apart.h"

#include <string.h>

static void span_apart(uint8_t *span, uint32_t count)
{
    uint8_t blocks[FLIN_APART_BYTES];

    memcpy(blocks, span, count * FLIN_Q4_0_BYTES);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(span + 2 * i, blocks + i * FLIN_Q4_0_BYTES, 2);
        memcpy(span + 2 * count + 16 * i, blocks + i * FLIN_Q4_0_BYTES + 2, 16);
    }
}

void flin_apart_rows(void *rows, uint32_t count, uint32_t cols)
{
    const uint32_t blocks = cols / FLIN_BLOCK;
    uint8_t *at = rows;

    for (uint32_t row = 0; row < count; row++)
        for (uint32_t first = 0; first < blocks; first += FLIN_APART_BLOCKS) {
            const uint32_t left = blocks - first;
            const uint32_t here = left < FLIN_APART_BLOCKS ? left : FLIN_APART_BLOCKS;
            span_apart(at, here);
            at += here * FLIN_Q4_0_BYTES;
        }
}
