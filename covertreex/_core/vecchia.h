/* One point's regression on the points before it, and how a function of all regressions changes with the kernel
 * (docs/vecchia.md).
 *
 * Everything goes in a fixed order, on one thread, and in buffers of the caller's.
 */
#ifndef COVERTREEX_VECCHIA_H
#define COVERTREEX_VECCHIA_H

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "canonical.h"

/* Of the kernel's variance. A pivot below the first is rounding, and not a variance; jitter goes from the second,
 * tenfold each time, to the third. */
#define CX_PIVOT 1e-14
#define CX_FIRST_JITTER 1e-10
#define CX_LAST_JITTER 1e-4

/* Some points and the one that is regressed on them, which comes last. Rows of matrices have `width` numbers, a multiple
 * of 4 and at least four more than there are points; arrays of as many end in what may be read and means nothing. */
typedef struct {
    ptrdiff_t count; /* of all of them */
    ptrdiff_t d, m, width;
    double variance;
    double *columns;        /* (d, width): their scaled coordinates */
    const double **coords;  /* (width,): the same, of each */
    const double **factors; /* (width,) */
    double *noise;          /* (width,) */
    double *K;              /* (count, width): their residual covariances, the lower triangle */
    double *L;              /* (count, width) */
    double *column;         /* (width,) */
} cx_set;

/* Rows of a block that stay in the first cache while four others go past. */
enum { CX_SET_BLOCK = 9 };

/* Sums of the four numbers of each of four vectors. */
CX_INLINE cx_v4 cx_sums4(cx_v4 a, cx_v4 b, cx_v4 c, cx_v4 d)
{
    cx_v4 ab = CX_SHUFFLE4(cx_i4, a, b, 0, 4, 2, 6) + CX_SHUFFLE4(cx_i4, a, b, 1, 5, 3, 7);
    cx_v4 cd = CX_SHUFFLE4(cx_i4, c, d, 0, 4, 2, 6) + CX_SHUFFLE4(cx_i4, c, d, 1, 5, 3, 7);
    return CX_SHUFFLE4(cx_i4, ab, cd, 0, 1, 4, 5) + CX_SHUFFLE4(cx_i4, ab, cd, 2, 3, 6, 7);
}

/* Dots of four rows and three others, twelve registers of sums: out[j] has those of all rows with the j-th. */
CX_INLINE void cx_set_tile(const double *const *rows, const double *const *others, ptrdiff_t m, cx_v4 out[3])
{
    const double *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
    const double *q0 = others[0], *q1 = others[1], *q2 = others[2];
    cx_v4 a0 = {0.0}, a1 = {0.0}, a2 = {0.0}, b0 = {0.0}, b1 = {0.0}, b2 = {0.0};
    cx_v4 c0 = {0.0}, c1 = {0.0}, c2 = {0.0}, d0 = {0.0}, d1 = {0.0}, d2 = {0.0};
    for (ptrdiff_t i = 0; i < m; i += 4) {
        cx_v4 x = cx_load4(q0 + i), y = cx_load4(q1 + i), z = cx_load4(q2 + i), r;
        r = cx_load4(r0 + i);
        a0 = a0 + r * x;
        a1 = a1 + r * y;
        a2 = a2 + r * z;
        r = cx_load4(r1 + i);
        b0 = b0 + r * x;
        b1 = b1 + r * y;
        b2 = b2 + r * z;
        r = cx_load4(r2 + i);
        c0 = c0 + r * x;
        c1 = c1 + r * y;
        c2 = c2 + r * z;
        r = cx_load4(r3 + i);
        d0 = d0 + r * x;
        d1 = d1 + r * y;
        d2 = d2 + r * z;
    }
    out[0] = cx_sums4(a0, b0, c0, d0);
    out[1] = cx_sums4(a1, b1, c1, d1);
    out[2] = cx_sums4(a2, b2, c2, d2);
}

/* K less the dots of factors. */
CX_CLONES CX_UNUSED static void cx_set_dots(cx_set *s)
{
    ptrdiff_t n = s->count, width = s->width;
    for (ptrdiff_t b = 0; b < n; b += CX_SET_BLOCK)
        for (ptrdiff_t i = b; i < n; i += 4)
            for (ptrdiff_t j = b; j < b + CX_SET_BLOCK && j < i + 4 && j < n; j += 3) {
                cx_v4 dots[3];
                cx_set_tile(s->factors + i, s->factors + j, s->m, dots);
                for (int a = 0; a < 4 && i + a < n; ++a)
                    for (int q = 0; q < 3; ++q)
                        s->K[(i + a) * width + j + q] -= dots[q][a];
            }
}

