//! `search_block` against brute force.

mod common;

use std::sync::atomic::AtomicI32;

use common::{Answers, Data, RandomTree, shapes};
use covertreex_core::search_block;
use covertreex_core::simd::Simd;
use covertreex_core::views::Settings;
use proptest::prelude::*;

fn run(data: &Data, tree: &RandomTree, simd: Simd, k: usize, settings: &Settings) -> Answers {
    let mut answers = Answers::new(data.rows.len(), k);
    let running = AtomicI32::new(0);
    search_block(&tree.view(), &data.payload(simd), &data.queries(), settings, &running, &mut answers.output())
        .unwrap();
    answers
}

fn exact_settings() -> impl Strategy<Value = Settings> {
    (any::<[bool; 3]>(), 1..=64usize, prop::sample::select(vec![0.0, 0.05, 10.0])).prop_map(
        |([kth_frontier_stop, dynamic, level_cache], stream_tile, radius_floor)| Settings {
            kth_frontier_stop,
            stream_tile,
            dynamic_tile: dynamic && stream_tile >= 8,
            level_cache,
            radius_floor,
            ..Settings::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exact_settings_give_the_answer_of_brute_force(shape in shapes(), k in 1..12usize, settings in exact_settings()) {
        let data = Data::new(&shape);
        let tree = RandomTree::new(&data);
        let answers = run(&data, &tree, Simd::detect(), k, &settings);
        for q in 0..data.rows.len() {
            prop_assert_eq!(answers.row(q), data.nearest(q, 0..shape.n, k));
            prop_assert_eq!(answers.counter(q, 7) + answers.counter(q, 8), 1);
        }
    }

    #[test]
    fn instructions_change_neither_answers_nor_counters(shape in shapes(), settings in exact_settings()) {
        let data = Data::new(&shape);
        let tree = RandomTree::new(&data);
        let plain = run(&data, &tree, Simd::BASELINE, 5, &settings);
        for simd in Simd::available() {
            prop_assert_eq!(&run(&data, &tree, simd, 5, &settings), &plain);
        }
    }

    #[test]
    fn approximate_settings_return_true_distances(
        shape in shapes(), settings in exact_settings(), budget in any::<bool>(), level_cap in 0..4i64
    ) {
        let data = Data::new(&shape);
        let tree = RandomTree::new(&data);
        let budget_schedule = if budget { vec![3, 9, 27] } else { vec![] };
        let settings = Settings { budget_schedule, level_cap, ..settings };
        let answers = run(&data, &tree, Simd::detect(), 5, &settings);
        for q in 0..data.rows.len() {
            let all = data.nearest(q, 0..shape.n, shape.n);
            let got = answers.row(q);
            prop_assert!(got.iter().all(|one| all.contains(one)) && got.is_sorted_by_key(|one| one.0));
            let tile = settings.stream_tile as i64;
            prop_assert!(!budget || answers.counter(q, 0) < 27 + tile);
            prop_assert_eq!((7..10).map(|column| answers.counter(q, column)).sum::<i64>(), 1);
        }
    }
}

#[test]
fn a_cancelled_block_does_nothing() {
    let shape = common::Shape { n: 5, dim: 1, width: 0, kernel: None, coarse: false, externals: 0, seed: 1 };
    let data = Data::new(&shape);
    let mut answers = Answers::new(5, 1);
    let untouched = answers.clone();
    let cancelled = AtomicI32::new(1);
    let (tree, settings) = (RandomTree::new(&data), Settings::default());
    let payload = data.payload(Simd::detect());
    search_block(&tree.view(), &payload, &data.queries(), &settings, &cancelled, &mut answers.output()).unwrap();
    assert_eq!(answers, untouched);
}

#[test]
fn arrays_that_do_not_fit_are_named() {
    let shape = common::Shape { n: 5, dim: 2, width: 0, kernel: None, coarse: false, externals: 1, seed: 1 };
    let data = Data::new(&shape);
    let tree = RandomTree::new(&data);
    let running = AtomicI32::new(0);
    let mut answers = Answers::new(6, 1);
    let payload = data.payload(Simd::detect());

    let queries = covertreex_core::views::Queries { coords: &[], ..data.queries() };
    let error = search_block(&tree.view(), &payload, &queries, &Settings::default(), &running, &mut answers.output());
    assert!(error.unwrap_err().to_string().starts_with("queries.coords must"));

    let settings = Settings { stream_tile: 65, ..Settings::default() };
    let error = search_block(&tree.view(), &payload, &data.queries(), &settings, &running, &mut answers.output());
    assert!(error.unwrap_err().to_string().starts_with("settings.stream_tile must"));
}
