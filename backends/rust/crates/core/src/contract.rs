//! The facts of `covertreex/base/contract.py` that this backend was built with, each written here and nowhere else
//! in Rust. Python compares them with those of the covertreex that is installed, and refuses a backend that differs.

/// Major and minor version of the verbs and arrays of `covertreex/protocols.py` that this needs.
pub const PROTOCOL_VERSION: (i64, i64) = (4, 0);

/// Lanes of the canonical dot product; factor rows are padded with zeros to a multiple of it.
pub const LANES: usize = 16;

/// The number of Euclidean distance in a payload.
pub const EUCLIDEAN: i64 = 0;
/// The number of the residual correlation.
pub const RESIDUAL: i64 = 1;

/// The number of each metric.
pub const METRICS: [(&str, i64); 2] = [("euclidean", EUCLIDEAN), ("residual", RESIDUAL)];

/// Where no kernel is evaluated.
pub const NO_KERNEL: i64 = -1;

pub(crate) const RBF: i64 = 0;
pub(crate) const MATERN12: i64 = 1;
pub(crate) const MATERN32: i64 = 2;
pub(crate) const MATERN52: i64 = 3;
pub(crate) const RATIONAL_QUADRATIC: i64 = 4;

/// A kernel that is evaluated by tables.
pub const EXPRESSION: i64 = 16;

/// The number of each kernel with a closed form in canonical arithmetic.
pub const KERNELS: [(&str, i64); 5] = [
    ("rbf", RBF),
    ("matern12", MATERN12),
    ("matern32", MATERN32),
    ("matern52", MATERN52),
    ("rationalquadratic", RATIONAL_QUADRATIC),
];

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        /// Names of the counters, in the order of their columns; a later covertreex may have more behind these.
        pub const COUNTERS: &[&str] = &[$(stringify!($name)),*];

        /// What one query counted.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub struct Counters {
            $(pub $name: i64),*
        }

        impl Counters {
            pub(crate) fn write(&self, row: &mut [i64]) {
                row[..COUNTERS.len()].copy_from_slice(&[$(self.$name),*]);
            }
        }
    };
}

counters! {
    distance_evals,
    nodes_visited,
    frontier_pushes,
    frontier_peak,
    prunes_bound,
    prunes_visited,
    yields,
    stop_exhausted,
    stop_kth_frontier,
    stop_budget,
    level_cache_hits,
    budget_escalations,
    caps_applied,
}
