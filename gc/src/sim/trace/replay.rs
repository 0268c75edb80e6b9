//! A recording as a load: what was recorded, in order and again from the beginning without an end.

use std::ops::Range;
use std::sync::Arc;

use super::Action;
use super::recording::{Recording, Span, Volume};
use crate::features::FileKind;
use crate::sim::load::{BlockWrite, Load, Op};

/// A place in a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    span: usize,
    /// Index of the span's first number.
    number: usize,
}

/// Plays a recording, or a part of it. A volume is a file that has its inode number from the volume's, and whose size is what has been
/// written of it so far: nothing is told of the future.
#[derive(Debug)]
pub struct Replay {
    recording: Arc<Recording>,
    /// Spans that are played, and the index of the first one's first number.
    begin: Position,
    end_span: usize,
    next: Position,
    /// The span under way, and how much of it is done.
    span: Span,
    done: u32,
    ino: u64,
    kind: FileKind,
    append: bool,
    file_blocks: u64,
    /// Size of every volume so far.
    sizes: Vec<u64>,
    rounds: u64,
}

impl Replay {
    pub fn new(recording: Arc<Recording>) -> Self {
        let end_span = recording.spans().len();
        Self::between(recording, Position::default(), end_span)
    }

    /// Plays only the requests whose first block is one of these, counted in written blocks from the beginning of the recording. `None` if
    /// there is no write among them.
    pub fn part(recording: Arc<Recording>, written_blocks: Range<u64>) -> Option<Self> {
        let (mut at, mut written) = (Position::default(), 0);
        let (mut begin, mut end_span) = (None, 0);
        for span in recording.spans() {
            let write = span.action() == Action::Write;
            if written_blocks.contains(&written) {
                begin = begin.or(write.then_some(at));
                end_span = at.span + 1;
            }
            written += if write { u64::from(span.blocks) } else { 0 };
            at = Position { span: at.span + 1, number: at.number + span.blocks as usize };
        }
        begin.map(|begin| Self::between(recording, begin, end_span))
    }

    /// Times that it has come to its end.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    fn between(recording: Arc<Recording>, begin: Position, end_span: usize) -> Self {
        let span = recording.spans()[begin.span];
        let sizes = vec![0; recording.volumes().len()];
        let mut replay = Self {
            recording,
            begin,
            end_span,
            next: begin,
            span,
            done: 0,
            ino: 0,
            kind: FileKind::default(),
            append: false,
            file_blocks: 0,
            sizes,
            rounds: 0,
        };
        replay.take_up(span);
        replay
    }

    fn take_up(&mut self, span: Span) {
        (self.span, self.done) = (span, 0);
        let volume = span.volume();
        let Volume { number, kind } = self.recording.volumes()[volume];
        (self.ino, self.kind) = (number.saturating_add(1), kind);
        self.file_blocks = self.sizes[volume];
        // Of a block device nobody knows how much of it is in use.
        self.append = self.recording.is_of_files() && span.first_block >= self.file_blocks;
        if span.action() == Action::Write {
            self.sizes[volume] = self.file_blocks.max(span.first_block + u64::from(span.blocks));
        }
        self.next.span += 1;
    }

    #[cold]
    fn begin_again(&mut self) {
        self.next = self.begin;
        self.rounds += 1;
    }

    fn next_span(&mut self) {
        if self.next.span == self.end_span {
            self.begin_again();
        }
        self.take_up(self.recording.spans()[self.next.span]);
    }
}

impl Load for Replay {
    fn blocks(&self) -> u32 {
        self.recording.blocks()
    }

