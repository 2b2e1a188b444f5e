//! The tree search of docs/architecture.md ("The search").

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::distance::{Point, distance};
use crate::frontier::{Entry, Frontier};
use crate::kbest::KBest;
use crate::ladder::Ladder;
use crate::simd::prefetch;
use crate::views::{Counters, InputError, Output, Payload, Queries, Settings, TreeView, WIDEST_TILE, check_search};
use crate::visited::Visited;

/// Walk a cover tree best-first for every query of a block and fill `out`.
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
pub fn search_block(
    tree: &TreeView,
    payload: &Payload,
    queries: &Queries,
    settings: &Settings,
    cancel: &AtomicI32,
    out: &mut Output,
) -> Result<(), InputError> {
    check_search(tree, payload, queries, settings, out)?;
    let mut walk = Walk {
        tree,
        payload,
        queries,
        settings,
        best: KBest::new(out.k),
        frontier: Frontier::new(),
        visited: Visited::new(payload.n(), settings.bitset),
        evaluated: HashMap::new(),
        counters: Counters::default(),
    };
    for q in 0..queries.len() {
        if cancel.load(Ordering::Relaxed) != 0 {
            break;
        }
        walk.clear();
        match walk.run(q) {
            Stop::Exhausted => walk.counters.stop_exhausted = 1,
            Stop::KthFrontier => walk.counters.stop_kth_frontier = 1,
            Stop::Budget => walk.counters.stop_budget = 1,
        }
        let (indices, distances, counters) = out.row(q);
        walk.best.write(indices, distances);
        walk.counters.write(counters);
    }
    Ok(())
}

enum Stop {
    Exhausted,
    KthFrontier,
    Budget,
}

/// What a block walks by, and the scratch of one query.
struct Walk<'a> {
    tree: &'a TreeView<'a>,
    payload: &'a Payload<'a>,
    queries: &'a Queries<'a>,
    settings: &'a Settings,
    best: KBest,
    frontier: Frontier,
    visited: Visited,
    /// Nodes evaluated per level, where levels are capped.
    evaluated: HashMap<i64, i64>,
    counters: Counters,
}

/// A query while it is answered.
struct Asker<'a> {
    point: Point<'a>,
    limit: i64,
    exclude: i64,
}

impl Walk<'_> {
    fn clear(&mut self) {
        self.frontier.clear();
        self.visited.clear();
        self.evaluated.clear();
        self.counters = Counters::default();
    }

    fn run(&mut self, q: usize) -> Stop {
        let asker = Asker {
            point: Point::of(self.payload, self.queries, q),
            limit: self.queries.limit[q],
            exclude: self.queries.exclude[q],
        };
        let root = self.tree.root;
        if self.queries.prefix && self.payload.index[root] >= asker.limit {
            return Stop::Exhausted;
        }
        self.take(&asker, &[root as i64], None, &[]);
        let mut ladder = Ladder::new();
        let mut width = self.settings.narrowest();
        while let Some(&Entry { bound, .. }) = self.frontier.peek() {
            if self.settings.kth_frontier_stop && bound > self.best.kth() {
                return Stop::KthFrontier;
            }
            let Some(entry) = self.frontier.pop() else { break };
            let mut children = self.tree.children_of(entry.node);
            if self.queries.prefix {
                // Q1; children are in insertion order, so their indices ascend.
                children = &children[..children.partition_point(|&c| self.payload.index[c as usize] < asker.limit)];
            }
            while !children.is_empty() {
                let (tile, rest) = children.split_at(width.min(children.len()));
                let yields = self.counters.yields;
                self.take(&asker, tile, Some(entry.distance), rest);
                if ladder.stops(self.settings, &mut self.counters) {
                    return Stop::Budget;
                }
                if self.settings.dynamic_tile {
                    let fruitless = self.counters.yields == yields;
                    width =
                        if fruitless { (2 * width).min(self.settings.stream_tile) } else { self.settings.narrowest() };
                }
                children = rest;
            }
        }
        Stop::Exhausted
    }

    /// Visit, evaluate, offer and push a tile, whose parent is at distance `parent`; `rest` comes next.
    fn take(&mut self, asker: &Asker, tile: &[i64], parent: Option<f64>, rest: &[i64]) {
        let mut nodes = [0; WIDEST_TILE];
        let mut found = [0.0; WIDEST_TILE];
        let size = self.select(tile, parent, &mut nodes);
        self.counters.distance_evals += size as i64;
        for i in 0..size {
            let next = if i + 1 < size { Some(nodes[i + 1]) } else { rest.first().map(|&c| c as usize) };
            if let Some(row) = next {
                prefetch(self.payload.factors_of(row));
            }
            found[i] = distance(self.payload, &asker.point, nodes[i]);
        }
        for (&c, &d) in nodes.iter().zip(&found).take(size) {
            if self.queries.rank[c] < asker.limit && c as i64 != asker.exclude {
                self.counters.yields += i64::from(self.best.offer(d, self.payload.index[c]));
            }
            if !self.tree.is_leaf(c) {
                self.push(c, d);
            }
        }
    }

    /// The nodes of a tile that must be evaluated: how many, and the first of `nodes`.
    fn select(&mut self, tile: &[i64], parent: Option<f64>, nodes: &mut [usize; WIDEST_TILE]) -> usize {
        let settings = self.settings;
        let parent = parent.filter(|_| settings.level_cache).map(|d| (self.payload.lower(d), self.payload.upper(d)));
        let fresh = self.visited.visit(tile);
        let mut size = 0;
        for (i, &c) in tile.iter().enumerate() {
            if fresh >> i & 1 == 0 {
                self.counters.prunes_visited += 1;
                continue;
            }
            self.counters.nodes_visited += 1;
            let c = c as usize;
            if settings.level_cap > 0 && self.evaluated.get(&self.tree.level[c]) >= Some(&settings.level_cap) {
                self.counters.caps_applied += 1;
                continue;
            }
            if parent.is_some_and(|parent| self.bound_by_parent(parent, c) > self.best.kth()) {
                self.counters.level_cache_hits += 1;
                continue;
            }
            if settings.level_cap > 0 {
                *self.evaluated.entry(self.tree.level[c]).or_insert(0) += 1;
            }
            nodes[size] = c;
            size += 1;
        }
        size
    }

    fn push(&mut self, node: usize, distance: f64) {
        let bound = self.payload.bound(self.payload.lower(distance), self.radius(node));
        if bound > self.best.kth() {
            self.counters.prunes_bound += 1;
            return;
        }
        let sequence = self.counters.frontier_pushes;
        self.frontier.push(Entry { bound, sequence, node, distance });
        self.counters.frontier_pushes += 1;
        self.counters.frontier_peak = self.counters.frontier_peak.max(self.frontier.len() as i64);
    }

    #[inline]
    fn radius(&self, node: usize) -> f64 {
        self.tree.si[node].max(self.settings.radius_floor)
    }

    /// B2 from the parent alone, `(lower, upper)` being bounds on its true distance.
    #[inline]
    fn bound_by_parent(&self, (lower, upper): (f64, f64), c: usize) -> f64 {
        let pd = self.tree.parent_distance[c];
        let far = (lower - self.payload.upper(pd)).max(self.payload.lower(pd) - upper);
        self.payload.bound(far, if self.tree.is_leaf(c) { 0.0 } else { self.radius(c) })
    }
}
