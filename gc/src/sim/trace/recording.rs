//! A whole trace in memory, compact and for ever the same, so that many simulations can share it.
//!
//! Invariants: spans are in the order of the trace, and their numbers lie one after the other in `numbers`; the blocks of a span have
//! consecutive addresses; a discarded block was in use, and what else a discard names is dropped. Partial blocks count as whole ones. Reads
//! are counted and dropped.
//!
//! Costs 4 bytes per block written and 16 per request; while it is loaded 16 more per request and about 30 per block of the volumes.

use std::path::Path;
use std::time::Duration;

use super::error::TraceError;
use super::format::Format;
use super::intake::Intake;
use super::requests::Requests;
use super::{Action, Request};
use crate::features::FileKind;

/// What of a trace is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `None`: its content tells it.
    pub format: Option<Format>,
    /// `None`: all.
    pub volume: Option<u64>,
    /// The requests that are used at most, reads included and other volumes' not. `None`: all.
    pub requests_max: Option<u64>,
}

/// A write request, or a run of blocks that a discard freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// 4 KiB block within the volume, after the shift.
    pub first_block: u64,
    pub blocks: u32,
    pub(super) target: Target,
}

impl Span {
    /// [`Action::Write`] or [`Action::Discard`].
    pub fn action(&self) -> Action {
        self.target.action()
    }

    /// Index into [`Recording::volumes`].
    pub fn volume(&self) -> usize {
        self.target.volume()
    }
}

/// What is done to which volume, in four bytes: the volume's index, and the highest bit for a discard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target(u32);

impl Target {
    const DISCARD: u32 = 1 << 31;

    pub(super) fn new(action: Action, volume: u32) -> Self {
        Self(if action == Action::Discard { volume | Self::DISCARD } else { volume })
    }

    pub(super) fn action(self) -> Action {
        if self.0 & Self::DISCARD == 0 { Action::Write } else { Action::Discard }
    }

    pub(super) fn volume(self) -> usize {
        (self.0 & !Self::DISCARD) as usize
    }
}

/// A volume, or a file that stands for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// By which the trace calls it.
    pub number: u64,
    /// Of a file whose name is known.
    pub kind: FileKind,
}

/// What is known of a whole recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) blocks: u32,
    pub(super) written_blocks: u64,
    pub(super) requests: u64,
    pub(super) reads: u64,
    pub(super) live_blocks_max: u32,
    pub(super) live_blocks_max_repeated: u32,
    pub(super) shift_sectors: u8,
    pub(super) duration_us: u64,
}

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub struct Recording {
    spans: Vec<Span>,
    numbers: Vec<u32>,
    volumes: Vec<Volume>,
    of_files: bool,
    facts: Facts,
}

impl Recording {
    pub fn load(path: &Path, options: &Options) -> Result<Self, TraceError> {
        Self::of(Requests::open(path, options.format)?, options)
    }

    /// Reads a trace to its end. It has at least one write.
    pub fn of(requests: Requests, options: &Options) -> Result<Self, TraceError> {
        let (file, of_files) = (requests.file().to_owned(), requests.format().is_of_files());
        Ok(Self { of_files, ..Self::collect(&file, requests, options)? })
    }

    /// The same of requests from anywhere, which keep to the limits of [`Requests`]; `file` is what errors call it.
    pub fn collect(
        file: &str,
        requests: impl IntoIterator<Item = Result<Request, TraceError>>,
        options: &Options,
    ) -> Result<Self, TraceError> {
        let mut intake = Intake::new(options.volume);
        let mut requests = requests.into_iter();
        while options.requests_max.is_none_or(|max| intake.requests() < max)
            && let Some(request) = requests.next().transpose()?
        {
            intake.take(&request);
        }
        intake.finish(file)
    }

    pub(super) fn new(spans: Vec<Span>, numbers: Vec<u32>, volumes: Vec<Volume>, facts: Facts) -> Self {
        Self { spans, numbers, volumes, of_files: false, facts }
    }

    /// Blocks that are ever written; their numbers are below this.
    pub fn blocks(&self) -> u32 {
        self.facts.blocks
    }

    /// Blocks written, each as often as it is.
    pub fn written_blocks(&self) -> u64 {
        self.facts.written_blocks
    }

