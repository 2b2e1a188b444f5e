//! Canonical arithmetic, A1 to A3, and squared distances: the same operations in the same order as `covertreex/oracle.py`.
//!
//! rustc never fuses `a * b + c` nor reassociates, so a body gives the same bits however it is vectorised. The bodies
//! are `inline(always)` because they take on the instructions of the function they are inlined into (`simd`).

use crate::contract::LANES;
use crate::pack::{Pack, prefetch};

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

/// A1: dot products of `Q` queries with `R` rows, so that each load serves several; `[query][row]`.
///
/// The 16 lanes are summed `N` registers at a time: lanes are independent, so this changes no bit, and with few enough
/// of them all sums stay in registers.
///
/// Meanwhile the rows `next`, which are likely to be wanted after, are asked for: memory is slower than arithmetic.
///
/// # Safety
///
/// The processor must have the instructions of `P`.
#[inline(always)]
pub(crate) unsafe fn dots_body<P: Pack, const Q: usize, const R: usize, const N: usize>(
    queries: [&[f64]; Q],
    rows: [&[f64]; R],
    next: [&[f64]; R],
) -> [[f64; R]; Q] {
    let blocks = rows[0].len() / LANES;
    assert!(queries.iter().chain(&rows).all(|v| v.len() == blocks * LANES));
    // Cut to one known length, so that the loop below needs no checks.
    let queries = queries.map(|v| &v.as_chunks::<LANES>().0[..blocks]);
    let rows = rows.map(|v| &v.as_chunks::<LANES>().0[..blocks]);
    let next = next.map(|v| v.as_chunks::<LANES>().0);
    let mut lanes = [[[0.0; LANES]; R]; Q];
    for first in (0..LANES).step_by(N * P::LANES) {
        let at = |i| first + i * P::LANES;
        // SAFETY: the processor has the instructions of P, by the contract of this function.
        unsafe {
            let mut sums = [[[P::zero(); N]; R]; Q];
            for block in 0..blocks {
                for row in next {
                    if let Some(ahead) = row.get(block) {
                        prefetch(ahead);
                    }
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
}
