/* Values of pairs, for one floating-point type, CX_T (CX_SINGLE: whether it is float), and one kind of registers (see
 * each_width.h).
 *
 * Every lane is computed alone, and sums are added in one order, so that a value has the same bits in either width.
 */

enum {
    CX_WIDTH(V) = CX_BYTES / sizeof(CX_T),    /* numbers in a register */
    CX_WIDTH(PER_PACK) = 64 / CX_BYTES,       /* registers for the queries of a pack */
    CX_WIDTH(TOGETHER) = 4 * (CX_BYTES / 32), /* rows whose dots with one query are formed together */
};

CX_TARGET CX_INLINE CX_WIDTH(vector) CX_WIDTH(load)(const CX_T *a)
{
    CX_WIDTH(vector) v;
    memcpy(&v, a, CX_BYTES);
    return v;
}

#if CX_BYTES == 64

/* The lower or the upper half of a register. */
CX_TARGET CX_INLINE CX_NAME(narrow_vector) CX_WIDTH(half)(CX_WIDTH(vector) v, int upper)
{
#if !defined(__clang__) && __GNUC__ < 12
    CX_NAME(narrow_vector) half;
    memcpy(&half, (const char *)&v + 32 * upper, 32);
    return half;
#elif CX_SINGLE
    return upper ? __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15)
                 : __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
#else
    return upper ? __builtin_shufflevector(v, v, 4, 5, 6, 7) : __builtin_shufflevector(v, v, 0, 1, 2, 3);
#endif
}

CX_TARGET CX_INLINE CX_WIDTH(vector) CX_WIDTH(joined)(CX_NAME(narrow_vector) a, CX_NAME(narrow_vector) b)
{
#if !defined(__clang__) && __GNUC__ < 12
    CX_WIDTH(vector) v;
    memcpy(&v, &a, 32);
    memcpy((char *)&v + 32, &b, 32);
    return v;
#elif CX_SINGLE
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
#endif
}

#endif

CX_TARGET CX_INLINE CX_WIDTH(vector) CX_WIDTH(table)(const cx_table *table, CX_WIDTH(vector) t)
{
#if defined(__clang__)
    CX_T at[CX_WIDTH(V)];
    memcpy(at, &t, CX_BYTES);
    for (int i = 0; i < CX_WIDTH(V); i += 32 / (int)sizeof(CX_T))
        CX_NAME(pieces_at)(table, at + i);
    memcpy(&t, at, CX_BYTES);
    return t;
#elif CX_BYTES == 64
    return CX_WIDTH(joined)(CX_NAME(pieces)(table, CX_WIDTH(half)(t, 0)), CX_NAME(pieces)(table, CX_WIDTH(half)(t, 1)));
#else
    return CX_NAME(pieces)(table, t);
#endif
}

/* Which numbers have something: bits of each, or of wide registers one for each. */
#if CX_BYTES == 64
typedef unsigned CX_WIDTH(which);
#else
typedef CX_WIDTH(bits) CX_WIDTH(which);
#endif

CX_TARGET CX_INLINE int CX_WIDTH(any)(CX_WIDTH(which) bits)
{
#if CX_BYTES == 64
    return bits != 0;
#else
    int64_t some[CX_BYTES / 8], all = 0;
    memcpy(some, &bits, CX_BYTES);
    for (int i = 0; i < CX_BYTES / 8; ++i)
        all |= some[i];
    return all != 0;
#endif
}

CX_TARGET CX_INLINE CX_WIDTH(which) CX_WIDTH(not_below)(CX_WIDTH(vector) a, CX_WIDTH(vector) b)
{
#if CX_BYTES == 64 && CX_SINGLE
    return (unsigned)_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
#elif CX_BYTES == 64
    return (unsigned)_mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GE_OQ);
#else
    return a >= b;
#endif
}

/* A dot from the sums of its components by their place in a pack: `a`, or two halves of them, `a` and `b`. */
CX_TARGET CX_INLINE CX_T CX_WIDTH(total)(CX_WIDTH(vector) a, CX_UNUSED CX_WIDTH(vector) b)
{
#if CX_BYTES == 64
    CX_NAME(narrow_vector) sum = CX_WIDTH(half)(a, 0) + CX_WIDTH(half)(a, 1);
#else
    CX_WIDTH(vector) sum = a + b;
#endif
    CX_T total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
#if CX_SINGLE
    total += (sum[4] + sum[5]) + (sum[6] + sum[7]);
#endif
    return total;
}