    /// Requests of the trace that were used, reads and all.
    pub fn requests(&self) -> u64 {
        self.facts.requests
    }

    pub fn reads(&self) -> u64 {
        self.facts.reads
    }

    /// Whether its volumes are the files of a filesystem.
    pub fn is_of_files(&self) -> bool {
        self.of_files
    }

    /// The volumes that are written or discarded, by first appearance.
    pub fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    /// Between the earliest and the latest request.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.facts.duration_us)
    }

    /// Sectors by which the trace's blocks begin late, already taken off.
    pub fn shift_sectors(&self) -> u8 {
        self.facts.shift_sectors
    }

    /// The most blocks in use at any time, played once.
    pub fn live_blocks_max(&self) -> u32 {
        self.facts.live_blocks_max
    }

    /// The same if it is played again and again: what is in use at its end is so at its beginning.
    pub fn live_blocks_max_repeated(&self) -> u32 {
        self.facts.live_blocks_max_repeated
    }

    /// Writes and what discards freed, in order.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Numbers of the blocks of all spans, one span after the other.
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::sim::rng::Rng;

    fn record(trace: &[u8], options: &Options) -> Result<Recording, String> {
        let requests = Requests::new("t".to_owned(), std::io::Cursor::new(trace.to_vec()), options.format);
        requests.and_then(|requests| Recording::of(requests, options)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_trace_is_recorded_with_its_facts() -> Result<(), String> {
        let recording = record(samples::FIO_3, &Options::default())?;
        let span = |action| Span { first_block: 2, blocks: 4, target: Target::new(action, 0) };
        assert_eq!(recording.spans(), [span(Action::Write), span(Action::Discard)]);
        assert_eq!(recording.numbers(), [0, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!((recording.requests(), recording.reads(), recording.volumes().len()), (3, 1, 1));
        assert_eq!((recording.blocks(), recording.written_blocks(), recording.live_blocks_max()), (4, 4, 4));
        assert_eq!(recording.duration(), Duration::from_micros(13));
        Ok(())
    }

    #[test]
    fn one_volume_may_be_chosen() -> Result<(), String> {
        let of = |volume| record(samples::TENCENT, &Options { volume: Some(volume), ..Options::default() });
        assert_eq!(of(1063)?.requests(), 1);
        let only_read = "t: has no write to volume 1283; volumes in it: 1063";
        assert_eq!(of(1283), Err(only_read.to_owned()));
        assert_eq!(of(7), Err("t: has no write to volume 7; volumes in it: 1063, 1283".to_owned()));
        Ok(())
    }

    #[test]
    fn requests_may_be_limited_to_those_before_a_cut() -> Result<(), String> {
        let cut = &samples::TENCENT[..40];
        let limited = |requests_max| record(cut, &Options { requests_max, ..Options::default() });
        assert!(limited(None).is_err_and(|error| error.starts_with("t, line 2: the file ends within it; ")));
        assert_eq!(limited(Some(1))?.requests(), 1);
        assert_eq!(limited(Some(0)), Err("t: has no write; name another trace".to_owned()));
        Ok(())
    }

    #[test]
    fn whatever_the_bytes_a_trace_is_recorded_or_refused() {
        let mut rng = Rng::new(1);
        let (mut recorded, mut refused) = (0, 0);
        for round in 0..4000 {
            let (format, sample) = samples::ALL[round % samples::ALL.len()];
            let mut bytes = sample.to_vec();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len() as u32) as usize;
                bytes[at] = b"\n,0193-. \xff\0RWQD"[rng.below(15) as usize];
            }
            bytes.truncate(bytes.len() - rng.below(2) as usize * rng.below(20) as usize);
            match record(&bytes, &Options { format: Some(format), ..Options::default() }) {
                Ok(recording) => {
                    recorded += 1;
                    let blocks: u64 = recording.spans().iter().map(|span| u64::from(span.blocks)).sum();
                    assert_eq!(blocks, recording.numbers().len() as u64);
                }
                Err(line) => {
                    refused += 1;
                    assert!(line.starts_with("t") && !line.contains('\n'), "{line}");
                }
            }
        }
        assert!(recorded > 500 && refused > 500, "{recorded} recorded, {refused} refused");
    }

    #[test]
    fn a_span_is_small() {
        assert_eq!(size_of::<Span>(), 16);
    }
}
