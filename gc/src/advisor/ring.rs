//! Two single-producer single-consumer rings over the shared region.
//!
//! A producer writes a slot's contents, then its sequence number (position + 1, release). A consumer
//! that sees the number it expects copies the contents out and stores its own position. Each side
//! keeps its positions in private memory; what the other side wrote is only ever *compared* with
//! them. So a worker that scribbles can make the daemon see garbage values, never a garbage length
//! or address.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::protocol::{
    ANSWER_BASE, DATASET_BASE, FEATURES_MAX, ROWS_MAX, SLOTS, answer_slot, dataset_slot, fault, header,
};
use super::region::Region;
use crate::words::{SharedWords, Words};

/// The other side wrote something that no honest peer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lie(pub &'static str);

/// Why a batch was not posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotPosted {
    Full,
    Lie(Lie),
}

fn slot(base: usize, bytes: usize, position: u64) -> usize {
    base + (position as usize % SLOTS) * bytes
}

/// The fixed part of a batch or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    pub ticket: u64,
    pub generation: u64,
    pub rows: u32,
}

/// Daemon's end of the dataset ring.
pub(crate) struct DatasetWriter<W = Words> {
    region: Arc<Region<W>>,
    position: u64,
    tail_seen: u64,
}

impl<W: SharedWords> DatasetWriter<W> {
    pub(crate) fn new(region: Arc<Region<W>>) -> Self {
        Self { region, position: 0, tail_seen: 0 }
    }

    /// Publishes a batch of `label.rows` rows of `features` values, or says why not. Never waits.
    pub(crate) fn push(
        &mut self,
        label: Label,
        features: usize,
        values: impl Iterator<Item = f32>,
    ) -> Result<(), NotPosted> {
        debug_assert!(label.rows as usize <= ROWS_MAX && features <= FEATURES_MAX);
        self.check_space()?;
        let at = slot(DATASET_BASE, dataset_slot::BYTES, self.position);
        let region = &self.region;
        region.store_u64(at + dataset_slot::TICKET, label.ticket, Ordering::Relaxed);
        region.store_u64(at + dataset_slot::GENERATION, label.generation, Ordering::Relaxed);
        region.store_u32(at + dataset_slot::ROWS, label.rows, Ordering::Relaxed);
        region.store_u32(at + dataset_slot::FEATURES, features as u32, Ordering::Relaxed);
        region.store_f32s(at + dataset_slot::VALUES, values.take(ROWS_MAX * FEATURES_MAX));
        self.position += 1;
        region.store_u64(at + dataset_slot::SEQ, self.position, Ordering::Release);
        Ok(())
    }

    fn check_space(&mut self) -> Result<(), NotPosted> {
        let tail = self.region.load_u64(header::DATASET_TAIL, Ordering::Acquire);
        if tail < self.tail_seen || tail > self.position {
            return Err(NotPosted::Lie(Lie("dataset position out of range")));
        }
        self.tail_seen = tail;
        if self.position - tail >= SLOTS as u64 { Err(NotPosted::Full) } else { Ok(()) }
    }
}

/// Worker's end of the dataset ring.
pub(crate) struct DatasetReader<W = Words> {
    region: Arc<Region<W>>,
    position: u64,
}

/// A batch as the worker gets it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchHead {
    pub label: Label,
    pub features: u32,
}

impl<W: SharedWords> DatasetReader<W> {
    pub(crate) fn new(region: Arc<Region<W>>) -> Self {
        Self { region, position: 0 }
    }

    /// Copies the next batch's values into `into` (room for the largest batch), if there is one.
    pub(crate) fn pop(&mut self, into: &mut [f32]) -> Option<BatchHead> {
        let at = slot(DATASET_BASE, dataset_slot::BYTES, self.position);
        let region = &self.region;
        if region.load_u64(at + dataset_slot::SEQ, Ordering::Acquire) != self.position + 1 {
            return None;
        }
        let head = BatchHead {
            label: Label {
                ticket: region.load_u64(at + dataset_slot::TICKET, Ordering::Relaxed),
                generation: region.load_u64(at + dataset_slot::GENERATION, Ordering::Relaxed),
                rows: region.load_u32(at + dataset_slot::ROWS, Ordering::Relaxed),
            },
            features: region.load_u32(at + dataset_slot::FEATURES, Ordering::Relaxed),
        };
        let count = head.label.rows.min(ROWS_MAX as u32) as usize * head.features.min(FEATURES_MAX as u32) as usize;
        region.load_f32s(at + dataset_slot::VALUES, &mut into[..count]);
        self.position += 1;
        region.store_u64(header::DATASET_TAIL, self.position, Ordering::Release);
        Some(head)
    }
}

