//! Canonical arithmetic against simple loops, the standard library, and bits that `covertreex/oracle.py` gives.

mod common;

use common::{Random, naive_dot};
use covertreex_core::simd::Simd;
use covertreex_core::{exp_neg, log};
use proptest::prelude::*;

#[test]
fn exp_has_the_bits_of_the_oracle() {
    for (x, bits) in [
        (-0.0, 0x3ff0000000000000),
        (-1e-300, 0x3ff0000000000000),
        (-1e-09, 0x3fefffffff768fa1),
        (-0.1, 0x3fecf46d99d52b3b),
        (-0.34657359027997264, 0x3fe6a09e667f3bcc),
        (-1.0, 0x3fd78b56362cef38),
        (-17.3, 0x3e60772c096d61b7),
        (-123.456, 0x34cda9fb9e4ee720),
        (-700.25, 0x00caf5fe9a485c8e),
        (-707.9999, 0x0017c947033a350e),
        (-708.0, 0x0017c8ab2288c9ab),
        (-708.1, 0x0000000000000000),
        (-1000000000.0, 0x0000000000000000),
    ] {
        assert_eq!(exp_neg(x).to_bits(), bits, "exp({x})");
    }
}

#[test]
fn log_has_the_bits_of_the_oracle() {
    for (x, bits) in [
        (1.0, 0x0000000000000000),
        (1.0000001, 0x3e7ad7f2847b6491),
        (std::f64::consts::SQRT_2, 0x3fd62e42fefa39f1),
        (1.4142135623730954, 0x3fd62e42fefa39f3),
        (2.0, 0x3fe62e42fefa39ef),
        (3.7, 0x3ff4eeee650ae550),
        (1000000.0, 0x402ba18a998fffa0),
        (1.7e+308, 0x40862dd08fdc6f88),
    ] {
        assert_eq!(log(x).to_bits(), bits, "log({x})");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exp_is_within_two_units_of_the_library(x in -708.0..0.0f64) {
        prop_assert!(exp_neg(x).to_bits().abs_diff(x.exp().to_bits()) <= 2);
    }

    #[test]
    fn log_is_within_three_units_of_the_library(x in 1.0..1e6f64) {
        prop_assert!(log(x).to_bits().abs_diff(x.ln().to_bits()) <= 3);
    }

    #[test]
    fn every_dot_has_the_bits_of_the_simple_loop(blocks in 0..40usize, skip in 0..8usize, seed in any::<u64>()) {
        let m = 16 * blocks;
        let mut random = Random::new(seed);
        // Odd starts, so that loads are not aligned.
        let values: Vec<f64> = (0..skip + 4 * m).map(|_| random.real() * 2f64.powi(random.below(40) as i32)).collect();
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| &values[skip + i * m..][..m]);
        for simd in Simd::available() {
            prop_assert_eq!(simd.dot(a, c).to_bits(), naive_dot(a, c).to_bits());
            let two = simd.dots1x2([a], [c, d]);
            prop_assert_eq!(two[0].map(f64::to_bits), [naive_dot(a, c), naive_dot(a, d)].map(f64::to_bits));
            let four = simd.dots2x2([a, b], [c, d]);
            prop_assert_eq!(four[0].map(f64::to_bits), [naive_dot(a, c), naive_dot(a, d)].map(f64::to_bits));
            prop_assert_eq!(four[1].map(f64::to_bits), [naive_dot(b, c), naive_dot(b, d)].map(f64::to_bits));
            prop_assert_eq!(simd.dot(a, c).to_bits(), simd.dot(c, a).to_bits());
        }
    }
}
