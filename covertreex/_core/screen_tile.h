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

CX_INLINE CX_T CX_NAME(sum)(CX_NAME(vector) v)
{
    CX_T total = 0;
    for (int l = 0; l < (int)(32 / sizeof(CX_T)); ++l)
        total += v[l];
    return total;
}

/* Dots of 4 rows with 3 queries: twelve sums in registers, each load used three or four times. */
CX_INLINE void CX_NAME(tile)(const CX_T *const *r, const CX_T *const *q, ptrdiff_t m, CX_T *out, ptrdiff_t stride)
{
    const CX_T *r0 = r[0], *r1 = r[1], *r2 = r[2], *r3 = r[3], *q0 = q[0], *q1 = q[1], *q2 = q[2];
    CX_NAME(vector) s00 = {0}, s01 = {0}, s02 = {0}, s10 = {0}, s11 = {0}, s12 = {0};
    CX_NAME(vector) s20 = {0}, s21 = {0}, s22 = {0}, s30 = {0}, s31 = {0}, s32 = {0};
    for (ptrdiff_t i = 0; i < m; i += (ptrdiff_t)(32 / sizeof(CX_T))) {
        CX_NAME(vector) a = CX_NAME(load)(q0 + i), b = CX_NAME(load)(q1 + i), c = CX_NAME(load)(q2 + i), x;
        x = CX_NAME(load)(r0 + i);
        s00 += x * a;
        s01 += x * b;
        s02 += x * c;
        x = CX_NAME(load)(r1 + i);
        s10 += x * a;
        s11 += x * b;
        s12 += x * c;
        x = CX_NAME(load)(r2 + i);
        s20 += x * a;
        s21 += x * b;
        s22 += x * c;
        x = CX_NAME(load)(r3 + i);
        s30 += x * a;
        s31 += x * b;
        s32 += x * c;
    }
    out[0] = CX_NAME(sum)(s00);
    out[1] = CX_NAME(sum)(s01);
    out[2] = CX_NAME(sum)(s02);
    out[stride] = CX_NAME(sum)(s10);
    out[stride + 1] = CX_NAME(sum)(s11);
    out[stride + 2] = CX_NAME(sum)(s12);
    out[2 * stride] = CX_NAME(sum)(s20);
    out[2 * stride + 1] = CX_NAME(sum)(s21);
    out[2 * stride + 2] = CX_NAME(sum)(s22);
    out[3 * stride] = CX_NAME(sum)(s30);
    out[3 * stride + 1] = CX_NAME(sum)(s31);
    out[3 * stride + 2] = CX_NAME(sum)(s32);
}

/* One loop per kernel, so that each can be vectorised. Afterwards out[i] = |k - dot| / sqrt(p p'). */
#define CX_SCREEN_LOOP(VALUE)                                                                                      \
    for (ptrdiff_t i = 0; i < count; ++i) {                                                                        \
        CX_T r2 = out[i], a;                                                                                       \
        (void)a;                                                                                                   \
        CX_T num = variance * (VALUE)-dots[i];                                                                     \
        out[i] = (num < 0 ? -num : num) * inverse[i] * inverse_row;                                                \
    }                                                                                                              \
    break

CX_INLINE void CX_NAME(rho)(int kernel, CX_T variance, const CX_T *x, CX_T inverse_row, const CX_T *coords,
                            ptrdiff_t d, ptrdiff_t stride, const CX_T *inverse, const CX_T *dots, ptrdiff_t count,
                            CX_T *out)
{
    for (ptrdiff_t i = 0; i < count; ++i)
        out[i] = 0;
    for (ptrdiff_t j = 0; j < d; ++j)
        for (ptrdiff_t i = 0; i < count; ++i) {
            CX_T t = coords[j * stride + i] - x[j];
            out[i] += t * t;
        }
    switch (kernel) {
    case CX_RBF:
        CX_SCREEN_LOOP(CX_NAME(exp)((CX_T)-0.5 * r2));
    case CX_MATERN12:
        CX_SCREEN_LOOP(CX_NAME(exp)(-CX_SQRT(r2)));
    case CX_MATERN32:
        CX_SCREEN_LOOP((a = (CX_T)1.7320508075688772 * CX_SQRT(r2), ((CX_T)1.0 + a) * CX_NAME(exp)(-a)));
    default:
        CX_SCREEN_LOOP((a = (CX_T)2.23606797749979 * CX_SQRT(r2),
                        ((CX_T)1.0 + a + a * a * (CX_T)(1.0 / 3.0)) * CX_NAME(exp)(-a)));
    }
}

/* A panel of rows (padded to a multiple of 4 by repeating a pointer) against queries (to one of 3): |rho| in
 * out[i * stride + j]. */
CX_SCREEN_CLONES CX_UNUSED static void CX_NAME(panel)(int kernel, CX_T variance, const CX_T *const *rows,
                                                      const CX_T *const *row_coords, const CX_T *row_inverse,
                                                      ptrdiff_t nrows, const CX_T *const *queries, const CX_T *coords,
                                                      const CX_T *inverse, ptrdiff_t nqueries, ptrdiff_t d, ptrdiff_t m,
                                                      CX_T *dots, CX_T *out, ptrdiff_t stride)
{
    if (m > 0)
        for (ptrdiff_t j = 0; j < nqueries; j += 3)
            for (ptrdiff_t i = 0; i < nrows; i += 4)
                CX_NAME(tile)(rows + i, queries + j, m, dots + i * stride + j, stride);
    for (ptrdiff_t i = 0; i < nrows; ++i)
        CX_NAME(rho)(kernel, variance, row_coords[i], row_inverse[i], coords, d, stride, inverse, dots + i * stride,
                     nqueries, out + i * stride);
}

#undef CX_SCREEN_LOOP
