/*
 * ahead.c - where the sides of a thread's part begin.
 */
#include "util/ahead.h"

#include <string.h>

void flin_asking_begin(flin_asking *asking, const flin_ahead *ahead, uint32_t begin, uint32_t end)
{
    memset(asking, 0, sizeof *asking);
    for (uint32_t i = 0, first = 0; i < FLIN_AHEAD_MATRICES && begin < end; i++) {
        const uint32_t last = first + ahead->rows[i] < end ? first + ahead->rows[i] : end;
        const uint32_t rounds = last > begin ? (last - begin + ahead->sides - 1) / ahead->sides : 0;

        if (rounds != 0 && begin >= first) {
            asking->sides = (last - begin + rounds - 1) / rounds;
            asking->side_bytes = rounds * ahead->row_bytes;
            asking->next = ahead->first[i] + (begin - first) * ahead->row_bytes;
            asking->left_bytes = FLIN_AHEAD_BYTES / ahead->sides;
            if (asking->left_bytes > asking->side_bytes) asking->left_bytes = asking->side_bytes;
            return;
        }
        first += ahead->rows[i];
    }
}
