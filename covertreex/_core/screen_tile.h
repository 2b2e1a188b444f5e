/* Screening arithmetic for one floating-point type, CX_T (define before including; CX_NAME(x) makes its names).
 *
 * A screen decides nothing: it bounds |rho| from above and below with a margin for all rounding, its own and that of the
 * canonical arithmetic (docs/mathematics.md, C1). So it may use fused multiply-add and sums in any order.
 */

CX_INLINE CX_NAME(vector) CX_NAME(load)(const CX_T *a)
{
    CX_NAME(vector) v;
    memcpy(&v, a, 32);
    return v;
}

/* Put a query's factors into lane `lane` of a pack. */
CX_UNUSED static void CX_NAME(put)(const CX_T *factors, ptrdiff_t m, CX_T *pack, ptrdiff_t lane)
{
    for (ptrdiff_t i = 0; i < m; ++i)
        pack[i * (ptrdiff_t)(64 / sizeof(CX_T)) + lane] = factors[i];
}

#define CX_BYTES 32
#define CX_TARGET
#ifdef CX_SCREEN_V3
#define CX_DOTS_CLONES
#define CX_WIDTH(x) CX_NAME(x##_plain)
#else
#define CX_DOTS_CLONES CX_SCREEN_CLONES
#define CX_WIDTH(x) CX_NAME(x##_narrow)
#endif
#include "screen_dots.h"
#undef CX_TARGET
#undef CX_DOTS_CLONES
#undef CX_WIDTH

#ifdef CX_SCREEN_V3
#define CX_TARGET CX_SCREEN_V3
#define CX_DOTS_CLONES CX_SCREEN_V3
#define CX_WIDTH(x) CX_NAME(x##_fused)
#include "screen_dots.h"
#undef CX_TARGET
#undef CX_DOTS_CLONES
#undef CX_WIDTH

CX_UNUSED static void CX_NAME(dots_narrow)(const CX_T *const *rows, ptrdiff_t nrows, const CX_T *const *next,
                                           ptrdiff_t ahead, const CX_T *pack, ptrdiff_t packs, ptrdiff_t m, CX_T *out,
                                           ptrdiff_t stride)
{
    if (CX_HAS_V3)
        CX_NAME(dots_fused)(rows, nrows, next, ahead, pack, packs, m, out, stride);
    else
        CX_NAME(dots_plain)(rows, nrows, next, ahead, pack, packs, m, out, stride);
}
#endif
#undef CX_BYTES

#define CX_BYTES 64
#define CX_TARGET CX_SCREEN_V4
#define CX_DOTS_CLONES CX_SCREEN_V4
#define CX_WIDTH(x) CX_NAME(x##_wide)
#include "screen_dots.h"
#undef CX_BYTES
#undef CX_TARGET
#undef CX_DOTS_CLONES
#undef CX_WIDTH

/* Dots of rows (a multiple of 6) with packs of queries: out[row * stride + query]. `next` are `ahead` rows (likewise)
 * that will be looked at afterwards. */
CX_UNUSED static void CX_NAME(dots)(const CX_T *const *rows, ptrdiff_t nrows, const CX_T *const *next, ptrdiff_t ahead,
                                    const CX_T *pack, ptrdiff_t packs, ptrdiff_t m, CX_T *out, ptrdiff_t stride)
{
    if (CX_HAS_V4)
        CX_NAME(dots_wide)(rows, nrows, next, ahead, pack, packs, m, out, stride);
    else
        CX_NAME(dots_narrow)(rows, nrows, next, ahead, pack, packs, m, out, stride);
}

CX_INLINE CX_NAME(vector) CX_NAME(root)(CX_NAME(vector) x)
{
    CX_NAME(vector) root;
    for (size_t i = 0; i < 32 / sizeof(CX_T); ++i)
        root[i] = CX_SQRT(x[i]);
    return root;
}

