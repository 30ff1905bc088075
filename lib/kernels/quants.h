/*
 * quants.h - GGUF's block types beside Q8_0 and Q4_0, as files of others have them: what ref and
 * the overlays share of them. In the build with -Dquants=enabled.
 *
 * Owns: where things lie in a block, sub-scales that are packed in odd bits, the tables of IQ4 and
 * MXFP4, the list of these types. Refuses: making such blocks; sums of their rows (add_rows), for
 * no bundle has these types.
 *
 * Every element is scale * level - less, where a level is a small integer and each 32 or 16
 * elements have their own scale and less, as floats without an error. So a dot product is an exact
 * integer sum of levels of both sides for each 32 or 16 elements, like Q8_0's, and for types with
 * less a second one of the input's levels alone.
 */
#ifndef FLIN_KERNELS_QUANTS_H
#define FLIN_KERNELS_QUANTS_H

#include <string.h>

#include "kernels/kernels.h"
#include "util/half.h"

/* The types, for functions that differ by type alone: (name, type). */
#define FLIN_EACH_QUANT(each)                                                                      \
    each(q4_1, FLIN_Q4_1);                                                                         \
    each(q5_0, FLIN_Q5_0);                                                                         \
    each(q5_1, FLIN_Q5_1);                                                                         \
    each(q2_k, FLIN_Q2_K);                                                                         \
    each(q3_k, FLIN_Q3_K);                                                                         \
    each(q4_k, FLIN_Q4_K);                                                                         \
    each(q5_k, FLIN_Q5_K);                                                                         \
    each(q6_k, FLIN_Q6_K);                                                                         \
    each(iq4_nl, FLIN_IQ4_NL);                                                                     \
    each(iq4_xs, FLIN_IQ4_XS);                                                                     \
    each(mxfp4, FLIN_MXFP4)

/* Their kernels in a table, which are called kernel_NAME. */
#ifdef FLIN_HAVE_QUANTS
#define FLIN_QUANTS(kernel)                                                                        \
    [FLIN_Q4_1] = kernel##_q4_1, [FLIN_Q5_0] = kernel##_q5_0, [FLIN_Q5_1] = kernel##_q5_1,         \
    [FLIN_Q2_K] = kernel##_q2_k, [FLIN_Q3_K] = kernel##_q3_k, [FLIN_Q4_K] = kernel##_q4_k,         \
    [FLIN_Q5_K] = kernel##_q5_k, [FLIN_Q6_K] = kernel##_q6_k, [FLIN_IQ4_NL] = kernel##_iq4_nl,     \
    [FLIN_IQ4_XS] = kernel##_iq4_xs, [FLIN_MXFP4] = kernel##_mxfp4
#else
#define FLIN_QUANTS(kernel)
#endif

/* Declarations of those four of one overlay: flin_OVERLAY_KERNEL_NAME */
#define FLIN_QUANT_KERNELS(overlay, name)                                                          \
    void flin_##overlay##_matvec_##name(const void *w, uint32_t rows, uint32_t cols,               \
                                        const void *x, const float *bias, float *y);               \
    void flin_##overlay##_matvecs_##name(const void *w, uint32_t rows, uint32_t cols,              \
                                         const void *const *x, uint32_t inputs, const float *bias, \
                                         float *const *y);                                         \
    void flin_##overlay##_dot_rows_##name(const void *const *rows, uint32_t count, uint32_t cols,  \
                                          const void *x, float *y)
#define FLIN_QUANT_TO_FLOAT(overlay, name)                                                         \
    void flin_##overlay##_to_float_##name(const void *row, uint32_t cols, float *to)

/* Of a block. */
enum {
    FLIN_Q4_1_BYTES = 20,
    FLIN_Q5_0_BYTES = 22,
    FLIN_Q5_1_BYTES = 24,
    FLIN_Q2_K_BYTES = 84,
    FLIN_Q3_K_BYTES = 110,
    FLIN_Q4_K_BYTES = 144,
    FLIN_Q5_K_BYTES = 176,
    FLIN_Q6_K_BYTES = 210,
    FLIN_IQ4_NL_BYTES = 18,
    FLIN_IQ4_XS_BYTES = 136,
    FLIN_MXFP4_BYTES = 17
};

/* Where the parts of a block lie, in bytes; scale and less are float16. */
enum {
    FLIN_Q4_1_LESS = 2,
    FLIN_Q4_1_LEVELS = 4,
    FLIN_Q5_0_FIFTH = 2, /* 32 bits, element by element */
    FLIN_Q5_0_LEVELS = 6,
    FLIN_Q5_1_FIFTH = 4,
    FLIN_Q5_1_LEVELS = 8,
    FLIN_Q2_K_LEVELS = 16, /* behind the 16 sub-scales */
    FLIN_Q2_K_SCALE = 80,
    FLIN_Q2_K_LESS = 82,
    FLIN_Q3_K_LEVELS = 32, /* behind a third bit of each element */
    FLIN_Q3_K_SUBS = 96,
    FLIN_Q3_K_SCALE = 108,
    FLIN_Q4_K_LESS = 2,
    FLIN_Q4_K_SUBS = 4,
    FLIN_Q4_K_LEVELS = 16,
    FLIN_Q5_K_FIFTH = 16,
    FLIN_Q5_K_LEVELS = 48,
    FLIN_Q6_K_UPPER = 128, /* behind the lower four bits */
    FLIN_Q6_K_SUBS = 192,
    FLIN_Q6_K_SCALE = 208,
    FLIN_IQ4_NL_LEVELS = 2,
    FLIN_IQ4_XS_UPPER = 2, /* of sub-scales */
    FLIN_IQ4_XS_LOWER = 4,
    FLIN_IQ4_XS_LEVELS = 8,
    FLIN_MXFP4_LEVELS = 1
};

