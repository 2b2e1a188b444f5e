//! Random data, a random tree over it, and the answer by brute force in simple loops.
#![allow(dead_code)]

use std::sync::OnceLock;

use covertreex_core::contract::COUNTERS;
use covertreex_core::expression::{Expression, ExpressionArrays};
use covertreex_core::kernel::{Covariance, Kernel};
use covertreex_core::metric::Metric;
use covertreex_core::simd::Simd;
use covertreex_core::views::{Output, Payload, Queries, TreeView};
use covertreex_core::{Slack, exp_neg, log};
use proptest::prelude::*;

/// Splitmix64: all a test needs of randomness, and the same in every version of every crate.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as usize % n
    }

    /// From -1 to 1.
    pub fn real(&mut self) -> f64 {
        self.below(1 << 30) as f64 / (1 << 29) as f64 - 1.0
    }

    pub fn permutation(&mut self, n: usize) -> Vec<i64> {
        let mut order: Vec<i64> = (0..n as i64).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

#[derive(Clone, Debug)]
pub struct Shape {
    pub n: usize,
    pub dim: usize,
    pub width: usize,
    pub kernel: Option<Covariance<'static>>,
    /// Coordinates are whole numbers: duplicates and ties.
    pub coarse: bool,
    pub externals: usize,
    pub seed: u64,
}

pub fn shapes() -> impl Strategy<Value = Shape> {
    let closed =
        [Kernel::Rbf, Kernel::Matern12, Kernel::Matern32, Kernel::Matern52, Kernel::RationalQuadratic { alpha: 0.7 }];
    (1..90usize, 1..4usize, 0..4usize, 0..7usize, any::<bool>(), 0..4usize, any::<u64>()).prop_map(
        move |(n, dim, blocks, kernel, coarse, externals, seed)| {
            let kernel = match kernel {
                0 => None,
                6 => Some(Covariance::Tables(tables(dim))),
                _ => Some(Covariance::Closed(closed[kernel - 1])),
            };
            let width = if kernel.is_some() { 16 * blocks } else { 0 };
            Shape { n, dim, width, kernel, coarse, externals, seed }
        },
    )
}

/// Squared exponentials by tables, over so many columns, the last a group of its own: a sum of products.
fn tables(dim: usize) -> &'static Expression<'static> {
    static MADE: [OnceLock<Expression<'static>>; 4] = [const { OnceLock::new() }; 4];
    MADE[dim].get_or_init(|| {
        let (lowest, highest) = (-60, 12);
        let mut pieces = Vec::new();
        for rate in [0.5, 0.01f64] {
            pieces.push([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
            for binade in lowest..highest {
                for part in 0..32 {
                    let width = 2f64.powi(binade) / 32.0;
                    let centre = 2f64.powi(binade) + (f64::from(part) + 0.5) * width;
                    let mut coefficient = (-rate * centre).exp();
                    pieces.push(std::array::from_fn(|power| {
                        if power > 0 {
                            coefficient *= -rate * width / 2.0 / power as f64;
                        }
                        coefficient
                    }));
                }
            }
            pieces.push([0.0; 8]);
        }
        let count = pieces.len() as i64;
        let first = (2f64.powi(lowest).to_bits() >> 47) as i64 - 1;
        let last = i64::from(dim > 1);
        Expression::new(ExpressionArrays {
            group_stop: if dim > 1 { vec![dim as i64 - 1, dim as i64].leak() } else { &[1] },
            term_stop: &[2, 3],
            weight: &[0.75, 0.25],
            factor_group: vec![0, last, 0].leak(),
            factor_table: &[0, 1, 1],
            rescale_group: &[-1; 3],
            rescale_table: &[-1; 3],
            table_first: vec![first; 2].leak(),
            table_stop: vec![count / 2, count].leak(),
            pieces: pieces.leak().as_flattened(),
        })
        .unwrap()
    })
}

/// Payload rows, and after them external queries.
pub struct Data {
    pub shape: Shape,
    metric: Metric<'static>,
    coords: Vec<f64>,
    factors: Vec<f64>,
    p: Vec<f64>,
    pub index: Vec<i64>,
    pub rank: Vec<i64>,
    pub rows: Vec<i64>,
    pub exclude: Vec<i64>,
    pub limit: Vec<i64>,
    pub prefix: bool,
}

const VARIANCE: f64 = 1.3;

impl Data {
    /// Every row and every external point asks, with random limits and exclusions.
    pub fn new(shape: &Shape) -> Data {
        let shape = shape.clone();
        let mut random = Random::new(shape.seed);
        let (n, all) = (shape.n, shape.n + shape.externals);
        let coords = (0..all * shape.dim)
            .map(|_| if shape.coarse { random.below(4) as f64 } else { 2.0 * random.real() })
            .collect();
        let factors: Vec<f64> = (0..all * shape.width).map(|_| 0.1 * random.real()).collect();
        // Whatever the factors take from the kernel, this much private variance keeps the rest a covariance.
        let private: f64 = factors.iter().map(|v| v * v).sum();
        let p = (0..all)
            .map(|i| VARIANCE + private - factors[i * shape.width..][..shape.width].iter().map(|v| v * v).sum::<f64>())
            .collect();
        let index = random.permutation(n);
        let prefix = random.below(2) == 0;
        let rank = if prefix { index.clone() } else { random.permutation(n) };
        let mut rows: Vec<i64> = (0..n as i64).chain((1..=shape.externals as i64).map(|e| -e)).collect();
        let order = random.permutation(all);
        rows = order.iter().map(|&at| rows[at as usize]).collect();
        let exclude = rows
            .iter()
            .map(|&row| match random.below(3) {
                0 => -1,
                1 => random.below(n) as i64,
                _ => row.max(-1),
            })
            .collect();
        let limit =
            rows.iter().map(|_| if random.below(2) == 0 { n as i64 } else { random.below(n + 2) as i64 }).collect();
        let metric =
            shape.kernel.map_or(Metric::Euclidean, |covariance| Metric::Residual { covariance, variance: VARIANCE });
        Data { shape, metric, coords, factors, p, index, rank, rows, exclude, limit, prefix }
    }

    pub fn payload(&self, simd: Simd) -> Payload<'_> {
        let Shape { n, dim, width, kernel, .. } = self.shape;
        Payload {
            metric: self.metric,
            dim,
            coords: &self.coords[..n * dim],
            width,
            factors: &self.factors[..n * width],
            p: if kernel.is_some() { &self.p[..n] } else { &[] },
            index: &self.index,
            slack_rel: 30.0 * f64::EPSILON,
            simd,
        }
    }

    pub fn queries(&self) -> Queries<'_> {
        let Shape { n, dim, width, .. } = self.shape;
        Queries {
            rows: &self.rows,
            coords: &self.coords[n * dim..],
            factors: &self.factors[n * width..],
            p: &self.p[n..],
            exclude: &self.exclude,
            limit: &self.limit,
            rank: &self.rank,
            prefix: self.prefix,
            slack_abs: if self.shape.kernel.is_some() { 1e-9 } else { 1e-300 },
        }
    }

    /// Where the data of a query, or of a row, stands.
    fn place(&self, row: i64) -> usize {
        if row >= 0 { row as usize } else { self.shape.n + (-1 - row) as usize }
    }

    /// A5, in simple loops; `a` and `b` as in `Queries::rows`.
    pub fn distance(&self, a: i64, b: i64) -> f64 {
        self.nearness(a, b).0
    }

    /// A7: (distance, `|rho|`, squared scaled distance).
    fn nearness(&self, a: i64, b: i64) -> (f64, f64, f64) {
        if a == b {
            return (0.0, 1.0, 0.0);
        }
        let (a, b, dim, width) = (self.place(a), self.place(b), self.shape.dim, self.shape.width);
        let [x, y] = [a, b].map(|at| &self.coords[at * dim..][..dim]);
        let mut r2 = 0.0;
        for (x, y) in x.iter().zip(y) {
            let t = x - y;
            r2 += t * t;
        }
        let Some(kernel) = self.shape.kernel else { return (r2.sqrt(), 1.0, 0.0) };
        let dot = naive_dot(&self.factors[a * width..][..width], &self.factors[b * width..][..width]);
        let k = match kernel {
            Covariance::Closed(kernel) => naive_kernel(kernel, r2),
            Covariance::Tables(expression) => VARIANCE * expression.value(x, y),
        };
        let rho = ((k - dot) / (self.p[a] * self.p[b]).sqrt()).abs().min(1.0);
        ((1.0 - rho).sqrt(), rho, r2)
    }

    /// What A7 sorts the rows of a query by, ascending: the bits of numbers that are not negative are in the order of the
    /// numbers.
    pub fn offer(&self, q: usize, row: usize) -> Offer {
        let (d, rho, r2) = self.nearness(self.rows[q], row as i64);
        (d.to_bits(), !rho.to_bits(), r2.to_bits(), self.index[row])
    }

    /// Whether query `q` may have a row.
    pub fn allows(&self, q: usize, row: usize) -> bool {
        self.rank[row] < self.limit[q] && row as i64 != self.exclude[q]
    }

    /// (distance bits, dataset index) of the k nearest of some rows.
    pub fn nearest(&self, q: usize, rows: impl Iterator<Item = usize>, k: usize) -> Vec<(u64, i64)> {
        let mut found: Vec<Offer> = rows.filter(|&row| self.allows(q, row)).map(|row| self.offer(q, row)).collect();
        found.sort_unstable();
        found.truncate(k);
        answer(&found)
    }
}

/// See `Data::offer`.
pub type Offer = (u64, u64, u64, i64);

/// (distance bits, dataset index) of offers.
pub fn answer(offers: &[Offer]) -> Vec<(u64, i64)> {
    offers.iter().map(|&(d, _, _, index)| (d, index)).collect()
}

pub fn naive_dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 16];
    for i in 0..a.len() {
        lanes[i % 16] += a[i] * b[i];
    }
    for half in [8, 4] {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
    }
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
}