    fn next_op(&mut self) -> Op {
        if self.done == self.span.blocks {
            self.next_span();
        }
        let block = self.recording.numbers()[self.next.number];
        let request_at = self.done;
        self.next.number += 1;
        self.done += 1;
        match self.span.action() {
            Action::Discard => Op::Discard(block),
            _ => Op::Write(BlockWrite {
                block,
                ino: self.ino,
                kind: self.kind,
                file_block: self.span.first_block + u64::from(request_at),
                request_blocks: self.span.blocks,
                request_at,
                append: self.append,
                file_blocks: self.file_blocks,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Request, TraceError};
    use super::*;
    use crate::placement::SepBit;
    use crate::sim::{Geometry, run};
    use crate::victim::Greedy;

    /// Of requests that are action, volume, first block and blocks.
    fn recording(requests: &[(Action, u64, u64, u64)]) -> Arc<Recording> {
        let requests = requests.iter().map(|&(action, volume, block, blocks)| {
            let (offset_bytes, len_bytes) = (block * 4096, blocks * 4096);
            Ok::<_, TraceError>(Request {
                time_us: 0,
                action,
                volume,
                offset_bytes,
                len_bytes,
                kind: FileKind::default(),
            })
        });
        Arc::new(Recording::collect("t", requests, &Options::default()).unwrap_or_else(|error| panic!("{error}")))
    }

    fn small() -> Arc<Recording> {
        recording(&[
            (Action::Write, 5, 10, 2),
            (Action::Write, 5, 3, 1),
            (Action::Discard, 5, 10, 1),
            (Action::Write, 8, 0, 1),
        ])
    }

    fn write(block: u32, ino: u64, file_block: u64, request: (u32, u32), file_blocks: u64) -> Op {
        let (request_at, request_blocks) = request;
        let kind = FileKind::default();
        Op::Write(BlockWrite { block, ino, kind, file_block, request_blocks, request_at, append: false, file_blocks })
    }

    #[test]
    fn a_replay_is_the_recording_again_and_again() {
        let mut replay = Replay::new(small());
        assert_eq!(replay.blocks(), 4);
        let round = |sizes: [u64; 2]| {
            [
                write(0, 6, 10, (0, 2), sizes[0]),
                write(1, 6, 11, (1, 2), sizes[0]),
                write(2, 6, 3, (0, 1), 12),
                Op::Discard(0),
                write(3, 9, 0, (0, 1), sizes[1]),
            ]
        };
        assert_eq!([(); 5].map(|()| replay.next_op()), round([0, 0]));
        assert_eq!(replay.rounds(), 0);
        assert_eq!([(); 5].map(|()| replay.next_op()), round([12, 1]));
        assert_eq!(replay.rounds(), 1);
    }

    #[test]
    fn parts_are_cut_at_requests() {
        let part = |range| Replay::part(small(), range).map(|mut r| [(); 3].map(|()| r.next_op()));
        let third = write(2, 6, 3, (0, 1), 0);
        assert_eq!(part(1..3), Some([third, write(2, 6, 3, (0, 1), 4), write(2, 6, 3, (0, 1), 4)]));
        assert_eq!(part(2..9), Some([third, Op::Discard(0), write(3, 9, 0, (0, 1), 0)]));
        assert_eq!(part(4..9), None);
        assert_eq!(part(1..2), None);
    }

    #[test]
    fn many_simulations_share_a_recording() {
        let requests: Vec<_> = (0..4096).map(|i: u64| (Action::Write, 0, i * i % 1021, 1 + i % 3)).collect();
        let recording = recording(&requests);
        let blocks = recording.live_blocks_max();
        let simulate = || {
            let geometry = Geometry::garbage(blocks, 32, 0.15, 6);
            let mut replay = Replay::new(Arc::clone(&recording));
            run(geometry, &mut replay, &mut SepBit::default(), &mut Greedy, 0, 2 * recording.written_blocks())
        };
        let both = std::thread::scope(|scope| [scope.spawn(simulate), scope.spawn(simulate)].map(|t| t.join().ok()));
        assert!(both[0].is_some_and(|outcome| outcome.moved > 0));
        assert_eq!(both[0], both[1]);
    }
}
