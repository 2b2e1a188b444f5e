/* Whitening (docs/mathematics.md, C3): the next components of rows, CX_STEP at once. */
#ifndef COVERTREEX_WHITEN_H
#define COVERTREEX_WHITEN_H

#include "screen.h"

enum { CX_STEP = 64, CX_WHITEN_LANES = 8, CX_WHITEN_ROWS = 24 };

/* Everything about CX_STEP pivots and the rows of a payload, `n` of them, that are whitened by these; borrowed from
 * `Pivots` of whiten.pyx.
 *
 * coords is (d, CX_STEP); factors and known are packs of CX_WHITEN_LANES pivots, (CX_STEP / CX_WHITEN_LANES, length,
 * CX_WHITEN_LANES), known with a first axis for the steps before; lower is the transposed Cholesky factor, inverse
 * that of its diagonal. Of the rows, row_coords is (n, d), row_scale (n,) and row_factors (n, m). */
typedef struct {
    int kernel;
    double variance, alpha;
    const cx_expression *expression;
    ptrdiff_t d, m, steps;
    const double *coords, *scale, *factors, *known, *lower, *inverse;
    ptrdiff_t n;
    const double *row_coords, *row_scale, *row_factors;
} cx_pivots;

/* Rows `begin` to `end`, w being kept in float32, as it is used: with b = rho(pivots, row) - sum over earlier steps of
 * known . w, solves lower w = b. Earlier components of row i are w[step * n * CX_STEP + i * CX_STEP ...]; new ones go to
 * step `steps`, and what they explain is taken from left. */
CX_SCREEN_CLONES CX_UNUSED static void cx_whiten(const cx_pivots *p, float *w, double *left, ptrdiff_t begin,
                                                 ptrdiff_t end)
{
    const double *coords = p->row_coords, *scale = p->row_scale, *factors = p->row_factors;
    const ptrdiff_t n = p->n;
    enum { PACKS = CX_STEP / CX_WHITEN_LANES };
    double dots[CX_WHITEN_ROWS * CX_STEP], more[CX_WHITEN_ROWS * CX_STEP], b[CX_WHITEN_ROWS * CX_STEP];
    double earlier[CX_WHITEN_ROWS * CX_STEP];
    const double *rows[CX_WHITEN_ROWS], *next[CX_WHITEN_ROWS];
    for (ptrdiff_t first = begin; first < end; first += CX_WHITEN_ROWS) {
        ptrdiff_t count = end - first < CX_WHITEN_ROWS ? end - first : CX_WHITEN_ROWS;
        for (ptrdiff_t i = 0; i < CX_WHITEN_ROWS; ++i) {
            rows[i] = factors + (first + (i < count ? i : 0)) * p->m;
            next[i] = rows[i] + CX_WHITEN_ROWS * p->m;
        }
        cx_screen64_dots(rows, CX_WHITEN_ROWS, next, first + 2 * CX_WHITEN_ROWS <= end ? CX_WHITEN_ROWS : 0,
                         p->factors, PACKS, p->m, dots, CX_STEP);
        for (ptrdiff_t i = 0; i < CX_WHITEN_ROWS; ++i) {
            ptrdiff_t row = first + (i < count ? i : 0);
            for (ptrdiff_t j = 0; j < CX_STEP; j += CX_WHITEN_LANES) {
                cx_screen64_narrow_vector rho[2];
                cx_screen64_narrow_rho(p->kernel, 0, p->variance, p->alpha, p->expression, coords + row * p->d, scale[row],
                                p->coords + j, p->d, CX_STEP, p->scale + j, dots + i * CX_STEP + j, rho);
                memcpy(b + i * CX_STEP + j, rho, 64);
            }
        }
        for (ptrdiff_t step = 0; step < p->steps; ++step) {
            const float *from = w + (step * n + first) * CX_STEP;
            for (ptrdiff_t i = 0; i < CX_WHITEN_ROWS; ++i) {
                for (ptrdiff_t j = 0; j < CX_STEP; ++j)
                    earlier[i * CX_STEP + j] = from[(i < count ? i : 0) * CX_STEP + j];
                rows[i] = earlier + i * CX_STEP;
            }
            cx_screen64_dots(rows, CX_WHITEN_ROWS, NULL, 0, p->known + step * PACKS * CX_STEP * CX_WHITEN_LANES, PACKS,
                             CX_STEP, more, CX_STEP);
            for (ptrdiff_t i = 0; i < CX_WHITEN_ROWS * CX_STEP; ++i)
                b[i] -= more[i];
        }
        /* Rows side by side: each alone would wait for its last component. */
        for (ptrdiff_t j = 0; j < CX_STEP; ++j)
            for (ptrdiff_t i = 0; i < CX_WHITEN_ROWS; ++i) {
                double *rest = b + i * CX_STEP, value = rest[j] * p->inverse[j];
                for (ptrdiff_t l = j / 4 * 4; l < CX_STEP; ++l)
                    rest[l] -= value * p->lower[j * CX_STEP + l];
                dots[i * CX_STEP + j] = value;
            }
        float *to = w + (p->steps * n + first) * CX_STEP;
        for (ptrdiff_t i = 0; i < count; ++i) {
            double sum = 0.0;
            for (ptrdiff_t j = 0; j < CX_STEP; ++j) {
                double kept = to[i * CX_STEP + j] = (float)dots[i * CX_STEP + j];
                sum += kept * kept;
            }
            left[first + i] -= sum;
        }
    }
}

#endif
