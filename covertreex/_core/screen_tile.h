/* Screening arithmetic for one floating-point type, CX_T (define before including; CX_NAME(x) makes its names).
 *
 * A screen decides nothing: it bounds |rho| from above and below with a margin for all rounding, its own and that of the
 * canonical arithmetic (docs/mathematics.md, C1). So it may use fused multiply-add and sums in any order.
 */

/* Put a query's factors into lane `lane` of a pack. */
CX_UNUSED static void CX_NAME(put)(const CX_T *factors, ptrdiff_t m, CX_T *pack, ptrdiff_t lane)
{
    for (ptrdiff_t i = 0; i < m; ++i)
        pack[i * (ptrdiff_t)(64 / sizeof(CX_T)) + lane] = factors[i];
}

#define CX_BODY "screen_dots.h"
#include "each_width.h"
#define CX_BODY "screen_pairs.h"
#include "each_width.h"

/* What others call: in the widest registers that the machine has. */

/* Dots of rows (a multiple of 6) with packs of queries: out[row * stride + query]. `next` are `ahead` rows (likewise)
 * that will be looked at afterwards. */
CX_UNUSED static void CX_NAME(dots)(const CX_T *const *rows, ptrdiff_t nrows, const CX_T *const *next, ptrdiff_t ahead,
                                    const CX_T *pack, ptrdiff_t packs, ptrdiff_t m, CX_T *out, ptrdiff_t stride)
{
    CX_WIDEST(dots, rows, nrows, next, ahead, pack, packs, m, out, stride);
}

CX_UNUSED static int CX_NAME(bounds)(const CX_NAME(lens) *lens, int64_t row, CX_T row_blunt, CX_T *dots, char *packs)
{
    return CX_WIDEST(bounds, lens, row, row_blunt, dots, packs);
}

CX_UNUSED static ptrdiff_t CX_NAME(hits)(const CX_NAME(lens) *lens, CX_T row_blunt, const CX_T *rho, const char *packs,
                                         int32_t *out)
{
    return CX_WIDEST(hits, lens, row_blunt, rho, packs, out);
}

CX_UNUSED static void CX_NAME(many)(const CX_NAME(lens) *lens, const CX_NAME(query) *query, const int64_t *rows,
                                    ptrdiff_t count, ptrdiff_t ahead, double *rho)
{
    CX_WIDEST(many, lens, query, rows, count, ahead, rho);
}

CX_UNUSED static void CX_NAME(pairs)(const CX_NAME(lens) *lens, const CX_NAME(query) *queries, const int64_t *rows,
                                     ptrdiff_t count, double *rho)
{
    CX_WIDEST(pairs, lens, queries, rows, count, rho);
}

CX_UNUSED static void CX_NAME(values)(int kernel, CX_T alpha, CX_T *values, ptrdiff_t count, int coarse)
{
    CX_WIDEST(values, kernel, alpha, values, count, coarse);
}
