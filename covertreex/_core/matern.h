/* The Matern correlation of any smoothness nu, in operations that give the same bits everywhere: what tables of it are
 * made of (docs/mathematics.md, A10). Compile with -ffp-contract=off.
 *
 * With x = sqrt(2 nu t), t the squared scaled distance, and z = x^2 / 4,
 *
 *     phi = 2^(1 - nu) / Gamma(nu) x^nu K_nu(x) = 1 / Gamma(nu) Integral exp(nu w - e^w - z e^-w) dw
 *
 * over the real line (Watson, Theory of Bessel Functions, 6.22 (15); DLMF 10.32.10 with t = e^w), and phi = 1 at z = 0.
 * Integrands are entire functions that fall double exponentially to the right, so that the trapezoidal rule of step h
 * errs by e^(-pi^2 / h) (Trefethen and Weideman, SIAM Review 56, 2014, section 5). Three ways, each where it errs least:
 *
 * - where phi > 1/2: 1 - phi, whose integrand has 1 - exp(-z e^-w), by the rule on the points of z = 0;
 * - further away: the rule about the saddle w = log s, s = (nu + sqrt(nu^2 + 4 z)) / 2, divided by the sum for z = 0;
 * - nu <= 1/2 and z < 1/4, where the first would need too many points: the ascending series (DLMF 10.25.2, 10.27.4).
 */
#ifndef COVERTREEX_MATERN_H
#define COVERTREEX_MATERN_H

#include "canonical.h"

enum { CX_MATERN_POINTS = 512, CX_MATERN_REACH = 128, CX_MATERN_STEPS = 10, CX_MATERN_LANES = 8 };

/* Exponents below this add nothing to a sum that is about 1 or more. */
#define CX_MATERN_GONE (-44.0)

typedef struct {
    double nu;
    double total;       /* h times the sum for z = 0 */
    double log_gammas;  /* log(Gamma(1 - nu) / Gamma(1 + nu)), for nu <= 1/2 */
    ptrdiff_t points;   /* for nu > 1/2: */
    double weight[CX_MATERN_POINTS];  /* of each point, over `total`; zeros behind the last */
    double inverse[CX_MATERN_POINTS]; /* e^-w of each point */
    double bend[CX_MATERN_STEPS][2 * CX_MATERN_REACH + 1]; /* e^v - 1 - v at v = k 2^(-2 - i), from -REACH to REACH */
} cx_matern;

/* e^v - 1 - v */
CX_INLINE double cx_bend(double v)
{
    if (v > 1.0)
        return (1.0 / cx_exp_neg(-v) - 1.0) - v;
    if (v < -1.0)
        return (cx_exp_neg(v) - 1.0) - v;
    double e = 1.0;
    for (ptrdiff_t k = 22; k > 2; --k)
        e = 1.0 + e * (v / (double)k);
    return 0.5 * (v * v) * e;
}

/* The step for a peak of this curvature, a power of two from 1/4 down: its exponent, less 2. The rule of step h errs by
 * |Gamma(nu + 2 pi i / h)| / Gamma(nu), which has a power of 1 / h beside the exponential. */
CX_INLINE ptrdiff_t cx_matern_step(double curvature)
{
    ptrdiff_t i = 0;
    while (i + 1 < CX_MATERN_STEPS && ldexp(curvature, (int)(-4 - 2 * i)) > (i ? 0.36 : 0.05))
        ++i;
    return i;
}

/* log(Gamma(1 - nu) / Gamma(1 + nu)) by the zeta function (DLMF 5.7.3), of 0 < nu <= 1/2. */
CX_INLINE double cx_log_gammas(double nu)
{
    /* (zeta(k) - 1) / k for k = 3, 5, 7, ... */
    static const double zeta[] = {
        0.067352301053198095133, 0.0073855510286739852663, 0.0011927539117032609771,
        0.00022315475845357937976, 0.0000449262367381331417, 9.439488275268395904e-6,
        2.0392157538013662368e-6, 4.4924691987645660433e-7, 1.0043224823968099609e-7,
        2.271109460894316491e-8, 5.1834750419700466551e-9, 1.1921401405860912074e-9,
        2.7595228851242331452e-10, 6.4229645638381000221e-11, 1.5021384080754142171e-11,
    };
    double square = nu * nu, sum = 0.0, atanh = 0.0;
    for (ptrdiff_t i = (ptrdiff_t)(sizeof zeta / sizeof *zeta) - 1; i >= 0; --i)
        sum = zeta[i] + square * sum;
    /* atanh(nu) - nu over nu^3 */
    for (ptrdiff_t k = 57; k >= 3; k -= 2)
        atanh = 1.0 / (double)k + square * atanh;
    return 2.0 * nu * (0.57721566490153286061 + square * (atanh + sum));
}