/* The kernels, for a variance of 1, at squared distances: as cx_kernel_... of canonical.h. */
CX_INLINE CX_NAME(vector) CX_NAME(rbf)(CX_UNUSED CX_T alpha, CX_NAME(vector) r2)
{
    return CX_NAME(exp)((CX_T)-0.5 * r2);
}

CX_INLINE CX_NAME(vector) CX_NAME(matern12)(CX_UNUSED CX_T alpha, CX_NAME(vector) r2)
{
    return CX_NAME(exp)(-CX_NAME(root)(r2));
}

CX_INLINE CX_NAME(vector) CX_NAME(matern32)(CX_UNUSED CX_T alpha, CX_NAME(vector) r2)
{
    CX_NAME(vector) a = (CX_T)1.7320508075688772 * CX_NAME(root)(r2);
    return ((CX_T)1.0 + a) * CX_NAME(exp)(-a);
}

CX_INLINE CX_NAME(vector) CX_NAME(matern52)(CX_UNUSED CX_T alpha, CX_NAME(vector) r2)
{
    CX_NAME(vector) a = (CX_T)2.23606797749979 * CX_NAME(root)(r2);
    return ((CX_T)1.0 + a + a * a * (CX_T)(1.0 / 3.0)) * CX_NAME(exp)(-a);
}

CX_INLINE CX_NAME(vector) CX_NAME(rationalquadratic)(CX_T alpha, CX_NAME(vector) r2)
{
    for (size_t i = 0; i < 32 / sizeof(CX_T); ++i)
        r2[i] = (CX_T)cx_exp_neg(-(double)alpha * cx_log(1.0 + (double)r2[i] / (2.0 * (double)alpha)));
    return r2;
}

/* Kernel values, for a variance of 1, in place of `count` squared distances: more than one keep all units busy. `Lens`
 * and `Pivots` have checked the code: nan for another. */
CX_INLINE void CX_NAME(kernels)(int kernel, CX_T alpha, CX_NAME(vector) *values, int count)
{
    switch (kernel) {
#define CX_KERNEL_CASE(CODE, NAME)                                                                                     \
    case CODE:                                                                                                         \
        for (int j = 0; j < count; ++j)                                                                                \
            values[j] = CX_NAME(NAME)(alpha, values[j]);                                                               \
        break;
        CX_EACH_KERNEL(CX_KERNEL_CASE)
#undef CX_KERNEL_CASE
    case CX_NO_KERNEL:
        for (int j = 0; j < count; ++j)
            values[j] = (CX_NAME(vector)){0};
        break;
    default:
        for (int j = 0; j < count; ++j)
            values[j] = (CX_NAME(vector)){0} + (CX_T)NAN;
    }
}

/* A10 as screens have it: correlations of `count` (1 or 2) vectors of pairs, of which t[g * count ...] has the squared
 * distances in each group. */
CX_INLINE void CX_NAME(expression)(const cx_expression *e, const CX_NAME(vector) *t, CX_NAME(vector) *values, int count)
{
    for (int j = 0; j < count; ++j)
        values[j] = (CX_NAME(vector)){0};
    for (ptrdiff_t i = 0, f = 0; i < e->terms; ++i) {
        CX_NAME(vector) term[2];
        for (int j = 0; j < count; ++j)
            term[j] = (CX_NAME(vector)){0} + (CX_T)e->weight[i];
        for (; f < e->term_stop[i]; ++f) {
            const cx_table table = cx_table_of(e, e->factor_table[f]);
            const CX_NAME(vector) *at = t + e->factor_group[f] * count;
            if (e->rescale_table[f] < 0) {
                for (int j = 0; j < count; ++j)
                    term[j] *= CX_NAME(table)(&table, at[j]);
                continue;
            }
            const cx_table scale = cx_table_of(e, e->rescale_table[f]);
            const CX_NAME(vector) *by = t + e->rescale_group[f] * count;
            for (int j = 0; j < count; ++j)
                term[j] *= CX_NAME(table)(&table, at[j] * CX_NAME(table)(&scale, by[j]));
        }
        for (int j = 0; j < count; ++j)
            values[j] += term[j];
    }
}

