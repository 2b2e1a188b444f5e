//! The nodes that a search has visited.

use crate::pack::prefetch;

pub(crate) enum Visited {
    /// A stamp per node: a new search is a new stamp, and nothing is cleared.
    Plain { stamps: Vec<u32>, stamp: u32 },
    /// A bit per node.
    Bits(Vec<u64>),
}

impl Visited {
    pub fn new(n: usize, bitset: bool) -> Visited {
        if bitset { Visited::Bits(vec![0; n.div_ceil(64)]) } else { Visited::Plain { stamps: vec![0; n], stamp: 0 } }
    }

    pub fn clear(&mut self) {
        match self {
            Visited::Plain { stamps, stamp } => {
                *stamp = stamp.wrapping_add(1);
                if *stamp == 0 {
                    stamps.fill(0);
                    *stamp = 1;
                }
            }
            Visited::Bits(words) => words.fill(0),
        }
    }

    /// Ask for what tells whether a node was visited, ahead of its use.
    #[inline]
    pub fn prefetch(&self, node: usize) {
        match self {
            Visited::Plain { stamps, .. } => prefetch(&stamps[node..=node]),
            Visited::Bits(words) => prefetch(&words[node / 64..=node / 64]),
        }
    }

    /// Mark a tile of at most 64 nodes; bit i of the answer says that node i was not visited before.
    #[inline]
    pub fn visit(&mut self, tile: &[i64]) -> u64 {
        let mut fresh = 0;
        for (i, &node) in tile.iter().enumerate() {
            let is_fresh = match self {
                Visited::Plain { stamps, stamp } => std::mem::replace(&mut stamps[node as usize], *stamp) != *stamp,
                Visited::Bits(words) => {
                    let (word, bit) = (&mut words[node as usize / 64], 1 << (node % 64));
                    let is_fresh = *word & bit == 0;
                    *word |= bit;
                    is_fresh
                }
            };
            fresh |= u64::from(is_fresh) << i;
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_answer_alike() {
        for bitset in [false, true] {
            let mut visited = Visited::new(130, bitset);
            visited.clear();
            assert_eq!(visited.visit(&[0, 64, 129, 64]), 0b0111);
            assert_eq!(visited.visit(&[1, 129]), 0b01);
            visited.clear();
            assert_eq!(visited.visit(&[129, 1]), 0b11);
        }
    }

    #[test]
    fn stamps_start_over_when_they_run_out() {
        let mut visited = Visited::Plain { stamps: vec![1, u32::MAX], stamp: u32::MAX };
        visited.clear();
        assert_eq!(visited.visit(&[0, 1]), 0b11);
    }
}
