//! What the queries that go on side by side share: rows that one of them loads for all that are about to want them.
//!
//! Loading a row from memory costs several dot products with it, and queries that are near each other expand much the
//! same nodes. So when one expands a node, its children are compared with the others as well that are about to expand
//! it, all at once, and the distances kept until they come to that node in their own order. No answer and no counter
//! depends on this.

use crate::distance::Point;
use crate::kernel::Covariance;
use crate::metric::Metric;
use crate::panel::PANEL;
use crate::views::Payload;
use crate::visited::Visited;

/// Most queries that go on side by side.
const MOST_LANES: usize = 16;

/// Most rows of scratch for all of them together.
const MOST_ROWS: usize = 1 << 22;

/// How many distances are computed at a time: all registers are full.
const VECTOR: usize = 4;

/// Where the distances of a node's children are that were not computed yet.
const NOWHERE: u32 = u32::MAX;

/// How many lanes after the one that goes on are asked what they will want.
const SOON: usize = 3;

/// How many queries of a block of `queries` go on side by side.
pub(crate) fn lanes_for(payload: &Payload, queries: usize) -> usize {
    let most = if payload.width > 0 { (MOST_ROWS / payload.n().max(1)).clamp(1, MOST_LANES) } else { 1 };
    most.min(queries)
}

/// The distances of all lanes, and what tells whose are worth computing ahead.
pub(crate) struct Ahead<'a> {
    payload: &'a Payload<'a>,
    pub visited: Visited,
    seats: Vec<Seat<'a>>,
    /// Lower bound of each node on the frontier of each lane, (n, lanes); infinity for other nodes. Empty for one lane.
    pending: Vec<f32>,
    /// Where the distances of each node's children are, (n, lanes). Empty for one lane.
    places: Vec<u32>,
    /// The lanes that children are compared with, and with how many of them.
    together: Vec<(usize, usize)>,
    factors: Vec<&'a [f64]>,
    /// Dot products of some children, a row for each, and their coordinates, an axis after the other.
    dots: Vec<f64>,
    coords: Vec<f64>,
    /// Of these children: residual variances; of one lane and them: dot products, squared distances, correlations.
    p: [f64; PANEL],
    products: [f64; PANEL],
    r2: [f64; PANEL],
    rhos: [f64; PANEL],
}

/// What is known of a lane's query.
struct Seat<'a> {
    point: Point<'a>,
    /// The query looks at no row whose dataset index is not below this.
    limit: i64,
    kth: f64,
    /// The node that it will expand next, and the first two children (or one, twice).
    soon: Option<(usize, [usize; 2])>,
    /// Distances of nodes, those of one node's children together, and the dot products that they come from.
    distances: Vec<f64>,
    dots: Vec<f64>,
}

