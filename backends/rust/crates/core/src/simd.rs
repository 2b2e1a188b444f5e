//! Which instructions canonical arithmetic is compiled to, chosen at run time.
//!
//! Each function here has one generic body, in `arith`, `expression` or `metric`, compiled several times. The bits are the same at every level.

use std::fmt;

use crate::arith::{dots_body, squared_distances_body};
use crate::expression::{Expression, covariances_body};
use crate::metric::{Metric, distances_body};

/// Proof that this processor has certain vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl fmt::Display for Simd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Simd {
    /// A1: dot product of slices of one length, a multiple of 16.
    #[inline]
    pub fn dot(self, a: &[f64], b: &[f64]) -> f64 {
        self.dot_ahead(a, b, &[])
    }

    /// A1: dot products of one query with two rows, `[query][row]`.
    #[inline]
    pub fn dots1x2(self, queries: [&[f64]; 1], rows: [&[f64]; 2]) -> [[f64; 2]; 1] {
        self.dots1x2_ahead(queries, rows, [&[]; 2])
    }

    /// What every processor of the target has.
    pub const BASELINE: Simd = Simd(Level::Baseline);

    /// All levels that this processor has, narrowest first.
    pub fn available() -> Vec<Simd> {
        #[allow(unused_mut)]
        let mut levels = vec![Simd::BASELINE];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                levels.push(Simd(Level::Avx2));
            }
            if is_x86_feature_detected!("avx512f") {
                levels.push(Simd(Level::Avx512));
            }
        }
        levels
    }

    /// The widest level that this processor has.
    pub fn detect() -> Simd {
        Simd::available().pop().unwrap_or(Simd::BASELINE)
    }
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128d as Narrow, __m256d, __m512d};
#[cfg(not(target_arch = "x86_64"))]
type Narrow = [f64; 2];

macro_rules! dispatch {
    (
        $(#[$doc:meta])*
        $visibility:vis fn $name:ident($($argument:ident: $kind:ty),*) $(-> $out:ty)?;
        $baseline:expr, $avx2:expr, $avx512:expr
    ) => {
        impl Simd {
            $(#[$doc])*
            #[inline]
            $visibility fn $name(self, $($argument: $kind),*) $(-> $out)? {
                #[cfg(target_arch = "x86_64")]
                {
                    #[target_feature(enable = "avx2")]
                    fn avx2($($argument: $kind),*) $(-> $out)? {
                        #[allow(unused_unsafe)]
                        // SAFETY: this function has AVX2.
                        unsafe { $avx2($($argument),*) }
                    }
                    #[target_feature(enable = "avx512f")]
                    fn avx512($($argument: $kind),*) $(-> $out)? {
                        #[allow(unused_unsafe)]
                        // SAFETY: this function has AVX-512F.
                        unsafe { $avx512($($argument),*) }
                    }
                    match self.0 {
                        // SAFETY: a `Simd` of this level exists only where the processor has AVX2.
                        Level::Avx2 => return unsafe { avx2($($argument),*) },
                        // SAFETY: a `Simd` of this level exists only where the processor has AVX-512F.
                        Level::Avx512 => return unsafe { avx512($($argument),*) },
                        Level::Baseline => {}
                    }
                }
                #[allow(unused_unsafe)]
                // SAFETY: every processor of the target has the baseline's instructions.
                unsafe { $baseline($($argument),*) }
            }
        }
    };
}

dispatch! {
    /// A1: dot product of slices of one length, a multiple of 16; meanwhile `next` is brought nearer.
    pub fn dot_ahead(a: &[f64], b: &[f64], next: &[f64]) -> f64;
    |a, b, next| dots_body::<Narrow, 1, 1, 8>([a], [b], [next])[0][0],
    |a, b, next| dots_body::<__m256d, 1, 1, 4>([a], [b], [next])[0][0],
    |a, b, next| dots_body::<__m512d, 1, 1, 2>([a], [b], [next])[0][0]
}

dispatch! {
    /// A1: dot products of one query with two rows, `[query][row]`; meanwhile the rows `next` are brought nearer.
    pub(crate) fn dots1x2_ahead(queries: [&[f64]; 1], rows: [&[f64]; 2], next: [&[f64]; 2]) -> [[f64; 2]; 1];
    |q, r, next| dots_body::<Narrow, 1, 2, 4>(q, r, next),
    |q, r, next| dots_body::<__m256d, 1, 2, 4>(q, r, next),
    |q, r, next| dots_body::<__m512d, 1, 2, 2>(q, r, next)
}

dispatch! {
    /// A1: dot products of two queries with two rows, `[query][row]`.
    pub fn dots2x2(queries: [&[f64]; 2], rows: [&[f64]; 2]) -> [[f64; 2]; 2];
    |q, r| dots_body::<Narrow, 2, 2, 2>(q, r, [&[]; 2]),
    |q, r| dots_body::<__m256d, 2, 2, 2>(q, r, [&[]; 2]),
    |q, r| dots_body::<__m512d, 2, 2, 2>(q, r, [&[]; 2])
}

dispatch! {
    /// A5: distances of one query from several rows, and `|rho|`, from squared scaled distances, dot products and variances;
    /// of a kernel by tables from covariances, which `|rho|` replaces.
    pub(crate) fn distances(
        metric: Metric, r2: &[f64], dots: &[f64], p_query: f64, p: &[f64], out: [&mut [f64]; 2]
    );
    distances_body, distances_body, distances_body
}

dispatch! {
    /// A10: covariances of a point and the first `out.len()` points of a panel: axis after axis, `stride` to an axis.
    pub(crate) fn covariances(
        expression: &Expression, variance: f64, point: &[f64], panel: &[f64], stride: usize, out: &mut [f64]
    );
    covariances_body, covariances_body, covariances_body
}

dispatch! {
    /// Squared distances of a point from the first `out.len()` points of a panel: axis after axis, `stride` to an axis.
    pub(crate) fn squared_distances(point: &[f64], panel: &[f64], stride: usize, out: &mut [f64]);
    squared_distances_body, squared_distances_body, squared_distances_body
}
