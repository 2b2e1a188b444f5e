//! The tree search of docs/architecture.md ("The search").

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::distance::{Point, distance_ahead};
use crate::frontier::{Entry, Frontier};
use crate::kbest::KBest;
use crate::ladder::Ladder;
use crate::pack::prefetch;
use crate::panel::{PANEL, Panel};
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
    let mut shared = RootDistances::new(tree, payload, queries, settings);
    for q in 0..queries.len() {
        if cancel.load(Ordering::Relaxed) != 0 {
            break;
        }
        shared.reach(q);
        walk.clear();
        match walk.run(q, shared.of(q)) {
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

/// Distances from the root's children, computed for several queries together: every query evaluates these children,
/// unless a setting lets it skip some, and there may be thousands.
struct RootDistances<'a> {
    payload: &'a Payload<'a>,
    queries: &'a Queries<'a>,
    /// Empty where distances are not shared.
    children: &'a [i64],
    panel: Panel,
    /// (CHUNK, children); void where the prefix rule cuts the children.
    distances: Vec<f64>,
}

/// Queries that share: enough to make a row's way from memory cheap, few enough for their distances to be kept.
const CHUNK: usize = 32;

/// Children of the root beyond which nothing is shared: 16 MB of distances for a chunk.
const MOST_SHARED: usize = 1 << 16;

impl<'a> RootDistances<'a> {
    fn new(
        tree: &'a TreeView<'a>,
        payload: &'a Payload<'a>,
        queries: &'a Queries<'a>,
        settings: &Settings,
    ) -> RootDistances<'a> {
        let skips = settings.level_cache || settings.level_cap > 0 || !settings.budget_schedule.is_empty();
        let shares = !skips && payload.width > 0 && queries.len() > 1;
        let children = if shares { tree.children_of(tree.root) } else { &[] };
        let children = if children.len() <= MOST_SHARED { children } else { &[] };
        let chunk = CHUNK.min(queries.len());
        let distances = vec![0.0; chunk * children.len()];
        RootDistances { payload, queries, children, panel: Panel::new(payload), distances }
    }

    /// Compute those of the queries from `q` on, if `q` begins a chunk.
    fn reach(&mut self, q: usize) {
        if self.children.is_empty() || !q.is_multiple_of(CHUNK) {
            return;
        }
        let chunk = q..self.queries.len().min(q + CHUNK);
        let points: Vec<Point> = chunk.clone().map(|q| Point::of(self.payload, self.queries, q)).collect();
        let points: Vec<&Point> = points.iter().collect();
        let limits: Vec<i64> =
            chunk.map(|q| if self.queries.prefix { self.queries.limit[q] } else { i64::MAX }).collect();
        let total = self.children.len();
        for (start, rows) in (0..).step_by(PANEL).zip(self.children.chunks(PANEL)) {
            for &row in rows {
                self.panel.push(self.payload, row as usize, self.payload.index[row as usize]);
            }
            for (first, pair) in (0..).step_by(2).zip(points.chunks(2)) {
                let limit = limits[first..first + pair.len()].iter().max().copied().unwrap_or(0);
                self.panel.compare(self.payload, pair, limit);
                for (which, found) in self.panel.distances[..pair.len()].iter().enumerate() {
                    self.distances[(first + which) * total + start..][..rows.len()]
                        .copy_from_slice(&found[..rows.len()]);
                }
            }
            self.panel.clear();
        }
    }

    /// Those of query `q`, whose chunk was the last that was reached.
    fn of(&self, q: usize) -> Option<&[f64]> {
        let total = self.children.len();
        (total > 0).then(|| &self.distances[q % CHUNK * total..][..total])
    }
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

    /// Answer query `q`, whose distances from the root's children may be known.
    fn run(&mut self, q: usize, root_distances: Option<&[f64]>) -> Stop {
        let asker = Asker {
            point: Point::of(self.payload, self.queries, q),
            limit: self.queries.limit[q],
            exclude: self.queries.exclude[q],
        };
        let root = self.tree.root;
        if self.queries.prefix && self.payload.index[root] >= asker.limit {
            return Stop::Exhausted;
        }
        self.take(&asker, &[root as i64], None, None, &[]);
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
            let mut known = root_distances.filter(|_| entry.node == root);
            while !children.is_empty() {
                let (tile, rest) = children.split_at(width.min(children.len()));
                let yields = self.counters.yields;
                self.take(&asker, tile, Some(entry.distance), known, rest);
                if ladder.stops(self.settings, &mut self.counters) {
                    return Stop::Budget;
                }
                if self.settings.dynamic_tile {
                    let fruitless = self.counters.yields == yields;
                    width =
                        if fruitless { (2 * width).min(self.settings.stream_tile) } else { self.settings.narrowest() };
                }
                known = known.map(|distances| &distances[tile.len()..]);
                children = rest;
            }
        }
        Stop::Exhausted
    }

    /// Visit, evaluate, offer and push a tile, whose parent is at distance `parent` and whose own distances may be
    /// known; `rest` comes next.
    fn take(&mut self, asker: &Asker, tile: &[i64], parent: Option<f64>, known: Option<&[f64]>, rest: &[i64]) {
        let mut places = [0; WIDEST_TILE];
        let mut found = [0.0; WIDEST_TILE];
        let size = self.select(tile, parent, &mut places);
        let places = &places[..size];
        self.counters.distance_evals += size as i64;
        if let Some(known) = known {
            for (d, &place) in found.iter_mut().zip(places) {
                *d = known[place];
            }
        } else if let Some(&last) = places.last() {
            for (d, pair) in found.iter_mut().zip(places.windows(2)) {
                *d = self.distance(asker, tile[pair[0]], Some(tile[pair[1]]));
            }
            found[size - 1] = self.distance(asker, tile[last], self.guess(rest));
        }
        for (&place, &d) in places.iter().zip(&found) {
            let c = tile[place] as usize;
            if self.queries.rank[c] < asker.limit && c as i64 != asker.exclude {
                self.counters.yields += i64::from(self.best.offer(d, self.payload.index[c]));
            }
            if !self.tree.is_leaf(c) {
                self.push(c, d);
            }
        }
    }

    /// Computed distance from a node; meanwhile all that `next` will be asked for is brought nearer.
    #[inline]
    fn distance(&self, asker: &Asker, node: i64, next: Option<i64>) -> f64 {
        let next = next.map(|next| next as usize);
        if let Some(next) = next {
            prefetch(&self.payload.index[next..=next]);
            prefetch(&self.queries.rank[next..=next]);
            prefetch(&self.tree.child_ptr[next..=next]);
            prefetch(&self.tree.si[next..=next]);
        }
        distance_ahead(self.payload, &asker.point, node as usize, next)
    }

    /// The node that is likely to be wanted after a tile that `rest` follows.
    fn guess(&self, rest: &[i64]) -> Option<i64> {
        rest.first().or_else(|| self.tree.children_of(self.frontier.peek()?.node).first()).copied()
    }

    /// The places in a tile of the nodes that must be evaluated: the first of `places`, and how many.
    fn select(&mut self, tile: &[i64], parent: Option<f64>, places: &mut [usize; WIDEST_TILE]) -> usize {
        let settings = self.settings;
        let parent = parent.filter(|_| settings.level_cache).map(|d| (self.payload.lower(d), self.payload.upper(d)));
        let fresh = self.visited.visit(tile);
        let mut size = 0;
        for (place, &c) in tile.iter().enumerate() {
            if fresh >> place & 1 == 0 {
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
            places[size] = place;
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
