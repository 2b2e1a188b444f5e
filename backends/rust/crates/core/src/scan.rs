//! The scan of docs/architecture.md ("The scan").
//!
//! Rows are gathered into panels, across runs where the stop rule allows it, and each panel is compared with the
//! group's queries two by two, two rows at a time: a row comes from memory once per group. Every query still sees its
//! rows in ascending order within a run, so answers and counters are those of the plain loop.

use std::sync::atomic::{AtomicI32, Ordering};

use crate::distance::Point;
use crate::kbest::KBest;
use crate::views::{Counters, InputError, Metric, Output, Payload, Plan, Settings, check_scan};

/// Rows per panel: 512 factors each take 128 KB, which a second-level cache holds.
const PANEL: usize = 32;

/// Compare the queries of every group of a plan with the group's rows and fill `out`.
///
/// Ends soon after `cancel` becomes nonzero; `out` is void then.
///
/// # Errors
///
/// If the arrays do not fit each other.
///
/// # Panics
///
/// If an entry of an array points outside another.
pub fn scan_block(
    payload: &Payload,
    plan: &Plan,
    settings: &Settings,
    cancel: &AtomicI32,
    out: &mut Output,
) -> Result<(), InputError> {
    check_scan(payload, plan, out)?;
    let mut panel = Panel::new(payload);
    for g in 0..plan.group_ptr.len() - 1 {
        let queries = plan.group_ptr[g] as usize..plan.group_ptr[g + 1] as usize;
        let runs = plan.run_ptr[g] as usize..plan.run_ptr[g + 1] as usize;
        let mut group: Vec<Asker> = queries.clone().map(|q| Asker::new(payload, plan, q, out.k)).collect();
        // The queries that have not stopped stand first.
        let mut live = group.len();
        let least_upper = group.iter().map(|asker| asker.upper).fold(f64::INFINITY, f64::min);
        for run in runs {
            let lower = plan.run_lower[run];
            if settings.kth_frontier_stop && (lower > 0.0 || lower > least_upper) {
                panel.compare(payload, &mut group[..live]);
                live = retire(&mut group[..live], lower);
            }
            if live == 0 || cancel.load(Ordering::Relaxed) != 0 {
                break;
            }
            let limit = group[..live].iter().map(|asker| asker.limit).max().unwrap_or(0);
            for row in plan.run_start[run] as usize..plan.run_stop[run] as usize {
                if plan.queries.rank[row] >= limit {
                    continue;
                }
                panel.push(payload, row, plan.queries.rank[row]);
                if panel.is_full() {
                    if cancel.load(Ordering::Relaxed) != 0 {
                        return Ok(());
                    }
                    panel.compare(payload, &mut group[..live]);
                }
            }
        }
        panel.compare(payload, &mut group[..live]);
        for asker in &mut group {
            asker.counters.nodes_visited = asker.counters.distance_evals;
            asker.counters.stop_exhausted = 1 - asker.counters.stop_kth_frontier;
            let (indices, distances, counters) = out.row(asker.q);
            asker.best.write(indices, distances);
            asker.counters.write(counters);
        }
        if cancel.load(Ordering::Relaxed) != 0 {
            break;
        }
    }
    Ok(())
}

/// A query while it is answered.
struct Asker<'a> {
    q: usize,
    point: Point<'a>,
    limit: i64,
    exclude: i64,
    upper: f64,
    best: KBest,
    counters: Counters,
}

impl<'a> Asker<'a> {
    fn new(payload: &Payload<'a>, plan: &Plan<'a>, q: usize, k: usize) -> Asker<'a> {
        Asker {
            q,
            point: Point::of(payload, &plan.queries, q),
            limit: plan.queries.limit[q],
            exclude: plan.queries.exclude[q],
            upper: plan.kth_upper[q],
            best: KBest::new(k),
            counters: Counters::default(),
        }
    }
}

/// Stop the queries that need no row at or beyond `lower`; the others come to stand first: how many.
fn retire(live: &mut [Asker], lower: f64) -> usize {
    let mut kept = 0;
    for i in 0..live.len() {
        if lower > live[i].best.kth().min(live[i].upper) {
            live[i].counters.stop_kth_frontier = 1;
        } else {
            live.swap(kept, i);
            kept += 1;
        }
    }
    kept
}

