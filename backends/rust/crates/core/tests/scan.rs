//! `scan_block` against the plain loop.

mod common;

use std::sync::atomic::AtomicI32;

use common::{Answers, Data, Offer, Random, answer, shapes};
use covertreex_core::scan_block;
use covertreex_core::simd::Simd;
use covertreex_core::views::{Plan, Settings};
use proptest::prelude::*;

/// What a `Plan` borrows: random groups, and in each random runs that do not overlap.
#[derive(Debug)]
struct RandomPlan {
    group_ptr: Vec<i64>,
    run_ptr: Vec<i64>,
    run_start: Vec<i64>,
    run_stop: Vec<i64>,
    run_lower: Vec<f64>,
    kth_upper: Vec<f64>,
}

impl RandomPlan {
    /// With lower bounds that hold, if asked for; else all are 0.
    fn new(data: &Data, ordered: bool) -> RandomPlan {
        let mut random = Random::new(data.shape.seed ^ 0x91a);
        let (n, queries) = (data.shape.n, data.rows.len());
        let mut plan = RandomPlan {
            group_ptr: vec![0],
            run_ptr: vec![0],
            run_start: vec![],
            run_stop: vec![],
            run_lower: vec![],
            kth_upper: (0..queries).map(|_| [f64::INFINITY, 0.7, 0.0][random.below(3)]).collect(),
        };
        while *plan.group_ptr.last().unwrap() < queries as i64 {
            let begin = *plan.group_ptr.last().unwrap() as usize;
            let end = queries.min(begin + random.below(9));
            let mut runs = Vec::new();
            let mut row = 0;
            while row < n {
                let stop = n.min(row + 1 + random.below(40));
                if random.below(4) > 0 {
                    let distances =
                        (begin..end).flat_map(|q| (row..stop).map(move |r| data.distance(data.rows[q], r as i64)));
                    let least = distances.fold(f64::INFINITY, f64::min).min(1e9);
                    runs.push((if ordered { least } else { 0.0 }, row as i64, stop as i64));
                }
                row = stop + random.below(3);
            }
            runs.sort_by(|a, b| a.partial_cmp(b).unwrap());
            for (lower, start, stop) in runs {
                plan.run_lower.push(lower);
                plan.run_start.push(start);
                plan.run_stop.push(stop);
            }
            plan.group_ptr.push(end as i64);
            plan.run_ptr.push(plan.run_start.len() as i64);
        }
        plan
    }

    fn view<'a>(&'a self, data: &'a Data) -> Plan<'a> {
        Plan {
            queries: data.queries(),
            group_ptr: &self.group_ptr,
            run_ptr: &self.run_ptr,
            run_start: &self.run_start,
            run_stop: &self.run_stop,
            run_lower: &self.run_lower,
            kth_upper: &self.kth_upper,
        }
    }

    fn run(&self, data: &Data, simd: Simd, k: usize, kth_frontier_stop: bool) -> Answers {
        let mut answers = Answers::new(data.rows.len(), k);
        let settings = Settings { kth_frontier_stop, ..Settings::default() };
        let running = AtomicI32::new(0);
        scan_block(&data.payload(simd), &self.view(data), &settings, &running, &mut answers.output()).unwrap();
        answers
    }

    /// The plain loop of the contract: answer, evaluations, yields, whether the kth bound ended it.
    fn naive(&self, data: &Data, g: usize, q: usize, k: usize, stop: bool) -> (Vec<(u64, i64)>, i64, i64, bool) {
        let (mut best, mut evals, mut yields): (Vec<Offer>, i64, i64) = (Vec::new(), 0, 0);
        for run in self.run_ptr[g] as usize..self.run_ptr[g + 1] as usize {
            let kth = if best.len() == k { f64::from_bits(best.last().unwrap().0) } else { f64::INFINITY };
            if stop && self.run_lower[run] > kth.min(self.kth_upper[q]) {
                return (answer(&best), evals, yields, true);
            }
            for row in self.run_start[run] as usize..self.run_stop[run] as usize {
                if !data.allows(q, row) {
                    continue;
                }
                let offer = data.offer(q, row);
                let d = f64::from_bits(offer.0);
                evals += 1;
                if d <= self.kth_upper[q] && (best.len() < k || offer < *best.last().unwrap()) {
                    yields += 1;
                    best.push(offer);
                    best.sort_unstable();
                    best.truncate(k);
                }
            }
        }
        (answer(&best), evals, yields, false)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_and_counters_are_those_of_the_plain_loop(
        shape in shapes(), k in 1..12usize, ordered in any::<bool>(), stop in any::<bool>()
    ) {
        let data = Data::new(&shape);
        let plan = RandomPlan::new(&data, ordered);
        let answers = plan.run(&data, Simd::detect(), k, stop);
        for g in 0..plan.group_ptr.len() - 1 {
            for q in plan.group_ptr[g] as usize..plan.group_ptr[g + 1] as usize {
                let (best, evals, yields, stopped) = plan.naive(&data, g, q, k, stop);
                prop_assert_eq!(answers.row(q), best);
                let counted = [0, 1, 6, 7, 8].map(|column| answers.counter(q, column));
                prop_assert_eq!(counted, [evals, evals, yields, i64::from(!stopped), i64::from(stopped)]);
            }
        }
    }

    #[test]
    fn instructions_change_neither_answers_nor_counters(shape in shapes(), ordered in any::<bool>()) {
        let data = Data::new(&shape);
        let plan = RandomPlan::new(&data, ordered);
        let plain = plan.run(&data, Simd::BASELINE, 5, true);
        for simd in Simd::available() {
            prop_assert_eq!(&plan.run(&data, simd, 5, true), &plain);
        }
    }
}
