/* Canonical arithmetic: the one formula, in one order of operations, behind every distance.
 *
 * docs/mathematics.md (A1 to A5, A10) states the order; covertreex/oracle.py has it in NumPy, the numba and rust
 * backends in their own languages. All of them must agree to the last bit, so this header must be compiled with
 * -ffp-contract=off.
 */
#ifndef COVERTREEX_CANONICAL_H
#define COVERTREEX_CANONICAL_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base.h"
#include "contract.h"
#include "expression.h"

/* A covariance function: a closed form's number, or `CX_EXPRESSION` and tables. */
typedef struct {
    int kernel;
    double variance;
    double alpha; /* rational quadratic only */
    cx_expression expression;
} cx_covariance;

/* What a kernel needs to know of a payload. Borrowed pointers: the PayloadStore owns the arrays. */
typedef struct {
    int metric;
    cx_covariance covariance;
    double slack_abs;  /* B1: error of a squared distance, absolute ... */
    double slack_rel;  /* ... and relative */
    ptrdiff_t n;
    ptrdiff_t d;
    ptrdiff_t m;       /* padded to a multiple of CX_LANES; 0 without factors */
    const double *coords;   /* (n, d) */
    const double *factors;  /* (n, m) */
    const double *p;        /* (n,) */
    const int64_t *index;   /* (n,) dataset index of each row */
} cx_payload;

/* One query: borrowed pointers to its coordinates, factors and residual variance. */
typedef struct {
    const double *coords;
    const double *factors;
    double p;
} cx_query;

