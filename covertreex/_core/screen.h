/* Screens: cheap bounds of |rho| in float32 or float64. Compiled with -ffp-contract=fast, unlike everything else. */
#ifndef COVERTREEX_SCREEN_H
#define COVERTREEX_SCREEN_H

#include "canonical.h"
#include "lens.h"

/* Processors are told apart by levels, x86-64-v3 and x86-64-v4, for which GCC makes clones since its version 12. Clones
 * for single features have no fused multiply-add in registers of 32 bytes: with other compilers, which spell a level out
 * as features, dots, where most of the time goes, are chosen by hand. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 12
#define CX_SCREEN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define CX_SCREEN_V4 __attribute__((target("arch=x86-64-v4")))
#define CX_HAS_V4 __builtin_cpu_supports("x86-64-v4")
#elif defined(__x86_64__) && defined(__GNUC__)
#define CX_SCREEN_CLONES CX_CLONES
#define CX_SCREEN_V3 __attribute__((target("avx,avx2,bmi,bmi2,fma,popcnt")))
#define CX_SCREEN_V4                                                                                                   \
    __attribute__((target("avx,avx2,bmi,bmi2,fma,popcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")))
#define CX_HAS(feature) __builtin_cpu_supports(feature)
#define CX_HAS_V3 (CX_HAS("avx2") && CX_HAS("bmi") && CX_HAS("bmi2") && CX_HAS("fma") && CX_HAS("popcnt"))
#define CX_HAS_V4                                                                                                      \
    (CX_HAS_V3 && CX_HAS("avx512f") && CX_HAS("avx512bw") && CX_HAS("avx512cd") && CX_HAS("avx512dq") &&               \
     CX_HAS("avx512vl"))
#else
#define CX_SCREEN_CLONES
#define CX_SCREEN_V4
#define CX_HAS_V4 0
#endif

typedef float cx_screen32_vector __attribute__((vector_size(32)));
typedef int32_t cx_screen32_bits __attribute__((vector_size(32)));
typedef double cx_screen64_vector __attribute__((vector_size(32)));
typedef int64_t cx_screen64_bits __attribute__((vector_size(32)));

/* exp(x) for x <= 0 to about 3e-7 relative; 0 below -87. */
CX_INLINE cx_screen32_vector cx_screen32_exp(cx_screen32_vector x)
{
    cx_screen32_bits shown, keep = x >= -87.0f;
    memcpy(&shown, &x, 32);
    shown &= keep;
    memcpy(&x, &shown, 32);
    cx_screen32_vector shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23 */
    cx_screen32_vector n = shifted - 12582912.0f, r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    /* By squares: the sum of a chain would wait for every term. */
    cx_screen32_vector r2 = r * r, e = (1.0f / 24.0f + r * (1.0f / 120.0f)) + r2 * (1.0f / 720.0f);
    e = (1.0f + r) + r2 * ((0.5f + r * (1.0f / 6.0f)) + r2 * e);
    memcpy(&shown, &shifted, 32);
    shown = ((shown + 127) << 23) & keep;
    memcpy(&x, &shown, 32);
    return e * x;
}

/* exp(x) for x <= 0 to about 4e-16 relative; 0 below -700. */
CX_INLINE cx_screen64_vector cx_screen64_exp(cx_screen64_vector x)
{
    cx_screen64_bits shown, keep = x >= -700.0;
    memcpy(&shown, &x, 32);
    shown &= keep;
    memcpy(&x, &shown, 32);
    cx_screen64_vector shifted = x * 1.4426950408889634 + 6755399441055744.0; /* 1.5 * 2^52 */
    cx_screen64_vector n = shifted - 6755399441055744.0;
    cx_screen64_vector r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    cx_screen64_vector e = (cx_screen64_vector){0} + 1.0 / 6227020800.0;
    e = 1.0 / 479001600.0 + r * e;
    e = 1.0 / 39916800.0 + r * e;
    e = 1.0 / 3628800.0 + r * e;
    e = 1.0 / 362880.0 + r * e;
    e = 1.0 / 40320.0 + r * e;
    e = 1.0 / 5040.0 + r * e;
    e = 1.0 / 720.0 + r * e;
    e = 1.0 / 120.0 + r * e;
    e = 1.0 / 24.0 + r * e;
    e = 1.0 / 6.0 + r * e;
    e = 0.5 + r * e;
    e = 1.0 + r * e;
    e = 1.0 + r * e;
    memcpy(&shown, &shifted, 32);
    shown = ((shown + 1023) << 52) & keep;
    memcpy(&x, &shown, 32);
    return e * x;
}

typedef float cx_screen32_half __attribute__((vector_size(16)));

/* Four numbers from each of two places. */
CX_INLINE cx_screen32_vector cx_screen32_both(const char *a, const char *b)
{
#if defined(__clang__) || __GNUC__ >= 12
    cx_screen32_half low, high;
    memcpy(&low, a, 16);
    memcpy(&high, b, 16);
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
#else
    cx_screen32_vector both;
    memcpy(&both, a, 16);
    memcpy((char *)&both + 16, b, 16);
    return both;
#endif
}

/* A table's values by its pieces of degree 3: four coefficients of eight pieces, four of them in each half of a
 * register. */
