/*
 * types.c - the table of types: how many elements and bytes a block has, and the type's numbers.
 *
 * Owns: one row for each type, which is all that is said of it outside the kernels. Refuses: names
 * (model/gguf.c has those of all GGUF types, known here or not).
 */
#include "kernels/kernels.h"

#include "flashinfer.h"

const flin_type_facts flin_types[FLIN_TYPES_KNOWN] = {
    [FLIN_F32] = {1, 4, 0, FLASHINFER_DTYPE_F32},
    [FLIN_F16] = {1, 2, 1, FLASHINFER_DTYPE_F16},
    [FLIN_BF16] = {1, 2, 30, FLASHINFER_DTYPE_BF16},
    [FLIN_Q8_0] = {32, FLIN_Q8_0_BYTES, 8, FLASHINFER_DTYPE_Q8_0},
    [FLIN_Q4_0] = {32, FLIN_Q4_0_BYTES, 2, FLASHINFER_DTYPE_Q4_0},
    [FLIN_Q4_0_APART] = {32, FLIN_Q4_0_BYTES, 2, 0}, /* in files it is Q4_0, which comes first */
};