/* As `kernels`, of any number of squared distances. */
CX_SCREEN_CLONES CX_UNUSED static void CX_NAME(values)(int kernel, CX_T alpha, CX_T *values, ptrdiff_t count)
{
    enum { V = 32 / sizeof(CX_T) };
    for (ptrdiff_t i = 0; i < count; i += V) {
        CX_NAME(vector) r2 = {0};
        size_t bytes = (count - i < V ? count - i : V) * sizeof(CX_T);
        memcpy(&r2, values + i, bytes);
        CX_NAME(kernels)(kernel, alpha, &r2, 1);
        memcpy(values + i, &r2, bytes);
    }
}

/* rho of one row with a pack of queries (coords being (d, stride)): s2 k - dot times both scales. */
CX_INLINE void CX_NAME(rho)(int kernel, CX_T variance, CX_T alpha, const cx_expression *expression, const CX_T *x,
                            CX_T row_scale, const CX_T *coords, ptrdiff_t d, ptrdiff_t stride, const CX_T *scale,
                            const CX_T *dots, CX_NAME(vector) *rho)
{
    enum { V = 32 / sizeof(CX_T) };
    /* One group of columns, unless there are tables. */
    CX_NAME(vector) t[2 * CX_MOST_GROUPS];
    const ptrdiff_t groups = kernel == CX_EXPRESSION ? expression->groups : 1;
    for (ptrdiff_t g = 0, j = 0; g < groups; ++g) {
        const ptrdiff_t stop = kernel == CX_EXPRESSION ? expression->group_stop[g] : d;
        rho[0] = rho[1] = (CX_NAME(vector)){0};
        for (; j < stop; ++j) {
            CX_NAME(vector) a = CX_NAME(load)(coords + j * stride) - x[j];
            CX_NAME(vector) b = CX_NAME(load)(coords + j * stride + V) - x[j];
            rho[0] += a * a;
            rho[1] += b * b;
        }
        t[2 * g] = rho[0];
        t[2 * g + 1] = rho[1];
    }
    if (kernel == CX_EXPRESSION)
        CX_NAME(expression)(expression, t, rho, 2);
    else
        CX_NAME(kernels)(kernel, alpha, rho, 2);
    for (int j = 0; j < 2; ++j)
        rho[j] = (variance * rho[j] - CX_NAME(load)(dots + V * j)) * CX_NAME(load)(scale + V * j) * row_scale;
}

/* Where |rho|, which may be off by `row_blunt` times `blunt` and `floor`, perhaps reaches a threshold (C1): all bits. */
CX_INLINE CX_NAME(bits) CX_NAME(reaches)(CX_NAME(vector) rho, CX_T row_blunt, CX_T floor, const CX_T *blunt,
                                         const CX_T *threshold)
{
    CX_NAME(bits) shown, sign = {0};
    memcpy(&shown, &rho, 32);
    shown &= (sign - 1) ^ ((sign + 1) << (8 * sizeof(CX_T) - 1));
    memcpy(&rho, &shown, 32);
    return rho + row_blunt * CX_NAME(load)(blunt) + floor >= CX_NAME(load)(threshold);
}

