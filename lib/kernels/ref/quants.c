/*
 * ref/quants.c - GGUF's block types beside Q8_0 and Q4_0 in plain C.
 *
 * Owns: what those blocks mean, bit by bit. Refuses: speed.
 *
 * Rows go 32 elements at a time, as the input's levels do. Two integer sums of 16 elements are
 * exact; each is multiplied with its scale and the input's, less is taken off, and added to one of
 * LANES partial sums, which are folded as in ref/blocks.c.
 */
#include "kernels/quants.h"

#include "kernels/ref/shared.h"

#define LANES 8u
#define BLOCK FLIN_BLOCK

/* 32 elements: element i is scale[i / 16] * level[i] - less[i / 16]. */
typedef struct piece {
    int8_t level[BLOCK];
    float scale[2], less[2];
} piece;

static float half_at(const uint8_t *at)
{
    uint16_t half;

    memcpy(&half, at, sizeof half);
    return flin_float_from_half(half);
}

static void set_scale(piece *to, float scale, float less)
{
    to->scale[0] = to->scale[1] = scale;
    to->less[0] = to->less[1] = less;
}

static uint32_t byte_of(flin_sixteen bytes, uint32_t i)
{
    return (uint32_t)((i < 8 ? bytes.low : bytes.high) >> 8 * (i % 8)) & 255u;
}

/* The low halves of 16 bytes, then the high ones. */
static uint32_t nibble(const uint8_t *bytes, uint32_t i)
{
    return i < 16 ? bytes[i] & 15u : bytes[i - 16] >> 4;
}

/* Piece b of a block: b is 0 of types with blocks of 32. */
typedef void unpack(const uint8_t *block, uint32_t b, piece *to);

static void unpack_q4_1(const uint8_t *block, uint32_t b, piece *to)
{
    (void)b;
    set_scale(to, half_at(block), -half_at(block + FLIN_Q4_1_LESS));
    for (uint32_t i = 0; i < BLOCK; i++) to->level[i] = (int8_t)nibble(block + FLIN_Q4_1_LEVELS, i);
}

static void unpack_q5_0(const uint8_t *block, uint32_t b, piece *to)
{
    const uint32_t fifth = flin_quants_u32(block + FLIN_Q5_0_FIFTH);

    (void)b;
    set_scale(to, half_at(block), 0);
    for (uint32_t i = 0; i < BLOCK; i++)
        to->level[i] =
            (int8_t)((int)(nibble(block + FLIN_Q5_0_LEVELS, i) | (fifth >> i & 1u) << 4) - 16);
}

static void unpack_q5_1(const uint8_t *block, uint32_t b, piece *to)
{
    const uint32_t fifth = flin_quants_u32(block + FLIN_Q5_1_FIFTH);

    (void)b;
    set_scale(to, half_at(block), -half_at(block + FLIN_Q4_1_LESS));
    for (uint32_t i = 0; i < BLOCK; i++)
        to->level[i] = (int8_t)(nibble(block + FLIN_Q5_1_LEVELS, i) | (fifth >> i & 1u) << 4);
}

/* Four pieces share 32 bytes, two bits of each. */
static void unpack_q2_k(const uint8_t *block, uint32_t b, piece *to)
{
    const float scale = half_at(block + FLIN_Q2_K_SCALE), less = half_at(block + FLIN_Q2_K_LESS);
    const uint8_t *levels = block + FLIN_Q2_K_LEVELS + b / 4 * BLOCK;

    for (uint32_t h = 0; h < 2; h++) {
        to->scale[h] = scale * (float)(block[2 * b + h] & 15u);
        to->less[h] = less * (float)(block[2 * b + h] >> 4);
    }
    for (uint32_t i = 0; i < BLOCK; i++) to->level[i] = (int8_t)(levels[i] >> 2 * (b % 4) & 3u);
}

