//! One case: the image is damaged, checked, mounted, read, written on, cleaned, and checked again.

use std::collections::BTreeSet;
use std::sync::Arc;

use gleanfs_gc::index::UtilizationIndex;
use gleanfs_gc::segment::SegmentFacts;
use gleanfs_gc::victim::{Greedy, VictimPolicy};

use super::damage::Damage;
use super::image::{Image, Mounted};
use super::shown::Shown;
use super::uses::Use;
use crate::device::{Device, MemoryDevice};
use crate::error::{Error, Result};
use crate::fsck::{self, Finding, Report};
use crate::namespace::api::{Caller, Namespace, NewInode, NewKind};
use crate::types::{BLOCK_SIZE, BlockAddr, Ino, SegNo};

/// Segments that the cleaner is asked for.
const CLEANED: usize = 12;
/// What a case may read: a loop without end is one that reads more.
const READ_BYTES_MAX: u64 = 2 << 30;
const WRITTEN_ON: &[u8] = b"written-on";
const WRITTEN_BLOCKS: usize = 9;

/// What came of a case in which everything was as it must be.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Blocks that differ from what they were.
    pub blocks: usize,
    /// What the most needed of them was needed for.
    pub needed: &'static str,
    pub is_found: bool,
    /// Kinds of findings.
    pub findings: Vec<String>,
    pub is_refused: bool,
    /// Paths of which something answered EIO, and paths that were shown whole.
    pub holes: usize,
    pub whole: usize,
    pub is_earlier: bool,
    pub is_drained: bool,
    pub is_latched: bool,
}

/// Runs a case through all demands; the first one that is not met is the error.
pub fn run(image: &Image, damage: &Damage) -> std::result::Result<Outcome, String> {
    let blocks = damage.blocks(image);
    let uses = blocks.iter().map(|addr| image.uses.of_block(*addr));
    let Some(most_needed) = uses.max_by_key(|needed| needed.rank()) else {
        return Ok(Outcome { needed: "unchanged", ..Outcome::default() });
    };
    let device = Arc::new(image.device.snapshot());
    damage.apply(&device);
    let case = Case { image, damage, blocks, device };
    let mut outcome = Outcome { blocks: case.blocks.len(), needed: most_needed.name(), ..Outcome::default() };
    let before = case.check(&mut outcome)?;
    for read_only in [true, false] {
        case.mount(read_only, &mut outcome)?;
    }
    if !outcome.is_refused {
        case.go_on(before.as_ref(), &mut outcome)?;
    }
    if case.device.traffic().read_bytes > READ_BYTES_MAX {
        return Err("it reads without end".into());
    }
    Ok(outcome)
}

struct Case<'a> {
    image: &'a Image,
    damage: &'a Damage,
    blocks: BTreeSet<u64>,
    device: Arc<MemoryDevice>,
}