impl<'a> Ahead<'a> {
    pub fn new(payload: &'a Payload<'a>, lanes: usize) -> Ahead<'a> {
        let entries = if lanes > 1 { payload.n() * lanes } else { 0 };
        let nobody = Point { coords: &[], factors: &[], p: 1.0, row: None };
        let seat = || Seat {
            point: nobody,
            limit: 0,
            kth: f64::INFINITY,
            soon: None,
            distances: Vec::new(),
            dots: Vec::new(),
        };
        Ahead {
            payload,
            visited: Visited::new(payload.n()),
            seats: std::iter::repeat_with(seat).take(lanes).collect(),
            pending: vec![f32::INFINITY; entries],
            places: vec![NOWHERE; entries],
            together: Vec::with_capacity(lanes),
            factors: Vec::with_capacity(lanes),
            dots: vec![0.0; PANEL * lanes],
            coords: vec![0.0; PANEL * payload.dim],
            p: [1.0; PANEL],
            products: [0.0; PANEL],
            r2: [0.0; PANEL],
            rhos: [0.0; PANEL],
        }
    }

    /// Forget all queries.
    pub fn clear(&mut self) {
        self.visited.clear();
        self.pending.fill(f32::INFINITY);
        self.places.fill(NOWHERE);
    }

    /// A query takes a lane.
    pub fn enter(&mut self, lane: usize, point: &Point<'a>, limit: i64) {
        let seat = &mut self.seats[lane];
        (seat.point, seat.limit, seat.kth, seat.soon) = (*point, limit, f64::INFINITY, None);
        seat.distances.clear();
        seat.dots.clear();
    }

    /// A lane's query is answered.
    pub fn leave(&mut self, lane: usize) {
        (self.seats[lane].kth, self.seats[lane].soon) = (f64::NEG_INFINITY, None);
    }

    /// A lane's kth best distance is now `kth`, and it will expand a node with these first children next.
    pub fn narrow(&mut self, lane: usize, kth: f64, soon: Option<(usize, [usize; 2])>) {
        (self.seats[lane].kth, self.seats[lane].soon) = (kth, soon);
    }

    /// A lane puts a node on its frontier.
    #[inline]
    pub fn push(&mut self, lane: usize, node: usize, bound: f64) {
        if !self.pending.is_empty() {
            self.pending[node * self.seats.len() + lane] = bound as f32;
        }
    }

    /// A lane's distance from a node, and the dot product it comes from, at this place.
    #[inline]
    pub fn at(&self, lane: usize, place: usize) -> (f64, f64) {
        (self.seats[lane].distances[place], self.seats[lane].dots[place])
    }

    /// A lane is compared with some nodes, alone; its distances from them are at the places from 0 on.
    pub fn compare_alone(&mut self, lane: usize, nodes: &[i64]) {
        self.seats[lane].distances.clear();
        self.seats[lane].dots.clear();
        self.together.clear();
        self.together.push((lane, nodes.len()));
        self.compare(nodes, None);
    }

    /// A lane expands a node: the place of its distances from the children, those computed now that are not there yet,
    /// for it and for the lanes that would expand the node too as things stand.
    pub fn expand(&mut self, lane: usize, node: usize, children: &[i64]) -> usize {
        if self.pending.is_empty() {
            self.compare_alone(lane, &children[..self.seats[lane].sees(self.payload, children)]);
            return 0;
        }
        let lanes = self.seats.len();
        let pending = &mut self.pending[node * lanes..][..lanes];
        let places = &mut self.places[node * lanes..][..lanes];
        pending[lane] = f32::INFINITY;
        if places[lane] != NOWHERE {
            return places[lane] as usize;
        }
        self.together.clear();
        self.together.push((lane, self.seats[lane].sees(self.payload, children)));
        for (other, seat) in self.seats.iter().enumerate() {
            let bound = pending[other];
            if bound < f32::INFINITY && f64::from(bound) <= seat.kth && places[other] == NOWHERE {
                self.together.push((other, seat.sees(self.payload, children)));
            }
        }
        for &(other, _) in &self.together {
            places[other] = self.seats[other].distances.len() as u32;
        }
        let soon = (1..=SOON).find_map(|after| {
            let next = (lane + after) % lanes;
            let (node, children) = self.seats[next].soon?;
            (self.places[node * lanes + next] == NOWHERE).then_some(children)
        });
        self.compare(children, soon);
        self.places[node * lanes + lane] as usize
    }

    /// Compare nodes with the lanes in `together`; meanwhile the rows that are wanted after them are brought nearer.
    fn compare(&mut self, nodes: &[i64], soon: Option<[usize; 2]>) {
        let most = self.together.iter().map(|&(_, count)| count).max().unwrap_or(0);
        for (number, panel) in nodes[..most].chunks(PANEL).enumerate() {
            let start = number * PANEL;
            self.together.retain(|&(_, count)| count > start);
            let after = match &nodes[start + panel.len()..most] {
                [] => soon,
                [one] => Some([*one as usize; 2]),
                [one, two, ..] => Some([*one as usize, *two as usize]),
            };
            self.multiply(panel, after);
            self.measure(panel, start);
        }
    }

    /// Dot products of the panel's rows with the lanes, two rows at a time: the first lane brings them into cache.
    fn multiply(&mut self, panel: &[i64], after: Option<[usize; 2]>) {
        let payload = self.payload;
        if payload.width == 0 {
            return;
        }
        self.factors.clear();
        self.factors.extend(self.together.iter().map(|&(lane, _)| self.seats[lane].point.factors));
        let lanes = self.factors.len();
        let Some((first, others)) = self.factors.split_first() else { return };
        let row = |at: usize| payload.factors_of(panel[at] as usize);
        let soon = |at: usize| match panel.get(at) {
            Some(&node) => Some(node as usize),
            None => after.map(|after| after[(at - panel.len()).min(1)]),
        };
        let next = |at: usize| soon(at).map_or(&[][..], |node| payload.factors_of(node));
        let (pairs, rest) = others.as_chunks::<2>();
        let (twos, ones) = self.dots[..panel.len() * lanes].split_at_mut(panel.len() / 2 * 2 * lanes);
        for (number, dots) in twos.chunks_exact_mut(2 * lanes).enumerate() {
            let at = 2 * number;
            let rows = [row(at), row(at + 1)];
            let (above, below) = dots.split_at_mut(lanes);
            [above[0], below[0]] = payload.simd.dots1x2_ahead([first], rows, [next(at + 2), next(at + 3)])[0];
            for (which, &pair) in (1..).step_by(2).zip(pairs) {
                [[above[which], below[which]], [above[which + 1], below[which + 1]]] = payload.simd.dots2x2(pair, rows);
            }
            if let [last] = rest {
                [above[lanes - 1], below[lanes - 1]] = payload.simd.dots1x2([last], rows)[0];
            }
        }
        if !ones.is_empty() {
            let at = panel.len() - 1;
            ones[0] = payload.simd.dot_ahead(first, row(at), next(at + 1));
            for (which, &pair) in (1..).step_by(2).zip(pairs) {
                // A dot product is symmetric to the bit, so row and queries may change places.
                [ones[which], ones[which + 1]] = payload.simd.dots1x2([row(at)], pair)[0];
            }
            if let [last] = rest {
                ones[lanes - 1] = payload.simd.dot(last, row(at));
            }
        }
    }

    /// Distances of the lanes from the panel's rows.
    fn measure(&mut self, panel: &[i64], start: usize) {
        let Ahead { payload, seats, together, dots, coords, p, products, r2, rhos, .. } = self;
        for (at, &node) in panel.iter().enumerate() {
            for (axis, &x) in coords.chunks_exact_mut(PANEL).zip(payload.coords_of(node as usize)) {
                axis[at] = x;
            }
            if payload.metric != Metric::Euclidean {
                p[at] = payload.p[node as usize];
            }
        }
        let lanes = together.len();
        for (which, &(lane, count)) in together.iter().enumerate() {
            let seat = &mut seats[lane];
            let n = panel.len().min(count - start);
            // What is beyond n fills up a register, and is void.
            let full = n.next_multiple_of(VECTOR);
            if payload.width > 0 {
                for (to, row) in products[..n].iter_mut().zip(dots.chunks_exact(lanes)) {
                    *to = row[which];
                }
            }
            payload.simd.squared_distances(seat.point.coords, coords, PANEL, &mut r2[..full]);
            if let Metric::Residual { covariance: Covariance::Tables(expression), variance } = payload.metric {
                let to = &mut rhos[..full];
                payload.simd.covariances(expression, variance, seat.point.coords, coords, PANEL, to);
            }
            let before = seat.distances.len();
            seat.distances.resize(before + full, 0.0);
            let out = [&mut rhos[..full], &mut seat.distances[before..]];
            payload.simd.distances(payload.metric, &r2[..full], &products[..full], seat.point.p, &p[..full], out);
            seat.distances.truncate(before + n);
            seat.dots.extend_from_slice(&products[..n]);
        }
    }
}

