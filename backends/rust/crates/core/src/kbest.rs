//! The k best offers by invariant A7.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::distance::Nearness;

#[derive(Clone, Copy, Debug)]
struct Neighbor {
    at: Nearness,
    index: i64,
}

impl Ord for Neighbor {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.at, &other.at);
        a.distance
            .total_cmp(&b.distance)
            .then(b.rho.total_cmp(&a.rho))
            .then(a.r2.total_cmp(&b.r2))
            .then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for Neighbor {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Neighbor {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Neighbor {}

pub(crate) struct KBest {
    k: usize,
    worst_first: BinaryHeap<Neighbor>,
    kth: f64,
}

impl KBest {
    pub fn new(k: usize) -> KBest {
        KBest { k, worst_first: BinaryHeap::new(), kth: f64::INFINITY }
    }

    /// The kth best distance, infinite until there are k.
    #[inline]
    pub fn kth(&self) -> f64 {
        self.kth
    }

    /// Keep an offer if it is among the k best so far; say whether it was kept.
    #[inline]
    pub fn offer(&mut self, at: Nearness, index: i64) -> bool {
        // Most offers are too far: settle those by one comparison.
        at.distance <= self.kth && self.consider(Neighbor { at, index })
    }

    fn consider(&mut self, new: Neighbor) -> bool {
        if self.worst_first.len() < self.k {
            self.worst_first.push(new);
        } else {
            match self.worst_first.peek_mut() {
                Some(mut worst) if new < *worst => *worst = new,
                _ => return false,
            }
        }
        if self.worst_first.len() == self.k {
            self.kth = self.worst_first.peek().map_or(f64::INFINITY, |worst| worst.at.distance);
        }
        true
    }

    /// Write the offers kept, nearest first, then -1 and infinity; and forget them.
    pub fn write(&mut self, indices: &mut [i64], distances: &mut [f64]) {
        indices[self.worst_first.len()..].fill(-1);
        distances[self.worst_first.len()..].fill(f64::INFINITY);
        for place in (0..self.worst_first.len()).rev() {
            if let Some(worst) = self.worst_first.peek_mut() {
                let Neighbor { at, index } = PeekMut::pop(worst);
                indices[place] = index;
                distances[place] = at.distance;
            }
        }
        self.kth = f64::INFINITY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(distance: f64) -> Nearness {
        Nearness { distance, rho: 0.0, r2: 0.0 }
    }

    #[test]
    fn ties_go_to_the_larger_rho_then_the_smaller_r2_then_the_smaller_index() {
        let mut best = KBest::new(3);
        let near = |rho, r2| Nearness { distance: 1.0, rho, r2 };
        for (rho, r2, index) in [(0.0, 5.0, 1), (0.0, 4.0, 3), (0.0, 4.0, 2), (1e-300, 9.0, 4)] {
            best.offer(near(rho, r2), index);
        }
        let (mut indices, mut distances) = ([0; 3], [0.0; 3]);
        best.write(&mut indices, &mut distances);
        assert_eq!((indices, distances), ([4, 2, 3], [1.0; 3]));
    }

    #[test]
    fn ties_go_to_the_smaller_index() {
        let mut best = KBest::new(2);
        assert!(best.offer(at(1.0), 7) && best.offer(at(1.0), 9));
        assert!(!best.offer(at(1.0), 9) && !best.offer(at(1.0), 10) && best.offer(at(1.0), 3));
        let (mut indices, mut distances) = ([0; 2], [0.0; 2]);
        best.write(&mut indices, &mut distances);
        assert_eq!((indices, distances), ([3, 7], [1.0, 1.0]));
        assert_eq!(best.kth(), f64::INFINITY);
    }

    #[test]
    fn a_short_answer_ends_in_minus_one() {
        let mut best = KBest::new(3);
        best.offer(at(0.5), 4);
        assert_eq!(best.kth(), f64::INFINITY);
        let (mut indices, mut distances) = ([0; 3], [0.0; 3]);
        best.write(&mut indices, &mut distances);
        assert_eq!((indices, distances), ([4, -1, -1], [0.5, f64::INFINITY, f64::INFINITY]));
    }
}
