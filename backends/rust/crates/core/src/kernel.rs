//! Covariance functions: which there are, and their values (A4, A10).

use crate::arith::{exp_neg, log};
use crate::contract::{MATERN12, MATERN32, MATERN52, RATIONAL_QUADRATIC, RBF};
use crate::expression::Expression;

/// A covariance function with a closed form, A4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kernel {
    /// Squared exponential.
    Rbf,
    /// Exponential.
    Matern12,
    /// Once differentiable.
    Matern32,
    /// Twice differentiable.
    Matern52,
    /// A mixture of squared exponentials.
    RationalQuadratic {
        /// How like one squared exponential the mixture is.
        alpha: f64,
    },
}

impl Kernel {
    /// The kernel of this number in canonical arithmetic, if there is one.
    pub fn from_code(code: i64, alpha: f64) -> Option<Kernel> {
        Some(match code {
            RBF => Kernel::Rbf,
            MATERN12 => Kernel::Matern12,
            MATERN32 => Kernel::Matern32,
            MATERN52 => Kernel::Matern52,
            RATIONAL_QUADRATIC => Kernel::RationalQuadratic { alpha },
            _ => return None,
        })
    }
}

/// A covariance function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Covariance<'a> {
    /// A4.
    Closed(Kernel),
    /// A10.
    Tables(&'a Expression<'a>),
}

impl Covariance<'_> {
    /// A4, A10: the covariance of two points, of scaled coordinates; `r2` is their squared distance.
    #[inline(always)]
    pub(crate) fn value(self, variance: f64, a: &[f64], b: &[f64], r2: f64) -> f64 {
        match self {
            Covariance::Closed(kernel) => kernel_value(kernel, variance, r2),
            Covariance::Tables(expression) => variance * expression.value(a, b),
        }
    }
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

/// Runs `$body` with `$known` standing for `$kernel`, in a branch for each kernel: `kernel_value` of it is one formula
/// there, and a loop around that can be vectorised.
macro_rules! for_each_kernel {
    ($kernel:expr, $known:ident => $body:expr) => {
        match $kernel {
            Kernel::Rbf => {
                let $known = Kernel::Rbf;
                $body
            }
            Kernel::Matern12 => {
                let $known = Kernel::Matern12;
                $body
            }
            Kernel::Matern32 => {
                let $known = Kernel::Matern32;
                $body
            }
            Kernel::Matern52 => {
                let $known = Kernel::Matern52;
                $body
            }
            Kernel::RationalQuadratic { alpha } => {
                let $known = Kernel::RationalQuadratic { alpha };
                $body
            }
        }
    };
}
pub(crate) use for_each_kernel;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::KERNELS;

    #[test]
    fn every_number_of_the_contract_is_a_kernel_and_no_other() {
        for code in -2..20 {
            let known = KERNELS.iter().any(|&(_, number)| number == code);
            assert_eq!(Kernel::from_code(code, 1.0).is_some(), known, "{code}");
        }
    }
}