/// Worker's end of the recommendation ring.
pub(crate) struct AnswerWriter<W = Words> {
    region: Arc<Region<W>>,
    position: u64,
}

/// What comes with an answer beside its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnswerHead {
    pub label: Label,
    pub fault: u32,
    pub run_ns: u64,
    pub done_ns: u64,
}

impl<W: SharedWords> AnswerWriter<W> {
    pub(crate) fn new(region: Arc<Region<W>>) -> Self {
        Self { region, position: 0 }
    }

    /// Publishes an answer. The daemon has at most [`SLOTS`] batches in flight, so the slot is free.
    pub(crate) fn push(&mut self, head: AnswerHead, values: &[f32]) {
        let at = slot(ANSWER_BASE, answer_slot::BYTES, self.position);
        let region = &self.region;
        region.store_u64(at + answer_slot::TICKET, head.label.ticket, Ordering::Relaxed);
        region.store_u64(at + answer_slot::GENERATION, head.label.generation, Ordering::Relaxed);
        region.store_u32(at + answer_slot::ROWS, head.label.rows, Ordering::Relaxed);
        region.store_u32(at + answer_slot::FAULT, head.fault, Ordering::Relaxed);
        region.store_u64(at + answer_slot::RUN_NS, head.run_ns, Ordering::Relaxed);
        region.store_u64(at + answer_slot::DONE_NS, head.done_ns, Ordering::Relaxed);
        region.store_f32s(at + answer_slot::VALUES, values.iter().copied().take(ROWS_MAX));
        self.position += 1;
        region.store_u64(at + answer_slot::SEQ, self.position, Ordering::Release);
    }
}

/// Daemon's end of the recommendation ring.
pub(crate) struct AnswerReader<W = Words> {
    region: Arc<Region<W>>,
    position: u64,
}

impl<W: SharedWords> AnswerReader<W> {
    pub(crate) fn new(region: Arc<Region<W>>) -> Self {
        Self { region, position: 0 }
    }

    /// Answers taken so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Copies the next answer out, if there is one. `values` is left with as many values as the
    /// answer claims rows, at most [`ROWS_MAX`], and none if it carries a fault.
    pub(crate) fn pop(&mut self, values: &mut Vec<f32>) -> Result<Option<AnswerHead>, Lie> {
        let at = slot(ANSWER_BASE, answer_slot::BYTES, self.position);
        let region = &self.region;
        let seq = region.load_u64(at + answer_slot::SEQ, Ordering::Acquire);
        if seq != self.position + 1 {
            // An honest slot still carries the number of its previous round.
            let previous = (self.position + 1).saturating_sub(SLOTS as u64);
            return if seq == previous { Ok(None) } else { Err(Lie("answer sequence out of range")) };
        }
        let rows = region.load_u32(at + answer_slot::ROWS, Ordering::Relaxed);
        if rows as usize > ROWS_MAX {
            return Err(Lie("answer with too many rows"));
        }
        let head = AnswerHead {
            label: Label {
                ticket: region.load_u64(at + answer_slot::TICKET, Ordering::Relaxed),
                generation: region.load_u64(at + answer_slot::GENERATION, Ordering::Relaxed),
                rows,
            },
            fault: region.load_u32(at + answer_slot::FAULT, Ordering::Relaxed),
            run_ns: region.load_u64(at + answer_slot::RUN_NS, Ordering::Relaxed),
            done_ns: region.load_u64(at + answer_slot::DONE_NS, Ordering::Relaxed),
        };
        values.clear();
        if head.fault == fault::NONE {
            values.resize(rows as usize, f32::NAN);
            region.load_f32s(at + answer_slot::VALUES, values);
        }
        self.position += 1;
        region.store_u64(header::ANSWER_TAIL, self.position, Ordering::Release);
        Ok(Some(head))
    }
}