/* K from coordinates, factors and noise. */
CX_UNUSED static void cx_set_covariances(cx_set *s, const cx_covariance *c)
{
    ptrdiff_t d = s->d, width = s->width, at = 0;
    double *packed = s->L; /* which is not made yet */
    for (ptrdiff_t j = 0; j < s->count; ++j) {
        ptrdiff_t whole = (j + 4) & ~(ptrdiff_t)3;
        if (c->kernel == CX_EXPRESSION)
            cx_covariance_many(c, s->coords[j], s->columns, d, width, whole, packed + at);
        else
            cx_sqdist_many(s->coords[j], s->columns, d, width, whole, packed + at);
        at += whole;
    }
    if (c->kernel != CX_EXPRESSION)
        cx_closed_many(c, at, packed);
    at = 0;
    for (ptrdiff_t j = 0; j < s->count; ++j) {
        ptrdiff_t whole = (j + 4) & ~(ptrdiff_t)3;
        memcpy(s->K + j * width, packed + at, sizeof(double) * whole);
        s->K[j * width + j] += s->noise[j];
        at += whole;
    }
    if (s->m > 0)
        cx_set_dots(s);
}

/* L, the lower factor of K with `jitter` on its diagonal, whose last pivot stays the square that it is; whether all
 * pivots are variances. If `latent`, the last point has no jitter, and its pivot may be anything. */
CX_CLONES CX_UNUSED static int cx_set_cholesky(cx_set *s, double jitter, int latent)
{
    ptrdiff_t n = s->count, width = s->width;
    double *L = s->L, *column = s->column;
    memcpy(L, s->K, sizeof(double) * n * width);
    for (ptrdiff_t j = 0; j < n - 1; ++j) {
        double pivot = L[j * width + j] + jitter;
        if (!(pivot > CX_PIVOT * s->variance))
            return 0;
        pivot = sqrt(pivot);
        L[j * width + j] = pivot;
        /* Whole vectors: zeros leave what is done as it is, and above the diagonal is nothing. */
        ptrdiff_t from = (j + 1) & ~(ptrdiff_t)3;
        for (ptrdiff_t a = from; a <= j; ++a)
            column[a] = 0.0;
        for (ptrdiff_t i = j + 1; i < n; ++i)
            column[i] = L[i * width + j] = L[i * width + j] / pivot;
        for (ptrdiff_t i = j + 1; i < n; ++i) {
            double *row = L + i * width, l = column[i];
            for (ptrdiff_t a = from; a <= i; a += 4) {
                cx_v4 rest = cx_load4(row + a) - l * cx_load4(column + a);
                memcpy(row + a, &rest, 32);
            }
        }
    }
    double *last = L + (n - 1) * width + n - 1;
    *last += latent ? 0.0 : jitter;
    return latent || *last > CX_PIVOT * s->variance;
}

/* Tries jitter until K has a factor; the jitter, or -1 if none helps. */
CX_UNUSED static double cx_set_factorize(cx_set *s, int latent)
{
    double jitter = 0.0;
    while (!cx_set_cholesky(s, jitter * s->variance, latent)) {
        if (jitter >= 0.99 * CX_LAST_JITTER)
            return -1.0;
        jitter = jitter == 0.0 ? CX_FIRST_JITTER : 10.0 * jitter;
    }
    return jitter * s->variance;
}

/* x, of all points but the last, becomes L^-T x. */
CX_CLONES CX_UNUSED static void cx_set_solve_transposed(const cx_set *s, double *x)
{
    for (ptrdiff_t j = s->count - 2; j >= 0; --j) {
        const double *row = s->L + j * s->width;
        double b = x[j] / row[j];
        x[j] = b;
        for (ptrdiff_t i = 0; i < j; ++i)
            x[i] -= row[i] * b;
    }
}

/* The same, L^-1 x. */
CX_CLONES CX_UNUSED static void cx_set_solve(const cx_set *s, double *x)
{
    for (ptrdiff_t j = 0; j < s->count - 1; ++j) {
        const double *row = s->L + j * s->width;
        double rest = x[j];
        for (ptrdiff_t i = 0; i < j; ++i)
            rest -= row[i] * x[i];
        x[j] = rest / row[j];
    }
}

/* out += sum_j weight[j] row_j, of rows of m numbers, m a multiple of 16. */
CX_CLONES CX_UNUSED static void cx_weigh_rows(const double *weight, const double *const *rows, ptrdiff_t count,
                                              ptrdiff_t m, double *out)
{
    for (ptrdiff_t a = 0; a < m; a += CX_LANES) {
        cx_v4 s0 = cx_load4(out + a), s1 = cx_load4(out + a + 4);
        cx_v4 s2 = cx_load4(out + a + 8), s3 = cx_load4(out + a + 12);
        for (ptrdiff_t j = 0; j < count; ++j) {
            const double *row = rows[j] + a;
            double w = weight[j];
            s0 = s0 + w * cx_load4(row);
            s1 = s1 + w * cx_load4(row + 4);
            s2 = s2 + w * cx_load4(row + 8);
            s3 = s3 + w * cx_load4(row + 12);
        }
        memcpy(out + a, &s0, 32);
        memcpy(out + a + 4, &s1, 32);
        memcpy(out + a + 8, &s2, 32);
        memcpy(out + a + 12, &s3, 32);
    }
}

