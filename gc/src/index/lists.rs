//! Segments by live count: doubly linked lists through a slab, and a bitmap of the lists that are not empty.

use super::NONE;

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
}

const LOOSE: Link = Link { prev: NONE, next: NONE };

/// One list per live count.
#[derive(Debug)]
pub(super) struct LiveLists {
    links: Vec<Link>,
    /// First (`next`) and last (`prev`) segment of each list.
    ends: Vec<Link>,
    /// Bit `i` is set if list `i` is not empty.
    filled: Vec<u64>,
}

impl LiveLists {
    pub(super) fn new(lists: usize) -> Self {
        Self { links: Vec::new(), ends: vec![LOOSE; lists], filled: vec![0; lists.div_ceil(64)] }
    }

    pub(super) fn grow(&mut self, segments: usize) {
        self.links.resize(segments, LOOSE);
    }

    pub(super) fn bytes(&self) -> usize {
        (self.links.len() + self.ends.len()) * size_of::<Link>() + self.filled.len() * 8
    }

    /// Appends a segment to a list.
    pub(super) fn push(&mut self, list: usize, seg: u32) {
        let last = self.ends[list].prev;
        self.links[seg as usize] = Link { prev: last, next: NONE };
        match last {
            NONE => self.ends[list].next = seg,
            last => self.links[last as usize].next = seg,
        }
        self.ends[list].prev = seg;
        self.filled[list / 64] |= 1 << (list % 64);
    }

    /// Takes a segment out of the list that it is in.
    pub(super) fn unlink(&mut self, list: usize, seg: u32) {
        let Link { prev, next } = std::mem::replace(&mut self.links[seg as usize], LOOSE);
        match prev {
            NONE => self.ends[list].next = next,
            prev => self.links[prev as usize].next = next,
        }
        match next {
            NONE => self.ends[list].prev = prev,
            next => self.links[next as usize].prev = prev,
        }
        if self.ends[list].next == NONE {
            self.filled[list / 64] &= !(1 << (list % 64));
        }
    }

    /// All segments, list by list.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.filled.iter().enumerate().flat_map(|(w, &word)| Bits(word).map(move |b| w * 64 + b)).flat_map(
            move |list| {
                let link = |seg: u32| (seg != NONE).then_some(seg);
                std::iter::successors(link(self.ends[list].next), move |&seg| link(self.links[seg as usize].next))
            },
        )
    }
}

/// Positions of the set bits of a word, lowest first.
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (bit < 64).then_some(bit)
    }
}
