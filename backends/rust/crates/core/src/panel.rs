//! Panels of rows that are compared with queries two by two, two rows at a time, and with vector instructions
//! throughout: what makes many distances at once cheaper than the same one by one.

use crate::distance::{Nearness, Point};
use crate::kernel::Covariance;
use crate::metric::Metric;
use crate::views::Payload;

/// Rows per panel: 512 factors each take 128 KB, which a second-level cache holds.
pub(crate) const PANEL: usize = 32;

/// Rows that wait to be compared, and their distances from the two queries that they were compared with last.
pub(crate) struct Panel {
    pub rows: Vec<usize>,
    pub ranks: Vec<i64>,
    /// Positions in the panel of the rows below the last limit.
    pub wanted: Vec<usize>,
    /// By query and position; void where not wanted.
    pub distances: [[f64; PANEL]; 2],
    rhos: [[f64; PANEL]; 2],
    r2: [[f64; PANEL]; 2],
    /// Residual variances.
    p: Vec<f64>,
    /// Coordinates, axis by axis, `PANEL` to an axis.
    coords: Vec<f64>,
    dots: [[f64; PANEL]; 2],
}

impl Panel {
    pub fn new(payload: &Payload) -> Panel {
        Panel {
            rows: Vec::with_capacity(PANEL),
            ranks: Vec::with_capacity(PANEL),
            wanted: Vec::with_capacity(PANEL),
            distances: [[0.0; PANEL]; 2],
            rhos: [[0.0; PANEL]; 2],
            r2: [[0.0; PANEL]; 2],
            p: Vec::with_capacity(PANEL),
            coords: vec![0.0; PANEL * payload.dim],
            dots: [[0.0; PANEL]; 2],
        }
    }

    pub fn is_full(&self) -> bool {
        self.rows.len() == PANEL
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.ranks.clear();
        self.p.clear();
    }

    pub fn push(&mut self, payload: &Payload, row: usize, rank: i64) {
        for (axis, &x) in self.coords.chunks_exact_mut(PANEL).zip(payload.coords_of(row)) {
            axis[self.rows.len()] = x;
        }
        if payload.metric != Metric::Euclidean {
            self.p.push(payload.p[row]);
        }
        self.rows.push(row);
        self.ranks.push(rank);
    }

    /// Compare one query or two with the rows of rank below `limit`.
    pub fn compare(&mut self, payload: &Payload, pair: &[&Point], limit: i64) {
        self.wanted.clear();
        self.wanted.extend((0..self.rows.len()).filter(|&at| self.ranks[at] < limit));
        if self.wanted.is_empty() {
            return;
        }
        if payload.width > 0 {
            self.fill_dots(payload, pair);
        }
        let n = self.rows.len();
        for (which, point) in pair.iter().enumerate() {
            let distances = &mut self.distances[which][..n];
            let (r2, rhos) = (&mut self.r2[which][..n], &mut self.rhos[which][..n]);
            payload.simd.squared_distances(point.coords, &self.coords, PANEL, r2);
            if let Metric::Residual { covariance: Covariance::Tables(expression), variance } = payload.metric {
                payload.simd.covariances(expression, variance, point.coords, &self.coords, PANEL, rhos);
            }
            payload.simd.distances(
                payload.metric,
                r2,
                &self.dots[which][..n],
                point.p,
                &self.p,
                [&mut *rhos, distances],
            );
            if payload.metric == Metric::Euclidean {
                rhos.fill(1.0);
                r2.fill(0.0);
            }
            if let Some(itself) = self.rows.iter().position(|&row| point.row == Some(row)) {
                Nearness { distance: distances[itself], rho: rhos[itself], r2: r2[itself] } = Nearness::ITSELF;
            }
        }
    }

    /// What was found of the row at a position and one of the two queries.
    #[inline]
    pub fn nearness(&self, which: usize, at: usize) -> Nearness {
        Nearness { distance: self.distances[which][at], rho: self.rhos[which][at], r2: self.r2[which][at] }
    }

    fn fill_dots(&mut self, payload: &Payload, pair: &[&Point]) {
        let simd = payload.simd;
        let factors = |at: usize| payload.factors_of(self.rows[at]);
        let tiles = self.wanted.chunks_exact(2);
        let last = tiles.remainder().first().copied();
        if let [first, second] = pair {
            let queries = [first.factors, second.factors];
            for tile in tiles {
                let dots = simd.dots2x2(queries, [factors(tile[0]), factors(tile[1])]);
                for (to, dots) in self.dots.iter_mut().zip(dots) {
                    [to[tile[0]], to[tile[1]]] = dots;
                }
            }
            if let Some(at) = last {
                // A dot product is symmetric to the bit, so row and queries may change places.
                [self.dots[0][at], self.dots[1][at]] = simd.dots1x2([factors(at)], queries)[0];
            }
        } else {
            let query = pair[0].factors;
            for tile in tiles {
                [self.dots[0][tile[0]], self.dots[0][tile[1]]] =
                    simd.dots1x2([query], [factors(tile[0]), factors(tile[1])])[0];
            }
            if let Some(at) = last {
                self.dots[0][at] = simd.dot(query, factors(at));
            }
        }
    }
}