#if CX_SINGLE

/* exp(x) for x <= 0 to 1e-4 relative (C4); about 1e-38 below -87. */
CX_TARGET CX_INLINE CX_WIDTH(vector) CX_WIDTH(coarse_exp)(CX_WIDTH(vector) x)
{
    x *= 1.44269504f;
#if CX_BYTES == 64
    x = (CX_WIDTH(vector))_mm512_max_ps((__m512)x, (__m512)((CX_WIDTH(vector)){0} - 126.0f));
#else
    CX_WIDTH(bits) least, above = x > -126.0f;
    CX_WIDTH(vector) bound = (CX_WIDTH(vector)){0} - 126.0f;
    memcpy(&least, &bound, CX_BYTES);
    CX_WIDTH(bits) given;
    memcpy(&given, &x, CX_BYTES);
    given = (given & above) | (least & ~above);
    memcpy(&x, &given, CX_BYTES);
#endif
    CX_WIDTH(vector) shifted = x + 12582912.0f; /* 1.5 * 2^23 */
    CX_WIDTH(vector) f = x - (shifted - 12582912.0f);
    /* 2^f on [-1/2, 1/2], with the least relative error that a cubic has: 7.5e-5. */
    CX_WIDTH(vector) e = (0.999928073f + f * 0.693260985f) + (f * f) * (0.242611125f + f * 0.0551716703f);
    CX_WIDTH(bits) power, whole;
    memcpy(&power, &e, CX_BYTES);
    memcpy(&whole, &shifted, CX_BYTES);
    power += whole << 23;
    memcpy(&e, &power, CX_BYTES);
    return e;
}

/* exp(x) for x <= 0 to about 3e-7 relative; 0 below -87. */
CX_TARGET CX_INLINE CX_WIDTH(vector) CX_WIDTH(exp)(CX_WIDTH(vector) x, int coarse)
{
    if (coarse)
        return CX_WIDTH(coarse_exp)(x);
    CX_WIDTH(bits) shown, keep = x >= -87.0f;
    memcpy(&shown, &x, CX_BYTES);
    shown &= keep;
    memcpy(&x, &shown, CX_BYTES);
    CX_WIDTH(vector) shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23 */
    CX_WIDTH(vector) n = shifted - 12582912.0f, r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    /* By squares: the sum of a chain would wait for every term. */
    CX_WIDTH(vector) r2 = r * r, e = (1.0f / 24.0f + r * (1.0f / 120.0f)) + r2 * (1.0f / 720.0f);
    e = (1.0f + r) + r2 * ((0.5f + r * (1.0f / 6.0f)) + r2 * e);
    memcpy(&shown, &shifted, CX_BYTES);
    shown = ((shown + 127) << 23) & keep;
    memcpy(&x, &shown, CX_BYTES);
    return e * x;
}

#else

/* exp(x) for x <= 0 to about 4e-16 relative; 0 below -700. */
CX_TARGET CX_INLINE CX_WIDTH(vector) CX_WIDTH(exp)(CX_WIDTH(vector) x, CX_UNUSED int coarse)
{
    CX_WIDTH(bits) shown, keep = x >= -700.0;
    memcpy(&shown, &x, CX_BYTES);
    shown &= keep;
    memcpy(&x, &shown, CX_BYTES);
    CX_WIDTH(vector) shifted = x * 1.4426950408889634 + 6755399441055744.0; /* 1.5 * 2^52 */
    CX_WIDTH(vector) n = shifted - 6755399441055744.0;
    CX_WIDTH(vector) r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    CX_WIDTH(vector) e = (CX_WIDTH(vector)){0} + 1.0 / 6227020800.0;
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
    memcpy(&shown, &shifted, CX_BYTES);
    shown = ((shown + 1023) << 52) & keep;
    memcpy(&x, &shown, CX_BYTES);
    return e * x;
}

#endif

