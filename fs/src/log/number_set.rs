//! Sets of segment numbers: a bit each, so that once there is room neither putting in nor taking out allocates.

const BITS: usize = u64::BITS as usize;

/// A set of small numbers, in ascending order.
#[derive(Clone, Debug, Default)]
pub struct NumberSet {
    words: Vec<u64>,
    len: usize,
    /// No word before this one has a member.
    lowest: usize,
}

impl NumberSet {
    /// An empty set with room for the numbers below `room`.
    pub fn with_room(room: usize) -> Self {
        let mut set = Self::default();
        set.grow(room);
        set
    }

    /// Makes room for the numbers below `room`.
    pub fn grow(&mut self, room: usize) {
        self.words.resize(self.words.len().max(room.div_ceil(BITS)), 0);
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn contains(&self, n: usize) -> bool {
        self.words.get(n / BITS).is_some_and(|word| word >> (n % BITS) & 1 == 1)
    }

    pub fn insert(&mut self, n: usize) {
        self.grow(n + 1);
        let word = &mut self.words[n / BITS];
        self.len += usize::from(*word >> (n % BITS) & 1 == 0);
        *word |= 1 << (n % BITS);
        self.lowest = self.lowest.min(n / BITS);
    }

    pub fn remove(&mut self, n: usize) {
        if self.contains(n) {
            self.words[n / BITS] &= !(1 << (n % BITS));
            self.len -= 1;
        }
    }

    /// Takes the smallest number out.
    pub fn pop_first(&mut self) -> Option<usize> {
        let first = self.iter().next();
        self.lowest = first.map_or(self.words.len(), |n| n / BITS);
        self.remove(first?);
        first
    }

    pub fn clear(&mut self) {
        self.words.fill(0);
        (self.len, self.lowest) = (0, 0);
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let words = self.words.iter().enumerate().skip(self.lowest);
        words.flat_map(|(at, word)| {
            // Without its lowest bit each time, as long as there is one.
            std::iter::successors((*word != 0).then_some(*word), |rest| {
                Some(rest & (rest - 1)).filter(|rest| *rest != 0)
            })
            .map(move |rest| at * BITS + rest.trailing_zeros() as usize)
        })
    }

    /// How many members `other` has, too.
    pub fn common(&self, other: &Self) -> usize {
        self.words.iter().zip(&other.words).map(|(a, b)| (a & b).count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_tree_would_hold(steps in prop::collection::vec((0..4u8, 0..300usize), 0..200)) {
            let (mut set, mut tree) = (NumberSet::with_room(100), BTreeSet::new());
            for (step, n) in steps {
                match step {
                    0 | 1 => {
                        set.insert(n);
                        tree.insert(n);
                    }
                    2 => {
                        set.remove(n);
                        tree.remove(&n);
                    }
                    _ => prop_assert_eq!(set.pop_first(), tree.pop_first()),
                }
                prop_assert_eq!(set.len(), tree.len());
                prop_assert_eq!(set.contains(n), tree.contains(&n));
            }
            let mut even = NumberSet::default();
            (0..300).step_by(2).for_each(|n| even.insert(n));
            prop_assert_eq!(set.common(&even), tree.iter().filter(|n| *n % 2 == 0).count());
            prop_assert!(set.iter().eq(tree.iter().copied()));
            set.clear();
            prop_assert_eq!((set.len(), set.iter().count()), (0, 0));
            prop_assert_eq!(set.pop_first(), None);
        }
    }
}
