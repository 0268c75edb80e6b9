//! From requests to a recording, in two passes: writes and discards are kept until it is known how the trace's blocks are aligned, then
//! their blocks are numbered.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::alignment::Alignment;
use super::error::TraceError;
use super::numbering::{Full, Numbering};
use super::recording::{Facts, Recording, Span, Target, Volume};
use super::{Action, BLOCK_BYTES, Request, SECTOR_BYTES};

/// Volumes that an error lists.
const LISTED_MAX: usize = 8;
/// Longer requests are discards, and kept in parts of this many sectors.
const PART_SECTORS: u64 = 1 << 31;
const BLOCK_SECTORS: u64 = BLOCK_BYTES / SECTOR_BYTES;

/// The first pass.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// The volume that is recorded, if not all are.
    chosen: Option<u64>,
    /// Some of the volumes that are not.
    others: BTreeSet<u64>,
    extents: Vec<Extent>,
    alignment: Alignment,
    volumes: Vec<Volume>,
    indices: HashMap<u64, u32>,
    writes: u64,
    /// Earliest and latest.
    times_us: Option<(u64, u64)>,
    facts: Facts,
}

impl Intake {
    pub(super) fn new(chosen: Option<u64>) -> Self {
        Self { chosen, ..Self::default() }
    }

    /// Requests taken, without those of volumes that were not chosen.
    pub(super) fn requests(&self) -> u64 {
        self.facts.requests
    }

    pub(super) fn take(&mut self, request: &Request) {
        if self.chosen.is_some_and(|chosen| chosen != request.volume) {
            if self.others.len() <= LISTED_MAX {
                self.others.insert(request.volume);
            }
            return;
        }
        let time = request.time_us;
        self.times_us = Some(self.times_us.map_or((time, time), |(from, to)| (from.min(time), to.max(time))));
        self.facts.requests += 1;
        self.facts.reads += u64::from(request.action == Action::Read);
        if request.action != Action::Read && request.len_bytes > 0 {
            self.keep(request);
        }
    }

    fn keep(&mut self, request: &Request) {
        if request.action == Action::Write {
            self.writes += 1;
            self.alignment.write(request.offset_bytes);
        }
        let target = Target::new(request.action, self.volume_index(request));
        let end = (request.offset_bytes + request.len_bytes).div_ceil(SECTOR_BYTES);
        let mut sector = request.offset_bytes / SECTOR_BYTES;
        while sector < end {
            let sectors = (end - sector).min(PART_SECTORS);
            self.extents.push(Extent { sector, sectors: sectors as u32, target });
            sector += sectors;
        }
    }

    fn volume_index(&mut self, request: &Request) -> u32 {
        let index = *self.indices.entry(request.volume).or_insert_with(|| {
            self.volumes.push(Volume { number: request.volume, kind: request.kind });
            self.volumes.len() as u32 - 1
        });
        let known = &mut self.volumes[index as usize];
        if !known.kind.is_known() {
            known.kind = request.kind;
        }
        index
    }

    /// The second pass; `file` is what errors call the trace.
    pub(super) fn finish(self, file: &str) -> Result<Recording, TraceError> {
        let file = file.to_owned();
        match self.chosen {
            _ if self.writes > 0 => self.number().map_err(|Full| TraceError::TooLarge { file }),
            None => Err(TraceError::NoWrites { file }),
            Some(volume) => Err(TraceError::NoWritesTo { file, volume, known: listed(&self.others) }),
        }
    }

    fn number(self) -> Result<Recording, Full> {
        let shift_sectors = self.alignment.shift_sectors();
        let mut sheet = Sheet::new(self.volumes.len(), self.extents.len());
        for extent in self.extents {
            sheet.add(extent.target, extent.blocks(shift_sectors))?;
        }
        let written_blocks = sheet.written_blocks;
        let (blocks, live_blocks_max) = (sheet.numbering.blocks(), sheet.numbering.live_blocks_max());
        let duration_us = self.times_us.map_or(0, |(from, to)| to - from);
        let live_blocks_max_repeated = sheet.live_blocks_max_repeated();
        let facts = Facts {
            blocks,
            written_blocks,
            live_blocks_max,
            live_blocks_max_repeated,
            shift_sectors,
            duration_us,
            ..self.facts
        };
        sheet.spans.shrink_to_fit();
        sheet.numbers.shrink_to_fit();
        Ok(Recording::new(sheet.spans, sheet.numbers, self.volumes, facts))
    }
}

/// A write or discard before the shift is known.
#[derive(Clone, Copy, Debug)]
struct Extent {
    sector: u64,
    sectors: u32,
    target: Target,
}

impl Extent {
    /// Every block that it touches; what lies below the shift counts as the first.
    fn blocks(&self, shift_sectors: u8) -> Range<u64> {
        let block = |sector: u64| sector.saturating_sub(u64::from(shift_sectors)) / BLOCK_SECTORS;
        block(self.sector)..block(self.sector + u64::from(self.sectors) - 1) + 1
    }
}

/// What the second pass fills.
#[derive(Debug)]
struct Sheet {
    spans: Vec<Span>,
    numbers: Vec<u32>,
    numbering: Numbering,
    written_blocks: u64,
}

impl Sheet {
    fn new(volumes: usize, spans: usize) -> Self {
        let numbering = Numbering::for_volumes(volumes);
        Self { spans: Vec::with_capacity(spans), numbers: Vec::new(), numbering, written_blocks: 0 }
    }