CX_TARGET CX_INLINE CX_WIDTH(vector) CX_WIDTH(root)(CX_WIDTH(vector) x)
{
    CX_WIDTH(vector) root;
    for (size_t i = 0; i < CX_BYTES / sizeof(CX_T); ++i)
        root[i] = CX_SQRT(x[i]);
    return root;
}

/* The kernels, for a variance of 1, at squared distances: as cx_kernel_... of canonical.h. `coarse` ones are off by 1e-4
 * at most. */
CX_TARGET CX_INLINE CX_WIDTH(vector) CX_WIDTH(rbf)(CX_UNUSED CX_T alpha, CX_WIDTH(vector) r2, int coarse)
{
    return CX_WIDTH(exp)((CX_T)-0.5 * r2, coarse);
}

CX_TARGET CX_INLINE CX_WIDTH(vector) CX_WIDTH(matern12)(CX_UNUSED CX_T alpha, CX_WIDTH(vector) r2, int coarse)
{
    return CX_WIDTH(exp)(-CX_WIDTH(root)(r2), coarse);
}

CX_TARGET CX_INLINE CX_WIDTH(vector) CX_WIDTH(matern32)(CX_UNUSED CX_T alpha, CX_WIDTH(vector) r2, int coarse)
{
    CX_WIDTH(vector) a = (CX_T)1.7320508075688772 * CX_WIDTH(root)(r2);
    return ((CX_T)1.0 + a) * CX_WIDTH(exp)(-a, coarse);
}

CX_TARGET CX_INLINE CX_WIDTH(vector) CX_WIDTH(matern52)(CX_UNUSED CX_T alpha, CX_WIDTH(vector) r2, int coarse)
{
    CX_WIDTH(vector) a = (CX_T)2.23606797749979 * CX_WIDTH(root)(r2);
    return ((CX_T)1.0 + a + a * a * (CX_T)(1.0 / 3.0)) * CX_WIDTH(exp)(-a, coarse);
}

CX_TARGET CX_INLINE CX_WIDTH(vector) CX_WIDTH(rationalquadratic)(CX_T alpha, CX_WIDTH(vector) r2,
                                                                CX_UNUSED int coarse)
{
    for (size_t i = 0; i < CX_BYTES / sizeof(CX_T); ++i)
        r2[i] = (CX_T)cx_exp_neg(-(double)alpha * cx_log(1.0 + (double)r2[i] / (2.0 * (double)alpha)));
    return r2;
}

/* Kernel values, for a variance of 1, in place of `count` squared distances: more than one keep all units busy. `Lens`
 * and `Pivots` have checked the code: nan for another. */
CX_TARGET CX_INLINE void CX_WIDTH(kernels)(int kernel, CX_T alpha, CX_WIDTH(vector) *values, int count, int coarse)
{
    switch (kernel) {
#define CX_KERNEL_CASE(CODE, NAME)                                                                                     \
    case CODE:                                                                                                         \
        for (int j = 0; j < count; ++j)                                                                                \
            values[j] = CX_WIDTH(NAME)(alpha, values[j], coarse);                                                            \
        break;
        CX_EACH_KERNEL(CX_KERNEL_CASE)
#undef CX_KERNEL_CASE
    case CX_NO_KERNEL:
        for (int j = 0; j < count; ++j)
            values[j] = (CX_WIDTH(vector)){0};
        break;
    default:
        for (int j = 0; j < count; ++j)
            values[j] = (CX_WIDTH(vector)){0} + (CX_T)NAN;
    }
}

/* A10 as screens have it: correlations of `count` (1 or 2) vectors of pairs, of which t[g * count ...] has the squared
 * distances in each group. */
