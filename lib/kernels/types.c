/*
 * types.c - the table of types: how many elements and bytes a block has, and the type's numbers.
 *
 * Owns: one row for each type, which is all that is said of it outside the kernels. Refuses: names
 * (model/gguf.c has those of all GGUF types, known here or not).
 */
#include "kernels/quants.h"

#include "flashinfer.h"

const flin_type_facts flin_types[FLIN_TYPES_KNOWN] = {
    [FLIN_F32] = {1, 4, 0, FLASHINFER_DTYPE_F32},
    [FLIN_F16] = {1, 2, 1, FLASHINFER_DTYPE_F16},
    [FLIN_BF16] = {1, 2, 30, FLASHINFER_DTYPE_BF16},
    [FLIN_Q8_0] = {32, FLIN_Q8_0_BYTES, 8, FLASHINFER_DTYPE_Q8_0},
    [FLIN_Q4_0] = {32, FLIN_Q4_0_BYTES, 2, FLASHINFER_DTYPE_Q4_0},
    [FLIN_Q4_0_APART] = {32, FLIN_Q4_0_BYTES, 2, 0}, /* in files it is Q4_0, which comes first */
#ifdef FLIN_HAVE_QUANTS
    [FLIN_Q4_1] = {32, FLIN_Q4_1_BYTES, 3, 0},
    [FLIN_Q5_0] = {32, FLIN_Q5_0_BYTES, 6, 0},
    [FLIN_Q5_1] = {32, FLIN_Q5_1_BYTES, 7, 0},
    [FLIN_Q2_K] = {256, FLIN_Q2_K_BYTES, 10, 0},
    [FLIN_Q3_K] = {256, FLIN_Q3_K_BYTES, 11, 0},
    [FLIN_Q4_K] = {256, FLIN_Q4_K_BYTES, 12, 0},
    [FLIN_Q5_K] = {256, FLIN_Q5_K_BYTES, 13, 0},
    [FLIN_Q6_K] = {256, FLIN_Q6_K_BYTES, 14, 0},
    [FLIN_IQ4_NL] = {32, FLIN_IQ4_NL_BYTES, 20, 0},
    [FLIN_IQ4_XS] = {256, FLIN_IQ4_XS_BYTES, 23, 0},
    [FLIN_MXFP4] = {32, FLIN_MXFP4_BYTES, 39, 0},
#endif
};