CX_INLINE cx_screen32_vector cx_screen32_table(const cx_table *table, cx_screen32_vector t)
{
    /* Pieces are as in float64, whose exponents begin 896 lower. */
    const int32_t first = (int32_t)(table->first - (INT64_C(896) << 5)), last = (int32_t)table->last;
    cx_screen32_bits bits, piece;
    memcpy(&bits, &t, 32);
    piece = (bits >> 18) - first;
    piece &= ~(piece >> 31);
    piece += (last - piece) & (last < piece);
    bits = (bits & 0x0003ffff) | 0x3f800000;
    cx_screen32_vector u, r[4];
    memcpy(&u, &bits, 32);
    u = (u - 1.015625f) * 64.0f;
    /* Through memory, in bytes: eight numbers are taken out of a register more slowly. */
    int32_t at[8] __attribute__((aligned(32)));
    piece <<= 4;
    memcpy(at, &piece, 32);
    for (int l = 0; l < 4; ++l)
        r[l] = cx_screen32_both((const char *)table->pieces32 + at[l], (const char *)table->pieces32 + at[l + 4]);
    cx_screen32_vector t0 = CX_SHUFFLE8(cx_screen32_bits, r[0], r[1], 0, 8, 1, 9, 4, 12, 5, 13);
    cx_screen32_vector t1 = CX_SHUFFLE8(cx_screen32_bits, r[0], r[1], 2, 10, 3, 11, 6, 14, 7, 15);
    cx_screen32_vector t2 = CX_SHUFFLE8(cx_screen32_bits, r[2], r[3], 0, 8, 1, 9, 4, 12, 5, 13);
    cx_screen32_vector t3 = CX_SHUFFLE8(cx_screen32_bits, r[2], r[3], 2, 10, 3, 11, 6, 14, 7, 15);
    cx_screen32_vector a0 = CX_SHUFFLE8(cx_screen32_bits, t0, t2, 0, 1, 8, 9, 4, 5, 12, 13);
    cx_screen32_vector a1 = CX_SHUFFLE8(cx_screen32_bits, t0, t2, 2, 3, 10, 11, 6, 7, 14, 15);
    cx_screen32_vector a2 = CX_SHUFFLE8(cx_screen32_bits, t1, t3, 0, 1, 8, 9, 4, 5, 12, 13);
    cx_screen32_vector a3 = CX_SHUFFLE8(cx_screen32_bits, t1, t3, 2, 3, 10, 11, 6, 7, 14, 15);
    return (a0 + a1 * u) + (u * u) * (a2 + a3 * u);
}

CX_INLINE cx_screen64_vector cx_screen64_table(const cx_table *table, cx_screen64_vector t)
{
    return cx_table_values4(table, t);
}

#define CX_T float
#define CX_NAME(x) cx_screen32_##x
#define CX_SQRT sqrtf
#include "screen_tile.h"
#undef CX_T
#undef CX_NAME
#undef CX_SQRT

#define CX_T double
#define CX_NAME(x) cx_screen64_##x
#define CX_SQRT sqrt
#include "screen_tile.h"
#undef CX_T
#undef CX_NAME
#undef CX_SQRT

CX_UNUSED static void cx_screen_fetch(const char *row, ptrdiff_t bytes)
{
    for (ptrdiff_t at = 0; at < bytes; at += 64)
        CX_PREFETCH(row + at);
}

/* Dot of m float32 components, a multiple of 16. */
CX_INLINE float cx_screen32_dot(const float *v, const float *w, ptrdiff_t m)
{
    cx_screen32_vector a = {0}, b = {0};
    for (ptrdiff_t i = 0; i < m; i += 16) {
        a += cx_screen32_load(v + i) * cx_screen32_load(w + i);
        b += cx_screen32_load(v + i + 8) * cx_screen32_load(w + i + 8);
    }
    a += b;
    return ((a[0] + a[1]) + (a[2] + a[3])) + ((a[4] + a[5]) + (a[6] + a[7]));
}

/* Of `count` queries `hit` those which a row may concern (C1) once the tails, a multiple of 16 long, are multiplied too:
 * returns how many are left in `hit`. rho is of all queries. */
CX_SCREEN_CLONES CX_UNUSED static ptrdiff_t cx_screen32_again(const cx_screen32_lens *lens, int64_t row,
                                                              float row_spread, float *rho, int32_t *hit,
                                                              ptrdiff_t count)
{
    /* By themselves, for stores might change what a pointer leads to. */
    const float *tail = lens->tails + row * lens->t, *scale = lens->group_scale, *spread = lens->group_spread;
    const float *threshold = lens->threshold, *const *tails = lens->group_tails;
    const float row_scale = lens->scale[row], floor = lens->floor;
    const ptrdiff_t m = lens->t;
    ptrdiff_t left = 0;
    for (ptrdiff_t number = 0; number < count; ++number) {
        int32_t i = hit[number];
        rho[i] -= cx_screen32_dot(tail, tails[i], m) * scale[i] * row_scale;
        hit[left] = i;
        left += fabsf(rho[i]) + row_spread * spread[i] + floor >= threshold[i];
    }
    return left;
}

/* Add dots of float32 components, (rows, more_stride), to `count` dots of each row. */
CX_SCREEN_CLONES CX_UNUSED static void cx_screen64_add(const float *more, ptrdiff_t rows, ptrdiff_t more_stride,
                                                       ptrdiff_t count, double *dots, ptrdiff_t stride)
{
    for (ptrdiff_t j = 0; j < rows; ++j)
        for (ptrdiff_t i = 0; i < count; ++i)
            dots[j * stride + i] += more[j * more_stride + i];
}

#endif
