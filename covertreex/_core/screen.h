/* Screens: cheap bounds of |rho| in float32 or float64. Compiled with -ffp-contract=fast, unlike everything else. */
#ifndef COVERTREEX_SCREEN_H
#define COVERTREEX_SCREEN_H

#include "canonical.h"
#include "lens.h"

/* Whether registers of 64 bytes are left alone even where there are some: tests compare what both find. */
static int cx_narrow_only = 0;

/* Processors are told apart by levels, x86-64-v3 and x86-64-v4, for which GCC makes clones since its version 12. Clones
 * for single features have no fused multiply-add in registers of 32 bytes: with other compilers a level is spelled out as
 * features, and chosen by hand (CX_WIDEST). */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 12
#define CX_SCREEN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define CX_NARROW_CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#define CX_SCREEN_V4 __attribute__((target("arch=x86-64-v4")))
#define CX_HAS_V4 (!cx_narrow_only && __builtin_cpu_supports("x86-64-v4"))
#elif defined(__x86_64__) && defined(__GNUC__)
#define CX_SCREEN_CLONES CX_CLONES
#define CX_NARROW_CLONES
#define CX_SCREEN_V3 __attribute__((target("avx,avx2,bmi,bmi2,fma,popcnt")))
#define CX_SCREEN_V4                                                                                                   \
    __attribute__((target("avx,avx2,bmi,bmi2,fma,popcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")))
#define CX_HAS(feature) __builtin_cpu_supports(feature)
#define CX_HAS_V3 (CX_HAS("avx2") && CX_HAS("bmi") && CX_HAS("bmi2") && CX_HAS("fma") && CX_HAS("popcnt"))
#define CX_HAS_V4                                                                                                      \
    (!cx_narrow_only && CX_HAS_V3 && CX_HAS("avx512f") && CX_HAS("avx512bw") && CX_HAS("avx512cd") &&                  \
     CX_HAS("avx512dq") && CX_HAS("avx512vl"))
#else
#define CX_SCREEN_CLONES
#define CX_NARROW_CLONES
#endif