CX_UNUSED static void cx_matern_prepare(cx_matern *m, double nu)
{
    m->nu = nu;
    ptrdiff_t step = cx_matern_step(nu), n = 0;
    double h = ldexp(0.25, (int)-step), low = 0.0, high = 0.0;
    int keep = nu > 0.5;
    m->log_gammas = keep ? 0.0 : cx_log_gammas(nu);
    /* From both ends to the centre, small terms first. */
    ptrdiff_t first = 0, last = 0;
    while (-nu * cx_bend(h * (double)first) > CX_MATERN_GONE)
        --first;
    while (-nu * cx_bend(h * (double)last) > CX_MATERN_GONE)
        ++last;
    for (ptrdiff_t k = first; k < 0; ++k)
        low = low + cx_exp_neg(-nu * cx_bend(h * (double)k));
    for (ptrdiff_t k = last; k >= 0; --k)
        high = high + cx_exp_neg(-nu * cx_bend(h * (double)k));
    double sum = low + high;
    m->total = h * sum;
    if (keep)
        for (ptrdiff_t k = first; k <= last && n < CX_MATERN_POINTS; ++k, ++n) {
            double v = h * (double)k;
            m->weight[n] = cx_exp_neg(-nu * cx_bend(v)) / sum;
            m->inverse[n] = (v < 0.0 ? 1.0 / cx_exp_neg(v) : cx_exp_neg(-v)) / nu;
        }
    for (; n % CX_MATERN_LANES && n < CX_MATERN_POINTS; ++n)
        m->weight[n] = m->inverse[n] = 0.0;
    m->points = n;
    for (ptrdiff_t i = 0; i < CX_MATERN_STEPS; ++i)
        for (ptrdiff_t k = -CX_MATERN_REACH; k <= CX_MATERN_REACH; ++k)
            m->bend[i][k + CX_MATERN_REACH] = cx_bend(ldexp((double)k, (int)(-2 - i)));
}

/* 1 - phi, relative to 1. */
CX_CLONES CX_UNUSED static double cx_matern_gap(const cx_matern *m, double z)
{
    double term[CX_MATERN_POINTS], lane[CX_MATERN_LANES] = {0.0};
    /* Points where e^-w is so small that 1 - 1 would be added: e^-w falls. */
    ptrdiff_t points = m->points;
    while (points > 0 && z * m->inverse[points - CX_MATERN_LANES] < 0x1p-55)
        points -= CX_MATERN_LANES;
    for (ptrdiff_t i = 0; i < points; ++i)
        term[i] = m->weight[i] * (1.0 - cx_exp_neg(-z * m->inverse[i]));
    for (ptrdiff_t i = 0; i < points; i += CX_MATERN_LANES)
        for (ptrdiff_t l = 0; l < CX_MATERN_LANES; ++l)
            lane[l] = lane[l] + term[i + l];
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

CX_UNUSED static double cx_matern_series(const cx_matern *m, double z)
{
    double nu = m->nu, even = 1.0, odd = 1.0;
    for (ptrdiff_t k = 14; k >= 1; --k) {
        even = 1.0 + even * (z / ((double)k * ((double)k - nu)));
        odd = 1.0 + odd * (z / ((double)k * ((double)k + nu)));
    }
    return even - cx_exp_neg(nu * cx_log(z) + m->log_gammas) * odd;
}

CX_UNUSED static double cx_matern_saddle(const cx_matern *m, double z)
{
    double nu = m->nu, s = 0.5 * (nu + sqrt(nu * nu + 4.0 * z)), r = z / s, q = r / nu;
    ptrdiff_t step = cx_matern_step(s + r);
    const double *bend = m->bend[step] + CX_MATERN_REACH;
    double right = 0.0, left = 0.0;
    for (ptrdiff_t k = 1; k <= CX_MATERN_REACH; ++k) {
        double e = -s * bend[k] - r * bend[-k];
        if (e < CX_MATERN_GONE)
            break;
        right = right + cx_exp_neg(e);
    }
    for (ptrdiff_t k = 1; k <= CX_MATERN_REACH; ++k) {
        double e = -s * bend[-k] - r * bend[k];
        if (e < CX_MATERN_GONE)
            break;
        left = left + cx_exp_neg(e);
    }
    /* log(s / nu) = log(1 + q) */
    double u = 1.0 + q, more = cx_log(u) + (q - (u - 1.0)) / u;
    double sum = ldexp(1.0 + (right + left), (int)(-2 - step));
    return cx_exp_neg(nu * (more - 2.0 * q)) * (sum / m->total);
}

CX_UNUSED static double cx_matern_value(const cx_matern *m, double t)
{
    double z = m->nu * t * 0.5;
    if (!(z < 1e12))
        return 0.0;
    if (m->nu > 0.5) {
        double gap = cx_matern_gap(m, z);
        return gap <= 0.5 ? 1.0 - gap : cx_matern_saddle(m, z);
    }
    return z < 0.25 ? cx_matern_series(m, z) : cx_matern_saddle(m, z);
}

#endif
