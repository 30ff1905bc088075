/*
 * neon/quants_dotprod.c - products with rows of quants.h on CPUs with the dotprod extension; built
 * with that flag, alone.
 *
 * Owns: nothing but names. Refuses: all else (neon/quants.h).
 */
#include "kernels/neon/quants.h"

#define KERNELS_OF(name, type)                                                                     \
    FLIN_NEON_DOTS(name, type)                                                                     \
    FLIN_VIEW_KERNELS(dotprod, name, type)

FLIN_EACH_QUANT(KERNELS_OF);
