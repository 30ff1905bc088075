/*
 * gemm/blis.c - BLIS's micro-kernel for this CPU as a tile.
 *
 * Owns: asking BLIS. Refuses: BLIS's GEMM, its memory pools and threads; BLIS where it would end
 * the process: it aborts when the environment names an architecture it does not have.
 */
#define _POSIX_C_SOURCE 200809L /* blis.h asks for barriers of threads */
#include "kernels/gemm/gemm.h"

#include <stdlib.h>

#include <blis.h>

static void run(const flin_tile *tile, uint32_t depth, const float *w, const float *x, float *y,
                uint64_t stride, uint32_t row_count, uint32_t token_count, int add)
{
    cntx_t *context = (cntx_t *)(uintptr_t)tile->context;
    sgemm_ukr_ft kernel = (sgemm_ukr_ft)tile->inner;
    /* not written through: BLIS declares no parameter const */
    float one = 1.0f, first = add ? 1.0f : 0.0f;
    float *rows = (float *)(uintptr_t)w, *tokens = (float *)(uintptr_t)x;
    auxinfo_t next = {0};

    if (bli_cntx_l3_nat_ukr_prefers_rows_dt(BLIS_FLOAT, BLIS_GEMM_UKR, context)) {
        bli_auxinfo_set_next_ab(tokens, rows, &next);
        kernel(token_count, row_count, depth, &one, tokens, rows, &first, y, (inc_t)stride, 1,
               &next, context);
    } else {
        bli_auxinfo_set_next_ab(rows, tokens, &next);
        kernel(row_count, token_count, depth, &one, rows, tokens, &first, y, 1, (inc_t)stride,
               &next, context);
    }
}

int flin_tile_blis(flin_tile *tile)
{
    cntx_t *context;
    uint32_t m, n;
    int by_rows;

    if (getenv("BLIS_ARCH_TYPE") != NULL) return 0;
    bli_init(); /* before the context is asked for, or BLIS takes the CPU for a generic one */
    context = bli_gks_query_nat_cntx();
    m = (uint32_t)bli_cntx_get_blksz_def_dt(BLIS_FLOAT, BLIS_MR, context);
    n = (uint32_t)bli_cntx_get_blksz_def_dt(BLIS_FLOAT, BLIS_NR, context);
    by_rows = bli_cntx_l3_nat_ukr_prefers_rows_dt(BLIS_FLOAT, BLIS_GEMM_UKR, context);
    tile->name = "blis";
    tile->rows = by_rows ? n : m;
    tile->tokens = by_rows ? m : n;
    if (tile->rows % 4 != 0 || tile->tokens > 64) return 0; /* not what gemm.c packs */
    tile->run = run;
    tile->context = context;
    tile->inner = (void (*)(void))bli_cntx_get_l3_nat_ukr_dt(BLIS_FLOAT, BLIS_GEMM_UKR, context);
    return 1;
}