fn naive_kernel(kernel: Kernel, r2: f64) -> f64 {
    match kernel {
        Kernel::Rbf => VARIANCE * exp_neg(-0.5 * r2),
        Kernel::Matern12 => VARIANCE * exp_neg(-r2.sqrt()),
        Kernel::Matern32 => {
            let a = 1.7320508075688772 * r2.sqrt();
            VARIANCE * ((1.0 + a) * exp_neg(-a))
        }
        Kernel::Matern52 => {
            let a = 2.23606797749979 * r2.sqrt();
            VARIANCE * (((1.0 + a) + (a * a) / 3.0) * exp_neg(-a))
        }
        Kernel::RationalQuadratic { alpha } => VARIANCE * exp_neg(-alpha * log(1.0 + r2 / (2.0 * alpha))),
    }
}

/// A tree that has T1 and T5 and nothing else, which is all that a right answer rests on.
pub struct RandomTree {
    root: usize,
    level: Vec<i64>,
    child_ptr: Vec<i64>,
    children: Vec<i64>,
    parent_distance: Vec<f64>,
    si: Vec<f64>,
}

impl RandomTree {
    pub fn new(data: &Data) -> RandomTree {
        let mut random = Random::new(data.shape.seed ^ 0x7ee);
        let n = data.shape.n;
        let slack = Slack::of(&data.payload(Simd::BASELINE), &data.queries());
        let mut inserted: Vec<usize> = (0..n).collect();
        inserted.sort_by_key(|&row| data.index[row]);
        let mut below = vec![Vec::new(); n];
        let (mut level, mut parent_distance, mut si) = (vec![0; n], vec![0.0; n], vec![0.0f64; n]);
        let mut parent = vec![None; n];
        for at in 1..n {
            let (node, above) = (inserted[at], inserted[random.below(at)]);
            below[above].push(node as i64);
            parent[node] = Some(above);
            level[node] = level[above] - 1;
            parent_distance[node] = data.distance(node as i64, above as i64);
            let mut ancestor = Some(above);
            while let Some(a) = ancestor {
                si[a] = si[a].max(slack.upper(data.distance(node as i64, a as i64)));
                ancestor = parent[a];
            }
        }
        let mut child_ptr = vec![0];
        for list in &below {
            child_ptr.push(child_ptr.last().unwrap() + list.len() as i64);
        }
        RandomTree { root: inserted[0], level, child_ptr, children: below.concat(), parent_distance, si }
    }

