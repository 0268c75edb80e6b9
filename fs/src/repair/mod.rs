//! Repair of an unmounted image: what `fsck` finds is mended in memory, and one new checkpoint makes it so.
//!
//! Above `fsck`, `cleaner`, `meta` and `log`. In this order: the state is opened as far as it can be read, what is lost of it is looked for
//! on the medium ([`roots`], [`tables`], [`index`], [`salvage`]); then rounds of checking and mending ([`rounds`]) until nothing is found;
//! then counts and segment table are made anew, written into segments that nothing needs, checked, and committed by one slot ([`commit`]).
//! A cut leaves the state before or the one after. A dry run ends before the commit.
//!
//! Memory: as a check; the node table, the keys of each leaf where the index is built anew, and every node that is changed.

mod change;
mod commit;
mod copies;
mod elsewhere;
mod index;
mod inodes;
mod medium;
mod names;
mod open;
mod owners;
mod replay;
mod roots;
mod rounds;
mod salvage;
mod tables;
mod workshop;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::device::Device;
use crate::error::{Error, Result, panic_text};
use crate::format::value::Time;
use crate::fsck::{self, CheckOptions, Finding, ProgressFn, Report, Severity};
use crate::meta::slots::Slots;

pub use change::Repair;

use open::{Opened, Source};

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Nothing: say what would be.
    DryRun,
    /// What loses nothing, if that is all there is to do.
    Safe,
    /// Everything.
    All,
}

/// How to repair.
#[derive(Clone, Copy, Debug)]
pub struct RepairOptions {
    pub check: CheckOptions,
    pub consent: Consent,
    /// For the names of an image that has lost its own.
    pub hash_key: [u8; 16],
    pub now: Time,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There was nothing to repair.
    Clean,
    /// The image is repaired.
    Corrected,
    /// A dry run: the repairs would be made.
    Planned,
    /// Not unasked: some of the repairs lose something, or want a judgement.
    NeedsConsent,
}

/// What was found and done.
#[derive(Debug)]
pub struct Outcome {
    /// The check before.
    pub before: Report,
    pub repairs: Vec<Repair>,
    pub verdict: Verdict,
}

/// Findings that are kept in one round; what is not is found in the next.
const FINDINGS_MAX: usize = 100_000;

/// Checks the image on `device`, and repairs it as far as `options` allow. An error means that nothing was changed, or that the device failed.
pub fn repair(device: &Arc<dyn Device>, options: &RepairOptions, progress: ProgressFn<'_>) -> Result<Outcome> {
    let check = CheckOptions { findings_max: FINDINGS_MAX, ..options.check };
    let before = examine(device, &check, progress)?;
    if before.errors() == 0 {
        return Ok(Outcome { before, repairs: Vec::new(), verdict: Verdict::Clean });
    }
    let (opened, settled) = guarded(|| plan(device, &before, options, &check, progress))?;
    let mut repairs = opened.shop.repairs.clone();
    repairs.extend(counted(&before));
    let verdict = match options.consent {
        Consent::DryRun => Verdict::Planned,
        Consent::Safe if !repairs.iter().all(Repair::is_safe) => Verdict::NeedsConsent,
        Consent::Safe | Consent::All => Verdict::Corrected,
    };
    if verdict == Verdict::Corrected {
        let both_slots = repairs.iter().any(|repair| matches!(repair, Repair::Superblock { .. }));
        guarded(|| commit::commit(opened, &settled, both_slots, &check, progress))?;
        write_elsewhere(device, &check, progress)?;
    }
    Ok(Outcome { before, repairs, verdict })
}

/// What a checksummed lie can make the running filesystem's code assert is an error like others: nothing of the state under repair outlives it, and
/// nothing is committed.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|cause| {
        Err(Error::Refused(format!("cannot be repaired: {}; nothing was changed", panic_text(&*cause))))
    })
}

/// The check before. Where not even a slot's beginning is left, chunks tell whether there was a filesystem.
fn examine(device: &Arc<dyn Device>, check: &CheckOptions, progress: ProgressFn<'_>) -> Result<Report> {
    match fsck::check(Arc::clone(device), check, progress) {
        Err(Error::Refused(why)) if why == fsck::NOT_OURS => {
            let mut report = Report::new(check.findings_max);
            report.add(Finding::NoSuperblock { why: "both slots are empty".into() });
            Ok(report)
        }
        result => result,
    }
}

