/*
 * choose.c - which table of kernels this CPU and operating system can run.
 *
 * Owns: the question "may these instructions be used here". Refuses: remembering the answer; asking
 * is cheap and a model asks once. The build defines FLIN_HAVE_... for every overlay it compiles, so
 * no architecture is named here except where the CPU itself is asked.
 */
#include "kernels/kernels.h"

#include "flashinfer.h"

#if defined(FLIN_HAVE_AVX2) || defined(FLIN_HAVE_AVX512)
#include <cpuid.h>

/* Half precision conversion has no name in __builtin_cpu_supports() of every compiler. */
static int has_f16c(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

#ifdef FLIN_HAVE_NEON
#ifdef __linux__
#include <sys/auxv.h>
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1ul << 20) /* kernel ABI */
#endif
#endif

static int has_dotprod(void)
{
#ifdef __ARM_FEATURE_DOTPROD /* every CPU that this build is for has it */
    return 1;
#elif defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return 0;
#endif
}
#endif

/* Each answers NULL for a CPU without the instructions, or a system that does not save their
   registers: the builtin looks at both. */
static const flin_kernels *avx2(void)
{
#ifdef FLIN_HAVE_AVX2
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
        return &flin_kernels_avx2;
#endif
    return NULL;
}

static const flin_kernels *avx512(void)
{
#ifdef FLIN_HAVE_AVX512
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &flin_kernels_avx512;
#endif
    return NULL;
}

/* Every aarch64 CPU has NEON. */
static const flin_kernels *neon(void)
{
#ifdef FLIN_HAVE_NEON
    return has_dotprod() ? &flin_kernels_neon_dotprod : &flin_kernels_neon;
#else
    return NULL;
#endif
}

const flin_kernels *flin_kernels_choose(uint32_t wanted)
{
    const flin_kernels *best;

    switch (wanted) {
    case FLASHINFER_KERNELS_DEFAULT:
        best = avx512();
        if (best == NULL) best = avx2();
        if (best == NULL) best = neon();
        return best != NULL ? best : &flin_kernels_ref;
    case FLASHINFER_KERNELS_REF:
        return &flin_kernels_ref;
    case FLASHINFER_KERNELS_AVX2:
        return avx2();
    case FLASHINFER_KERNELS_AVX512:
        return avx512();
    case FLASHINFER_KERNELS_NEON:
        return neon();
    default:
        return NULL;
    }
}