    fn add(&mut self, target: Target, blocks: Range<u64>) -> Result<(), Full> {
        if target.action() == Action::Write {
            self.written_blocks += blocks.end - blocks.start;
            self.spans.push(Span { first_block: blocks.start, blocks: (blocks.end - blocks.start) as u32, target });
            for address in blocks {
                self.numbers.push(self.numbering.write(target.volume(), address)?);
            }
        } else {
            let freed = self.numbering.discard(target.volume(), blocks);
            for run in freed.chunk_by(|a, b| a.0 + 1 == b.0) {
                self.spans.push(Span { first_block: run[0].0, blocks: run.len() as u32, target });
                self.numbers.extend(run.iter().map(|&(_, number)| number));
            }
        }
        Ok(())
    }

    /// The most blocks in use, played from its own end.
    fn live_blocks_max_repeated(&mut self) -> u32 {
        let mut numbers = self.numbers.iter();
        for span in &self.spans {
            let of_span = numbers.by_ref().take(span.blocks as usize);
            match span.action() {
                Action::Discard => of_span.for_each(|&number| self.numbering.set_unused(number)),
                _ => of_span.for_each(|&number| self.numbering.set_in_use(number)),
            }
        }
        self.numbering.live_blocks_max()
    }
}

fn listed(volumes: &BTreeSet<u64>) -> String {
    let mut names: Vec<String> = volumes.iter().take(LISTED_MAX).map(u64::to_string).collect();
    if volumes.is_empty() {
        names.push("none".to_owned());
    } else if volumes.len() > LISTED_MAX {
        names.push("and more".to_owned());
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Action = Action::Write;
    const DISCARD: Action = Action::Discard;

    /// Of requests that are action, volume, offset and length in sectors.
    fn recorded(requests: &[(Action, u64, u64, u64)]) -> Recording {
        let mut intake = Intake::new(None);
        for &(action, volume, sector, sectors) in requests {
            let (offset_bytes, len_bytes) = (sector * SECTOR_BYTES, sectors * SECTOR_BYTES);
            intake.take(&Request { time_us: 0, action, volume, offset_bytes, len_bytes, kind: Default::default() });
        }
        intake.finish("t").unwrap_or_else(|error| panic!("{error}"))
    }

    fn spans(recording: &Recording) -> Vec<(Action, usize, u64, u32)> {
        recording.spans().iter().map(|s| (s.action(), s.volume(), s.first_block, s.blocks)).collect()
    }

    #[test]
    fn blocks_are_numbered_densely_over_volumes() {
        let recording =
            recorded(&[(WRITE, 9, 800, 16), (WRITE, 4, 800, 8), (Action::Read, 1, 0, 8), (WRITE, 9, 792, 16)]);
        assert_eq!(spans(&recording), [(WRITE, 0, 100, 2), (WRITE, 1, 100, 1), (WRITE, 0, 99, 2)]);
        assert_eq!(recording.numbers(), [0, 1, 2, 3, 0]);
        assert_eq!(recording.volumes().iter().map(|v| v.number).collect::<Vec<_>>(), [9, 4]);
        assert_eq!((recording.blocks(), recording.written_blocks(), recording.reads()), (4, 5, 1));
    }

    #[test]
    fn partial_blocks_count_as_whole_ones_and_empty_requests_as_none() {
        let recording =
            recorded(&[(WRITE, 0, 0, 1), (WRITE, 0, 7, 2), (WRITE, 0, 16, 0), (WRITE, 0, 8, 8), (WRITE, 0, 8, 8)]);
        assert_eq!(spans(&recording), [(WRITE, 0, 0, 1), (WRITE, 0, 0, 2), (WRITE, 0, 1, 1), (WRITE, 0, 1, 1)]);
        assert_eq!(recording.requests(), 5);
        let mut intake = Intake::new(None);
        intake.take(&Request {
            time_us: 0,
            action: WRITE,
            volume: 0,
            offset_bytes: 4095,
            len_bytes: 2,
            kind: Default::default(),
        });
        assert_eq!(intake.finish("t").map(|r| r.blocks()).map_err(|e| e.to_string()), Ok(2));
    }

    #[test]
    fn misaligned_volumes_are_shifted_down() {
        let recording = recorded(&[(WRITE, 0, 63, 8), (WRITE, 0, 71, 16), (WRITE, 0, 0, 8), (WRITE, 0, 2, 2)]);
        assert_eq!(recording.shift_sectors(), 0);
        let recording = recorded(&[(WRITE, 0, 63, 8), (WRITE, 0, 71, 16), (WRITE, 0, 0, 8)]);
        assert_eq!(recording.shift_sectors(), 7);
        assert_eq!(spans(&recording), [(WRITE, 0, 7, 1), (WRITE, 0, 8, 2), (WRITE, 0, 0, 1)]);
    }

    #[test]
    fn discards_keep_what_they_free_in_runs() {
        let recording = recorded(&[
            (DISCARD, 0, 0, 800),
            (WRITE, 0, 80, 24),
            (WRITE, 0, 160, 8),
            (DISCARD, 0, 88, 1 << 33),
            (DISCARD, 0, 88, 8),
            (WRITE, 0, 88, 8),
        ]);
        let expected =
            [(WRITE, 0, 10, 3), (WRITE, 0, 20, 1), (DISCARD, 0, 11, 2), (DISCARD, 0, 20, 1), (WRITE, 0, 11, 1)];
        assert_eq!(spans(&recording), expected);
        assert_eq!(recording.numbers(), [0, 1, 2, 3, 1, 2, 3, 1]);
        assert_eq!((recording.blocks(), recording.written_blocks(), recording.live_blocks_max()), (4, 5, 4));
    }

    #[test]
    fn what_is_in_use_at_the_end_counts_when_it_is_repeated() {
        let recording = recorded(&[(WRITE, 0, 0, 16), (DISCARD, 0, 0, 16), (WRITE, 0, 80, 24)]);
        assert_eq!((recording.live_blocks_max(), recording.live_blocks_max_repeated()), (3, 5));
    }
}
