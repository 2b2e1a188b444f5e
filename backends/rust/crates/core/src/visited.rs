//! The nodes that searches have visited, a bit for each that goes on side by side: several find theirs in one cache line.

pub(crate) struct Visited(Vec<u16>);

impl Visited {
    pub fn new(n: usize) -> Visited {
        Visited(vec![0; n])
    }

    /// Forget what all have visited.
    pub fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Mark a tile of at most 64 nodes for one of 16 lanes; bit i of the answer says that it had not visited node i.
    #[inline]
    pub fn visit(&mut self, lane: usize, tile: &[i64]) -> u64 {
        let bit = 1 << lane;
        let mut fresh = 0;
        for (i, &node) in tile.iter().enumerate() {
            let lanes = &mut self.0[node as usize];
            fresh |= u64::from(*lanes & bit == 0) << i;
            *lanes |= bit;
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lane_visits_a_node_once() {
        let mut visited = Visited::new(130);
        assert_eq!(visited.visit(0, &[0, 64, 129, 64]), 0b0111);
        assert_eq!(visited.visit(0, &[1, 129]), 0b01);
        assert_eq!(visited.visit(15, &[129, 1]), 0b11);
        visited.clear();
        assert_eq!(visited.visit(0, &[129, 1]), 0b11);
    }
}
