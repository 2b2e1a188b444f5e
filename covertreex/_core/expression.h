/* Correlations by tables: sums of products of functions of t, the squared scaled distance in a group of columns, each a
 * piecewise polynomial (docs/mathematics.md, A10). covertreex/kernels/table.py makes them. */
#ifndef COVERTREEX_EXPRESSION_H
#define COVERTREEX_EXPRESSION_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base.h"

enum { CX_MOST_GROUPS = 16 };

/* Borrowed pointers: an `Expression` of Python owns the arrays. Stops end what begins where the one before ends. */
typedef struct {
    ptrdiff_t groups, terms;
    const int64_t *group_stop; /* columns of each group */
    const int64_t *term_stop;  /* factors of each term */
    const double *weight;
    const int64_t *factor_group, *factor_table, *rescale_group, *rescale_table;
    const int64_t *table_first; /* the number of its first piece, among all pieces of positive float64 numbers */
    const int64_t *table_stop;  /* pieces of each table */
    const double *pieces;       /* (pieces, 8) */
    const float *pieces32;      /* (pieces, 4), of degree 3; for screens */
} cx_expression;

/* One table. */
typedef struct {
    int64_t first, last; /* the last piece, counted from 0 */
    const double *pieces;
    const float *pieces32;
} cx_table;

CX_INLINE cx_table cx_table_of(const cx_expression *e, int64_t number)
{
    int64_t start = number > 0 ? e->table_stop[number - 1] : 0;
    return (cx_table){e->table_first[number], e->table_stop[number] - start - 1, e->pieces + 8 * start,
                      e->pieces32 + 4 * start};
}

/* Where in its table a number is: the first 5 bits of the fraction tell pieces of a binade apart. */
#define CX_PIECE_SHIFT 47
#define CX_PIECE_MASK INT64_C(0x00007fffffffffff)
#define CX_PIECE_ONE INT64_C(0x3ff0000000000000)

CX_INLINE int64_t cx_piece(const cx_table *table, double t)
{
    int64_t bits;
    memcpy(&bits, &t, 8);
    bits = (bits >> CX_PIECE_SHIFT) - table->first;
    bits = bits < 0 ? 0 : bits;
    return bits > table->last ? table->last : bits;
}

/* A10. A table's value at t >= 0. */
CX_INLINE double cx_table_value(const cx_table *table, double t)
{
    const double *a = table->pieces + 8 * cx_piece(table, t);
    int64_t bits;
    memcpy(&bits, &t, 8);
    bits = (bits & CX_PIECE_MASK) | CX_PIECE_ONE;
    double u;
    memcpy(&u, &bits, 8);
    u = (u - 1.015625) * 64.0;
    double u2 = u * u;
    double e = a[6] + a[7] * u;
    e = (a[4] + a[5] * u) + u2 * e;
    e = (a[2] + a[3] * u) + u2 * e;
    return a[0] + (a[1] * u + u2 * e);
}

/* A10. A correlation, of scaled coordinates. */
CX_UNUSED static double cx_expression_value(const cx_expression *e, const double *x, const double *y)
{
    double t[CX_MOST_GROUPS], total = 0.0;
    for (ptrdiff_t g = 0, j = 0; g < e->groups; ++g) {
        double s = 0.0;
        for (; j < e->group_stop[g]; ++j) {
            double off = x[j] - y[j];
            s = s + off * off;
        }
        t[g] = s;
    }
    for (ptrdiff_t i = 0, f = 0; i < e->terms; ++i) {
        double term = e->weight[i];
        for (; f < e->term_stop[i]; ++f) {
            double at = t[e->factor_group[f]];
            if (e->rescale_table[f] >= 0) {
                cx_table scale = cx_table_of(e, e->rescale_table[f]);
                at = at * cx_table_value(&scale, t[e->rescale_group[f]]);
            }
            cx_table table = cx_table_of(e, e->factor_table[f]);
            term = term * cx_table_value(&table, at);
        }
        total = total + term;
    }
    return total;
}