/// Rows that wait to be compared, and what is computed of them for two queries.
struct Panel {
    rows: Vec<usize>,
    ranks: Vec<i64>,
    /// Residual variances.
    p: Vec<f64>,
    /// Coordinates, axis by axis, `PANEL` to an axis.
    coords: Vec<f64>,
    /// Positions in the panel of the rows that either query may have.
    wanted: Vec<usize>,
    dots: [[f64; PANEL]; 2],
    r2: [f64; PANEL],
    distances: [f64; PANEL],
}

impl Panel {
    fn new(payload: &Payload) -> Panel {
        Panel {
            rows: Vec::with_capacity(PANEL),
            ranks: Vec::with_capacity(PANEL),
            p: Vec::with_capacity(PANEL),
            coords: vec![0.0; PANEL * payload.dim],
            wanted: Vec::with_capacity(PANEL),
            dots: [[0.0; PANEL]; 2],
            r2: [0.0; PANEL],
            distances: [0.0; PANEL],
        }
    }

    fn is_full(&self) -> bool {
        self.rows.len() == PANEL
    }

    fn push(&mut self, payload: &Payload, row: usize, rank: i64) {
        for (axis, &x) in self.coords.chunks_exact_mut(PANEL).zip(payload.coords_of(row)) {
            axis[self.rows.len()] = x;
        }
        if payload.metric != Metric::Euclidean {
            self.p.push(payload.p[row]);
        }
        self.rows.push(row);
        self.ranks.push(rank);
    }

    /// Compare all queries with all rows, and empty the panel.
    fn compare(&mut self, payload: &Payload, live: &mut [Asker]) {
        for pair in live.chunks_mut(2) {
            let limit = pair.iter().map(|asker| asker.limit).max().unwrap_or(0);
            self.wanted.clear();
            self.wanted.extend((0..self.rows.len()).filter(|&at| self.ranks[at] < limit));
            if self.wanted.is_empty() {
                continue;
            }
            if payload.width > 0 {
                self.fill_dots(payload, pair);
            }
            for (which, asker) in pair.iter_mut().enumerate() {
                self.offer(payload, which, asker);
            }
        }
        self.rows.clear();
        self.ranks.clear();
        self.p.clear();
    }

    fn fill_dots(&mut self, payload: &Payload, pair: &[Asker]) {
        let simd = payload.simd;
        let factors = |at: usize| payload.factors_of(self.rows[at]);
        let tiles = self.wanted.chunks_exact(2);
        let last = tiles.remainder().first().copied();
        if let [first, second] = pair {
            let queries = [first.point.factors, second.point.factors];
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
            let query = pair[0].point.factors;
            for tile in tiles {
                [self.dots[0][tile[0]], self.dots[0][tile[1]]] =
                    simd.dots1x2([query], [factors(tile[0]), factors(tile[1])])[0];
            }
            if let Some(at) = last {
                self.dots[0][at] = simd.dot(query, factors(at));
            }
        }
    }

    /// Offer the rows of the panel to one query, by the rules of the plain loop.
    fn offer(&mut self, payload: &Payload, which: usize, asker: &mut Asker) {
        let n = self.rows.len();
        let (simd, r2, distances) = (payload.simd, &mut self.r2[..n], &mut self.distances[..n]);
        simd.squared_distances(asker.point.coords, &self.coords, PANEL, r2);
        simd.distances(payload.metric, r2, &self.dots[which][..n], asker.point.p, &self.p, distances);
        for &at in &self.wanted {
            let row = self.rows[at];
            if self.ranks[at] >= asker.limit || row as i64 == asker.exclude {
                continue;
            }
            let d = if asker.point.row == Some(row) { 0.0 } else { distances[at] };
            asker.counters.distance_evals += 1;
            if d <= asker.upper {
                asker.counters.yields += i64::from(asker.best.offer(d, payload.index[row]));
            }
        }
    }
}
