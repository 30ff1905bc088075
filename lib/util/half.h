/*
 * half.h - float16 and bfloat16 scalars in plain C (round to nearest even), the reference for every
 * conversion.
 */
#ifndef FLIN_UTIL_HALF_H
#define FLIN_UTIL_HALF_H

#include <stdint.h>
#include <string.h>

static inline float flin_float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t flin_bits_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float flin_float_from_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 31u;
    uint32_t fraction = half & 1023u;

    if (exponent == 31) return flin_float_from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0) return flin_float_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    /* subnormal: fraction * 2^-24 is exact in float */
    return flin_float_from_bits(sign | flin_bits_from_float((float)fraction * 0x1p-24f));
}

static inline uint16_t flin_half_from_float(float value)
{
    uint32_t bits = flin_bits_from_float(value);
    uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;

    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu)); /* NaN stays quiet */
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);    /* rounds to infinity */
    if (magnitude < 0x38800000u) {
        /* subnormal: adding 0.5 lets the float adder round at bit 2^-24 */
        uint32_t rounded =
            flin_bits_from_float(flin_float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
        return (uint16_t)(sign | rounded);
    }
    magnitude += 0xfffu + (magnitude >> 13 & 1u); /* to nearest, ties to even */
    return (uint16_t)(sign | (magnitude - 0x38000000u) >> 13);
}

static inline float flin_float_from_bfloat(uint16_t bfloat)
{
    return flin_float_from_bits((uint32_t)bfloat << 16);
}

static inline uint16_t flin_bfloat_from_float(float value)
{
    uint32_t bits = flin_bits_from_float(value);

    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#endif
