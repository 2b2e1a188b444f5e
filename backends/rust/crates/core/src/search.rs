//! The tree search of docs/architecture.md ("The search").

use std::sync::atomic::{AtomicI32, Ordering};

use crate::ahead::{Ahead, lanes_for};
use crate::contract::Counters;
use crate::distance::{Nearness, Point, Slack, nearness_given_dot};
use crate::frontier::{Entry, Frontier};
use crate::kbest::KBest;
use crate::ladder::Ladder;
use crate::pack::prefetch;
use crate::views::{InputError, Output, Payload, Queries, Settings, TreeView, WIDEST_TILE, check_search};
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
    let block = Block::new(tree, payload, queries, settings);
    let lanes = lanes_for(payload, queries.len());
    let mut ahead = Ahead::new(payload, lanes);
    let mut lanes: Vec<Lane> = (0..lanes).map(|number| Lane::new(&block, number, out.k)).collect();
    for start in (0..queries.len()).step_by(lanes.len().max(1)) {
        ahead.clear();
        let mut going: Vec<&mut Lane> = lanes.iter_mut().zip(start..queries.len()).map(|(lane, _)| lane).collect();
        for (lane, q) in going.iter_mut().zip(start..) {
            lane.begin(&mut ahead, q);
        }
        while !going.is_empty() {
            if cancel.load(Ordering::Relaxed) != 0 {
                return Ok(());
            }
            going.retain_mut(|lane| match lane.step(&mut ahead) {
                Some(stop) => {
                    lane.end(stop, &mut ahead, out);
                    false
                }
                None => true,
            });
        }
    }
    Ok(())
}

/// How many children ahead of their use all but their factors is asked for.
const SOON: usize = 8;

enum Stop {
    Exhausted,
    KthFrontier,
    Budget,
}

/// What all queries of a block walk by.
#[derive(Clone, Copy)]
struct Block<'a> {
    tree: &'a TreeView<'a>,
    payload: &'a Payload<'a>,
    queries: &'a Queries<'a>,
    settings: &'a Settings,
    slack: Slack,
    lowest_level: i64,
    /// How many levels are capped: all or none.
    levels: usize,
}

/// One query on its way; several go side by side, each in a lane of its own.
struct Lane<'a> {
    block: &'a Block<'a>,
    number: usize,
    /// The query's place in the block.
    q: usize,
    point: Point<'a>,
    best: KBest,
    frontier: Frontier,
    visited: Visited,
    /// Nodes evaluated per level from the lowest on; empty where levels are not capped.
    evaluated: Vec<i64>,
    ladder: Ladder,
    /// Of the next tile.
    width: usize,
    counters: Counters,
}