/// Whether the answer after the first `position` ones waits to be taken.
pub(crate) fn answer_pending<W: SharedWords>(region: &Region<W>, position: u64) -> bool {
    let at = slot(ANSWER_BASE, answer_slot::BYTES, position);
    region.load_u64(at + answer_slot::SEQ, Ordering::Acquire) == position + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn label(ticket: u64, rows: u32) -> Label {
        Label { ticket, generation: ticket.wrapping_mul(10), rows }
    }

    #[test]
    fn batches_and_answers_go_round_and_round() {
        let region = Arc::new(Region::create().unwrap());
        let (mut to, mut from) = (DatasetWriter::new(region.clone()), DatasetReader::new(region.clone()));
        let (mut reply, mut heard) = (AnswerWriter::new(region.clone()), AnswerReader::new(region));
        let mut x = vec![0.0; ROWS_MAX * FEATURES_MAX];
        let mut y = Vec::new();
        for ticket in 0..3 * SLOTS as u64 {
            to.push(label(ticket, 2), 3, (0..6).map(|i| (ticket + i) as f32)).unwrap();
            let head = from.pop(&mut x).unwrap();
            assert_eq!((head.label, head.features), (label(ticket, 2), 3));
            assert_eq!(x[5], (ticket + 5) as f32);
            assert!(from.pop(&mut x).is_none());
            assert_eq!(heard.pop(&mut y), Ok(None));
            let head = AnswerHead { label: head.label, fault: fault::NONE, run_ns: 1, done_ns: 2 };
            reply.push(head, &[x[0], x[5]]);
            assert_eq!(heard.pop(&mut y), Ok(Some(head)));
            assert_eq!(y, [ticket as f32, (ticket + 5) as f32]);
        }
    }

    #[test]
    fn a_full_ring_refuses_instead_of_waiting() {
        let region = Arc::new(Region::create().unwrap());
        let mut to = DatasetWriter::new(region.clone());
        for ticket in 0..SLOTS as u64 {
            to.push(label(ticket, 1), 1, [0.0].into_iter()).unwrap();
        }
        assert_eq!(to.push(label(99, 1), 1, [0.0].into_iter()), Err(NotPosted::Full));
        DatasetReader::new(region).pop(&mut [0.0; 64]).unwrap();
        to.push(label(99, 1), 1, [0.0].into_iter()).unwrap();
    }

    #[test]
    fn impossible_positions_are_lies() {
        let region = Arc::new(Region::create().unwrap());
        let mut to = DatasetWriter::new(region.clone());
        to.push(label(1, 1), 1, [0.0].into_iter()).unwrap();
        region.u64(header::DATASET_TAIL).store(2, Ordering::Relaxed);
        assert!(matches!(to.push(label(2, 1), 1, [0.0].into_iter()), Err(NotPosted::Lie(_))));
        let mut heard = AnswerReader::new(region.clone());
        region.u64(ANSWER_BASE + answer_slot::SEQ).store(77, Ordering::Relaxed);
        assert!(heard.pop(&mut Vec::new()).is_err());
        region.u64(ANSWER_BASE + answer_slot::SEQ).store(1, Ordering::Relaxed);
        region.u32(ANSWER_BASE + answer_slot::ROWS).store(u32::MAX, Ordering::Relaxed);
        assert!(heard.pop(&mut Vec::new()).is_err());
    }

    proptest! {
        // Whatever words lie in the region, the daemon's side neither panics nor exceeds its bounds.
        #[test]
        fn scribbles_do_no_harm(words in proptest::collection::vec((0usize..20_000, any::<u64>()), 1..200)) {
            let region = Arc::new(Region::create().unwrap());
            let (mut to, mut heard) = (DatasetWriter::new(region.clone()), AnswerReader::new(region.clone()));
            let mut y = Vec::new();
            for (at, value) in words {
                let at = at * 8;
                let base = if at < HEADER_WORDS_END { 0 } else { ANSWER_BASE - HEADER_WORDS_END };
                let offset = (base + at).min(region.bytes() - 8);
                region.u64(offset / 8 * 8).store(value, Ordering::Relaxed);
                if let Ok(Some(_)) = heard.pop(&mut y) {
                    prop_assert!(y.len() <= ROWS_MAX);
                }
                let _ = to.push(label(value, 1), 1, [0.0].into_iter());
            }
        }
    }
    const HEADER_WORDS_END: usize = 1024;
}
