//! The nodes whose children are still to be visited: a min-heap on (lower bound, insertion sequence number).

use std::cmp::Ordering;
use std::collections::BinaryHeap;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// B2: no descendant computes closer than this.
    pub bound: f64,
    pub sequence: u32,
    pub node: u32,
}

impl Ord for Entry {
    // Reversed: the standard heap gives its largest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.bound.total_cmp(&self.bound).then(other.sequence.cmp(&self.sequence))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

pub(crate) type Frontier = BinaryHeap<Entry>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_bound_first_then_first_pushed() {
        let mut frontier = Frontier::new();
        for (sequence, bound) in [0.5, 0.0, 0.5, 0.0].into_iter().enumerate() {
            frontier.push(Entry { bound, sequence: sequence as u32, node: 0 });
        }
        let order: Vec<u32> = std::iter::from_fn(|| frontier.pop()).map(|entry| entry.sequence).collect();
        assert_eq!(order, [1, 3, 0, 2]);
    }
}