/* A2. exp(x) for x <= 0; 0 below -708. Error about 1 ulp (tests/test_canonical.py). */
CX_INLINE double cx_exp_neg(double x)
{
    const double magic = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to an integer */
    double clamped = x < -708.0 ? -708.0 : x;
    double shifted = clamped * 1.4426950408889634 + magic;
    double n = shifted - magic;
    double r = (clamped - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    double r2 = r * r;
    double e = 1.0 / 479001600.0 + r * (1.0 / 6227020800.0);
    e = (1.0 / 3628800.0 + r * (1.0 / 39916800.0)) + r2 * e;
    e = (1.0 / 40320.0 + r * (1.0 / 362880.0)) + r2 * e;
    e = (1.0 / 720.0 + r * (1.0 / 5040.0)) + r2 * e;
    e = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * e;
    e = (0.5 + r * (1.0 / 6.0)) + r2 * e;
    e = (1.0 + r) + r2 * e;
    int64_t bits;
    memcpy(&bits, &shifted, 8);
    bits = (int64_t)((uint64_t)(bits + 1023) << 52);
    double scale;
    memcpy(&scale, &bits, 8);
    return x < -708.0 ? 0.0 : e * scale;
}

/* A3. log(x) for finite x >= 1. Error below 2 ulp. */
CX_INLINE double cx_log(double x)
{
    int64_t bits;
    memcpy(&bits, &x, 8);
    int64_t exponent = (bits >> 52) - 1023;
    bits = (bits & INT64_C(0x000fffffffffffff)) | INT64_C(0x3ff0000000000000);
    double m;
    memcpy(&m, &bits, 8);
    if (m > 1.4142135623730951) {
        m = m * 0.5;
        exponent = exponent + 1;
    }
    double n = (double)exponent;
    double f = m - 1.0;
    double s = f / (2.0 + f);
    double z = s * s;
    double t = 1.0 / 21.0;
    t = 1.0 / 19.0 + z * t;
    t = 1.0 / 17.0 + z * t;
    t = 1.0 / 15.0 + z * t;
    t = 1.0 / 13.0 + z * t;
    t = 1.0 / 11.0 + z * t;
    t = 1.0 / 9.0 + z * t;
    t = 1.0 / 7.0 + z * t;
    t = 1.0 / 5.0 + z * t;
    t = 1.0 / 3.0 + z * t;
    t = z * t;
    double low = n * 1.90821492927058770002e-10 + 2.0 * (s * t);
    return n * 0.693147180369123816490 + (2.0 * s + low);
}

/* A4. The kernels, for a variance of 1, at squared scaled distance r2; named as in the contract, so that one which is
 * missing here does not compile. */
CX_INLINE double cx_kernel_rbf(CX_UNUSED double alpha, double r2)
{
    return cx_exp_neg(-0.5 * r2);
}

CX_INLINE double cx_kernel_matern12(CX_UNUSED double alpha, double r2)
{
    return cx_exp_neg(-sqrt(r2));
}

CX_INLINE double cx_kernel_matern32(CX_UNUSED double alpha, double r2)
{
    double a = 1.7320508075688772 * sqrt(r2);
    return (1.0 + a) * cx_exp_neg(-a);
}

CX_INLINE double cx_kernel_matern52(CX_UNUSED double alpha, double r2)
{
    double a = 2.23606797749979 * sqrt(r2);
    return ((1.0 + a) + (a * a) / 3.0) * cx_exp_neg(-a);
}

CX_INLINE double cx_kernel_rationalquadratic(double alpha, double r2)
{
    return cx_exp_neg(-alpha * cx_log(1.0 + r2 / (2.0 * alpha)));
}

/* A4. The value of the kernel of this code, which whoever takes it from Python has checked: nan for another. */
CX_INLINE double cx_kernel(int kernel, double variance, double alpha, double r2)
{
    switch (kernel) {
#define CX_KERNEL_CASE(CODE, NAME)                                                                                     \
    case CODE:                                                                                                         \
        return variance * cx_kernel_##NAME(alpha, r2);
        CX_EACH_KERNEL(CX_KERNEL_CASE)
#undef CX_KERNEL_CASE
    default:
        return NAN;
    }
}

/* Squared coordinate differences, in order of the axes. */
CX_INLINE double cx_sqdist(const double *a, const double *b, ptrdiff_t d)
{
    double s = 0.0;
    for (ptrdiff_t j = 0; j < d; ++j) {
        double t = a[j] - b[j];
        s = s + t * t;
    }
    return s;
}

/* A4, A10. The covariance of two points, of scaled coordinates; `r2` is their cx_sqdist. */
CX_INLINE double cx_covariance_of(const cx_covariance *c, const double *a, const double *b, double r2)
{
    if (c->kernel == CX_EXPRESSION)
        return c->variance * cx_expression_value(&c->expression, a, b);
    return cx_kernel(c->kernel, c->variance, c->alpha, r2);
}

/* A1. The last steps of the 16-lane dot: l and l+8, then l and l+4, then (0+2)+(1+3). */
CX_INLINE double cx_reduce16(cx_v4 a, cx_v4 b, cx_v4 c, cx_v4 d)
{
    cx_v4 f = (a + c) + (b + d);
    return (f[0] + f[2]) + (f[1] + f[3]);
}

/* `next` is asked for meanwhile, two cache lines for every two of b that are used up. */
CX_INLINE double cx_dot16_body(const double *a, const double *b, ptrdiff_t m, const double *next)
{
    cx_v4 s0 = {0.0}, s1 = {0.0}, s2 = {0.0}, s3 = {0.0};
    for (ptrdiff_t i = 0; i < m; i += CX_LANES) {
        CX_PREFETCH(next + i);
        CX_PREFETCH(next + i + 8);
        s0 = s0 + cx_load4(a + i) * cx_load4(b + i);
        s1 = s1 + cx_load4(a + i + 4) * cx_load4(b + i + 4);
        s2 = s2 + cx_load4(a + i + 8) * cx_load4(b + i + 8);
        s3 = s3 + cx_load4(a + i + 12) * cx_load4(b + i + 12);
    }
    return cx_reduce16(s0, s1, s2, s3);
}

/* A1. 16-lane dot product; m is a multiple of 16. */
CX_CLONES CX_UNUSED static double cx_dot16(const double *a, const double *b, ptrdiff_t m)
{
    return cx_dot16_body(a, b, m, b);
}

/* As cx_dot16_ahead, two at a time. */
CX_CLONES CX_UNUSED static void cx_dot16_narrow(const double *row, const double *const *q, ptrdiff_t nq,
                                                ptrdiff_t known, ptrdiff_t m, double *out)
{
    ptrdiff_t i = 0;
    for (; i + 2 <= nq; i += 2) {
        const double *q0 = q[i], *q1 = q[i + 1];
        const double *n0 = i + 2 < known ? q[i + 2] : q0, *n1 = i + 3 < known ? q[i + 3] : n0;
        cx_v4 s0 = {0.0}, s1 = {0.0}, s2 = {0.0}, s3 = {0.0};
        cx_v4 t0 = {0.0}, t1 = {0.0}, t2 = {0.0}, t3 = {0.0};
        for (ptrdiff_t j = 0; j < m; j += CX_LANES) {
            cx_v4 r0 = cx_load4(row + j), r1 = cx_load4(row + j + 4);
            CX_PREFETCH(n0 + j);
            CX_PREFETCH(n0 + j + 8);
            CX_PREFETCH(n1 + j);
            CX_PREFETCH(n1 + j + 8);
            s0 = s0 + r0 * cx_load4(q0 + j);
            t0 = t0 + r0 * cx_load4(q1 + j);
            s1 = s1 + r1 * cx_load4(q0 + j + 4);
            t1 = t1 + r1 * cx_load4(q1 + j + 4);
            cx_v4 r2 = cx_load4(row + j + 8), r3 = cx_load4(row + j + 12);
            s2 = s2 + r2 * cx_load4(q0 + j + 8);
            t2 = t2 + r2 * cx_load4(q1 + j + 8);
            s3 = s3 + r3 * cx_load4(q0 + j + 12);
            t3 = t3 + r3 * cx_load4(q1 + j + 12);
        }
        out[i] = cx_reduce16(s0, s1, s2, s3);
        out[i + 1] = cx_reduce16(t0, t1, t2, t3);
    }
    if (i < nq)
        out[i] = cx_dot16_body(row, q[i], m, i + 1 < known ? q[i + 1] : row);
}

#ifdef CX_WIDE

/* As cx_reduce16, of lanes 0 to 7 and 8 to 15. */
CX_WIDE CX_INLINE double cx_reduce8(cx_v8 a, cx_v8 b)
{
    const __m512d e = (__m512d)(a + b);
    const cx_v4 f = (cx_v4)_mm512_castpd512_pd256(e) + (cx_v4)_mm512_extractf64x4_pd(e, 1);
    return (f[0] + f[2]) + (f[1] + f[3]);
}

/* Dots of a row with four queries; if `ahead`, those of `next` are on their way when it returns. */
CX_WIDE CX_INLINE void cx_four_wide(int ahead, const double *row, const double *const *q, const double *const *next,
                                    ptrdiff_t m, double *out)
{
    const double *q0 = q[0], *q1 = q[1], *q2 = q[2], *q3 = q[3];
    cx_v8 a0 = {0.0}, a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, d0 = a0, d1 = a0;
    for (ptrdiff_t j = 0; j < m; j += CX_LANES) {
        const cx_v8 x = cx_wide_load(row + j), y = cx_wide_load(row + j + 8);
        if (ahead)
            for (int l = 0; l < 4; ++l) {
                CX_PREFETCH(next[l] + j);
                CX_PREFETCH(next[l] + j + 8);
            }
        a0 = a0 + x * cx_wide_load(q0 + j);
        b0 = b0 + x * cx_wide_load(q1 + j);
        c0 = c0 + x * cx_wide_load(q2 + j);
        d0 = d0 + x * cx_wide_load(q3 + j);
        a1 = a1 + y * cx_wide_load(q0 + j + 8);
        b1 = b1 + y * cx_wide_load(q1 + j + 8);
        c1 = c1 + y * cx_wide_load(q2 + j + 8);
        d1 = d1 + y * cx_wide_load(q3 + j + 8);
    }
    out[0] = cx_reduce8(a0, a1);
    out[1] = cx_reduce8(b0, b1);
    out[2] = cx_reduce8(c0, c1);
    out[3] = cx_reduce8(d0, d1);
}

/* As cx_dot16_ahead, four at a time. */
CX_WIDE CX_UNUSED static void cx_dot16_wide(const double *row, const double *const *q, ptrdiff_t nq, ptrdiff_t known,
                                            ptrdiff_t m, double *out)
{
    for (ptrdiff_t i = 0; i < nq; i += 4) {
        const double *at[4], *next[4];
        double dots[4];
        if (nq - i == 1) {
            out[i] = cx_dot16_body(row, q[i], m, i + 1 < known ? q[i + 1] : row);
            return;
        }
        for (ptrdiff_t l = 0; l < 4; ++l) {
            at[l] = q[i + l < nq ? i + l : nq - 1];
            next[l] = i + 4 + l < known ? q[i + 4 + l] : at[l];
        }
        if (i + 4 < known)
            cx_four_wide(1, row, at, next, m, dots);
        else
            cx_four_wide(0, row, at, next, m, dots);
        memcpy(out + i, dots, (nq - i < 4 ? (size_t)(nq - i) : 4) * sizeof(double));
    }
}

#endif

/* A1 for one row against nq queries, where `known` of them are asked for before they are wanted: all, and perhaps more
 * that stand behind, or none, where all are in cache. */
CX_UNUSED static void cx_dot16_ahead(const double *row, const double *const *q, ptrdiff_t nq, ptrdiff_t known,
                                     ptrdiff_t m, double *out)
{
#ifdef CX_WIDE
    if (CX_HAS_WIDE) {
        cx_dot16_wide(row, q, nq, known, m, out);
        return;
    }
#endif
    cx_dot16_narrow(row, q, nq, known, m, out);
}

/* A1 for one row against nq queries, some at a time, so that each load of the row serves them all; the next are on their
 * way meanwhile. */
CX_UNUSED static void cx_dot16_many(const double *row, const double *const *q, ptrdiff_t nq, ptrdiff_t m, double *out)
{
    cx_dot16_ahead(row, q, nq, nq, m, out);
}

/* Sums of the dots of two rows with three queries: a pair of registers for each, 12 of them, each load used two or three
 * times. Registers of 4 hold lanes `at` to `at` + 7, those of 8 all lanes. */
#define CX_DEFINE_TILE(NAME, TARGET, VECTOR, LOAD, WIDTH)                                                              \
    TARGET CX_INLINE void NAME(const double *const *r, const double *const *q, ptrdiff_t at, ptrdiff_t m,              \
                               VECTOR sums[12])                                                                        \
    {                                                                                                                  \
        const double *r0 = r[0] + at, *r1 = r[1] + at, *q0 = q[0] + at, *q1 = q[1] + at, *q2 = q[2] + at;              \
        VECTOR a00 = {0.0}, a01 = {0.0}, a10 = {0.0}, a11 = {0.0}, a20 = {0.0}, a21 = {0.0};                           \
        VECTOR b00 = {0.0}, b01 = {0.0}, b10 = {0.0}, b11 = {0.0}, b20 = {0.0}, b21 = {0.0};                           \
        for (ptrdiff_t i = 0; i < m; i += CX_LANES) {                                                                  \
            VECTOR x = LOAD(r0 + i), y = LOAD(r1 + i), z;                                                              \
            z = LOAD(q0 + i);                                                                                          \
            a00 = a00 + x * z;                                                                                         \
            b00 = b00 + y * z;                                                                                         \
            z = LOAD(q1 + i);                                                                                          \
            a10 = a10 + x * z;                                                                                         \
            b10 = b10 + y * z;                                                                                         \
            z = LOAD(q2 + i);                                                                                          \
            a20 = a20 + x * z;                                                                                         \
            b20 = b20 + y * z;                                                                                         \
            x = LOAD(r0 + i + WIDTH);                                                                                  \
            y = LOAD(r1 + i + WIDTH);                                                                                  \
            z = LOAD(q0 + i + WIDTH);                                                                                  \
            a01 = a01 + x * z;                                                                                         \
            b01 = b01 + y * z;                                                                                         \
            z = LOAD(q1 + i + WIDTH);                                                                                  \
            a11 = a11 + x * z;                                                                                         \
            b11 = b11 + y * z;                                                                                         \
            z = LOAD(q2 + i + WIDTH);                                                                                  \
            a21 = a21 + x * z;                                                                                         \
            b21 = b21 + y * z;                                                                                         \
        }                                                                                                              \
        VECTOR all[12] = {a00, a01, a10, a11, a20, a21, b00, b01, b10, b11, b20, b21};                                 \
        memcpy(sums, all, sizeof(all));                                                                                \
    }
CX_DEFINE_TILE(cx_half_tile, , cx_v4, cx_load4, 4)
#ifdef CX_WIDE
CX_DEFINE_TILE(cx_whole_tile, CX_WIDE, cx_v8, cx_wide_load, 8)
#endif
#undef CX_DEFINE_TILE

/* As cx_dot16_block. */
CX_CLONES CX_UNUSED static void cx_block_narrow(const double *const *rows, ptrdiff_t nrows, const double *const *queries,
                                                ptrdiff_t nqueries, ptrdiff_t m, double *out, ptrdiff_t stride)
{
    for (ptrdiff_t j = 0; j < nqueries; j += 3)
        for (ptrdiff_t i = 0; i < nrows; i += 2) {
            cx_v4 low[12], high[12];
            cx_half_tile(rows + i, queries + j, 0, m, low);
            cx_half_tile(rows + i, queries + j, 8, m, high);
            for (int a = 0; a < 2; ++a)
                for (int b = 0; b < 3; ++b) {
                    int at = 6 * a + 2 * b;
                    out[(i + a) * stride + j + b] = cx_reduce16(low[at], low[at + 1], high[at], high[at + 1]);
                }
        }
}

#ifdef CX_WIDE

CX_WIDE CX_UNUSED static void cx_block_wide(const double *const *rows, ptrdiff_t nrows, const double *const *queries,
                                            ptrdiff_t nqueries, ptrdiff_t m, double *out, ptrdiff_t stride)
{
    for (ptrdiff_t j = 0; j < nqueries; j += 3)
        for (ptrdiff_t i = 0; i < nrows; i += 2) {
            cx_v8 sums[12];
            cx_whole_tile(rows + i, queries + j, 0, m, sums);
            for (int a = 0; a < 2; ++a)
                for (int b = 0; b < 3; ++b)
                    out[(i + a) * stride + j + b] = cx_reduce8(sums[6 * a + 2 * b], sums[6 * a + 2 * b + 1]);
        }
}

#endif

/* A1 for rows against queries, `rows` padded to a multiple of 2 and `queries` to one of 3 by repeating a pointer.
 * out[i * stride + j] is the dot of row i and query j; a call should hold no more rows than stay in cache. */
CX_UNUSED static void cx_dot16_block(const double *const *rows, ptrdiff_t nrows, const double *const *queries,
                                     ptrdiff_t nqueries, ptrdiff_t m, double *out, ptrdiff_t stride)
{
#ifdef CX_WIDE
    if (CX_HAS_WIDE) {
        cx_block_wide(rows, nrows, queries, nqueries, m, out, stride);
        return;
    }
#endif
    cx_block_narrow(rows, nrows, queries, nqueries, m, out, stride);
}

/* A5, A7. How near a row is to a query: of two rows the one with the smaller distance is nearer; at one distance that
 * with the larger rho; then that with the smaller r2; then that with the smaller index. Euclidean distance is the
 * scaled distance itself, so rho is 1 and r2 is 0 there. */
typedef struct {
    double distance;
    double rho; /* |rho|, at most 1 */
    double r2;  /* squared scaled distance */
} cx_nearness;

/* d(i, i) by definition. */
#define CX_ITSELF {0.0, 1.0, 0.0}

/* A5. |rho| from its three ingredients: kernel value, dot product, residual variances. */
CX_INLINE double cx_rho(double k, double dot, double pa, double pb)
{
    double rho = fabs((k - dot) / sqrt(pa * pb));
    return rho > 1.0 ? 1.0 : rho;
}

/* A5. Of a query and a row. d(i, i) = 0 by definition is the caller's: it knows who is who. */
CX_INLINE cx_nearness cx_nearness_given_dot(const cx_payload *pl, const cx_query *q, ptrdiff_t row, double dot)
{
    const double *coords = pl->coords + row * pl->d;
    double r2 = cx_sqdist(q->coords, coords, pl->d), rho;
    if (pl->metric == CX_EUCLIDEAN)
        return (cx_nearness){sqrt(r2), 1.0, 0.0};
    rho = cx_rho(cx_covariance_of(&pl->covariance, q->coords, coords, r2), dot, q->p, pl->p[row]);
    return (cx_nearness){sqrt(1.0 - rho), rho, r2};
}

CX_INLINE double cx_distance_given_dot(const cx_payload *pl, const cx_query *q, ptrdiff_t row, double dot)
{
    return cx_nearness_given_dot(pl, q, row, dot).distance;
}

CX_INLINE double cx_distance(const cx_payload *pl, const cx_query *q, ptrdiff_t row)
{
    double dot = pl->m ? cx_dot16(q->factors, pl->factors + row * pl->m, pl->m) : 0.0;
    return cx_distance_given_dot(pl, q, row, dot);
}

CX_INLINE cx_query cx_row_query(const cx_payload *pl, ptrdiff_t row)
{
    cx_query q = {pl->coords + row * pl->d, pl->m ? pl->factors + row * pl->m : NULL,
                  pl->metric == CX_RESIDUAL ? pl->p[row] : 1.0};
    return q;
}

/* Ask for what a distance from row `next` will need besides its factors. */
CX_INLINE void cx_prefetch(const cx_payload *pl, ptrdiff_t next)
{
    CX_PREFETCH(pl->coords + next * pl->d);
    CX_PREFETCH(pl->index + next);
    if (pl->m)
        CX_PREFETCH(pl->p + next);
}

/* Where many go: `distance[i]`, `rho[i]` and `r2[i]` are what cx_nearness says of the i-th. */
typedef struct {
    double *distance;
    double *rho;
    double *r2;
} cx_many;

CX_INLINE cx_nearness cx_one_of(const cx_many *many, ptrdiff_t i)
{
    return (cx_nearness){many->distance[i], many->rho[i], many->r2[i]};
}

/* Squared distances of one point from many, coords being (d, stride), in order of the axes. */
CX_INLINE void cx_sqdist_many(const double *x, const double *coords, ptrdiff_t d, ptrdiff_t stride, ptrdiff_t count,
                              double *restrict r2)
{
    for (ptrdiff_t i = 0; i < count; ++i)
        r2[i] = 0.0;
    for (ptrdiff_t j = 0; j < d; ++j)
        for (ptrdiff_t i = 0; i < count; ++i) {
            double t = coords[j * stride + i] - x[j];
            r2[i] = r2[i] + t * t;
        }
}

/* A10 for one point against many: coords is (d, stride), out[i] the covariance of x and the i-th. */
CX_CLONES CX_UNUSED static void cx_expression_many(const cx_covariance *c, const double *x, const double *coords,
                                                   ptrdiff_t stride, ptrdiff_t count, double *out)
{
    const cx_expression *e = &c->expression;
    for (ptrdiff_t i = 0; i < count; i += 4) {
        cx_v4 t[CX_MOST_GROUPS];
        size_t bytes = 8 * (count - i < 4 ? count - i : 4);
        for (ptrdiff_t g = 0, j = 0; g < e->groups; ++g) {
            cx_v4 s = {0.0};
            for (; j < e->group_stop[g]; ++j) {
                cx_v4 off = {0.0};
                memcpy(&off, coords + j * stride + i, bytes);
                off = off - x[j];
                s = s + off * off;
            }
            t[g] = s;
        }
        cx_v4 values = c->variance * cx_expression_values4(e, t);
        memcpy(out + i, &values, bytes);
    }
}

/* A4 of squared distances, in their place. One loop per kernel, so that each can be vectorised. */
CX_INLINE void cx_closed_loop(const cx_covariance *c, ptrdiff_t count, double *restrict values)
{
    switch (c->kernel) {
#define CX_COVARIANCE_LOOP(CODE, NAME)                                                                                 \
    case CODE:                                                                                                         \
        for (ptrdiff_t i = 0; i < count; ++i)                                                                          \
            values[i] = cx_kernel(CODE, c->variance, c->alpha, values[i]);                                             \
        break;
        CX_EACH_KERNEL(CX_COVARIANCE_LOOP)
#undef CX_COVARIANCE_LOOP
    }
}

CX_CLONES CX_UNUSED static void cx_closed_many(const cx_covariance *c, ptrdiff_t count, double *values)
{
    cx_closed_loop(c, count, values);
}

/* A4, A10 for one point against many: as cx_covariance_of. */
CX_CLONES CX_UNUSED static void cx_covariance_many(const cx_covariance *c, const double *x, const double *coords,
                                                   ptrdiff_t d, ptrdiff_t stride, ptrdiff_t count, double *out)
{
    if (c->kernel == CX_EXPRESSION) {
        cx_expression_many(c, x, coords, stride, count, out);
        return;
    }
    cx_sqdist_many(x, coords, d, stride, count, out);
    cx_closed_loop(c, count, out);
}

/* A5 for one point, of coordinates x and residual variance p_x, against many: coords is (d, stride), out[i] from dots[i]
 * and p[i]. One loop per kernel, so that each can be vectorised; element by element these are the operations of
 * cx_nearness_given_dot, whichever of the two is the row: (a - b)^2 and p_a p_b do not depend on the order. */
CX_CLONES CX_UNUSED static void cx_nearness_many(const cx_payload *pl, const double *x, double p_x,
                                                 const double *coords, ptrdiff_t stride, const double *p,
                                                 const double *dots, ptrdiff_t count, const cx_many *out)
{
    double *restrict distance = out->distance, *restrict rho = out->rho, *restrict r2 = out->r2;
    cx_sqdist_many(x, coords, pl->d, stride, count, r2);
    if (pl->metric == CX_EUCLIDEAN) {
        for (ptrdiff_t i = 0; i < count; ++i) {
            distance[i] = sqrt(r2[i]);
            rho[i] = 1.0;
            r2[i] = 0.0;
        }
        return;
    }
    const cx_covariance *c = &pl->covariance;
    if (c->kernel == CX_EXPRESSION) {
        cx_expression_many(c, x, coords, stride, count, rho);
        for (ptrdiff_t i = 0; i < count; ++i) {
            double r = cx_rho(rho[i], dots[i], p[i], p_x);
            rho[i] = r;
            distance[i] = sqrt(1.0 - r);
        }
        return;
    }
    switch (c->kernel) {
#define CX_RESIDUAL_LOOP(CODE, NAME)                                                                                   \
    case CODE:                                                                                                         \
        for (ptrdiff_t i = 0; i < count; ++i) {                                                                        \
            double r = cx_rho(cx_kernel(CODE, c->variance, c->alpha, r2[i]), dots[i], p[i], p_x);                    \
            rho[i] = r;                                                                                                \
            distance[i] = sqrt(1.0 - r);                                                                               \
        }                                                                                                              \
        break;
        CX_EACH_KERNEL(CX_RESIDUAL_LOOP)
#undef CX_RESIDUAL_LOOP
    default:
        for (ptrdiff_t i = 0; i < count; ++i)
            rho[i] = distance[i] = NAN;
    }
}

/* B1. True distance is at least lower(d) and at most upper(d) when d is the computed one; the same step, applied to
 * a lower bound of a true distance, bounds the computed one from below. */
CX_INLINE double cx_lower(const cx_payload *pl, double d)
{
    double t = (d * d) * (1.0 - pl->slack_rel) - pl->slack_abs;
    return t > 0.0 ? sqrt(t) : 0.0;
}

CX_INLINE double cx_upper(const cx_payload *pl, double d)
{
    return sqrt((d * d) * (1.0 + pl->slack_rel) + pl->slack_abs);
}

/* B2. No point of a subtree of radius si computes closer than this, its root being at a true distance >= far - near. */
CX_INLINE double cx_bound(const cx_payload *pl, double far, double near)
{
    double t = far - near;
    return t > 0.0 ? cx_lower(pl, t) : 0.0;
}

#endif
