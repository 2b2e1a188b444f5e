//! The scan of docs/architecture.md ("The scan").
//!
//! Rows are gathered into panels, across runs where the stop rule allows it, and each panel is compared with all
//! queries of the group: a row comes from memory once per group. Every query still sees its rows in the order of the
//! plain loop, so answers and counters are the same.

use std::sync::atomic::{AtomicI32, Ordering};

use crate::contract::Counters;
use crate::distance::Point;
use crate::kbest::KBest;
use crate::panel::Panel;
use crate::views::{InputError, Output, Payload, Plan, Settings, check_scan};

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
                compare(&mut panel, payload, &mut group[..live]);
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
                    compare(&mut panel, payload, &mut group[..live]);
                }
            }
        }
        compare(&mut panel, payload, &mut group[..live]);
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

/// Offer the rows of the panel to all queries, by the rules of the plain loop, and empty it.
fn compare(panel: &mut Panel, payload: &Payload, live: &mut [Asker]) {
    for pair in live.chunks_mut(2) {
        let limit = pair.iter().map(|asker| asker.limit).max().unwrap_or(0);
        match &*pair {
            [first, second] => panel.compare(payload, &[&first.point, &second.point], limit),
            rest => panel.compare(payload, &[&rest[0].point], limit),
        }
        for (which, asker) in pair.iter_mut().enumerate() {
            for &at in &panel.wanted {
                let row = panel.rows[at];
                if panel.ranks[at] >= asker.limit || row as i64 == asker.exclude {
                    continue;
                }
                asker.counters.distance_evals += 1;
                if panel.distances[which][at] <= asker.upper {
                    let nearness = panel.nearness(which, at);
                    asker.counters.yields += i64::from(asker.best.offer(nearness, payload.index[row]));
                }
            }
        }
    }
    panel.clear();
}
