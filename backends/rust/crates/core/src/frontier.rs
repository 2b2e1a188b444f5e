//! The nodes whose children are still to be visited: a min-heap on (lower bound, insertion sequence number).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A node on the frontier, as one number, by which a heap has it in its place in one comparison: the bits of the bound,
/// which is not negative, so that they are in its order; then the sequence number; then the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(Reverse<u128>);

impl Entry {
    /// Of a node of which no descendant computes closer than `bound` (B2), which is 0.0 or positive.
    pub fn new(bound: f64, sequence: u32, node: u32) -> Entry {
        Entry(Reverse(u128::from(bound.to_bits()) << 64 | u128::from(sequence) << 32 | u128::from(node)))
    }

    pub fn bound(self) -> f64 {
        f64::from_bits((self.0.0 >> 64) as u64)
    }

    pub fn sequence(self) -> usize {
        (self.0.0 >> 32) as u32 as usize
    }

    pub fn node(self) -> usize {
        self.0.0 as u32 as usize
    }
}

// The standard heap gives its largest first: entries are reversed.
pub(crate) type Frontier = BinaryHeap<Entry>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_bound_first_then_first_pushed() {
        let mut frontier = Frontier::new();
        for (sequence, bound) in [0.5, 0.0, 0.5, 0.0, 1e-300, 1.5].into_iter().enumerate() {
            frontier.push(Entry::new(bound, sequence as u32, u32::MAX - sequence as u32));
        }
        let order: Vec<usize> = std::iter::from_fn(|| frontier.pop()).map(Entry::sequence).collect();
        assert_eq!(order, [1, 3, 4, 0, 2, 5]);
    }

    #[test]
    fn an_entry_has_what_it_was_made_of() {
        let entry = Entry::new(0.1, 7, u32::MAX);
        assert_eq!((entry.bound(), entry.sequence(), entry.node()), (0.1, 7, u32::MAX as usize));
    }
}