/* As `bounds`; inlined there for each kernel, so that all numbers stay in registers. */
CX_INLINE int CX_NAME(bounds_of)(int kernel, const CX_NAME(lens) *lens, int64_t row, CX_T row_blunt, CX_T *dots,
                                 char *packs)
{
    enum { V = 32 / sizeof(CX_T) };
    /* By themselves, for stores might change what a pointer leads to. */
    const CX_T variance = lens->variance, alpha = lens->alpha, floor = lens->floor, row_scale = lens->scale[row];
    const ptrdiff_t d = lens->d, stride = lens->stride, count = lens->count;
    const CX_T *x = lens->coords + row * d, *coords = lens->group_coords, *scale = lens->group_scale;
    const CX_T *blunt = lens->group_blunt, *threshold = lens->threshold;
    int all = 0;
    for (ptrdiff_t i = 0; i < count; i += 2 * V) {
        CX_NAME(vector) rho[2];
        CX_NAME(rho)(kernel, variance, alpha, lens->expression, x, row_scale, coords + i, d, stride, scale + i,
                     dots + i, rho);
        memcpy(dots + i, rho, 32);
        memcpy(dots + i + V, rho + 1, 32);
        CX_NAME(bits) hit = CX_NAME(reaches)(rho[0], row_blunt, floor, blunt + i, threshold + i) |
                            CX_NAME(reaches)(rho[1], row_blunt, floor, blunt + i + V, threshold + i + V);
        cx_screen64_bits any;
        memcpy(&any, &hit, 32);
        *packs = ((any[0] | any[1]) | (any[2] | any[3])) != 0;
        all |= *packs++;
    }
    return all;
}

/* rho of one row with all queries of the group, in place of their dots; whether the row may concern any, and in which
 * packs: see `reaches`. `Lens` has checked the code of the kernel. */
CX_SCREEN_CLONES CX_UNUSED static int CX_NAME(bounds)(const CX_NAME(lens) *lens, int64_t row, CX_T row_blunt,
                                                      CX_T *dots, char *packs)
{
    switch (lens->kernel) {
#define CX_BOUNDS(CODE, NAME)                                                                                          \
    case CODE:                                                                                                         \
        return CX_NAME(bounds_of)(CODE, lens, row, row_blunt, dots, packs);
        CX_EACH_KERNEL(CX_BOUNDS)
        CX_BOUNDS(CX_EXPRESSION, tables)
        CX_BOUNDS(CX_NO_KERNEL, none)
#undef CX_BOUNDS
    }
    return 0;
}

/* Which queries of the group `bounds` is about; returns how many. */
CX_SCREEN_CLONES CX_UNUSED static ptrdiff_t CX_NAME(hits)(const CX_NAME(lens) *lens, CX_T row_blunt, const CX_T *rho,
                                                          const char *packs, int32_t *out)
{
    enum { V = 32 / sizeof(CX_T) };
    const CX_T *blunt = lens->group_blunt, *threshold = lens->threshold;
    const CX_T floor = lens->floor;
    const ptrdiff_t count = lens->count;
    ptrdiff_t found = 0;
    for (ptrdiff_t begin = 0; begin < count; begin += V) {
        if (!packs[begin / (2 * V)])
            continue;
        CX_NAME(bits) hit = CX_NAME(reaches)(CX_NAME(load)(rho + begin), row_blunt, floor, blunt + begin,
                                             threshold + begin);
        for (ptrdiff_t i = 0; i < V; ++i) {
            out[found] = (int32_t)(begin + i);
            found -= hit[i];
        }
    }
    return found;
}

/* Dots of four rows of `m` components, a multiple of 16, with one query; `next` are on their way when it returns. */
CX_INLINE void CX_NAME(four)(const CX_T *v, ptrdiff_t m, const CX_T *const *r, const CX_T *const *next, CX_T *dots)
{
    enum { V = 32 / sizeof(CX_T) };
    const CX_T *r0 = r[0], *r1 = r[1], *r2 = r[2], *r3 = r[3];
    const CX_T *n0 = next[0], *n1 = next[1], *n2 = next[2], *n3 = next[3];
    CX_NAME(vector) a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0}, b0 = {0}, b1 = {0}, b2 = {0}, b3 = {0};
    for (ptrdiff_t i = 0; i < m; i += 2 * V) {
        CX_NAME(vector) p = CX_NAME(load)(v + i), q = CX_NAME(load)(v + i + V);
        CX_PREFETCH(n0 + i);
        CX_PREFETCH(n1 + i);
        CX_PREFETCH(n2 + i);
        CX_PREFETCH(n3 + i);
        a0 += p * CX_NAME(load)(r0 + i);
        b0 += q * CX_NAME(load)(r0 + i + V);
        a1 += p * CX_NAME(load)(r1 + i);
        b1 += q * CX_NAME(load)(r1 + i + V);
        a2 += p * CX_NAME(load)(r2 + i);
        b2 += q * CX_NAME(load)(r2 + i + V);
        a3 += p * CX_NAME(load)(r3 + i);
        b3 += q * CX_NAME(load)(r3 + i + V);
    }
    CX_NAME(vector) sums[4] = {a0 + b0, a1 + b1, a2 + b2, a3 + b3};
    for (int j = 0; j < 4; ++j) {
        dots[j] = (sums[j][0] + sums[j][1]) + (sums[j][2] + sums[j][3]);
        if (V == 8)
            dots[j] += (sums[j][V - 4] + sums[j][V - 3]) + (sums[j][V - 2] + sums[j][V - 1]);
    }
}

