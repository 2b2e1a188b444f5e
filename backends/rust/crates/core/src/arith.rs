//! Canonical arithmetic, A1 to A5: the same operations in the same order as `covertreex/oracle.py`.
//!
//! rustc never fuses `a * b + c` nor reassociates, so a body gives the same bits however it is vectorised. The bodies
//! are `inline(always)` because they take on the instructions of the function they are inlined into (`simd`).

use crate::pack::{Pack, prefetch};
use crate::views::{Kernel, Metric};

/// Lanes of the canonical dot product; factor rows are padded with zeros to a multiple of it.
pub const LANES: usize = 16;

/// A2: `exp(x)` for `x <= 0`; 0 below -708.
#[inline(always)]
pub fn exp_neg(x: f64) -> f64 {
    const MAGIC: f64 = 6755399441055744.0; // 1.5 * 2^52: adding it rounds to an integer
    let clamped = if x < -708.0 { -708.0 } else { x };
    let shifted = clamped * std::f64::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let r2 = r * r;
    let mut e = 1.0 / 479001600.0 + r * (1.0 / 6227020800.0);
    e = (1.0 / 3628800.0 + r * (1.0 / 39916800.0)) + r2 * e;
    e = (1.0 / 40320.0 + r * (1.0 / 362880.0)) + r2 * e;
    e = (1.0 / 720.0 + r * (1.0 / 5040.0)) + r2 * e;
    e = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * e;
    e = (0.5 + r * (1.0 / 6.0)) + r2 * e;
    e = (1.0 + r) + r2 * e;
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    if x < -708.0 { 0.0 } else { e * scale }
}

// Split so that n * LN2_HIGH is exact; the digits are those of the contract.
#[allow(clippy::excessive_precision)]
const LN2_HIGH: f64 = 0.693147180369123816490;
#[allow(clippy::excessive_precision)]
const LN2_LOW: f64 = 1.90821492927058770002e-10;

/// A3: `log(x)` for finite `x >= 1`.
#[inline(always)]
pub fn log(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    let high = mantissa > std::f64::consts::SQRT_2;
    let m = if high { mantissa * 0.5 } else { mantissa };
    let n = f64::from(if high { exponent + 1 } else { exponent });
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let mut t = 1.0 / 21.0;
    t = 1.0 / 19.0 + z * t;
    t = 1.0 / 17.0 + z * t;
    t = 1.0 / 15.0 + z * t;
    t = 1.0 / 13.0 + z * t;
    t = 1.0 / 11.0 + z * t;
    t = 1.0 / 9.0 + z * t;
    t = 1.0 / 7.0 + z * t;
    t = 1.0 / 5.0 + z * t;
    t = 1.0 / 3.0 + z * t;
    t *= z;
    let low = n * LN2_LOW + 2.0 * (s * t);
    n * LN2_HIGH + (2.0 * s + low)
}

const SQRT_3: f64 = 1.7320508075688772;
const SQRT_5: f64 = 2.23606797749979;

/// A4: kernel value at squared scaled distance `r2`.
#[inline(always)]
pub fn kernel_value(kernel: Kernel, variance: f64, r2: f64) -> f64 {
    match kernel {
        Kernel::Rbf => variance * exp_neg(-0.5 * r2),
        Kernel::Matern12 => variance * exp_neg(-r2.sqrt()),
        Kernel::Matern32 => {
            let a = SQRT_3 * r2.sqrt();
            variance * ((1.0 + a) * exp_neg(-a))
        }
        Kernel::Matern52 => {
            let a = SQRT_5 * r2.sqrt();
            variance * (((1.0 + a) + (a * a) / 3.0) * exp_neg(-a))
        }
        Kernel::RationalQuadratic { alpha } => variance * exp_neg(-alpha * log(1.0 + r2 / (2.0 * alpha))),
    }
}