/* The same, and a third bit: byte i of the first 32 has it for element i of all eight pieces. */
static void unpack_q3_k(const uint8_t *block, uint32_t b, piece *to)
{
    const float scale = half_at(block + FLIN_Q3_K_SCALE);
    const flin_sixteen subs = flin_q3_k_subs(block + FLIN_Q3_K_SUBS);
    const uint8_t *levels = block + FLIN_Q3_K_LEVELS + b / 4 * BLOCK;

    set_scale(to, 0, 0);
    for (uint32_t h = 0; h < 2; h++)
        to->scale[h] = scale * (float)((int)byte_of(subs, 2 * b + h) - 32);
    for (uint32_t i = 0; i < BLOCK; i++)
        to->level[i] =
            (int8_t)((int)((levels[i] >> 2 * (b % 4) & 3u) | (block[i] >> b & 1u) << 2) - 4);
}

/* Two pieces share 32 bytes. subs: at the same place in both types */
static void set_subs(const uint8_t *block, uint32_t b, piece *to)
{
    const flin_sixteen subs = flin_q4_k_subs(block + FLIN_Q4_K_SUBS);

    set_scale(to, half_at(block) * (float)byte_of(subs, b),
              half_at(block + FLIN_Q4_K_LESS) * (float)byte_of(subs, 8 + b));
}

static void unpack_q4_k(const uint8_t *block, uint32_t b, piece *to)
{
    const uint8_t *levels = block + FLIN_Q4_K_LEVELS + b / 2 * BLOCK;

    set_subs(block, b, to);
    for (uint32_t i = 0; i < BLOCK; i++) to->level[i] = (int8_t)(levels[i] >> 4 * (b % 2) & 15u);
}

/* And a fifth bit of element i of all eight pieces in a byte. */
static void unpack_q5_k(const uint8_t *block, uint32_t b, piece *to)
{
    const uint8_t *levels = block + FLIN_Q5_K_LEVELS + b / 2 * BLOCK;
    const uint8_t *fifth = block + FLIN_Q5_K_FIFTH;

    set_subs(block, b, to);
    for (uint32_t i = 0; i < BLOCK; i++)
        to->level[i] =
            (int8_t)((levels[i] >> 4 * (b % 2) & 15u) | (uint32_t)(fifth[i] >> b & 1) << 4);
}

/* Each half of a block: 64 bytes with lower bits, of pieces 0 and 1 in the low, 2 and 3 in the high
   halves, and 32 bytes with the upper two bits of all four. */
static void unpack_q6_k(const uint8_t *block, uint32_t b, piece *to)
{
    const float scale = half_at(block + FLIN_Q6_K_SCALE);
    const uint8_t *lower = block + b / 4 * 64 + b % 2 * BLOCK;
    const uint8_t *upper = block + FLIN_Q6_K_UPPER + b / 4 * BLOCK;

    set_scale(to, 0, 0);
    for (uint32_t h = 0; h < 2; h++)
        to->scale[h] = scale * (float)(int8_t)block[FLIN_Q6_K_SUBS + 2 * b + h];
    for (uint32_t i = 0; i < BLOCK; i++)
        to->level[i] =
            (int8_t)((int)((lower[i] >> b % 4 / 2 * 4 & 15u) | (upper[i] >> b % 4 * 2 & 3u) << 4) -
                     32);
}

static const int8_t iq4_values[] = {FLIN_IQ4_VALUES}, mxfp4_values[] = {FLIN_MXFP4_VALUES};

static void unpack_iq4_nl(const uint8_t *block, uint32_t b, piece *to)
{
    (void)b;
    set_scale(to, half_at(block), 0);
    for (uint32_t i = 0; i < BLOCK; i++)
        to->level[i] = iq4_values[nibble(block + FLIN_IQ4_NL_LEVELS, i)];
}

static void unpack_iq4_xs(const uint8_t *block, uint32_t b, piece *to)
{
    const int sub = (int)(flin_iq4_xs_subs(block) >> 8 * b & 255u) - 32;

    set_scale(to, half_at(block) * (float)sub, 0);
    for (uint32_t i = 0; i < BLOCK; i++)
        to->level[i] = iq4_values[nibble(block + FLIN_IQ4_XS_LEVELS + 16 * b, i)];
}