impl Seat<'_> {
    /// Q1: with how many of these nodes, in insertion order, the query is compared.
    fn sees(&self, payload: &Payload, nodes: &[i64]) -> usize {
        if self.limit == i64::MAX {
            return nodes.len();
        }
        nodes.partition_point(|&node| payload.index[node as usize] < self.limit)
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
        let payload = Payload { p: &[1.0; 8], ..payload(&factors, &index) };
        let dot = |a, b| payload.simd.dot(payload.factors_of(a), payload.factors_of(b));
        let mut ahead = Ahead::new(&payload, 6);
        ahead.clear();
        for lane in 0..6 {
            ahead.enter(lane, &of(&payload, lane), if lane == 4 { 7 } else { i64::MAX });
        }
        // 1 would expand node 5; 2 is done, 3 has enough without it, 4 may not see row 7, 5 does not know of node 5.
        for lane in 0..5 {
            ahead.push(lane, 5, 0.5);
        }
        ahead.leave(2);
        ahead.narrow(3, 0.4, None);
        assert_eq!(ahead.expand(0, 5, &[6, 7]), 0);
        let known: Vec<Vec<f64>> = ahead.seats.iter().map(|seat| seat.dots.clone()).collect();
        assert_eq!(
            known,
            [vec![dot(0, 6), dot(0, 7)], vec![dot(1, 6), dot(1, 7)], vec![], vec![], vec![dot(4, 6)], vec![]]
        );
        // Those that are there are not computed again, and others come behind them.
        ahead.push(1, 4, 0.5);
        assert_eq!(ahead.expand(1, 5, &[6, 7]), 0);
        assert_eq!(ahead.expand(1, 4, &[3]), 2);
        assert_eq!(ahead.at(1, 2).1, dot(1, 3));
        ahead.clear();
        ahead.enter(1, &of(&payload, 1), i64::MAX);
        ahead.push(1, 4, 0.5);
        assert_eq!((ahead.expand(1, 4, &[3]), ahead.at(1, 0).1), (0, dot(1, 3)));
    }

    #[test]
    fn distances_are_those_of_one_row_after_the_other() {
        let rows = 3 * PANEL + 5;
        let factors: Vec<f64> = (0..rows * 16).map(|i| 0.1 * (i as f64).sin()).collect();
        let coords: Vec<f64> = (0..rows * 2).map(|i| (i as f64).cos()).collect();
        let index: Vec<i64> = (0..rows as i64).collect();
        let p: Vec<f64> = (0..rows).map(|i| 0.5 + 0.001 * i as f64).collect();
        let payload = Payload { dim: 2, coords: &coords, p: &p, ..payload(&factors, &index) };
        let mut ahead = Ahead::new(&payload, 3);
        ahead.clear();
        for (lane, &p) in p.iter().enumerate().take(3) {
            let point = Point { coords: payload.coords_of(lane), p, ..of(&payload, lane) };
            ahead.enter(lane, &point, if lane == 2 { 2 * PANEL as i64 + 3 } else { i64::MAX });
            ahead.push(lane, 0, 0.5);
        }
        ahead.expand(0, 0, &index);
        for lane in 0..3 {
            let seen = if lane == 2 { 2 * PANEL + 3 } else { rows };
            assert_eq!(ahead.seats[lane].distances.len(), seen);
            let point = Point { row: None, ..ahead.seats[lane].point };
            for row in 0..seen {
                let (distance, dot) = ahead.at(lane, row);
                assert_eq!(dot, payload.simd.dot(point.factors, payload.factors_of(row)));
                assert_eq!(distance, crate::distance::nearness_given_dot(&payload, &point, row, dot).distance);
            }
        }
    }
}
