/*
 * ahead.h - asking memory for what will be read next, while there is nothing else to do.
 *
 * Owns: walking over the beginning of a part in the order in which kernels read it. Refuses:
 * reading (bytes are only asked for, so nothing depends on it), deciding who reads which part.
 */
#ifndef FLIN_UTIL_AHEAD_H
#define FLIN_UTIL_AHEAD_H

#include <stdint.h>

#define FLIN_AHEAD_MATRICES 3u
#define FLIN_AHEAD_SIDES_MAX 8u
/* At most asked for by a thread: its own cache holds them, and a pause is seldom long enough for
   more. */
#define FLIN_AHEAD_BYTES (256u * 1024u)

/* Matrices of equally long rows, one below the other, which flin_pool_split() will share out.
   Each thread reads its part of one as `sides` runs of rows side by side. A zeroed one says
   nothing. */
typedef struct flin_ahead {
    const uint8_t *first[FLIN_AHEAD_MATRICES]; /* NULL: no such matrix */
    uint32_t rows[FLIN_AHEAD_MATRICES];
    uint32_t grain; /* rows: where parts may be cut */
    uint32_t sides; /* 1 to FLIN_AHEAD_SIDES_MAX */
    uint64_t row_bytes;
} flin_ahead;

/* What is left to be asked for. A zeroed one has nothing. */
typedef struct flin_asking {
    const uint8_t *next; /* of the first side */
    uint64_t side_bytes; /* from one side to the next */
    uint64_t left_bytes; /* of each side */
    uint32_t sides;
} flin_asking;

static inline uint32_t flin_ahead_rows(const flin_ahead *ahead)
{
    return ahead->rows[0] + ahead->rows[1] + ahead->rows[2];
}

/* Rows [begin, end) of all matrices: the beginning of those in the first matrix that has any. */
void flin_asking_begin(flin_asking *asking, const flin_ahead *ahead, uint32_t begin, uint32_t end);

/* Ask for a line of every side. 0: nothing is left. */
static inline int flin_ask(flin_asking *asking)
{
    if (asking->left_bytes == 0) return 0;
    for (uint32_t side = 0; side < asking->sides; side++)
        __builtin_prefetch(asking->next + side * asking->side_bytes, 0, 2);
    asking->next += 64;
    asking->left_bytes = asking->left_bytes > 64 ? asking->left_bytes - 64 : 0;
    return 1;
}

#endif