/* A table's values at four t, and their slopes. */
CX_INLINE cx_v4 cx_table_slopes4(const cx_table *table, cx_v4 t, cx_v4 *slope)
{
    const double *rows[4];
    for (int l = 0; l < 4; ++l)
        rows[l] = table->pieces + 8 * cx_piece(table, t[l]);
    cx_i4 bits, whole;
    memcpy(&bits, &t, 32);
    whole = bits & INT64_C(0x7ff0000000000000);
    bits = (bits & CX_PIECE_MASK) | CX_PIECE_ONE;
    cx_v4 u, binade, a[4], b[4];
    memcpy(&u, &bits, 32);
    memcpy(&binade, &whole, 32);
    u = (u - 1.015625) * 64.0;
    cx_columns4(rows, 0, a);
    cx_columns4(rows, 4, b);
    cx_v4 e = b[3], f = 7.0 * b[3];
    e = b[2] + u * e;
    f = 6.0 * b[2] + u * f;
    e = b[1] + u * e;
    f = 5.0 * b[1] + u * f;
    e = b[0] + u * e;
    f = 4.0 * b[0] + u * f;
    e = a[3] + u * e;
    f = 3.0 * a[3] + u * f;
    e = a[2] + u * e;
    f = 2.0 * a[2] + u * f;
    e = a[1] + u * e;
    f = a[1] + u * f;
    /* Below the first piece a table is constant: there t may be 0. */
    *slope = f * (64.0 / (binade + 0x1p-900));
    return a[0] + u * e;
}

/* Four squared differences at a time, of axis `j` of a point and of many. */
CX_INLINE cx_v4 cx_squares4(const double *x, const double *columns, ptrdiff_t stride, ptrdiff_t j, size_t bytes)
{
    cx_v4 off = {0.0};
    memcpy(&off, columns + j * stride, bytes);
    off = off - x[j];
    return off * off;
}

enum { CX_MOST_FACTORS = 64 };

/* How ``sum_i g[i] k(x, y_i)`` changes, k being a sum of products: four parts, to be added up, of each number of `out`.
 * First come those of each factor: for each column of its group, how it changes with the logarithm of what that column's
 * square is multiplied by, then for each column of the group by which t is rescaled. Then the terms: how it changes with
 * the logarithm of each weight. `y` is (columns, stride). */
CX_CLONES CX_UNUSED static void cx_slopes(const cx_covariance *c, const double *x, const double *y, ptrdiff_t stride,
                                          ptrdiff_t count, const double *g, double *out)
{
    const cx_expression *e = &c->expression;
    for (ptrdiff_t i = 0; i < count; i += 4) {
        size_t bytes = 8 * (count - i < 4 ? count - i : 4);
        cx_v4 t[CX_MOST_GROUPS], value[CX_MOST_FACTORS], slope[CX_MOST_FACTORS], scale[CX_MOST_FACTORS];
        cx_v4 bend[CX_MOST_FACTORS], weight = {0.0};
        memcpy(&weight, g + i, bytes);
        weight = c->variance * weight;
        for (ptrdiff_t group = 0, j = 0; group < e->groups; ++group) {
            t[group] = (cx_v4){0.0};
            for (; j < e->group_stop[group]; ++j)
                t[group] = t[group] + cx_squares4(x, y + i, stride, j, bytes);
        }
        double *into = out;
        for (ptrdiff_t term = 0, f = 0; term < e->terms; ++term) {
            ptrdiff_t first = f, stop = e->term_stop[term];
            for (; f < stop; ++f) {
                cx_v4 at = t[e->factor_group[f]];
                if (e->rescale_table[f] >= 0) {
                    cx_table rescale = cx_table_of(e, e->rescale_table[f]);
                    scale[f] = cx_table_slopes4(&rescale, t[e->rescale_group[f]], &bend[f]);
                    at = at * scale[f];
                }
                cx_table table = cx_table_of(e, e->factor_table[f]);
                value[f] = cx_table_slopes4(&table, at, &slope[f]);
            }
            for (ptrdiff_t own = first; own < stop; ++own) {
                cx_v4 others = weight * e->weight[term];
                for (ptrdiff_t other = first; other < stop; ++other)
                    if (other != own)
                        others = others * value[other];
                others = others * slope[own];
                int rescaled = e->rescale_table[own] >= 0;
                for (int part = 0; part <= rescaled; ++part) {
                    ptrdiff_t group = part ? e->rescale_group[own] : e->factor_group[own];
                    cx_v4 by = !rescaled ? others
                               : part    ? others * t[e->factor_group[own]] * bend[own]
                                         : others * scale[own];
                    for (ptrdiff_t j = group ? e->group_stop[group - 1] : 0; j < e->group_stop[group]; ++j, into += 4) {
                        cx_v4 sum = cx_load4(into) + by * cx_squares4(x, y + i, stride, j, bytes);
                        memcpy(into, &sum, 32);
                    }
                }
            }
        }
        for (ptrdiff_t term = 0, f = 0; term < e->terms; ++term, into += 4) {
            cx_v4 whole = weight * e->weight[term];
            for (; f < e->term_stop[term]; ++f)
                whole = whole * value[f];
            whole = whole + cx_load4(into);
            memcpy(into, &whole, 32);
        }
    }
}

#endif