CX_TARGET CX_INLINE void CX_WIDTH(expression)(const cx_expression *e, const CX_WIDTH(vector) *t,
                                              CX_WIDTH(vector) *values, int count)
{
    for (int j = 0; j < count; ++j)
        values[j] = (CX_WIDTH(vector)){0};
    for (ptrdiff_t i = 0, f = 0; i < e->terms; ++i) {
        CX_WIDTH(vector) term[2];
        for (int j = 0; j < count; ++j)
            term[j] = (CX_WIDTH(vector)){0} + (CX_T)e->weight[i];
        for (; f < e->term_stop[i]; ++f) {
            const cx_table table = cx_table_of(e, e->factor_table[f]);
            const CX_WIDTH(vector) *at = t + e->factor_group[f] * count;
            if (e->rescale_table[f] < 0) {
                for (int j = 0; j < count; ++j)
                    term[j] *= CX_WIDTH(table)(&table, at[j]);
                continue;
            }
            const cx_table scale = cx_table_of(e, e->rescale_table[f]);
            const CX_WIDTH(vector) *by = t + e->rescale_group[f] * count;
            for (int j = 0; j < count; ++j)
                term[j] *= CX_WIDTH(table)(&table, at[j] * CX_WIDTH(table)(&scale, by[j]));
        }
        for (int j = 0; j < count; ++j)
            values[j] += term[j];
    }
}

/* As `kernels`, of any number of squared distances. */
CX_FUNCTION CX_UNUSED static void CX_WIDTH(values)(int kernel, CX_T alpha, CX_T *values, ptrdiff_t count,
                                                 int coarse)
{
    enum { V = CX_WIDTH(V) };
    for (ptrdiff_t i = 0; i < count; i += V) {
        CX_WIDTH(vector) r2 = {0};
        size_t bytes = (count - i < V ? count - i : V) * sizeof(CX_T);
        memcpy(&r2, values + i, bytes);
        CX_WIDTH(kernels)(kernel, alpha, &r2, 1, coarse);
        memcpy(values + i, &r2, bytes);
    }
}

/* rho of one row with a pack of queries (coords being (d, stride)): s2 k - dot times both scales. */
CX_TARGET CX_INLINE void CX_WIDTH(rho)(int kernel, int coarse, CX_T variance, CX_T alpha,
                                       const cx_expression *expression, const CX_T *x, CX_T row_scale, const CX_T *coords, ptrdiff_t d, ptrdiff_t stride,
                                       const CX_T *scale, const CX_T *dots, CX_WIDTH(vector) *rho)
{
    enum { V = CX_WIDTH(V), PER = CX_WIDTH(PER_PACK) };
    /* One group of columns, unless there are tables. */
    CX_WIDTH(vector) t[PER * CX_MOST_GROUPS];
    const ptrdiff_t groups = kernel == CX_EXPRESSION ? expression->groups : 1;
    for (ptrdiff_t g = 0, j = 0; g < groups; ++g) {
        const ptrdiff_t stop = kernel == CX_EXPRESSION ? expression->group_stop[g] : d;
        for (int l = 0; l < PER; ++l)
            rho[l] = (CX_WIDTH(vector)){0};
        for (; j < stop; ++j)
            for (int l = 0; l < PER; ++l) {
                CX_WIDTH(vector) off = CX_WIDTH(load)(coords + j * stride + V * l) - x[j];
                rho[l] += off * off;
            }
        for (int l = 0; l < PER; ++l)
            t[PER * g + l] = rho[l];
    }
    if (kernel == CX_EXPRESSION)
        CX_WIDTH(expression)(expression, t, rho, PER);
    else
        CX_WIDTH(kernels)(kernel, alpha, rho, PER, coarse);
    for (int l = 0; l < PER; ++l)
        rho[l] = (variance * rho[l] - CX_WIDTH(load)(dots + V * l)) * CX_WIDTH(load)(scale + V * l) * row_scale;
}

/* Where |rho|, which may be off by `row_blunt` times `blunt`, perhaps reaches a threshold (C1). */
CX_TARGET CX_INLINE CX_WIDTH(which) CX_WIDTH(reaches)(CX_WIDTH(vector) rho, CX_T row_blunt, const CX_T *blunt,
                                                      const CX_T *threshold)
{
    CX_WIDTH(bits) shown, sign = {0};
    memcpy(&shown, &rho, CX_BYTES);
    shown &= (sign - 1) ^ ((sign + 1) << (8 * sizeof(CX_T) - 1));
    memcpy(&rho, &shown, CX_BYTES);
    return CX_WIDTH(not_below)(rho + row_blunt * CX_WIDTH(load)(blunt), CX_WIDTH(load)(threshold));
}

