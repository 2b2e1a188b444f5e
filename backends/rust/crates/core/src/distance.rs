//! Distance of a query from a row (A5), and bounds on it (B1, B2).

use crate::arith::squared_distance;
use crate::metric::{Metric, rho};
use crate::views::{Payload, Queries};

/// How near a row is to a query. Invariant A7: of two rows the one with the smaller distance is nearer; at one distance
/// that with the larger rho; then that with the smaller r2; then that with the smaller dataset index. Euclidean distance
/// is the scaled distance itself, so rho is 1 and r2 is 0 there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nearness {
    /// Computed distance.
    pub distance: f64,
    /// `|rho|`, at most 1.
    pub rho: f64,
    /// Squared scaled distance.
    pub r2: f64,
}

impl Nearness {
    /// Of a row to itself.
    pub const ITSELF: Nearness = Nearness { distance: 0.0, rho: 1.0, r2: 0.0 };
}

/// One query: its data, and the row that it is, if it is one.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// Scaled coordinates.
    pub coords: &'a [f64],
    /// Padded factors.
    pub factors: &'a [f64],
    /// Residual variance; 1 for Euclidean.
    pub p: f64,
    /// Payload row, None for an external query.
    pub row: Option<usize>,
}

impl<'a> Point<'a> {
    /// Query `q` of a block.
    pub fn of(payload: &Payload<'a>, queries: &Queries<'a>, q: usize) -> Point<'a> {
        let variance = |p: &[f64], at: usize| if payload.metric == Metric::Euclidean { 1.0 } else { p[at] };
        let row = queries.rows[q];
        if row >= 0 {
            let row = row as usize;
            return Point {
                coords: payload.coords_of(row),
                factors: payload.factors_of(row),
                p: variance(payload.p, row),
                row: Some(row),
            };
        }
        let e = (-1 - row) as usize;
        Point {
            coords: &queries.coords[e * payload.dim..][..payload.dim],
            factors: &queries.factors[e * payload.width..][..payload.width],
            p: variance(queries.p, e),
            row: None,
        }
    }
}

/// A5: computed distance of a query from a row; 0 if it is that row.
pub fn distance(payload: &Payload, point: &Point, row: usize) -> f64 {
    if point.row == Some(row) {
        return 0.0;
    }
    nearness_given_dot(payload, point, row, payload.simd.dot(point.factors, payload.factors_of(row))).distance
}

/// A5 for another row than the query, from the dot product of their factors.
#[inline]
pub(crate) fn nearness_given_dot(payload: &Payload, point: &Point, row: usize, dot: f64) -> Nearness {
    let r2 = squared_distance(point.coords, payload.coords_of(row));
    match payload.metric {
        Metric::Euclidean => Nearness { distance: r2.sqrt(), rho: 1.0, r2: 0.0 },
        Metric::Residual { covariance, variance } => {
            let k = covariance.value(variance, point.coords, payload.coords_of(row), r2);
            let rho = rho(k, dot, point.p, payload.p[row]);
            Nearness { distance: (1.0 - rho).sqrt(), rho, r2 }
        }
    }
}

/// B1: what a squared computed distance may be off.
#[derive(Clone, Copy, Debug)]
pub struct Slack {
    /// Absolutely ...
    pub abs: f64,
    /// ... and relatively.
    pub rel: f64,
}

impl Slack {
    /// What distances of these queries need.
    pub fn of(payload: &Payload, queries: &Queries) -> Slack {
        Slack { abs: queries.slack_abs, rel: payload.slack_rel }
    }

    /// B1: no true distance is below this when `d` is the computed one; and none computes below this when `d` bounds
    /// the true one from below.
    #[inline]
    pub fn lower(&self, d: f64) -> f64 {
        let t = (d * d) * (1.0 - self.rel) - self.abs;
        if t > 0.0 { t.sqrt() } else { 0.0 }
    }

    /// B1: no true distance is above this when `d` is the computed one.
    #[inline]
    pub fn upper(&self, d: f64) -> f64 {
        ((d * d) * (1.0 + self.rel) + self.abs).sqrt()
    }

    /// B2: no point of a subtree of radius `near` whose root is truly at least `far` away computes closer than this.
    #[inline]
    pub fn bound(&self, far: f64, near: f64) -> f64 {
        let t = far - near;
        if t > 0.0 { self.lower(t) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_the_formulas_of_b1_and_b2() {
        let slack = Slack { abs: 0.01, rel: 0.1 };
        let lower = |d: f64| ((d * d) * (1.0 - 0.1) - 0.01).sqrt();
        assert_eq!(slack.lower(0.7), lower(0.7));
        assert_eq!(slack.lower(0.1), 0.0);
        assert_eq!(slack.upper(0.7), ((0.7 * 0.7) * (1.0 + 0.1) + 0.01f64).sqrt());
        assert_eq!(slack.bound(0.9, 0.2), lower(0.9 - 0.2));
        assert_eq!(slack.bound(0.2, 0.2), 0.0);
    }
}
