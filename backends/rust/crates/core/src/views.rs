//! What a block is answered from and into: borrowed slices, the arrays of `covertreex/protocols.py`.

use std::fmt;

use crate::contract::{COUNTERS, LANES};
use crate::kernel::Covariance;
use crate::metric::Metric;
use crate::simd::Simd;

/// Coordinates, factors and residual variances by row.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    /// What a distance is.
    pub metric: Metric<'a>,
    /// Axes of `coords`.
    pub dim: usize,
    /// Scaled coordinates, (n, dim).
    pub coords: &'a [f64],
    /// Columns of `factors`, a multiple of 16.
    pub width: usize,
    /// Padded factors, (n, width).
    pub factors: &'a [f64],
    /// Residual variances, (n); empty for Euclidean.
    pub p: &'a [f64],
    /// Dataset index of each row.
    pub index: &'a [i64],
    /// B1: what a squared computed distance may be off, relatively.
    pub slack_rel: f64,
    /// Instructions to compute with; no choice changes a bit.
    pub simd: Simd,
}

impl<'a> Payload<'a> {
    /// Rows.
    pub fn n(&self) -> usize {
        self.index.len()
    }

    #[inline]
    pub(crate) fn factors_of(&self, row: usize) -> &'a [f64] {
        &self.factors[row * self.width..][..self.width]
    }

    #[inline]
    pub(crate) fn coords_of(&self, row: usize) -> &'a [f64] {
        &self.coords[row * self.dim..][..self.dim]
    }

    fn check(&self) -> Result<(), InputError> {
        let n = self.n();
        let residual = self.metric != Metric::Euclidean;
        if let Metric::Residual { covariance: Covariance::Tables(expression), .. } = self.metric {
            check(expression.dim() == self.dim, "payload.expression.group_stop", "must end at the columns of coords")?;
        }
        check(self.width.is_multiple_of(LANES), "payload.factors", "must have a multiple of 16 columns")?;
        check(self.coords.len() == n * self.dim, "payload.coords", "must have one row per row of the payload")?;
        check(self.factors.len() == n * self.width, "payload.factors", "must have one row per row of the payload")?;
        check(self.p.len() == if residual { n } else { 0 }, "payload.p", "must have length n, or 0 for Euclidean")
    }
}

/// A cover tree whose nodes are the rows of a payload.
#[derive(Clone, Copy, Debug)]
pub struct TreeView<'a> {
    /// The node without a parent.
    pub root: usize,
    /// Level of each node.
    pub level: &'a [i64],
    /// The children of x are `children[child_ptr[x]..child_ptr[x + 1]]`, in insertion order.
    pub child_ptr: &'a [i64],
    /// See `child_ptr`.
    pub children: &'a [i64],
    /// Computed distance of each node from its parent.
    pub parent_distance: &'a [f64],
    /// T5: radius of the subtree of each node.
    pub si: &'a [f64],
}

impl<'a> TreeView<'a> {
    #[inline]
    pub(crate) fn children_of(&self, node: usize) -> &'a [i64] {
        &self.children[self.child_ptr[node] as usize..self.child_ptr[node + 1] as usize]
    }

    #[inline]
    pub(crate) fn is_leaf(&self, node: usize) -> bool {
        self.child_ptr[node] == self.child_ptr[node + 1]
    }

    fn check(&self, n: usize) -> Result<(), InputError> {
        check(self.level.len() == n, "tree.level", "must have one entry per row of the payload")?;
        check(self.child_ptr.len() == n + 1, "tree.child_ptr", "must have one entry more than the payload has rows")?;
        check(self.parent_distance.len() == n, "tree.parent_distance", "must have one entry per row of the payload")?;
        check(self.si.len() == n, "tree.si", "must have one entry per row of the payload")?;
        check(self.root < n, "tree.root", "must be a row of the payload")
    }
}

/// Queries, and what restricts their answers.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'a> {
    /// Payload row of each query; `-1 - e` for external query e.
    pub rows: &'a [i64],
    /// Scaled coordinates of external queries, (e, dim).
    pub coords: &'a [f64],
    /// Their padded factors, (e, width).
    pub factors: &'a [f64],
    /// Their residual variances, (e); unused for Euclidean.
    pub p: &'a [f64],
    /// Payload row that must not be returned; -1 for none.
    pub exclude: &'a [i64],
    /// Only rows of rank below this may be returned.
    pub limit: &'a [i64],
    /// Rank of each payload row.
    pub rank: &'a [i64],
    /// Q1: whether rank is the order of insertion.
    pub prefix: bool,
    /// B1: what squared computed distances of these queries may be off, absolutely; at least what the payload's may be.
    pub slack_abs: f64,
}

impl Queries<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn check(&self, payload: &Payload) -> Result<(), InputError> {
        let q = self.len();
        check(self.exclude.len() == q, "queries.exclude", "must have one entry per query")?;
        check(self.limit.len() == q, "queries.limit", "must have one entry per query")?;
        check(self.rank.len() == payload.n(), "queries.rank", "must have one entry per row of the payload")?;
        let externals = self.rows.iter().map(|&row| (-row).max(0) as usize).max().unwrap_or(0);
        let rows = self.rows.iter().max().map_or(0, |&row| (row + 1).max(0) as usize);
        check(rows <= payload.n(), "queries.rows", "must be rows of the payload, or negative")?;
        check(self.coords.len() >= externals * payload.dim, "queries.coords", "must have a row per external query")?;
        check(
            self.factors.len() >= externals * payload.width,
            "queries.factors",
            "must have a row per external query",
        )?;
        let euclidean = payload.metric == Metric::Euclidean;
        check(euclidean || self.p.len() >= externals, "queries.p", "must have an entry per external query")
    }
}

