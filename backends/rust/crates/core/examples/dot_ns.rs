//! Nanoseconds per dot product of 512 factors, per instruction level: `cargo run --release --example dot_ns`.

use std::hint::black_box;
use std::time::Instant;

use covertreex_core::simd::Simd;

const M: usize = 512;

fn main() {
    // 1,024 rows are 4 MB: past the second-level cache, inside the third.
    let rows: Vec<f64> = (0..1024 * M).map(|i| (i as f64 * 0.37).sin()).collect();
    let row = |i: usize| &rows[i * M..][..M];
    let shuffled: Vec<usize> = (0..1024).map(|i| (i * 389) % 1024).collect();
    for simd in Simd::available() {
        let pairs = || shuffled.chunks_exact(2).map(|i| [row(i[0]), row(i[1])]);
        let one = time(1, || shuffled.iter().for_each(|&i| _ = black_box(simd.dot(row(0), row(i)))));
        let two = time(1, || pairs().for_each(|pair| _ = black_box(simd.dots1x2([row(0)], pair))));
        let four = time(2, || pairs().for_each(|pair| _ = black_box(simd.dots2x2([row(0), row(1)], pair))));
        println!("{simd}: 1 x 1 {one:.0} ns, 1 x 2 {two:.0} ns a pair, 2 x 2 {four:.0} ns a pair");
    }
}

/// Best of 20 rounds over 1,024 rows, per row and query.
fn time(queries: usize, round: impl Fn()) -> f64 {
    let rounds = (0..20).map(|_| {
        let start = Instant::now();
        round();
        start.elapsed().as_secs_f64()
    });
    rounds.fold(f64::INFINITY, f64::min) * 1e9 / (1024 * queries) as f64
}
