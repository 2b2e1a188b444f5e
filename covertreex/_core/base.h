/* What every header here builds on: clones for wider registers, and vectors of four numbers.
 *
 * `target_clones` picks wider registers at run time; the order of operations, and so the result, is the same in every
 * clone, as long as files are compiled with -ffp-contract=off and without -ffast-math.
 */
#ifndef COVERTREEX_BASE_H
#define COVERTREEX_BASE_H

#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#ifdef __FAST_MATH__
#error "covertreex must be compiled without -ffast-math: results would depend on the compiler"
#endif

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__)
#define CX_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#define CX_CLONES_NAME "avx512f,avx2,default"
#else
#define CX_CLONES
#define CX_CLONES_NAME "none"
#endif

#if defined(__GNUC__)
#define CX_INLINE static inline __attribute__((always_inline, unused))
#define CX_UNUSED __attribute__((unused))
#define CX_PREFETCH(p) __builtin_prefetch(p)
#else
#error "covertreex needs GCC or Clang"
#endif

/* Functions for registers of 64 bytes, and whether there are any. */
#ifdef __x86_64__
#define CX_WIDE __attribute__((target("avx512f")))
#define CX_HAS_WIDE __builtin_cpu_supports("avx512f")
#endif

/* Four lanes in one register (GNU vector extension: plain C semantics, an element at a time, on any target). */
typedef double cx_v4 __attribute__((vector_size(32)));
CX_INLINE cx_v4 cx_load4(const double *a)
{
    cx_v4 v;
    memcpy(&v, a, 32);
    return v;
}

#ifdef CX_WIDE
/* Eight. */
typedef double cx_v8 __attribute__((vector_size(64)));
CX_WIDE CX_INLINE cx_v8 cx_wide_load(const double *a)
{
    cx_v8 v;
    memcpy(&v, a, 64);
    return v;
}
#endif

#endif