/// A1: dot products of `Q` queries with `R` rows, so that each load serves several; `[query][row]`.
///
/// The 16 lanes are summed `N` registers at a time: lanes are independent, so this changes no bit, and with few enough
/// of them all sums stay in registers.
///
/// Meanwhile `next`, which is likely to be wanted after, is asked for: memory is slower than arithmetic.
///
/// # Safety
///
/// The processor must have the instructions of `P`.
#[inline(always)]
pub(crate) unsafe fn dots_body<P: Pack, const Q: usize, const R: usize, const N: usize>(
    queries: [&[f64]; Q],
    rows: [&[f64]; R],
    next: &[f64],
) -> [[f64; R]; Q] {
    let blocks = rows[0].len() / LANES;
    assert!(queries.iter().chain(&rows).all(|v| v.len() == blocks * LANES));
    // Cut to one known length, so that the loop below needs no checks.
    let queries = queries.map(|v| &v.as_chunks::<LANES>().0[..blocks]);
    let rows = rows.map(|v| &v.as_chunks::<LANES>().0[..blocks]);
    let next = next.as_chunks::<LANES>().0;
    let mut lanes = [[[0.0; LANES]; R]; Q];
    for first in (0..LANES).step_by(N * P::LANES) {
        let at = |i| first + i * P::LANES;
        // SAFETY: the processor has the instructions of P, by the contract of this function.
        unsafe {
            let mut sums = [[[P::zero(); N]; R]; Q];
            for block in 0..blocks {
                if let Some(ahead) = next.get(block) {
                    prefetch(ahead);
                }
                for i in 0..N {
                    let a = queries.map(|v| P::load(&v[block][at(i)..]));
                    let b = rows.map(|v| P::load(&v[block][at(i)..]));
                    for q in 0..Q {
                        for r in 0..R {
                            sums[q][r][i] = sums[q][r][i].add_product(a[q], b[r]);
                        }
                    }
                }
            }
            for q in 0..Q {
                for r in 0..R {
                    for i in 0..N {
                        sums[q][r][i].store(&mut lanes[q][r][at(i)..]);
                    }
                }
            }
        }
    }
    lanes.map(|row| row.map(|sums| combine(&sums)))
}

/// A1, the last steps: lanes l and l + 8, then l and l + 4, then (0 + 2) + (1 + 3).
#[inline(always)]
fn combine(lanes: &[f64; LANES]) -> f64 {
    let mut f = [0.0; 4];
    for l in 0..4 {
        f[l] = (lanes[l] + lanes[l + 8]) + (lanes[l + 4] + lanes[l + 12]);
    }
    (f[0] + f[2]) + (f[1] + f[3])
}

/// Squared coordinate differences, in order of the axes.
#[inline(always)]
pub(crate) fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (x, y) in a.iter().zip(b) {
        let t = x - y;
        sum += t * t;
    }
    sum
}

/// A5: `|rho|` from its ingredients: kernel value, dot product, residual variances. The distance is `sqrt(1 - |rho|)`.
#[inline(always)]
pub(crate) fn rho(k: f64, dot: f64, p_a: f64, p_b: f64) -> f64 {
    let rho = ((k - dot) / (p_a * p_b).sqrt()).abs();
    if rho > 1.0 { 1.0 } else { rho }
}

/// A5 for a query and several rows: `out[j]` and `rhos[j]` from `r2[j]`, `dots[j]` and `p[j]`. Euclidean distances need
/// `r2` alone, and `rhos` is left as it is.
#[inline(always)]
pub(crate) fn distances_body(
    metric: Metric,
    r2: &[f64],
    dots: &[f64],
    p_query: f64,
    p: &[f64],
    [rhos, out]: [&mut [f64]; 2],
) {
    let Metric::Residual { kernel, variance } = metric else {
        for (d, r2) in out.iter_mut().zip(r2) {
            *d = r2.sqrt();
        }
        return;
    };
    // One loop per kernel: a match inside the loop would keep it from being vectorised.
    macro_rules! fill {
        ($kernel:expr) => {
            for ((((d, rho_of), r2), dot), p) in out.iter_mut().zip(rhos).zip(r2).zip(dots).zip(p) {
                *rho_of = rho(kernel_value($kernel, variance, *r2), *dot, p_query, *p);
                *d = (1.0 - *rho_of).sqrt();
            }
        };
    }
    match kernel {
        Kernel::Rbf => fill!(Kernel::Rbf),
        Kernel::Matern12 => fill!(Kernel::Matern12),
        Kernel::Matern32 => fill!(Kernel::Matern32),
        Kernel::Matern52 => fill!(Kernel::Matern52),
        Kernel::RationalQuadratic { alpha } => fill!(Kernel::RationalQuadratic { alpha }),
    }
}

/// Squared distances of a point from the first `out.len()` points of a panel: axis after axis, `stride` to an axis.
#[inline(always)]
pub(crate) fn squared_distances_body(point: &[f64], panel: &[f64], stride: usize, out: &mut [f64]) {
    out.fill(0.0);
    for (x, axis) in point.iter().zip(panel.chunks_exact(stride)) {
        for (sum, y) in out.iter_mut().zip(axis) {
            let t = x - y;
            *sum += t * t;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combine_adds_in_the_order_of_a1() {
        let lanes: [f64; LANES] = std::array::from_fn(|l| 1.0 / (l as f64 + 1.7));
        let e: Vec<f64> = (0..8).map(|l| lanes[l] + lanes[l + 8]).collect();
        let f: Vec<f64> = (0..4).map(|l| e[l] + e[l + 4]).collect();
        assert_eq!(combine(&lanes).to_bits(), ((f[0] + f[2]) + (f[1] + f[3])).to_bits());
    }

    #[test]
    fn duplicates_above_the_floor_have_distance_zero() {
        assert_eq!(rho(1.0, 1.0 - 0.37, 0.37, 0.37), 1.0);
    }
}