    pub fn view(&self) -> TreeView<'_> {
        TreeView {
            root: self.root,
            level: &self.level,
            child_ptr: &self.child_ptr,
            children: &self.children,
            parent_distance: &self.parent_distance,
            si: &self.si,
        }
    }
}

/// What an `Output` borrows.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    k: usize,
    pub indices: Vec<i64>,
    pub distances: Vec<f64>,
    pub counters: Vec<i64>,
}

impl Answers {
    pub fn new(queries: usize, k: usize) -> Answers {
        Answers {
            k,
            indices: vec![-7; queries * k],
            distances: vec![-7.0; queries * k],
            counters: vec![0; queries * COUNTERS.len()],
        }
    }

    pub fn output(&mut self) -> Output<'_> {
        Output {
            k: self.k,
            indices: &mut self.indices,
            distances: &mut self.distances,
            columns: COUNTERS.len(),
            counters: &mut self.counters,
        }
    }

    /// (distance bits, dataset index) of what a query got; what follows must be filled as the contract says.
    pub fn row(&self, q: usize) -> Vec<(u64, i64)> {
        let pairs = self.distances[q * self.k..][..self.k].iter().zip(&self.indices[q * self.k..][..self.k]);
        let (found, rest): (Vec<_>, Vec<_>) = pairs.map(|(d, &index)| (d.to_bits(), index)).partition(|row| row.1 >= 0);
        assert!(rest.iter().all(|&row| row == (f64::INFINITY.to_bits(), -1)));
        found
    }

    pub fn counter(&self, q: usize, column: usize) -> i64 {
        self.counters[q * COUNTERS.len() + column]
    }
}