/// The repaired state, in memory.
fn plan(
    device: &Arc<dyn Device>,
    before: &Report,
    options: &RepairOptions,
    check: &CheckOptions,
    progress: ProgressFn<'_>,
) -> Result<(Opened, rounds::Settled)> {
    let cache_bytes = check.cache_bytes;
    let mut slots = Slots::new(Arc::clone(device))?;
    let is_found = |kind: fn(&Finding) -> bool| before.findings.iter().any(kind);
    let is_gone = is_found(|f| matches!(f, Finding::NoSuperblock { .. }));
    let newest = match slots.read() {
        _ if is_gone => None,
        // The one that cannot be read may be the newest, and what the other names is not there any more then.
        Err(Error::Device(_)) => None,
        read => Some(read?),
    };
    // So may be one that is damaged, if the other is no state to start from.
    let is_doubtful =
        is_found(|f| matches!(f, Finding::BadSlot { .. })) && is_found(|f| matches!(f, Finding::NotMountable { .. }));
    let source = match newest {
        Some(superblock) if !is_doubtful => Source::listed(superblock, slots),
        left => roots::recover(
            device,
            left.map(|superblock| (superblock, slots)),
            options.hash_key,
            cache_bytes,
            options.now,
            progress,
        )?,
    };
    let mut opened = open::open(device, source, cache_bytes, options.now, progress)?;
    // Data that comes back from older copies is not given to anybody unseen.
    let check = CheckOptions { read_data: check.read_data || opened.salvaged, ..*check };
    let settled = rounds::run(&mut opened.shop, &check, progress)?;
    Ok((opened, settled))
}

/// What no record claims, once the image is sound but for that.
fn write_elsewhere(device: &Arc<dyn Device>, check: &CheckOptions, progress: ProgressFn<'_>) -> Result<()> {
    let check = CheckOptions { read_data: false, ..*check };
    let report = fsck::check(Arc::clone(device), &check, progress)?;
    match elsewhere::unclaimed(&report.findings) {
        addresses if addresses.is_empty() => Ok(()),
        addresses => elsewhere::run(device, &addresses, check.cache_bytes),
    }
}

/// Repairs that need no edit: the new checkpoint has right what these findings are about.
fn counted(before: &Report) -> Vec<Repair> {
    let errors = before.findings.iter().filter(|found| found.severity() == Severity::Error);
    errors
        .filter_map(|found| match found {
            Finding::SlotsDisagree
            | Finding::AllocationList { .. }
            | Finding::HeadPosition { .. }
            | Finding::Total { .. }
            | Finding::NextNumber { .. }
            | Finding::LiveCount { .. }
            | Finding::LiveInFree { .. }
            | Finding::LiveAhead { .. }
            | Finding::LogGap { .. }
            | Finding::SegmentEntry { .. }
            | Finding::NotMountable { .. } => Some(Repair::Checkpoint { what: found.kind() }),
            Finding::Unclaimed { addr, blocks } => Some(Repair::MoveBlocks { addr: *addr, blocks: *blocks }),
            // What these name is mended in the tree and in the tables, and the repairs of that are told there.
            Finding::BadSlot { .. }
            | Finding::NoSuperblock { .. }
            | Finding::Unreadable { .. }
            | Finding::Damaged { .. }
            | Finding::BadAddress { .. }
            | Finding::OwnedTwice { .. }
            | Finding::NodeMissing { .. }
            | Finding::NodeMisplaced { .. }
            | Finding::NodeReachedTwice { .. }
            | Finding::NodeLeaked { .. }
            | Finding::NoRoot
            | Finding::InodeField { .. }
            | Finding::NoInode { .. }
            | Finding::ForeignItem { .. }
            | Finding::MappedBlocks { .. }
            | Finding::LinkCount { .. }
            | Finding::EntryCount { .. }
            | Finding::XattrCount { .. }
            | Finding::BadXattr { .. }
            | Finding::BadSymlink { .. }
            | Finding::ExtentsOverlap { .. }
            | Finding::BadExtent { .. }
            | Finding::DataBeyondEnd { .. }
            | Finding::LostBlocks { .. }
            | Finding::BadEntry { .. }
            | Finding::DanglingEntry { .. }
            | Finding::EntryType { .. }
            | Finding::WrongParent { .. }
            | Finding::DirectoryLinked { .. }
            | Finding::Unreachable { .. }
            | Finding::DirectoryLoop { .. }
            | Finding::NotListed { .. }
            | Finding::StaleWork { .. } => None,
        })
        .collect()
}