/* |rho| of `count` rows and one query. `ahead` rows more will be looked at afterwards. `rho` has room for a multiple of
 * 8. */
CX_SCREEN_CLONES CX_UNUSED static void CX_NAME(many)(const CX_NAME(lens) *lens, const CX_NAME(query) *query,
                                                     const int64_t *rows, ptrdiff_t count, ptrdiff_t ahead, double *rho)
{
    enum { V = 32 / sizeof(CX_T) };
    /* By themselves, for stores might change what a pointer leads to. */
    const int kernel = lens->kernel;
    const cx_expression *expression = lens->expression;
    const ptrdiff_t groups = kernel == CX_EXPRESSION ? expression->groups : 1;
    const CX_T variance = lens->variance, alpha = lens->alpha, scale = query->scale;
    const ptrdiff_t d = lens->d, m = lens->m, t = lens->t, wide = lens->wide;
    const CX_T *coords = lens->coords, *scales = lens->scale, *factors = lens->factors;
    const CX_T *x = query->coords, *v = query->factors;
    const float *tails = lens->tails, *v_tail = query->tail;
    ptrdiff_t last = count + ahead - 1;
    for (ptrdiff_t i = 0; i < count; i += V) {
        const CX_T *at[V + 4];
        const float *tail[V + 4];
        int64_t taken[V];
        CX_T dots[V], scaled[V], off[V];
        CX_NAME(vector) square = {0}, squares[CX_MOST_GROUPS];
        for (ptrdiff_t j = 0; j < V + 4; ++j) {
            int64_t row = rows[i + j < last ? i + j : last];
            at[j] = factors + row * wide;
            tail[j] = tails + row * t;
            if (j < V) {
                taken[j] = row;
                scaled[j] = scales[row] * scale;
            }
        }
        for (ptrdiff_t j = 0; j < V; j += 4) {
            CX_NAME(four)(v, m, at + j, at + j + 4, dots + j);
            if (t > 0) {
                float more[4];
                cx_screen32_four(v_tail, t, tail + j, tail + j + 4, more);
                for (int l = 0; l < 4; ++l)
                    dots[j + l] += more[l];
            }
        }
        for (ptrdiff_t g = 0, a = 0; g < groups; ++g) {
            const ptrdiff_t stop = kernel == CX_EXPRESSION ? expression->group_stop[g] : d;
            square = (CX_NAME(vector)){0};
            for (; a < stop; ++a) {
                for (ptrdiff_t j = 0; j < V; ++j)
                    off[j] = coords[taken[j] * d + a] - x[a];
                square += CX_NAME(load)(off) * CX_NAME(load)(off);
            }
            squares[g] = square;
        }
        if (kernel == CX_EXPRESSION)
            CX_NAME(expression)(expression, squares, &square, 1);
        else
            CX_NAME(kernels)(kernel, alpha, &square, 1);
        square = (variance * square - CX_NAME(load)(dots)) * CX_NAME(load)(scaled);
        for (ptrdiff_t j = 0; j < V; ++j)
            rho[i + j] = fabs((double)square[j]);
    }
}