impl Case<'_> {
    fn fsck(&self) -> Result<Report> {
        fsck::check(self.device.clone(), &Default::default(), &mut |_, _| {})
    }

    /// Damage that leaves a valid slot which is not the newest cannot be told from a state in which that was the newest.
    fn check(&self, outcome: &mut Outcome) -> std::result::Result<Option<Report>, String> {
        let report = self.fsck().ok();
        outcome.findings = report.iter().flat_map(|r| r.findings.iter().map(|finding| finding.kind())).collect();
        outcome.is_found = report.as_ref().is_none_or(|report| !report.findings.is_empty());
        // Where the log or the slot is not what it was, the state may be another one, in which other blocks are needed.
        let is_certain = |addr: &u64| self.image.uses.must_be_found(*addr);
        let must = match self.blocks.len() {
            1 => self.blocks.iter().all(is_certain),
            _ => !self.may_be_earlier() && self.blocks.iter().any(is_certain),
        };
        if must && !outcome.is_found && !self.damage.forges_slot(self.image) {
            return Err(format!("the check finds nothing, though a {} is damaged", outcome.needed));
        }
        Ok(report)
    }

    fn touches(&self, what: Use) -> bool {
        self.blocks.iter().any(|addr| self.image.uses.of_block(*addr).name() == what.name())
    }

    fn may_be_earlier(&self) -> bool {
        self.touches(Use::Slot) || self.blocks.iter().any(|addr| self.image.uses.is_tail(*addr))
    }

    /// Mounts, and holds what is shown against what was.
    fn mount(&self, read_only: bool, outcome: &mut Outcome) -> std::result::Result<(), String> {
        let device = Arc::new(self.device.snapshot());
        let mounted = match Mounted::new(device, read_only, &self.image.clock) {
            Ok(mounted) => mounted,
            Err(e) if self.may_refuse() && is_one_line(&e) => {
                outcome.is_refused = true;
                return Ok(());
            }
            Err(e) => return Err(format!("a mount (read-only: {read_only}) is refused: {e}")),
        };
        let (_, last) = self.image.last();
        let shown = Shown::read(&mounted.filesystem, last)?;
        outcome.is_earlier = self.explain(&shown)?;
        if !outcome.is_earlier {
            self.contained(&shown)?;
        }
        outcome.holes = outcome.holes.max(shown.unreadable());
        outcome.whole = shown.0.len() - shown.unreadable();
        Ok(())
    }

    /// What everything hangs on, or what replay needs, may keep the image from being mounted.
    fn may_refuse(&self) -> bool {
        let uses = || self.blocks.iter().map(|addr| self.image.uses.of_block(*addr));
        let is_vital = |needed: Use| match needed {
            Use::Slot | Use::Page => true,
            Use::Node { .. } => !self.image.shape.is_clean() || needed.touches(Ino::ORPHANS),
            _ => false,
        };
        self.may_be_earlier() || uses().any(is_vital)
    }

    /// Whether an earlier state is shown; an error if it is none that may be.
    fn explain(&self, shown: &Shown) -> std::result::Result<bool, String> {
        let (_, last) = self.image.last();
        let Some(why) = shown.difference(last, last) else { return Ok(false) };
        if !self.may_be_earlier() {
            return Err(format!("wrong answer: {why}"));
        }
        let from = match self.touches(Use::Slot) {
            true => 0,
            // The last state of which all is durable, by what is left.
            false => {
                let durable = self.image.uses.durable_without(&self.blocks);
                self.image.states.partition_point(|(lsn, _)| *lsn <= durable).saturating_sub(1)
            }
        };
        let states = &self.image.states[from..];
        let fits = states.windows(2).rev().any(|pair| shown.difference(&pair[0].1, &pair[1].1).is_none());
        match fits {
            true => Ok(true),
            false => Err(format!("what is shown is no state from {from} on of {}: {why}", self.image.states.len())),
        }
    }

    /// What does not depend on the damaged blocks is there.
    fn contained(&self, shown: &Shown) -> std::result::Result<(), String> {
        let (_, last) = self.image.last();
        for path in last.0.keys() {
            let seen = shown.0.get(path).and_then(Option::as_ref);
            let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            let mut way = ends.chain([path.len()]).filter_map(|end| shown.0.get(&path[..end]));
            let depends = way.any(|item| item.as_ref().is_none_or(|item| self.depends(item.ino)));
            if let Some(item) = seen.filter(|_| !depends) {
                let bad: BTreeSet<u64> = item.bad_blocks().collect();
                let own = self.data_of(item.ino);
                if item.holes() != bad.len() || !bad.is_subset(&own) {
                    return Err(format!("{} is damaged, too: {item:?}", String::from_utf8_lossy(path)));
                }
            } else if seen.is_none() && !self.has_metadata_damage() {
                return Err(format!("{} cannot be looked up", String::from_utf8_lossy(path)));
            }
        }
        Ok(())
    }

    fn has_metadata_damage(&self) -> bool {
        self.may_be_earlier()
            || self.touches(Use::Page)
            || self.touches(Use::Node { lower: crate::format::key::Key::MIN, upper: None })
    }

    fn depends(&self, ino: Ino) -> bool {
        self.touches(Use::Page) || self.blocks.iter().any(|addr| self.image.uses.of_block(*addr).touches(ino))
    }

    /// Damaged blocks of a file.
    fn data_of(&self, ino: Ino) -> BTreeSet<u64> {
        let uses = self.blocks.iter().map(|addr| self.image.uses.of_block(*addr));
        uses.filter_map(|needed| match needed {
            Use::Data { ino: of, file_block } if of == ino => Some(file_block),
            _ => None,
        })
        .collect()
    }

    /// Writes, cleans and unmounts; nothing may be worse afterwards.
    fn go_on(&self, before: Option<&Report>, outcome: &mut Outcome) -> std::result::Result<(), String> {
        let mounted = Mounted::new(self.device.clone(), false, &self.image.clock).map_err(|e| e.to_string())?;
        let result = self.work(&mounted, outcome);
        match result {
            Ok(()) => {}
            Err(e @ (Error::Damaged { .. } | Error::Device(_) | Error::Latched(_))) => {
                if !self.has_metadata_damage() {
                    return Err(format!("it cannot be written: {e}"));
                }
                outcome.is_latched = mounted.volume.writable().is_err();
            }
            Err(e) => return Err(format!("it cannot be written: {e}")),
        }
        drop(mounted);
        let after = self.fsck().map_err(|e| format!("it cannot be checked any more: {e}"))?;
        if self.worse(&after, before) > before.map_or(0, Report::errors) {
            let lines = |report: &Report| report.findings.iter().map(|f| format!("\n  {f}")).collect::<String>();
            let before = before.map(lines).unwrap_or_default();
            return Err(format!("before it was written:{before}\nand afterwards:{}", lines(&after)));
        }
        Ok(())
    }

    /// Errors, but for blocks that nobody claims behind a damaged chunk: a head may have gone on there, and what it wrote is behind the same gap.
    fn worse(&self, after: &Report, before: Option<&Report>) -> u64 {
        let has_gap = |addr: &BlockAddr| {
            let zone = self.device.geometry().zone_of(*addr);
            before
                .iter()
                .flat_map(|report| &report.findings)
                .any(|found| matches!(found, Finding::LogGap { segment, .. } if segment.0 == zone))
        };
        let behind = |found: &&Finding| matches!(found, Finding::Unclaimed { addr, .. } if has_gap(addr));
        after.errors() - after.findings.iter().filter(behind).count() as u64
    }

    fn work(&self, mounted: &Mounted, outcome: &mut Outcome) -> Result<()> {
        let written = write_on(&mounted.filesystem);
        let drained = self.drain(mounted);
        for n in 0..CLEANED {
            match mounted.cleaner.clean_one() {
                Ok(Some(_)) => {}
                Ok(None) | Err(Error::NoSpace) => break,
                // A damaged node makes some blocks immovable; it is no reason to move none.
                Err(e) if mounted.volume.writable().is_ok() => {
                    return Err(Error::Refused(format!("the cleaner gives up: {e}")));
                }
                Err(e) => return Err(e),
            }
            if n % 4 == 3 {
                mounted.volume.checkpoint(false)?;
            }
        }
        written?;
        outcome.is_drained = drained?;
        mounted.volume.checkpoint(true)
    }

    /// Has the segment of a damaged block of data cleaned. It must come free: its block is lost, the others are moved.
    fn drain(&self, mounted: &Mounted) -> Result<bool> {
        let is_data = |addr: &&u64| matches!(self.image.uses.of_block(**addr), Use::Data { .. });
        let Some(addr) = self.blocks.iter().find(is_data) else { return Ok(false) };
        let log = mounted.volume.log();
        let seg = (addr / u64::from(log.shape.segment_blocks)) as u32;
        let can_be = log.lock().segments.index.get(seg).is_some_and(|s| !s.is_full());
        if !can_be || self.blocks.len() > 1 {
            return Ok(false);
        }
        mounted.cleaner.set_policy(Box::new(First(seg)));
        mounted.cleaner.clean_one()?;
        mounted.volume.checkpoint(false)?;
        let live = log.lock().segments.get(SegNo(seg)).live;
        match live {
            0 => Ok(true),
            live => Err(Error::Refused(format!("segment {seg} was cleaned and keeps {live} live blocks"))),
        }
    }
}

