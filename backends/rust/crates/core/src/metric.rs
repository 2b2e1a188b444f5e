//! What a distance is, and its value from its ingredients (A5).

use std::fmt::Write;

use crate::contract::{EUCLIDEAN, EXPRESSION, KERNELS, METRICS, NO_KERNEL, RESIDUAL};
use crate::expression::Expression;
use crate::kernel::{Covariance, Kernel, for_each_kernel, kernel_value};

/// What a distance is, A5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric<'a> {
    /// Of the coordinates.
    Euclidean,
    /// `sqrt(1 - |rho|)` of the residual correlation rho.
    Residual {
        /// The covariance function.
        covariance: Covariance<'a>,
        /// Its value at distance 0.
        variance: f64,
    },
}

impl<'a> Metric<'a> {
    /// The metric of these numbers of a payload, and of its expression, if it has one.
    ///
    /// # Errors
    ///
    /// If there is none: which there are.
    pub fn from_codes(
        metric: i64,
        kernel: i64,
        variance: f64,
        alpha: f64,
        expression: Option<&'a Expression<'a>>,
    ) -> Result<Metric<'a>, String> {
        match metric {
            EUCLIDEAN if kernel == NO_KERNEL => Ok(Metric::Euclidean),
            EUCLIDEAN => Err(format!("Euclidean distance has no kernel, code {NO_KERNEL}; got code {kernel}.")),
            RESIDUAL => {
                let covariance = match expression {
                    _ if kernel != EXPRESSION => Kernel::from_code(kernel, alpha).map(Covariance::Closed),
                    Some(expression) => Some(Covariance::Tables(expression)),
                    None => return Err(format!("payload.expression must be there for a kernel of code {EXPRESSION}.")),
                };
                let known = [&KERNELS[..], &[("expression", EXPRESSION)]].concat();
                let covariance = covariance.ok_or_else(|| unknown("kernel", kernel, &known))?;
                Ok(Metric::Residual { covariance, variance })
            }
            _ => Err(unknown("metric", metric, &METRICS)),
        }
    }
}

/// Says that no kernel or metric has a code, and which codes there are.
pub fn unknown(what: &str, code: i64, known: &[(&str, i64)]) -> String {
    let mut text = format!("no {what} has code {code}; known are");
    for (at, (name, number)) in known.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{} {number} ({name})", if at == 0 { "" } else { "," });
    }
    text + "."
}

/// A5: `|rho|` from its ingredients: kernel value, dot product, residual variances. The distance is `sqrt(1 - |rho|)`.
#[inline(always)]
pub(crate) fn rho(k: f64, dot: f64, p_a: f64, p_b: f64) -> f64 {
    let rho = ((k - dot) / (p_a * p_b).sqrt()).abs();
    if rho > 1.0 { 1.0 } else { rho }
}

/// A5 for a query and several rows: `out[j]` and `rhos[j]` from `r2[j]`, `dots[j]` and `p[j]`. Euclidean distances need
/// `r2` alone, and `rhos` is left as it is; of a kernel by tables `rhos` holds the covariances.
#[inline(always)]
pub(crate) fn distances_body(
    metric: Metric,
    r2: &[f64],
    dots: &[f64],
    p_query: f64,
    p: &[f64],
    [rhos, out]: [&mut [f64]; 2],
) {
    let (kernel, variance) = match metric {
        Metric::Euclidean => {
            for (d, r2) in out.iter_mut().zip(r2) {
                *d = r2.sqrt();
            }
            return;
        }
        Metric::Residual { covariance: Covariance::Tables(_), .. } => {
            for (((d, rho_of), dot), p) in out.iter_mut().zip(rhos).zip(dots).zip(p) {
                *rho_of = rho(*rho_of, *dot, p_query, *p);
                *d = (1.0 - *rho_of).sqrt();
            }
            return;
        }
        Metric::Residual { covariance: Covariance::Closed(kernel), variance } => (kernel, variance),
    };
    for_each_kernel!(kernel, known => {
        for ((((d, rho_of), r2), dot), p) in out.iter_mut().zip(rhos).zip(r2).zip(dots).zip(p) {
            *rho_of = rho(kernel_value(known, variance, *r2), *dot, p_query, *p);
            *d = (1.0 - *rho_of).sqrt();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_above_the_floor_have_distance_zero() {
        assert_eq!(rho(1.0, 1.0 - 0.37, 0.37, 0.37), 1.0);
    }

    #[test]
    fn unknown_numbers_are_refused_with_the_known_ones() {
        assert_eq!(Metric::from_codes(EUCLIDEAN, NO_KERNEL, 1.0, 1.0, None), Ok(Metric::Euclidean));
        let refused = |metric, kernel| Metric::from_codes(metric, kernel, 1.0, 1.0, None).unwrap_err();
        assert_eq!(
            refused(RESIDUAL, 9),
            "no kernel has code 9; known are 0 (rbf), 1 (matern12), 2 (matern32), 3 (matern52), 4 (rationalquadratic), \
             16 (expression)."
        );
        assert_eq!(refused(RESIDUAL, EXPRESSION), "payload.expression must be there for a kernel of code 16.");
        assert_eq!(refused(5, 0), "no metric has code 5; known are 0 (euclidean), 1 (residual).");
        assert_eq!(refused(EUCLIDEAN, 0), "Euclidean distance has no kernel, code -1; got code 0.");
    }
}
