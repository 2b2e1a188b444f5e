/* Screening arithmetic for one floating-point type, CX_T (define before including; CX_NAME(x) makes its names).
 *
 * A screen decides nothing: it bounds |rho| from above and below with a margin for all rounding, its own and that of the
 * canonical arithmetic (docs/mathematics.md, C1). So it may use fused multiply-add and sums in any order.
 */

typedef CX_T CX_NAME(vector) __attribute__((vector_size(32)));

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

/* Dots of 6 rows with a pack of 64 / sizeof(CX_T) queries, pack[i] being component i of all of them, over components
 * `begin` to `end` (multiples of 16): twelve sums in registers, added to out[r * stride + l] unless `begin` is 0. The
 * `ahead` components that `next` points to are on their way when it returns: rows lie far apart in memory. */
CX_INLINE void CX_NAME(tile)(const CX_T *const *r, const CX_T *const *next, ptrdiff_t next_begin, ptrdiff_t ahead,
                             const CX_T *pack, ptrdiff_t begin, ptrdiff_t end, CX_T *out, ptrdiff_t stride)
{
    enum { V = 32 / sizeof(CX_T) };
    const CX_T *r0 = r[0], *r1 = r[1], *r2 = r[2], *r3 = r[3], *r4 = r[4], *r5 = r[5];
    CX_NAME(vector) a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0}, a4 = {0}, a5 = {0};
    CX_NAME(vector) b0 = {0}, b1 = {0}, b2 = {0}, b3 = {0}, b4 = {0}, b5 = {0};
    if (next)
        for (int j = 0; j < 6; ++j)
            for (ptrdiff_t at = 0; at < ahead; at += 64 / (ptrdiff_t)sizeof(CX_T))
                CX_PREFETCH(next[j] + next_begin + at);
    if (begin > 0) {
        a0 = CX_NAME(load)(out), b0 = CX_NAME(load)(out + V);
        a1 = CX_NAME(load)(out + stride), b1 = CX_NAME(load)(out + stride + V);
        a2 = CX_NAME(load)(out + 2 * stride), b2 = CX_NAME(load)(out + 2 * stride + V);
        a3 = CX_NAME(load)(out + 3 * stride), b3 = CX_NAME(load)(out + 3 * stride + V);
        a4 = CX_NAME(load)(out + 4 * stride), b4 = CX_NAME(load)(out + 4 * stride + V);
        a5 = CX_NAME(load)(out + 5 * stride), b5 = CX_NAME(load)(out + 5 * stride + V);
    }
    for (ptrdiff_t i = begin; i < end; ++i) {
        CX_NAME(vector) p = CX_NAME(load)(pack + 2 * V * i), q = CX_NAME(load)(pack + 2 * V * i + V), x;
        x = r0[i] - (CX_NAME(vector)){0};
        a0 += x * p;
        b0 += x * q;
        x = r1[i] - (CX_NAME(vector)){0};
        a1 += x * p;
        b1 += x * q;
        x = r2[i] - (CX_NAME(vector)){0};
        a2 += x * p;
        b2 += x * q;
        x = r3[i] - (CX_NAME(vector)){0};
        a3 += x * p;
        b3 += x * q;
        x = r4[i] - (CX_NAME(vector)){0};
        a4 += x * p;
        b4 += x * q;
        x = r5[i] - (CX_NAME(vector)){0};
        a5 += x * p;
        b5 += x * q;
    }
    memcpy(out, &a0, 32);
    memcpy(out + V, &b0, 32);
    memcpy(out + stride, &a1, 32);
    memcpy(out + stride + V, &b1, 32);
    memcpy(out + 2 * stride, &a2, 32);
    memcpy(out + 2 * stride + V, &b2, 32);
    memcpy(out + 3 * stride, &a3, 32);
    memcpy(out + 3 * stride + V, &b3, 32);
    memcpy(out + 4 * stride, &a4, 32);
    memcpy(out + 4 * stride + V, &b4, 32);
    memcpy(out + 5 * stride, &a5, 32);
    memcpy(out + 5 * stride + V, &b5, 32);
}

/* Dots of rows (a multiple of 6) with packs of queries: out[row * stride + query]. `next` are `ahead` rows (likewise)
 * that will be looked at afterwards. */