/* A block of 256 elements? Else of 32, whose four-bit levels come last: 16 bytes. */
static inline int flin_quants_super(enum flin_type type)
{
    return (type >= FLIN_Q2_K && type <= FLIN_Q6_K) || type == FLIN_IQ4_XS;
}

static inline uint32_t flin_quants_levels_at(enum flin_type type)
{
    if (type == FLIN_Q4_1) return FLIN_Q4_1_LEVELS;
    if (type == FLIN_Q5_0) return FLIN_Q5_0_LEVELS;
    if (type == FLIN_Q5_1) return FLIN_Q5_1_LEVELS;
    return type == FLIN_MXFP4 ? FLIN_MXFP4_LEVELS : FLIN_IQ4_NL_LEVELS;
}

/* Of 256 elements: one block or eight. A number where the type is one. */
static inline uint64_t flin_quants_unit_bytes(enum flin_type type)
{
    if (type == FLIN_Q2_K) return FLIN_Q2_K_BYTES;
    if (type == FLIN_Q3_K) return FLIN_Q3_K_BYTES;
    if (type == FLIN_Q4_K) return FLIN_Q4_K_BYTES;
    if (type == FLIN_Q5_K) return FLIN_Q5_K_BYTES;
    if (type == FLIN_Q6_K) return FLIN_Q6_K_BYTES;
    if (type == FLIN_IQ4_XS) return FLIN_IQ4_XS_BYTES;
    return 8 * (flin_quants_levels_at(type) + 16);
}

/* Every 16 elements have a scale of their own? Else every 32. */
static inline int flin_quants_halved(enum flin_type type)
{
    return type == FLIN_Q2_K || type == FLIN_Q3_K || type == FLIN_Q6_K;
}

/* Something is taken off? */
static inline int flin_quants_less(enum flin_type type)
{
    return type == FLIN_Q4_1 || type == FLIN_Q5_1 || type == FLIN_Q2_K || type == FLIN_Q4_K ||
           type == FLIN_Q5_K;
}

/* How much larger than levels the bytes are that instructions for unsigned ones take. */
static inline int flin_quants_bias(enum flin_type type)
{
    if (type == FLIN_Q3_K) return 4;
    if (type == FLIN_Q6_K) return 32;
    if (type == FLIN_Q5_0 || type == FLIN_MXFP4) return 16;
    return type == FLIN_IQ4_NL || type == FLIN_IQ4_XS ? 128 : 0;
}

static inline uint32_t flin_quants_u32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof value);
    return value;
}

/* Little-endian bytes in two halves. */
typedef struct flin_sixteen {
    uint64_t low, high;
} flin_sixteen;

static inline uint64_t flin_quants_join(uint32_t low, uint32_t high)
{
    return low | (uint64_t)high << 32;
}

/* Q4_K and Q5_K: eight sub-scales, then eight of less, from 12 bytes. */
static inline flin_sixteen flin_q4_k_subs(const uint8_t *subs)
{
    const uint32_t scales = flin_quants_u32(subs), less = flin_quants_u32(subs + 4);
    const uint32_t rest = flin_quants_u32(subs + 8);

    return (flin_sixteen){
        flin_quants_join(scales & 0x3f3f3f3fu, (rest & 0x0f0f0f0fu) | (scales >> 2 & 0x30303030u)),
        flin_quants_join(less & 0x3f3f3f3fu,
                         (rest >> 4 & 0x0f0f0f0fu) | (less >> 2 & 0x30303030u))};
}

/* Q3_K: 16 sub-scales, 32 too much, from 12 bytes. */
static inline flin_sixteen flin_q3_k_subs(const uint8_t *subs)
{
    const uint32_t a = flin_quants_u32(subs), b = flin_quants_u32(subs + 4);
    const uint32_t upper = flin_quants_u32(subs + 8), four = 0x0f0f0f0fu, two = 0x30303030u;

    return (flin_sixteen){
        flin_quants_join((a & four) | (upper << 4 & two), (b & four) | (upper << 2 & two)),
        flin_quants_join((a >> 4 & four) | (upper & two), (b >> 4 & four) | (upper >> 2 & two))};
}

/* IQ4_XS: eight sub-scales, 32 too much. */
static inline uint64_t flin_iq4_xs_subs(const uint8_t *block)
{
    const uint32_t lower = flin_quants_u32(block + FLIN_IQ4_XS_LOWER);
    const uint32_t upper = block[FLIN_IQ4_XS_UPPER] | (uint32_t)block[FLIN_IQ4_XS_UPPER + 1] << 8;
    uint64_t subs = 0;

    for (uint32_t i = 0; i < 8; i++)
        subs |= (uint64_t)((lower >> 4 * i & 15u) | (upper >> 2 * i & 3u) << 4) << 8 * i;
    return subs;
}

/* MXFP4: half of 2 to the power of a byte less 127, because its levels are doubled. */
static inline float flin_mxfp4_scale(uint8_t byte)
{
    return flin_float_from_bits(byte < 2 ? 0x200000u << byte : (uint32_t)(byte - 1) << 23);
}

#define FLIN_IQ4_VALUES -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
#define FLIN_MXFP4_VALUES 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12

#endif