/* As `bounds`; inlined there for each kernel, so that all numbers stay in registers. */
CX_TARGET CX_INLINE int CX_WIDTH(bounds_of)(int kernel, int coarse, const CX_NAME(lens) *lens, int64_t row,
                                            CX_T row_blunt, CX_T *dots, char *packs)
{
    enum { V = CX_WIDTH(V), PER = CX_WIDTH(PER_PACK) };
    /* By themselves, for stores might change what a pointer leads to. */
    const CX_T variance = lens->variance, alpha = lens->alpha, row_scale = lens->scale[row];
    const ptrdiff_t d = lens->d, stride = lens->stride, count = lens->count;
    const CX_T *x = lens->coords + row * d, *coords = lens->group_coords, *scale = lens->group_scale;
    const CX_T *blunt = lens->group_blunt, *threshold = lens->threshold;
    int all = 0;
    for (ptrdiff_t i = 0; i < count; i += PER * V) {
        CX_WIDTH(vector) rho[PER];
        CX_WIDTH(which) hit = {0};
        CX_WIDTH(rho)(kernel, coarse, variance, alpha, lens->expression, x, row_scale, coords + i, d, stride, scale + i,
                      dots + i, rho);
        for (int l = 0; l < PER; ++l) {
            memcpy(dots + i + V * l, rho + l, CX_BYTES);
            hit |= CX_WIDTH(reaches)(rho[l], row_blunt, blunt + i + V * l, threshold + i + V * l);
        }
        *packs = (char)CX_WIDTH(any)(hit);
        all |= *packs++;
    }
    return all;
}

/* rho of one row with all queries of the group, in place of their dots; whether the row may concern any, and in which
 * packs: see `reaches`. `Lens` has checked the code of the kernel. */
CX_FUNCTION CX_UNUSED static int CX_WIDTH(bounds)(const CX_NAME(lens) *lens, int64_t row, CX_T row_blunt, CX_T *dots,
                                                  char *packs)
{
    switch (lens->kernel) {
#define CX_BOUNDS(CODE, NAME)                                                                                          \
    case CODE:                                                                                                         \
        return CX_SINGLE && lens->coarse ? CX_WIDTH(bounds_of)(CODE, CX_SINGLE, lens, row, row_blunt, dots, packs)     \
                                         : CX_WIDTH(bounds_of)(CODE, 0, lens, row, row_blunt, dots, packs);
        CX_EACH_KERNEL(CX_BOUNDS)
        CX_BOUNDS(CX_EXPRESSION, tables)
        CX_BOUNDS(CX_NO_KERNEL, none)
#undef CX_BOUNDS
    }
    return 0;
}

/* Which queries of the group `bounds` is about; returns how many. */
CX_FUNCTION CX_UNUSED static ptrdiff_t CX_WIDTH(hits)(const CX_NAME(lens) *lens, CX_T row_blunt, const CX_T *rho,
                                                      const char *packs, int32_t *out)
{
    enum { V = CX_WIDTH(V) };
    const CX_T *blunt = lens->group_blunt, *threshold = lens->threshold;
    const ptrdiff_t count = lens->count;
    ptrdiff_t found = 0;
    for (ptrdiff_t begin = 0; begin < count; begin += V) {
        if (!packs[begin / (CX_WIDTH(PER_PACK) * V)])
            continue;
        CX_WIDTH(which) hit = CX_WIDTH(reaches)(CX_WIDTH(load)(rho + begin), row_blunt, blunt + begin, threshold + begin);
#if CX_BYTES == 64
        for (; hit; hit &= hit - 1)
            out[found++] = (int32_t)begin + __builtin_ctz(hit);
#else
        for (ptrdiff_t i = 0; i < V; ++i) {
            out[found] = (int32_t)(begin + i);
            found -= hit[i];
        }
#endif
    }
    return found;
}