impl<'a> Lane<'a> {
    fn new(block: &'a Block<'a>, number: usize, k: usize) -> Lane<'a> {
        Lane {
            block,
            number,
            q: 0,
            point: Point::of(block.payload, block.queries, 0),
            best: KBest::new(k),
            frontier: Frontier::new(),
            visited: Visited::new(block.payload.n(), block.settings.bitset),
            evaluated: vec![0; block.levels],
            ladder: Ladder::new(),
            width: block.settings.narrowest(),
            counters: Counters::default(),
        }
    }

    /// Put query `q` of the block on the lane, and visit the root.
    fn begin(&mut self, ahead: &mut Ahead<'a>, q: usize) {
        let Block { tree, payload, queries, settings, .. } = *self.block;
        self.q = q;
        self.point = Point::of(payload, queries, q);
        self.frontier.clear();
        self.visited.clear();
        self.evaluated.fill(0);
        self.ladder = Ladder::new();
        self.width = settings.narrowest();
        self.counters = Counters::default();
        let limit = if queries.prefix { queries.limit[q] } else { i64::MAX };
        ahead.enter(self.number, &self.point, limit);
        if payload.index[tree.root] < limit {
            self.take(ahead, &[tree.root as i64], None, &[]);
            ahead.narrow(self.number, self.best.kth());
        }
    }

    /// Expand the nearest node of the frontier; the reason to stop, if there is one.
    fn step(&mut self, ahead: &mut Ahead<'a>) -> Option<Stop> {
        let Block { tree, payload, queries, settings, .. } = *self.block;
        let Some(nearest) = self.frontier.peek() else { return Some(Stop::Exhausted) };
        if settings.kth_frontier_stop && nearest.bound > self.best.kth() {
            return Some(Stop::KthFrontier);
        }
        let entry = self.frontier.pop()?;
        ahead.expand(self.number, entry.node);
        let mut children = tree.children_of(entry.node);
        if queries.prefix {
            // Q1; children are in insertion order, so their indices ascend.
            let limit = queries.limit[self.q];
            children = &children[..children.partition_point(|&c| payload.index[c as usize] < limit)];
        }
        self.call(ahead, &children[..children.len().min(SOON)]);
        while !children.is_empty() {
            let (tile, rest) = children.split_at(self.width.min(children.len()));
            if let Some(soon) = children.get(SOON..) {
                self.call(ahead, &soon[..soon.len().min(tile.len())]);
            }
            let yields = self.counters.yields;
            self.take(ahead, tile, Some(entry.distance), rest);
            if self.ladder.stops(settings, &mut self.counters) {
                return Some(Stop::Budget);
            }
            if settings.dynamic_tile {
                let fruitless = self.counters.yields == yields;
                self.width = if fruitless { (2 * self.width).min(settings.stream_tile) } else { settings.narrowest() };
            }
            children = rest;
        }
        ahead.narrow(self.number, self.best.kth());
        None
    }

    /// Write the answer.
    fn end(&mut self, stop: Stop, ahead: &mut Ahead<'a>, out: &mut Output) {
        match stop {
            Stop::Exhausted => self.counters.stop_exhausted = 1,
            Stop::KthFrontier => self.counters.stop_kth_frontier = 1,
            Stop::Budget => self.counters.stop_budget = 1,
        }
        let (indices, distances, counters) = out.row(self.q);
        self.best.write(indices, distances);
        self.counters.write(counters);
        ahead.leave(self.number);
    }

    /// Visit, evaluate, offer and push a tile, whose parent is at distance `parent`; `rest` comes next.
    fn take(&mut self, ahead: &mut Ahead<'a>, tile: &[i64], parent: Option<f64>, rest: &[i64]) {
        let Block { tree, payload, queries, .. } = *self.block;
        let (limit, exclude) = (queries.limit[self.q], queries.exclude[self.q]);
        let mut fresh = [0; WIDEST_TILE];
        let mut found = [Nearness::default(); WIDEST_TILE];
        let size = self.select(tile, parent, &mut fresh);
        let fresh = &fresh[..size];
        self.counters.distance_evals += size as i64;
        if let Some(&last) = fresh.last() {
            for (at, pair) in found.iter_mut().zip(fresh.windows(2)) {
                *at = self.nearness(ahead, pair[0], Some(pair[1]));
            }
            found[size - 1] = self.nearness(ahead, last, self.guess(rest));
        }
        for (&c, &at) in fresh.iter().zip(&found) {
            if queries.rank[c] < limit && c as i64 != exclude {
                self.counters.yields += i64::from(self.best.offer(at, payload.index[c]));
            }
            if !tree.is_leaf(c) {
                self.push(ahead, c, at.distance);
            }
        }
    }

    /// How near a node is; meanwhile the factors of `next` are brought nearer.
    #[inline]
    fn nearness(&self, ahead: &mut Ahead<'a>, node: usize, next: Option<usize>) -> Nearness {
        if self.point.row == Some(node) {
            return Nearness::ITSELF;
        }
        let dot = ahead.dot(self.number, node, next);
        nearness_given_dot(self.block.payload, &self.point, node, dot)
    }

    /// Bring nearer all that nodes will be asked for, but the factors.
    #[inline]
    fn call(&self, ahead: &Ahead<'a>, nodes: &[i64]) {
        let Block { tree, payload, queries, .. } = *self.block;
        for &node in nodes {
            let node = node as usize;
            self.visited.prefetch(node);
            ahead.prefetch(node);
            prefetch(&payload.index[node..=node]);
            prefetch(&queries.rank[node..=node]);
            prefetch(&tree.child_ptr[node..=node]);
            prefetch(&tree.si[node..=node]);
            prefetch(payload.coords_of(node));
            prefetch(payload.p.get(node..=node).unwrap_or_default());
            if !self.evaluated.is_empty() {
                prefetch(&tree.level[node..=node]);
            }
        }
    }

    /// The node that is likely to be wanted after a tile that `rest` follows.
    fn guess(&self, rest: &[i64]) -> Option<usize> {
        let next = rest.first().or_else(|| self.block.tree.children_of(self.frontier.peek()?.node).first());
        next.map(|&next| next as usize)
    }

    /// The nodes of a tile that must be evaluated: the first of `chosen`, and how many.
    fn select(&mut self, tile: &[i64], parent: Option<f64>, chosen: &mut [usize; WIDEST_TILE]) -> usize {
        let Block { tree, settings, slack, .. } = *self.block;
        let parent = parent.filter(|_| settings.level_cache).map(|d| (slack.lower(d), slack.upper(d)));
        let fresh = self.visited.visit(tile);
        let mut size = 0;
        for (place, &c) in tile.iter().enumerate() {
            if fresh >> place & 1 == 0 {
                self.counters.prunes_visited += 1;
                continue;
            }
            self.counters.nodes_visited += 1;
            let c = c as usize;
            let level = (settings.level_cap > 0).then(|| (tree.level[c] - self.block.lowest_level) as usize);
            if level.is_some_and(|level| self.evaluated[level] >= settings.level_cap) {
                self.counters.caps_applied += 1;
                continue;
            }
            if parent.is_some_and(|parent| self.block.bound_by_parent(parent, c) > self.best.kth()) {
                self.counters.level_cache_hits += 1;
                continue;
            }
            if let Some(level) = level {
                self.evaluated[level] += 1;
            }
            chosen[size] = c;
            size += 1;
        }
        size
    }

    fn push(&mut self, ahead: &mut Ahead<'a>, node: usize, distance: f64) {
        let slack = self.block.slack;
        let bound = slack.bound(slack.lower(distance), self.block.radius(node));
        if bound > self.best.kth() {
            self.counters.prunes_bound += 1;
            return;
        }
        let sequence = self.counters.frontier_pushes;
        self.frontier.push(Entry { bound, sequence, node, distance });
        ahead.push(self.number, node, bound);
        self.counters.frontier_pushes += 1;
        self.counters.frontier_peak = self.counters.frontier_peak.max(self.frontier.len() as i64);
    }
}

impl<'a> Block<'a> {
    fn new(
        tree: &'a TreeView<'a>,
        payload: &'a Payload<'a>,
        queries: &'a Queries<'a>,
        settings: &'a Settings,
    ) -> Block<'a> {
        let (lowest_level, highest_level) =
            tree.level.iter().fold((i64::MAX, i64::MIN), |(low, high), &level| (low.min(level), high.max(level)));
        let levels = if settings.level_cap > 0 { (highest_level - lowest_level + 1) as usize } else { 0 };
        let slack = Slack::of(payload, queries);
        Block { tree, payload, queries, settings, slack, lowest_level, levels }
    }

    #[inline]
    fn radius(&self, node: usize) -> f64 {
        self.tree.si[node].max(self.settings.radius_floor)
    }

    /// B2 from the parent alone, `(lower, upper)` being bounds on its true distance.
    #[inline]
    fn bound_by_parent(&self, (lower, upper): (f64, f64), c: usize) -> f64 {
        let pd = self.tree.parent_distance[c];
        let far = (lower - self.slack.upper(pd)).max(self.slack.lower(pd) - upper);
        self.slack.bound(far, if self.tree.is_leaf(c) { 0.0 } else { self.radius(c) })
    }
}
