//! The search and the scan of covertreex, over borrowed slices.
//!
//! `docs/architecture.md` of covertreex says, to the counter, what [`search_block`] and [`scan_block`] do;
//! `docs/mathematics.md` has the arithmetic (A1 to A5, A10) and the bounds (B1, B2) that the code cites by number.
//!
//! | module | what belongs there |
//! |---|---|
//! | [`contract`] | what Python and Rust agree on: versions, numbers of kernels, columns of counters |
//! | `pack` | registers, for the dot product |
//! | `arith` | canonical arithmetic, one generic body for every processor |
//! | [`expression`] | covariance functions by tables |
//! | [`kernel`], [`metric`] | covariance functions; distances made of them |
//! | [`simd`] | which instructions those bodies are compiled to, chosen at run time |
//! | [`views`] | borrowed inputs and outputs, and the checks of their shapes |
//! | `distance` | distance of a query from a row, and bounds on it |
//! | `panel` | many distances at once |
//! | `kbest`, `frontier`, `visited`, `ladder` | the parts of a search |
//! | `ahead` | what the queries that a search answers side by side share |
//! | `search`, `scan` | the two verbs |
//!
//! A module uses those above it in this table, never one below.

mod ahead;
mod arith;
pub mod contract;
mod distance;
pub mod expression;
mod frontier;
mod kbest;
pub mod kernel;
mod ladder;
pub mod metric;
mod pack;
mod panel;
mod scan;
mod search;
pub mod simd;
pub mod views;
mod visited;

pub use arith::{exp_neg, log};
pub use distance::{Point, Slack, distance};
pub use scan::scan_block;
pub use search::search_block;