CX_SCREEN_CLONES CX_UNUSED static void CX_NAME(dots)(const CX_T *const *rows, ptrdiff_t nrows, const CX_T *const *next,
                                                     ptrdiff_t ahead, const CX_T *pack, ptrdiff_t packs, ptrdiff_t m,
                                                     CX_T *out, ptrdiff_t stride)
{
    /* Components that are multiplied at once: those of all packs, 24 KB, stay in the first-level cache. */
    ptrdiff_t chunk = 384 / packs / 16 * 16;
    chunk = chunk < 32 ? 32 : chunk;
    for (ptrdiff_t begin = 0; begin < m; begin += chunk) {
        ptrdiff_t end = begin + chunk < m ? begin + chunk : m, more = end < m ? end : 0;
        for (ptrdiff_t i = 0; i < nrows; i += 6) {
            const CX_T *const *fetched = end < m ? rows + i : i < ahead ? next + i : NULL;
            for (ptrdiff_t j = 0; j < packs; ++j)
                CX_NAME(tile)(rows + i, j == 0 ? fetched : NULL, more, more + chunk < m ? chunk : m - more,
                              pack + j * m * (ptrdiff_t)(64 / sizeof(CX_T)), begin, end,
                              out + i * stride + j * (ptrdiff_t)(64 / sizeof(CX_T)), stride);
        }
    }
}

/* One loop per kernel, so that each can be vectorised. */
#define CX_SCREEN_LOOP(VALUE)                                                                                      \
    for (ptrdiff_t i = 0; i < count; ++i) {                                                                        \
        CX_T r2 = rho[i], a;                                                                                       \
        (void)a;                                                                                                   \
        (void)r2;                                                                                                  \
        CX_T num = variance * (VALUE)-dots[i];                                                                     \
        rho[i] = (absolute && num < 0 ? -num : num) * scale[i] * row_scale;                                        \
    }                                                                                                              \
    break

/* rho, or |rho|, of one row with `count` queries (coords being (d, stride)): s2 k - dot times both scales. */
CX_INLINE void CX_NAME(rho)(int absolute, int kernel, CX_T variance, CX_T alpha, const CX_T *x, CX_T row_scale,
                            const CX_T *coords, ptrdiff_t d, ptrdiff_t stride, const CX_T *scale, const CX_T *dots,
                            ptrdiff_t count, CX_T *rho)
{
    for (ptrdiff_t i = 0; i < count; ++i)
        rho[i] = 0;
    for (ptrdiff_t j = 0; j < d; ++j)
        for (ptrdiff_t i = 0; i < count; ++i) {
            CX_T t = coords[j * stride + i] - x[j];
            rho[i] += t * t;
        }
    switch (kernel) {
    case CX_NO_KERNEL:
        CX_SCREEN_LOOP((CX_T)0);
    case CX_RBF:
        CX_SCREEN_LOOP(CX_NAME(exp)((CX_T)-0.5 * r2));
    case CX_MATERN12:
        CX_SCREEN_LOOP(CX_NAME(exp)(-CX_SQRT(r2)));
    case CX_MATERN32:
        CX_SCREEN_LOOP((a = (CX_T)1.7320508075688772 * CX_SQRT(r2), ((CX_T)1.0 + a) * CX_NAME(exp)(-a)));
    case CX_MATERN52:
        CX_SCREEN_LOOP((a = (CX_T)2.23606797749979 * CX_SQRT(r2),
                        ((CX_T)1.0 + a + a * a * (CX_T)(1.0 / 3.0)) * CX_NAME(exp)(-a)));
    default:
        CX_SCREEN_LOOP((a = (CX_T)1.0 + r2 / ((CX_T)2.0 * alpha), (CX_T)cx_exp_neg(-(double)alpha * cx_log((double)a))));
    }
}

/* Upper bounds of |rho| (C1) of one row with `count` queries; whether any is at or above its query's threshold. */
CX_SCREEN_CLONES CX_UNUSED static int CX_NAME(bounds)(int kernel, CX_T variance, CX_T alpha, const CX_T *x,
                                                      CX_T row_scale, CX_T row_spread, CX_T floor, const CX_T *coords,
                                                      ptrdiff_t d, ptrdiff_t stride, const CX_T *scale,
                                                      const CX_T *spread, const CX_T *threshold, const CX_T *dots,
                                                      ptrdiff_t count, CX_T *rho, CX_T *high)
{
    CX_NAME(rho)(1, kernel, variance, alpha, x, row_scale, coords, d, stride, scale, dots, count, rho);
    CX_COUNT any = 0;
    for (ptrdiff_t i = 0; i < count; ++i) {
        CX_T upper = rho[i] + row_spread * spread[i] + floor;
        high[i] = upper;
        any |= upper >= threshold[i];
    }
    return any != 0;
}

/* Which of `count` queries reach their thresholds; returns how many. */
CX_UNUSED static ptrdiff_t CX_NAME(hits)(const CX_T *high, const CX_T *threshold, ptrdiff_t count, int32_t *out)
{
    ptrdiff_t found = 0;
    for (ptrdiff_t i = 0; i < count; ++i) {
        out[found] = (int32_t)i;
        found += high[i] >= threshold[i];
    }
    return found;
}

#undef CX_SCREEN_LOOP