/// Groups of queries, each with runs of payload rows to compare them with.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// All queries.
    pub queries: Queries<'a>,
    /// Group g holds queries `group_ptr[g]..group_ptr[g + 1]`.
    pub group_ptr: &'a [i64],
    /// Group g has runs `run_ptr[g]..run_ptr[g + 1]`.
    pub run_ptr: &'a [i64],
    /// First row of each run.
    pub run_start: &'a [i64],
    /// Row past the last of each run.
    pub run_stop: &'a [i64],
    /// No computed distance between the group and the run is below this; ascending in a group.
    pub run_lower: &'a [f64],
    /// Rows farther than this need not be returned to the query.
    pub kth_upper: &'a [f64],
}

impl Plan<'_> {
    fn check(&self) -> Result<(), InputError> {
        let runs = self.run_start.len();
        check(!self.group_ptr.is_empty(), "plan.group_ptr", "must have one entry more than there are groups")?;
        check(self.run_ptr.len() == self.group_ptr.len(), "plan.run_ptr", "must be as long as group_ptr")?;
        check(self.run_stop.len() == runs, "plan.run_stop", "must be as long as run_start")?;
        check(self.run_lower.len() == runs, "plan.run_lower", "must be as long as run_start")?;
        check(self.kth_upper.len() == self.queries.len(), "plan.kth_upper", "must have one entry per query")
    }
}

/// The settings that kernels heed; `covertreex/settings.py` says what each does.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Stop when the smallest lower bound exceeds the kth best distance.
    pub kth_frontier_stop: bool,
    /// How many children are evaluated before they are offered.
    pub stream_tile: usize,
    /// Start narrow and widen while tiles yield nothing.
    pub dynamic_tile: bool,
    /// Skip children by the distance of their parent.
    pub level_cache: bool,
    /// Smallest radius of an inner node.
    pub radius_floor: f64,
    /// Evaluations allowed per rung; empty for no budget.
    pub budget_schedule: Vec<i64>,
    /// Yield that leads on to the next rung.
    pub budget_up: f64,
    /// Yield that ends the search.
    pub budget_down: f64,
    /// Most nodes evaluated per level; 0 for no cap.
    pub level_cap: i64,
}

impl Default for Settings {
    /// The parity search.
    fn default() -> Self {
        Settings {
            kth_frontier_stop: true,
            stream_tile: 1,
            dynamic_tile: false,
            level_cache: false,
            radius_floor: 0.0,
            budget_schedule: Vec::new(),
            budget_up: 0.015,
            budget_down: 0.002,
            level_cap: 0,
        }
    }
}

/// Widest tile: the visited set answers for a tile in one 64-bit mask.
pub(crate) const WIDEST_TILE: usize = 64;

impl Settings {
    /// The width that tiles start with.
    pub(crate) fn narrowest(&self) -> usize {
        if self.dynamic_tile { self.stream_tile / 8 } else { self.stream_tile }
    }

    fn check(&self) -> Result<(), InputError> {
        check((1..=WIDEST_TILE).contains(&self.stream_tile), "settings.stream_tile", "must be from 1 to 64")?;
        check(self.narrowest() > 0, "settings.stream_tile", "must be at least 8 if dynamic_tile is on")
    }
}

/// What a block's answers are written to.
#[derive(Debug)]
pub struct Output<'a> {
    /// Neighbours asked for per query, at least 1.
    pub k: usize,
    /// Dataset indices, (q, k); -1 past the last.
    pub indices: &'a mut [i64],
    /// Their distances, (q, k); infinity past the last.
    pub distances: &'a mut [f64],
    /// Columns of the counters: those of [`COUNTERS`], or more.
    pub columns: usize,
    /// Counters, (q, columns).
    pub counters: &'a mut [i64],
}

impl Output<'_> {
    pub(crate) fn row(&mut self, q: usize) -> (&mut [i64], &mut [f64], &mut [i64]) {
        (
            &mut self.indices[q * self.k..][..self.k],
            &mut self.distances[q * self.k..][..self.k],
            &mut self.counters[q * self.columns..][..self.columns],
        )
    }

    fn check(&self, queries: usize) -> Result<(), InputError> {
        check(self.k > 0, "k", "must be at least 1")?;
        check(self.indices.len() == queries * self.k, "out.indices", "must have shape (queries, k)")?;
        check(self.distances.len() == queries * self.k, "out.distances", "must have shape (queries, k)")?;
        check(self.columns >= COUNTERS.len(), "out.counters", "must have at least 13 columns")?;
        check(self.counters.len() == queries * self.columns, "out.counters", "must have a row for each query")
    }
}

/// An array that does not fit the others: its name, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputError {
    name: &'static str,
    expected: &'static str,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.", self.name, self.expected)
    }
}

impl std::error::Error for InputError {}

fn check(holds: bool, name: &'static str, expected: &'static str) -> Result<(), InputError> {
    if holds { Ok(()) } else { Err(InputError { name, expected }) }
}

pub(crate) fn check_search(
    tree: &TreeView,
    payload: &Payload,
    queries: &Queries,
    settings: &Settings,
    out: &Output,
) -> Result<(), InputError> {
    payload.check()?;
    tree.check(payload.n())?;
    queries.check(payload)?;
    settings.check()?;
    out.check(queries.len())
}

pub(crate) fn check_scan(payload: &Payload, plan: &Plan, out: &Output) -> Result<(), InputError> {
    payload.check()?;
    plan.queries.check(payload)?;
    plan.check()?;
    out.check(plan.queries.len())
}
