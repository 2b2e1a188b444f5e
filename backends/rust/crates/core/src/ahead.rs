//! What the queries that go on side by side share: rows that one of them loads for all that are about to want them.
//!
//! Loading a row from memory costs several dot products with it, and queries that are near each other expand much the
//! same nodes. So when one compares itself with a row, the dot products of the others that are about to expand the
//! same node are computed with it, and kept until they come to that node in their own order. No answer and no counter
//! depends on this.

use crate::distance::Point;
use crate::pack::prefetch;
use crate::views::Payload;

/// Most queries that go on side by side.
const MOST_LANES: usize = 16;

/// Most rows of scratch for all of them together.
const MOST_ROWS: usize = 1 << 22;

/// How many queries of a block of `queries` go on side by side.
pub(crate) fn lanes_for(payload: &Payload, queries: usize) -> usize {
    let most = if payload.width > 0 { (MOST_ROWS / payload.n().max(1)).clamp(1, MOST_LANES) } else { 1 };
    most.min(queries)
}

/// The dot products computed ahead, and what tells whose are worth it.
pub(crate) struct Ahead<'a> {
    payload: &'a Payload<'a>,
    seats: Vec<Seat<'a>>,
    /// Lower bound of each node on the frontier of each lane, (n, lanes); infinity for other nodes. Empty for one lane.
    pending: Vec<f64>,
    /// Dot product of each node with each lane, (n, lanes); NaN where it was not computed ahead. Empty for one lane.
    dots: Vec<f64>,
    /// The other lanes that are about to expand the node that is being expanded.
    sharers: Vec<usize>,
    /// The lanes whose dot products with a row are computed together, and their factors.
    together: Vec<usize>,
    factors: Vec<&'a [f64]>,
}

/// What is known of a lane's query.
#[derive(Clone, Copy)]
struct Seat<'a> {
    factors: &'a [f64],
    /// The query evaluates no row whose dataset index is not below this.
    limit: i64,
    kth: f64,
}