#if defined(__clang__) || __GNUC__ >= 12
#define CX_SHUFFLE4(BITS, a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#define CX_SHUFFLE8(BITS, a, b, i, j, k, l, m, n, o, p) __builtin_shufflevector(a, b, i, j, k, l, m, n, o, p)
#else
#define CX_SHUFFLE4(BITS, a, b, i, j, k, l) __builtin_shuffle(a, b, (BITS){i, j, k, l})
#define CX_SHUFFLE8(BITS, a, b, i, j, k, l, m, n, o, p) __builtin_shuffle(a, b, (BITS){i, j, k, l, m, n, o, p})
#endif

typedef int64_t cx_i4 __attribute__((vector_size(32)));

/* Coefficients of four pieces, `a` each a row of four: columns of a 4 x 4 matrix. */
CX_INLINE void cx_columns4(const double *const *rows, ptrdiff_t from, cx_v4 a[4])
{
    cx_v4 r0 = cx_load4(rows[0] + from), r1 = cx_load4(rows[1] + from);
    cx_v4 r2 = cx_load4(rows[2] + from), r3 = cx_load4(rows[3] + from);
    cx_v4 t0 = CX_SHUFFLE4(cx_i4, r0, r1, 0, 4, 2, 6), t1 = CX_SHUFFLE4(cx_i4, r0, r1, 1, 5, 3, 7);
    cx_v4 t2 = CX_SHUFFLE4(cx_i4, r2, r3, 0, 4, 2, 6), t3 = CX_SHUFFLE4(cx_i4, r2, r3, 1, 5, 3, 7);
    a[0] = CX_SHUFFLE4(cx_i4, t0, t2, 0, 1, 4, 5);
    a[1] = CX_SHUFFLE4(cx_i4, t1, t3, 0, 1, 4, 5);
    a[2] = CX_SHUFFLE4(cx_i4, t0, t2, 2, 3, 6, 7);
    a[3] = CX_SHUFFLE4(cx_i4, t1, t3, 2, 3, 6, 7);
}

/* cx_table_value of four numbers. */
CX_INLINE cx_v4 cx_table_values4(const cx_table *table, cx_v4 t)
{
    const double *rows[4];
    for (int l = 0; l < 4; ++l)
        rows[l] = table->pieces + 8 * cx_piece(table, t[l]);
    cx_i4 bits;
    memcpy(&bits, &t, 32);
    bits = (bits & CX_PIECE_MASK) | CX_PIECE_ONE;
    cx_v4 u, a[4], b[4];
    memcpy(&u, &bits, 32);
    u = (u - 1.015625) * 64.0;
    cx_v4 u2 = u * u;
    cx_columns4(rows, 4, b);
    cx_columns4(rows, 0, a);
    cx_v4 e = b[2] + b[3] * u;
    e = (b[0] + b[1] * u) + u2 * e;
    e = (a[2] + a[3] * u) + u2 * e;
    return a[0] + (a[1] * u + u2 * e);
}

/* Correlations of four pairs, of which `t` has the squared distances in each group. */
CX_INLINE cx_v4 cx_expression_values4(const cx_expression *e, const cx_v4 *t)
{
    cx_v4 total = {0.0};
    for (ptrdiff_t i = 0, f = 0; i < e->terms; ++i) {
        cx_v4 term = (cx_v4){0.0} + e->weight[i];
        for (; f < e->term_stop[i]; ++f) {
            cx_v4 at = t[e->factor_group[f]];
            if (e->rescale_table[f] >= 0) {
                cx_table scale = cx_table_of(e, e->rescale_table[f]);
                at = at * cx_table_values4(&scale, t[e->rescale_group[f]]);
            }
            cx_table table = cx_table_of(e, e->factor_table[f]);
            term = term * cx_table_values4(&table, at);
        }
        total = total + term;
    }
    return total;
}

#endif
