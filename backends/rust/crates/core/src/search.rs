//! The tree search of docs/architecture.md ("The search").

use std::sync::atomic::{AtomicI32, Ordering};

use crate::ahead::{Ahead, lanes_for};
use crate::contract::Counters;
use crate::distance::{Nearness, Point, Slack, nearness_given_dot};
use crate::frontier::{Entry, Frontier};
use crate::kbest::KBest;
use crate::ladder::Ladder;
use crate::views::{InputError, Output, Payload, Queries, Settings, TreeView, WIDEST_TILE, check_search};

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
    /// Whether all children of a node are evaluated: nothing can end the search, or skip them, in between.
    whole: bool,
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
    /// Distances of the nodes that were put on the frontier, in that order; empty where nothing asks for them.
    pushed: Vec<f64>,
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
            pushed: Vec::new(),
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
        self.pushed.clear();
        self.evaluated.fill(0);
        self.ladder = Ladder::new();
        self.width = settings.narrowest();
        self.counters = Counters::default();
        let limit = if queries.prefix { queries.limit[q] } else { i64::MAX };
        ahead.enter(self.number, &self.point, limit);
        if payload.index[tree.root] < limit {
            let root = [tree.root as i64];
            ahead.compare_alone(self.number, &root);
            self.take(ahead, &root, None, 0);
            ahead.narrow(self.number, self.best.kth(), self.soon());
        }
    }

    /// Expand the nearest node of the frontier; the reason to stop, if there is one.
    fn step(&mut self, ahead: &mut Ahead<'a>) -> Option<Stop> {
        let Block { tree, payload, queries, settings, .. } = *self.block;
        let Some(nearest) = self.frontier.peek() else { return Some(Stop::Exhausted) };
        if settings.kth_frontier_stop && nearest.bound() > self.best.kth() {
            return Some(Stop::KthFrontier);
        }
        let entry = self.frontier.pop()?;
        let node = entry.node();
        let parent = self.pushed.get(entry.sequence()).copied();
        let all = tree.children_of(node);
        let mut children = all;
        if queries.prefix {
            // Q1; children are in insertion order, so their indices ascend.
            let limit = queries.limit[self.q];
            children = &children[..children.partition_point(|&c| payload.index[c as usize] < limit)];
        }
        let mut place = if self.block.whole { ahead.expand(self.number, node, all) } else { 0 };
        while !children.is_empty() {
            let (tile, rest) = children.split_at(self.width.min(children.len()));
            if !self.block.whole {
                ahead.compare_alone(self.number, tile);
                place = 0;
            }
            let yields = self.counters.yields;
            self.take(ahead, tile, parent, place);
            if self.ladder.stops(settings, &mut self.counters) {
                return Some(Stop::Budget);
            }
            if settings.dynamic_tile {
                let fruitless = self.counters.yields == yields;
                self.width = if fruitless { (2 * self.width).min(settings.stream_tile) } else { settings.narrowest() };
            }
            children = rest;
            place += tile.len();
        }
        ahead.narrow(self.number, self.best.kth(), self.soon());
        None
    }

    /// The node that is nearest now, and its first two children.
    fn soon(&self) -> Option<(usize, [usize; 2])> {
        let node = self.frontier.peek()?.node();
        let children = self.block.tree.children_of(node);
        let (first, second) = (children.first()?, children.get(1).or(children.first())?);
        Some((node, [*first as usize, *second as usize]))
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

    /// Visit, offer and push a tile, whose parent is at distance `parent`; its distances are at the places from `place` on.
    fn take(&mut self, ahead: &mut Ahead<'a>, tile: &[i64], parent: Option<f64>, place: usize) {
        let Block { tree, payload, queries, .. } = *self.block;
        let (limit, exclude) = (queries.limit[self.q], queries.exclude[self.q]);
        let mut fresh = [0; WIDEST_TILE];
        let size = self.select(ahead, tile, parent, &mut fresh);
        self.counters.distance_evals += size as i64;
        for &at in &fresh[..size] {
            let c = tile[at] as usize;
            let itself = self.point.row == Some(c);
            let (distance, dot) = ahead.at(self.number, place + at);
            let distance = if itself { 0.0 } else { distance };
            // Most are too far, which their distance alone tells.
            if distance <= self.best.kth() && queries.rank[c] < limit && c as i64 != exclude {
                let near = if itself { Nearness::ITSELF } else { nearness_given_dot(payload, &self.point, c, dot) };
                self.counters.yields += i64::from(self.best.offer(near, payload.index[c]));
            }
            if !tree.is_leaf(c) {
                self.push(ahead, c, distance);
            }
        }
    }

    /// The nodes of a tile that must be evaluated: their places in it, the first of `chosen`, and how many.
    fn select(
        &mut self,
        ahead: &mut Ahead<'a>,
        tile: &[i64],
        parent: Option<f64>,
        chosen: &mut [usize; WIDEST_TILE],
    ) -> usize {
        let Block { tree, settings, slack, .. } = *self.block;
        let parent = parent.map(|d| (slack.lower(d), slack.upper(d)));
        let fresh = ahead.visited.visit(self.number, tile);
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
            chosen[size] = place;
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
        // Rows are fewer than 2^32: their places are numbered by as many bits (`Ahead`).
        self.frontier.push(Entry::new(bound, self.counters.frontier_pushes as u32, node as u32));
        if self.block.settings.level_cache {
            self.pushed.push(distance);
        }
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
        let whole = levels == 0 && settings.budget_schedule.is_empty();
        Block { tree, payload, queries, settings, slack, lowest_level, levels, whole }
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