fn is_one_line(error: &Error) -> bool {
    let text = error.to_string();
    !text.is_empty() && text.lines().count() == 1
}

/// A file of its own is written and read back.
fn write_on(fs: &dyn Namespace) -> Result<()> {
    let who = Caller { uid: 0, gid: 0, pid: 1 };
    let new = NewInode { kind: NewKind::File, perm: 0o600, umask: 0 };
    let ino = fs.create(&who, Ino::ROOT, WRITTEN_ON, &new)?.ino;
    let bytes: Vec<u8> = (0..WRITTEN_BLOCKS * BLOCK_SIZE).map(|n| (n / 7) as u8).collect();
    fs.write(ino, 0, &bytes, false)?;
    fs.sync()?;
    let mut read = vec![0; bytes.len()];
    fs.read(ino, 0, &mut read)?;
    if read != bytes {
        return Err(Error::Refused("what was written now reads otherwise".into()));
    }
    Ok(())
}

/// One segment before all others.
struct First(u32);

impl VictimPolicy for First {
    fn name(&self) -> &'static str {
        "first"
    }

    fn score(&self, s: &SegmentFacts, now: u64) -> f64 {
        Greedy.score(s, now)
    }

    fn choose(&mut self, index: &UtilizationIndex, now: u64) -> Option<SegmentFacts> {
        index.get(self.0).filter(|s| !s.is_full()).copied().or_else(|| Greedy.choose(index, now))
    }
}