/* A function CX_NAME(x) of the widest registers that the machine has. */
#if defined(CX_SCREEN_V3)
#define CX_WIDEST(x, ...)                                                                                              \
    (CX_HAS_V4   ? CX_NAME(wide_##x)(__VA_ARGS__)                                                                      \
     : CX_HAS_V3 ? CX_NAME(fused_##x)(__VA_ARGS__)                                                                     \
                 : CX_NAME(narrow_##x)(__VA_ARGS__))
#elif defined(CX_SCREEN_V4)
#define CX_WIDEST(x, ...) (CX_HAS_V4 ? CX_NAME(wide_##x)(__VA_ARGS__) : CX_NAME(narrow_##x)(__VA_ARGS__))
#else
#define CX_WIDEST(x, ...) CX_NAME(narrow_##x)(__VA_ARGS__)
#endif

/* Numbers, and what comparing them makes, in registers of 32 bytes and of 64. */
typedef float cx_screen32_narrow_vector __attribute__((vector_size(32)));
typedef float cx_screen32_wide_vector __attribute__((vector_size(64)));
typedef int32_t cx_screen32_narrow_bits __attribute__((vector_size(32)));
typedef int32_t cx_screen32_wide_bits __attribute__((vector_size(64)));
typedef double cx_screen64_narrow_vector __attribute__((vector_size(32)));
typedef double cx_screen64_wide_vector __attribute__((vector_size(64)));
typedef int64_t cx_screen64_narrow_bits __attribute__((vector_size(32)));
typedef int64_t cx_screen64_wide_bits __attribute__((vector_size(64)));
typedef cx_screen32_narrow_vector cx_screen32_fused_vector;
typedef cx_screen32_narrow_bits cx_screen32_fused_bits;
typedef cx_screen64_narrow_vector cx_screen64_fused_vector;
typedef cx_screen64_narrow_bits cx_screen64_fused_bits;

typedef float cx_screen32_half __attribute__((vector_size(16)));

/* Four numbers from each of two places. */
CX_INLINE cx_screen32_narrow_vector cx_screen32_both(const char *a, const char *b)
{
#if defined(__clang__) || __GNUC__ >= 12
    cx_screen32_half low, high;
    memcpy(&low, a, 16);
    memcpy(&high, b, 16);
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
#else
    cx_screen32_narrow_vector both;
    memcpy(&both, a, 16);
    memcpy((char *)&both + 16, b, 16);
    return both;
#endif
}

/* A table's values by its pieces of degree 3: four coefficients of eight pieces, four of them in each half of a
 * register. */
CX_INLINE cx_screen32_narrow_vector cx_screen32_pieces(const cx_table *table, cx_screen32_narrow_vector t)
{
    /* Pieces are as in float64, whose exponents begin 896 lower. */
    const int32_t first = (int32_t)(table->first - (INT64_C(896) << 5)), last = (int32_t)table->last;
    cx_screen32_narrow_bits bits, piece;
    memcpy(&bits, &t, 32);
    piece = (bits >> 18) - first;
    piece &= ~(piece >> 31);
    piece += (last - piece) & (last < piece);
    bits = (bits & 0x0003ffff) | 0x3f800000;
    cx_screen32_narrow_vector u, r[4];
    memcpy(&u, &bits, 32);
    u = (u - 1.015625f) * 64.0f;
    /* Through memory, in bytes: eight numbers are taken out of a register more slowly. */
    int32_t at[8] __attribute__((aligned(32)));
    piece <<= 4;
    memcpy(at, &piece, 32);
    for (int l = 0; l < 4; ++l)
        r[l] = cx_screen32_both((const char *)table->pieces32 + at[l], (const char *)table->pieces32 + at[l + 4]);
    cx_screen32_narrow_vector t0 = CX_SHUFFLE8(cx_screen32_narrow_bits, r[0], r[1], 0, 8, 1, 9, 4, 12, 5, 13);
    cx_screen32_narrow_vector t1 = CX_SHUFFLE8(cx_screen32_narrow_bits, r[0], r[1], 2, 10, 3, 11, 6, 14, 7, 15);
    cx_screen32_narrow_vector t2 = CX_SHUFFLE8(cx_screen32_narrow_bits, r[2], r[3], 0, 8, 1, 9, 4, 12, 5, 13);
    cx_screen32_narrow_vector t3 = CX_SHUFFLE8(cx_screen32_narrow_bits, r[2], r[3], 2, 10, 3, 11, 6, 14, 7, 15);
    cx_screen32_narrow_vector a0 = CX_SHUFFLE8(cx_screen32_narrow_bits, t0, t2, 0, 1, 8, 9, 4, 5, 12, 13);
    cx_screen32_narrow_vector a1 = CX_SHUFFLE8(cx_screen32_narrow_bits, t0, t2, 2, 3, 10, 11, 6, 7, 14, 15);
    cx_screen32_narrow_vector a2 = CX_SHUFFLE8(cx_screen32_narrow_bits, t1, t3, 0, 1, 8, 9, 4, 5, 12, 13);
    cx_screen32_narrow_vector a3 = CX_SHUFFLE8(cx_screen32_narrow_bits, t1, t3, 2, 3, 10, 11, 6, 7, 14, 15);
    return (a0 + a1 * u) + (u * u) * (a2 + a3 * u);
}

CX_INLINE cx_screen64_narrow_vector cx_screen64_pieces(const cx_table *table, cx_screen64_narrow_vector t)
{
    return cx_table_values4(table, t);
}

/* The same in memory: Clang hands no register to a function that is for other processors too. */
#define CX_PIECES_AT(WIDTH, T)                                                                                         \
    CX_INLINE void cx_screen##WIDTH##_pieces_at(const cx_table *table, T *t)                                           \
    {                                                                                                                  \
        cx_screen##WIDTH##_narrow_vector value;                                                                        \
        memcpy(&value, t, 32);                                                                                         \
        value = cx_screen##WIDTH##_pieces(table, value);                                                               \
        memcpy(t, &value, 32);                                                                                         \
    }
CX_PIECES_AT(32, float)
CX_PIECES_AT(64, double)
#undef CX_PIECES_AT

/* A tile of products: six rows, and 1 to 4 `columns` of queries, whose sums are a, b, c and d of each row. */
#define CX_SIX_ROWS(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define CX_EACH_COLUMN(DO, j)                                                                                          \
    DO(a##j, j, 0);                                                                                                    \
    if (columns > 1)                                                                                                   \
        DO(b##j, j, 1);                                                                                                \
    if (columns > 2)                                                                                                   \
        DO(c##j, j, 2);                                                                                                \
    if (columns > 3)                                                                                                   \
        DO(d##j, j, 3);

/* Dots of four rows in whole numbers of sixteen bits with one query (`apart` is 0), or a query each (1): sums of
 * integers, which compilers form two products at once. */
CX_INLINE void cx_sixteen_four(const int16_t *const *v, ptrdiff_t apart, ptrdiff_t m, const int16_t *const *r,
                               int32_t *sums)
{
    const int16_t *va = v[0], *vb = v[apart], *vc = v[2 * apart], *vd = v[3 * apart];
    const int16_t *ra = r[0], *rb = r[1], *rc = r[2], *rd = r[3];
    int32_t a = 0, b = 0, c = 0, d = 0;
    m &= ~(ptrdiff_t)15; /* it is a multiple already: no rest to compile for */
    if (apart)
        for (ptrdiff_t i = 0; i < m; ++i) {
            a += va[i] * ra[i];
            b += vb[i] * rb[i];
            c += vc[i] * rc[i];
            d += vd[i] * rd[i];
        }
    else
        for (ptrdiff_t i = 0; i < m; ++i) {
            a += va[i] * ra[i];
            b += va[i] * rb[i];
            c += va[i] * rc[i];
            d += va[i] * rd[i];
        }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}

#define CX_T float
#define CX_SINGLE 1
#define CX_NAME(x) cx_screen32_##x
#define CX_SQRT sqrtf
#include "screen_tile.h"
#undef CX_T
#undef CX_SINGLE
#undef CX_NAME
#undef CX_SQRT

#define CX_T double
#define CX_SINGLE 0
#define CX_NAME(x) cx_screen64_##x
#define CX_SQRT sqrt
#include "screen_tile.h"
#undef CX_T
#undef CX_SINGLE
#undef CX_NAME
#undef CX_SQRT

#include "screen_whole.h"

CX_UNUSED static void cx_screen_fetch(const char *row, ptrdiff_t bytes)
{
    for (ptrdiff_t at = 0; at < bytes; at += 64)
        CX_PREFETCH(row + at);
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
