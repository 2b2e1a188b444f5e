/* Screens: cheap bounds of |rho| in float32 or float64. Compiled with -ffp-contract=fast, unlike everything else. */
#ifndef COVERTREEX_SCREEN_H
#define COVERTREEX_SCREEN_H

#include "canonical.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__)
#define CX_SCREEN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CX_SCREEN_CLONES
#endif

/* exp(x) for x <= 0 to about 3e-7 relative; 0 below -87. */
CX_INLINE float cx_screen32_exp(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23 */
    float clamped = x < -87.0f ? -87.0f : x;
    float shifted = clamped * 1.44269504f + magic;
    float n = shifted - magic;
    float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    float e = 1.0f / 720.0f;
    e = 1.0f / 120.0f + r * e;
    e = 1.0f / 24.0f + r * e;
    e = 1.0f / 6.0f + r * e;
    e = 0.5f + r * e;
    e = 1.0f + r * e;
    e = 1.0f + r * e;
    int32_t bits;
    memcpy(&bits, &shifted, 4);
    bits = (int32_t)((uint32_t)(bits + 127) << 23);
    float scale;
    memcpy(&scale, &bits, 4);
    return x < -87.0f ? 0.0f : e * scale;
}

CX_INLINE double cx_screen64_exp(double x)
{
    return cx_exp_neg(x);
}

enum { CX_NO_KERNEL = -1 }; /* |rho| is |dot| */

#define CX_T float
#define CX_COUNT int32_t
#define CX_NAME(x) cx_screen32_##x
#define CX_SQRT sqrtf
#include "screen_tile.h"
#undef CX_T
#undef CX_COUNT
#undef CX_NAME
#undef CX_SQRT

#define CX_T double
#define CX_COUNT int64_t
#define CX_NAME(x) cx_screen64_##x
#define CX_SQRT sqrt
#include "screen_tile.h"
#undef CX_T
#undef CX_COUNT
#undef CX_NAME
#undef CX_SQRT

CX_UNUSED static void cx_screen_fetch(const char *row, ptrdiff_t bytes)
{
    for (ptrdiff_t at = 0; at < bytes; at += 64)
        CX_PREFETCH(row + at);
}

/* |rho| of one row and one query in float64. */
CX_SCREEN_CLONES CX_UNUSED static double cx_screen64_pair(int kernel, double variance, double alpha, const double *x,
                                                          const double *y, ptrdiff_t d, const double *v,
                                                          const double *w, ptrdiff_t m, double scale, double other)
{
    cx_screen64_vector a = {0}, b = {0}, c = {0}, e = {0};
    for (ptrdiff_t i = 0; i < m; i += 16) {
        a += cx_screen64_load(v + i) * cx_screen64_load(w + i);
        b += cx_screen64_load(v + i + 4) * cx_screen64_load(w + i + 4);
        c += cx_screen64_load(v + i + 8) * cx_screen64_load(w + i + 8);
        e += cx_screen64_load(v + i + 12) * cx_screen64_load(w + i + 12);
    }
    a = (a + b) + (c + e);
    double dot = (a[0] + a[1]) + (a[2] + a[3]), rho;
    cx_screen64_rho(1, kernel, variance, alpha, x, scale, y, d, 1, &other, &dot, 1, &rho);
    return rho;
}

/* |rho| of four rows and one query in float64; rows `next` are on their way when it returns. */
CX_SCREEN_CLONES CX_UNUSED static void cx_screen64_four(int kernel, double variance, double alpha, const double *x,
                                                        double scale, const double *v, ptrdiff_t d, ptrdiff_t m,
                                                        const double *coords, const double *scales,
                                                        const double *factors, const int64_t *rows,
                                                        const int64_t *next, double *rho)
{
    const double *r0 = factors + rows[0] * m, *r1 = factors + rows[1] * m, *r2 = factors + rows[2] * m,
                 *r3 = factors + rows[3] * m;
    const double *n0 = factors + next[0] * m, *n1 = factors + next[1] * m, *n2 = factors + next[2] * m,
                 *n3 = factors + next[3] * m;
    cx_screen64_vector a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0}, b0 = {0}, b1 = {0}, b2 = {0}, b3 = {0};
    for (ptrdiff_t i = 0; i < m; i += 8) {
        cx_screen64_vector p = cx_screen64_load(v + i), q = cx_screen64_load(v + i + 4);
        CX_PREFETCH(n0 + i);
        CX_PREFETCH(n1 + i);
        CX_PREFETCH(n2 + i);
        CX_PREFETCH(n3 + i);
        a0 += p * cx_screen64_load(r0 + i);
        b0 += q * cx_screen64_load(r0 + i + 4);
        a1 += p * cx_screen64_load(r1 + i);
        b1 += q * cx_screen64_load(r1 + i + 4);
        a2 += p * cx_screen64_load(r2 + i);
        b2 += q * cx_screen64_load(r2 + i + 4);
        a3 += p * cx_screen64_load(r3 + i);
        b3 += q * cx_screen64_load(r3 + i + 4);
    }
    a0 += b0;
    a1 += b1;
    a2 += b2;
    a3 += b3;
    double dots[4] = {(a0[0] + a0[1]) + (a0[2] + a0[3]), (a1[0] + a1[1]) + (a1[2] + a1[3]),
                      (a2[0] + a2[1]) + (a2[2] + a2[3]), (a3[0] + a3[1]) + (a3[2] + a3[3])};
    for (int i = 0; i < 4; ++i)
        cx_screen64_rho(1, kernel, variance, alpha, coords + rows[i] * d, scales[rows[i]], x, d, 1, &scale, dots + i,
                        1, rho + i);
}

#endif