static void unpack_mxfp4(const uint8_t *block, uint32_t b, piece *to)
{
    (void)b;
    set_scale(to, flin_mxfp4_scale(*block), 0);
    for (uint32_t i = 0; i < BLOCK; i++)
        to->level[i] = mxfp4_values[nibble(block + FLIN_MXFP4_LEVELS, i)];
}

static unpack *const unpack_of[FLIN_TYPES_KNOWN] = {FLIN_QUANTS(unpack)};

/* 32 elements from the c-th of a row on. */
static void piece_at(const void *row, uint32_t c, enum flin_type type, piece *to)
{
    const uint32_t within = c % flin_types[type].elements;

    unpack_of[type]((const uint8_t *)row + flin_type_bytes(type, c - within), within / BLOCK, to);
}

static void to_float(const void *row, uint32_t cols, float *to, enum flin_type type)
{
    piece at;

    for (uint32_t c = 0; c < cols; c += BLOCK) {
        piece_at(row, c, type, &at);
        for (uint32_t i = 0; i < BLOCK; i++)
            to[c + i] = at.scale[i / 16] * (float)at.level[i] - at.less[i / 16];
    }
}

/* Half h of a piece times 16 levels of x. */
static float multiply(const piece *w, uint32_t h, const int16_t *level, float scale)
{
    int32_t product = 0, sum = 0;

    for (uint32_t i = 0; i < 16; i++) {
        product += w->level[16 * h + i] * level[i];
        sum += level[i];
    }
    return w->scale[h] * scale * (float)product - w->less[h] * scale * (float)sum;
}

static float dot(const void *row, uint32_t cols, const void *levels, enum flin_type type)
{
    const int16_t *level = levels;
    const float *scales = (const float *)(level + cols); /* behind them: ref/blocks.c */
    float lane[LANES] = {0}, a, b;
    piece at;

    for (uint32_t c = 0; c < cols; c += BLOCK) {
        piece_at(row, c, type, &at);
        for (uint32_t h = 0; h < 2; h++)
            lane[c / BLOCK % LANES] += multiply(&at, h, level + c + 16 * h, scales[c / BLOCK]);
    }
    a = (lane[0] + lane[4]) + (lane[1] + lane[5]);
    b = (lane[2] + lane[6]) + (lane[3] + lane[7]);
    return a + b;
}

static void matvec(const void *w, uint32_t rows, uint32_t cols, const void *x, const float *bias,
                   float *y, enum flin_type type)
{
    const uint8_t *row = w;

    for (uint32_t r = 0; r < rows; r++, row += flin_type_bytes(type, cols)) {
        y[r] = dot(row, cols, x, type);
        if (bias != NULL) y[r] += bias[r];
    }
}

#define KERNELS_OF(name, type)                                                                     \
    void flin_ref_matvec_##name(const void *w, uint32_t rows, uint32_t cols, const void *x,        \
                                const float *bias, float *y)                                       \
    {                                                                                              \
        matvec(w, rows, cols, x, bias, y, type);                                                   \
    }                                                                                              \
    void flin_ref_matvecs_##name(const void *w, uint32_t rows, uint32_t cols,                      \
                                 const void *const *x, uint32_t inputs, const float *bias,         \
                                 float *const *y)                                                  \
    {                                                                                              \
        for (uint32_t i = 0; i < inputs; i++) matvec(w, rows, cols, x[i], bias, y[i], type);       \
    }                                                                                              \
    void flin_ref_dot_rows_##name(const void *const *rows, uint32_t count, uint32_t cols,          \
                                  const void *x, float *y)                                         \
    {                                                                                              \
        for (uint32_t i = 0; i < count; i++) y[i] = dot(rows[i], cols, x, type);                   \
    }                                                                                              \
    void flin_ref_to_float_##name(const void *row, uint32_t cols, float *to)                       \
    {                                                                                              \
        to_float(row, cols, to, type);                                                             \
    }                                                                                              \
    _Static_assert(type < FLIN_TYPES_KNOWN, #name)

FLIN_EACH_QUANT(KERNELS_OF);