impl<'a> Ahead<'a> {
    pub fn new(payload: &'a Payload<'a>, lanes: usize) -> Ahead<'a> {
        let entries = if lanes > 1 { payload.n() * lanes } else { 0 };
        Ahead {
            payload,
            seats: vec![Seat { factors: &[], limit: 0, kth: f64::INFINITY }; lanes],
            pending: vec![f64::INFINITY; entries],
            dots: vec![f64::NAN; entries],
            sharers: Vec::with_capacity(lanes),
            together: Vec::with_capacity(lanes),
            factors: Vec::with_capacity(lanes),
        }
    }

    /// Forget all queries.
    pub fn clear(&mut self) {
        self.pending.fill(f64::INFINITY);
        self.dots.fill(f64::NAN);
        self.sharers.clear();
    }

    /// A query takes a lane.
    pub fn enter(&mut self, lane: usize, point: &Point<'a>, limit: i64) {
        self.seats[lane] = Seat { factors: point.factors, limit, kth: f64::INFINITY };
    }

    /// A lane's query is answered.
    pub fn leave(&mut self, lane: usize) {
        self.seats[lane].kth = f64::NEG_INFINITY;
    }

    /// A lane's kth best distance is now `kth`.
    pub fn narrow(&mut self, lane: usize, kth: f64) {
        self.seats[lane].kth = kth;
    }

    /// A lane puts a node on its frontier.
    #[inline]
    pub fn push(&mut self, lane: usize, node: usize, bound: f64) {
        if !self.pending.is_empty() {
            self.pending[node * self.seats.len() + lane] = bound;
        }
    }

    /// A lane expands a node: from now on it shares with the lanes that would expand it too as things stand.
    pub fn expand(&mut self, lane: usize, node: usize) {
        if self.pending.is_empty() {
            return;
        }
        let lanes = self.seats.len();
        let pending = &mut self.pending[node * lanes..][..lanes];
        pending[lane] = f64::INFINITY;
        self.sharers.clear();
        for (other, (seat, &bound)) in self.seats.iter().zip(&*pending).enumerate() {
            if bound < f64::INFINITY && bound <= seat.kth {
                self.sharers.push(other);
            }
        }
    }

    /// Ask for the dot products of a row, ahead of their use.
    #[inline]
    pub fn prefetch(&self, row: usize) {
        let lanes = self.seats.len();
        prefetch(self.dots.get(row * lanes..(row + 1) * lanes).unwrap_or_default());
    }

    /// A lane's dot product with a row; meanwhile that of `next`, the row likely to be wanted after, is brought nearer.
    #[inline]
    pub fn dot(&mut self, lane: usize, row: usize, next: Option<usize>) -> f64 {
        let payload = self.payload;
        if payload.width == 0 {
            return 0.0;
        }
        let factors = payload.factors_of(row);
        let next = next.map_or(&[][..], |next| payload.factors_of(next));
        if self.dots.is_empty() {
            return payload.simd.dot_ahead(self.seats[lane].factors, factors, next);
        }
        let lanes = self.seats.len();
        let known = &mut self.dots[row * lanes..][..lanes];
        if !known[lane].is_nan() {
            return known[lane];
        }
        self.together.clear();
        self.factors.clear();
        self.together.push(lane);
        self.factors.push(self.seats[lane].factors);
        for &other in &self.sharers {
            let seat = &self.seats[other];
            if known[other].is_nan() && payload.index[row] < seat.limit {
                self.together.push(other);
                self.factors.push(seat.factors);
            }
        }
        let mut dots = [0.0; MOST_LANES];
        let dots = &mut dots[..self.together.len()];
        payload.simd.dots_with(factors, &self.factors, next, dots);
        for (&other, &dot) in self.together.iter().zip(&*dots) {
            known[other] = dot;
        }
        dots[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Covariance, Kernel};
    use crate::metric::Metric;
    use crate::simd::Simd;

    fn payload<'a>(factors: &'a [f64], index: &'a [i64]) -> Payload<'a> {
        Payload {
            metric: Metric::Residual { covariance: Covariance::Closed(Kernel::Rbf), variance: 1.0 },
            dim: 0,
            coords: &[],
            width: 16,
            factors,
            p: &[],
            index,
            slack_rel: 0.0,
            simd: Simd::detect(),
        }
    }

    fn of<'a>(payload: &Payload<'a>, row: usize) -> Point<'a> {
        Point { coords: &[], factors: payload.factors_of(row), p: 1.0, row: Some(row) }
    }

    #[test]
    fn those_about_to_expand_the_node_share_and_no_others() {
        let factors: Vec<f64> = (0..8 * 16).map(|i| f64::from(i).sin()).collect();
        let index: Vec<i64> = (0..8).collect();
        let payload = payload(&factors, &index);
        let dot = |a, b| payload.simd.dot(payload.factors_of(a), payload.factors_of(b));
        let mut ahead = Ahead::new(&payload, 6);
        ahead.clear();
        for lane in 0..6 {
            ahead.enter(lane, &of(&payload, lane), if lane == 4 { 7 } else { i64::MAX });
        }
        // 1 would expand node 6; 2 is done, 3 has enough without it, 4 may not see row 7, 5 does not know of node 6.
        for lane in 0..5 {
            ahead.push(lane, 6, 0.5);
        }
        ahead.leave(2);
        ahead.narrow(3, 0.4);
        ahead.expand(0, 6);
        assert_eq!(ahead.sharers, [1, 4]);
        assert_eq!(ahead.dot(0, 7, None), dot(0, 7));
        let known: Vec<bool> = ahead.dots[7 * 6..].iter().map(|dot| !dot.is_nan()).collect();
        assert_eq!(known, [true, true, false, false, false, false]);
        assert_eq!(ahead.dots[7 * 6 + 1], dot(1, 7));
        ahead.dots[7 * 6 + 1] = 3.0;
        assert_eq!(ahead.dot(1, 7, None), 3.0);
        ahead.clear();
        assert_eq!(ahead.dot(1, 7, None), dot(1, 7));
    }
}
