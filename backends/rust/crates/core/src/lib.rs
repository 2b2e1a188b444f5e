//! The search and the scan of covertreex, over borrowed slices.
//!
//! `docs/architecture.md` of covertreex says, to the counter, what [`search_block`] and [`scan_block`] do;
//! `docs/mathematics.md` has the arithmetic (A1 to A5) and the bounds (B1, B2) that the code cites by number.
//!
//! | module | what belongs there |
//! |---|---|
//! | [`views`] | borrowed inputs and outputs, and the checks of their shapes |
//! | `arith` | canonical arithmetic, one generic body for every processor |
//! | `pack` | registers, for the dot product |
//! | [`simd`] | which instructions that body is compiled to, chosen at run time |
//! | `panel` | many distances at once |
//! | `distance` | distance of a query from a row, and bounds on it |
//! | `kbest`, `frontier`, `visited`, `ladder` | the parts of a search |
//! | `ahead` | what the queries that a search answers side by side share |
//! | `search`, `scan` | the two verbs |

mod ahead;
mod arith;
mod distance;
mod frontier;
mod kbest;
mod ladder;
mod pack;
mod panel;
mod scan;
mod search;
pub mod simd;
pub mod views;
mod visited;

pub use arith::{exp_neg, kernel_value, log};
pub use distance::{Point, distance};
pub use scan::scan_block;
pub use search::search_block;