/* Dots of some rows of `m` components, a multiple of 16, with one query; `next` are on their way when it returns. */
#if CX_BYTES == 64
#define CX_EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#else
#define CX_EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3)
#endif
#define CX_ADD(j)                                                                                                      \
    CX_PREFETCH(n##j + i);                                                                                             \
    a##j += p * CX_WIDTH(load)(r##j + i);                                                                              \
    if (PER > 1)                                                                                                       \
        b##j += q * CX_WIDTH(load)(r##j + i + V);
#define CX_ROW(j)                                                                                                      \
    const CX_T *r##j = r[j], *n##j = next[j];                                                                          \
    CX_WIDTH(vector) a##j = {0}, b##j = {0};
#define CX_TOTAL(j) dots[j] = CX_WIDTH(total)(a##j, b##j);
CX_TARGET CX_INLINE void CX_WIDTH(some)(const CX_T *v, ptrdiff_t m, const CX_T *const *r, const CX_T *const *next,
                                        CX_T *dots)
{
    enum { V = CX_WIDTH(V), PER = CX_WIDTH(PER_PACK) };
    CX_EACH_ROW(CX_ROW)
    for (ptrdiff_t i = 0; i < m; i += PER * V) {
        const CX_WIDTH(vector) p = CX_WIDTH(load)(v + i), q = CX_WIDTH(load)(v + i + (PER - 1) * V);
        CX_EACH_ROW(CX_ADD)
    }
    CX_EACH_ROW(CX_TOTAL)
}
#undef CX_EACH_ROW
#undef CX_ADD
#undef CX_ROW
#undef CX_TOTAL

/* Dots of four rows with a query each: the bits of `some`. */
#define CX_EACH_PAIR(DO) DO(0) DO(1) DO(2) DO(3)
#define CX_PAIR(j)                                                                                                     \
    const CX_T *v##j = v[j], *r##j = r[j];                                                                             \
    CX_WIDTH(vector) a##j = {0}, b##j = {0};
#define CX_ADD(j)                                                                                                      \
    a##j += CX_WIDTH(load)(v##j + i) * CX_WIDTH(load)(r##j + i);                                                       \
    if (PER > 1)                                                                                                       \
        b##j += CX_WIDTH(load)(v##j + i + V) * CX_WIDTH(load)(r##j + i + V);
#define CX_TOTAL(j) dots[j] = CX_WIDTH(total)(a##j, b##j);
CX_TARGET CX_INLINE void CX_WIDTH(four)(const CX_T *const *v, ptrdiff_t m, const CX_T *const *r, CX_T *dots)
{
    enum { V = CX_WIDTH(V), PER = CX_WIDTH(PER_PACK) };
    CX_EACH_PAIR(CX_PAIR)
    for (ptrdiff_t i = 0; i < m; i += PER * V) {
        CX_EACH_PAIR(CX_ADD)
    }
    CX_EACH_PAIR(CX_TOTAL)
}
#undef CX_EACH_PAIR
#undef CX_PAIR
#undef CX_ADD
#undef CX_TOTAL

/* The j-th dot of those that `look` forms and the next three, in whole numbers. */
CX_TARGET CX_INLINE void CX_WIDTH(whole)(const CX_NAME(lens) *lens, const CX_NAME(query) *queries, ptrdiff_t apart,
                                         ptrdiff_t left, const int64_t *rows, CX_T *dots, ptrdiff_t j)
{
    const CX_NAME(query) *query[4];
    const int16_t *v[4], *r[4];
    int32_t sums[4];
    for (int l = 0; l < 4; ++l) {
        query[l] = queries + apart * (j + l < left ? j + l : left - 1);
        v[l] = query[l]->whole;
        r[l] = lens->whole + rows[j + l] * lens->wide;
        const char *next = (const char *)(lens->whole + rows[j + l + CX_WIDTH(TOGETHER)] * lens->wide);
        for (ptrdiff_t at = 0; at < 2 * lens->m; at += 64)
            CX_PREFETCH(next + at);
    }
    cx_sixteen_four(v, apart, lens->m, r, sums);
    for (int l = 0; l < 4; ++l)
        dots[j + l] = (CX_T)sums[l] * lens->steps[rows[j + l]] * query[l]->step;
}

/* |rho| of `count` rows and one query (`apart` is 0), or a query each (1). */
CX_TARGET CX_INLINE void CX_WIDTH(look)(const CX_NAME(lens) *lens, const CX_NAME(query) *queries, ptrdiff_t apart,
                                        const int64_t *rows, ptrdiff_t count, ptrdiff_t ahead, double *rho)
{
    enum { V = CX_WIDTH(V), TOGETHER = CX_WIDTH(TOGETHER) };
    /* By themselves, for stores might change what a pointer leads to. */
    const int kernel = lens->kernel;
    const cx_expression *expression = lens->expression;
    const ptrdiff_t groups = kernel == CX_EXPRESSION ? expression->groups : 1;
    const CX_T variance = lens->variance, alpha = lens->alpha;
    const ptrdiff_t d = lens->d, m = lens->m, t = lens->t, wide = lens->wide;
    const CX_T *coords = lens->coords, *scales = lens->scale, *factors = lens->factors;
    const float *tails = lens->tails;
    const ptrdiff_t last = count + ahead - 1;
    for (ptrdiff_t i = 0; i < count; i += V) {
        const ptrdiff_t left = count - i < V ? count - i : V;
        const CX_T *at[V + TOGETHER], *v[V];
        const float *tail[V + TOGETHER], *v_tail[V];
        const CX_T *x[V];
        int64_t taken[V + TOGETHER];
        CX_T dots[V] = {0}, scaled[V], off[V];
        CX_WIDTH(vector) square = {0}, squares[CX_MOST_GROUPS];
        for (ptrdiff_t j = 0; j < V + TOGETHER; ++j) {
            const int64_t row = rows[i + j < last ? i + j : last];
            taken[j] = row;
            if (factors) {
                at[j] = factors + row * wide;
                tail[j] = tails + row * t;
            }
            if (j < V) {
                const CX_NAME(query) *query = queries + apart * (i + (j < left ? j : left - 1));
                scaled[j] = scales[row] * query->scale;
                v[j] = query->factors;
                v_tail[j] = query->tail;
                x[j] = query->coords;
            }
        }
        for (ptrdiff_t j = 0; j < left; j += apart || !factors ? 4 : TOGETHER) {
            if (!factors) {
                CX_WIDTH(whole)(lens, queries + apart * i, apart, left, taken, dots, j);
                continue;
            }
            if (apart)
                CX_WIDTH(four)(v + j, m, at + j, dots + j);
            else
                CX_WIDTH(some)(v[0], m, at + j, at + j + TOGETHER, dots + j);
            if (t > 0) {
                float more[TOGETHER];
                if (apart)
                    CX_WIDTH32(four)(v_tail + j, t, tail + j, more);
                else
                    CX_WIDTH32(some)(v_tail[0], t, tail + j, tail + j + TOGETHER, more);
                for (int l = 0; l < (apart ? 4 : TOGETHER); ++l)
                    dots[j + l] += more[l];
            }
        }
        for (ptrdiff_t g = 0, a = 0; g < groups; ++g) {
            const ptrdiff_t stop = kernel == CX_EXPRESSION ? expression->group_stop[g] : d;
            square = (CX_WIDTH(vector)){0};
            for (; a < stop; ++a) {
                for (ptrdiff_t j = 0; j < V; ++j)
                    off[j] = coords[taken[j] * d + a] - x[apart * j][a];
                square += CX_WIDTH(load)(off) * CX_WIDTH(load)(off);
            }
            squares[g] = square;
        }
        if (kernel == CX_EXPRESSION)
            CX_WIDTH(expression)(expression, squares, &square, 1);
        else
            CX_WIDTH(kernels)(kernel, alpha, &square, 1, 0);
        square = (variance * square - CX_WIDTH(load)(dots)) * CX_WIDTH(load)(scaled);
        for (ptrdiff_t j = 0; j < left; ++j)
            rho[i + j] = fabs((double)square[j]);
    }
}

/* |rho| of `count` rows and one query; `ahead` rows behind them will be next. */
CX_FUNCTION CX_UNUSED static void CX_WIDTH(many)(const CX_NAME(lens) *lens, const CX_NAME(query) *query,
                                                 const int64_t *rows, ptrdiff_t count, ptrdiff_t ahead, double *rho)
{
    CX_WIDTH(look)(lens, query, 0, rows, count, ahead, rho);
}

/* |rho| of `count` rows and a query each. */
CX_FUNCTION CX_UNUSED static void CX_WIDTH(pairs)(const CX_NAME(lens) *lens, const CX_NAME(query) *queries,
                                                  const int64_t *rows, ptrdiff_t count, double *rho)
{
    CX_WIDTH(look)(lens, queries, 1, rows, count, 0, rho);
}
