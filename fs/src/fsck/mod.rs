//! fsck: reads an unmounted image as a whole and tells every inconsistency as a typed [`Finding`].
//!
//! Above `meta` and `log`, beside the cleaner. Never writes: the log is replayed in memory, as a read-only mount does, and the
//! state that comes of it is held against the medium block by block. Whatever the image holds, the answer is a report.
//!
//! In this order: superblock slots, table pages and the nodes that they name, replay, the tree with all its items and their data,
//! names and links, segments (I1, I2, I3), totals. Memory: a bit per live block and node, an entry per inode.

pub(crate) mod blocks;
mod data;
mod finding;
mod items;
mod links;
pub(crate) mod names;
mod report;
mod segments;
mod slots;
mod tables;
pub(crate) mod walk;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::device::Device;
use crate::error::{Error, Result, panic_text};
use crate::format::superblock::{Checkpoint, Identity, Superblock};
use crate::format::value::Value;
use crate::meta::roll_forward::segment_capacity;
use crate::meta::volume::{Volume, VolumeOptions};
use crate::types::{BLOCK_SIZE, Ino};

pub use finding::{Finding, Owner, Severity};
pub(crate) use items::{Counted, DT_DIR, DT_LNK, DT_REG, SIZE_MAX, TRIM};
pub(crate) use links::{dtype_of, is_dir};
pub use report::{Report, STATUS_CLEAN, STATUS_ERRORS, STATUS_OPERATIONAL};

use blocks::{Bits, LiveBlocks, LogSpace};
use data::DataCheck;
use items::ItemCheck;
use segments::SegmentCheck;
use tables::{TableWalk, Tables};
use walk::TreeWalk;

/// What is said of a device that has not even the beginning of a superblock slot.
pub(crate) const NOT_OURS: &str = "not a gleanfs image";

/// How to check.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Read file data and verify its checksums, not only the metadata.
    pub read_data: bool,
    /// Memory for metadata nodes, in bytes.
    pub cache_bytes: usize,
    /// Findings that are kept; more are only counted.
    pub findings_max: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { read_data: true, cache_bytes: 64 << 20, findings_max: 10_000 }
    }
}

/// Who is told how far the check has come: bytes done, bytes in all (about).
pub type ProgressFn<'a> = &'a mut dyn FnMut(u64, u64);

/// Bytes done and to be done.
struct Progress<'p> {
    done: u64,
    all: u64,
    tell: ProgressFn<'p>,
}

impl Progress<'_> {
    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        self.all = self.all.max(self.done);
        (self.tell)(self.done, self.all);
    }
}

/// Reads and verifies everything on `device`. An error means that there was nothing to check or that this code must not judge it: not a
/// gleanfs image, unknown incompatible features, a device of another shape.
pub fn check(device: Arc<dyn Device>, options: &CheckOptions, progress: ProgressFn<'_>) -> Result<Report> {
    let mut report = Report::new(options.findings_max);
    let Some(superblock) = slots::read(&device, &mut report)? else { return Ok(report) };
    check_superblock(device, &superblock, options, report, progress)
}

/// [`check`] of the state that `superblock` names, whether or not a slot holds it. What was found before goes on in `report`.
pub(crate) fn check_superblock(
    device: Arc<dyn Device>,
    superblock: &Superblock,
    options: &CheckOptions,
    mut report: Report,
    progress: ProgressFn<'_>,
) -> Result<Report> {
    let Superblock { identity, checkpoint } = superblock;
    report.clean = checkpoint.clean;
    let space = LogSpace::of(identity, segment_capacity(&*device, identity.first_segment)?);
    let blocks = [checkpoint.data_blocks, checkpoint.node_blocks, checkpoint.table_blocks];
    let all = blocks.iter().fold(0u64, |sum, n| sum.saturating_add(*n)).saturating_mul(BLOCK_SIZE as u64);
    let mut progress = Progress { done: 0, all, tell: progress };
    let mut live = LiveBlocks::default();
    let tables = check_tables(&*device, identity, checkpoint, space, &mut report, &mut live, &mut progress);
    report.checked_bytes = progress.done;
    let Some(volume) = open(&device, superblock, options, &mut report)? else { return Ok(report) };
    if checkpoint.extended.is_some() {
        slots::check_extension(&volume, &mut report);
    }
    report.replayed = volume.last_lsn().0.saturating_sub(checkpoint.lsn.0);
    let mut check = StateCheck { volume: &volume, space, options, tables: &tables, report: &mut report };
    check.run(&mut live, &mut progress);
    progress.advance(0);
    Ok(report)
}

fn check_tables(
    device: &dyn Device,
    identity: &Identity,
    checkpoint: &Checkpoint,
    space: LogSpace,
    report: &mut Report,
    live: &mut LiveBlocks,
    progress: &mut Progress<'_>,
) -> Tables {
    let mut named = slots::named_segments(checkpoint);
    let fsid = identity.fsid;
    let found = Tables::default();
    let tables = TableWalk { device, fsid, space, checkpoint, report, live, progress, wanted: &mut named, found }.run();
    if tables.incomplete {
        return tables;
    }
    slots::check_lists(identity, checkpoint, space.capacity, &named, report);
    for (what, stored, counted) in
        [("nodes", checkpoint.node_blocks, tables.nodes), ("table pages", checkpoint.table_blocks, tables.pages)]
    {
        if stored != counted {
            report.add(Finding::Total { what, stored, counted });
        }
    }
    tables
}

/// The state with the log replayed, in memory. `None` if the image has none, which is a finding.
fn open(
    device: &Arc<dyn Device>,
    superblock: &Superblock,
    options: &CheckOptions,
    report: &mut Report,
) -> Result<Option<Volume>> {
    let volume_options = VolumeOptions::of_tool(true, options.cache_bytes);
    let device = Arc::clone(device);
    // Replay asserts what the running filesystem may rely on, counts for example. On an image that breaks it, which only a checksummed
    // lie can, a check has to say so and not to die. Nothing of the volume outlives the panic.
    let opened = catch_unwind(AssertUnwindSafe(|| Volume::open_at(device, superblock.clone(), volume_options)));
    let why = match opened {
        Ok(Ok(volume)) => {
            if let Some(why) = volume.contradiction() {
                report.add(Finding::NotMountable { why });
            }
            return Ok(Some(volume));
        }
        Ok(Err(e @ Error::Refused(_))) => return Err(e),
        Ok(Err(e)) => e.to_string(),
        Err(panic) => panic_text(&*panic).to_owned(),
    };
    report.add(Finding::NotMountable { why });
    Ok(None)
}

/// What a walk over the tree leaves to know beside its findings.
pub(crate) struct SeenTree {
    pub counted: Counted,
    /// Parts of the tree could not be read.
    pub incomplete: bool,
}

/// The tree of a volume whose node table has entries for `node_ids`, all of them in memory or readable. Marks what is live.
pub(crate) fn check_tree(
    volume: &Volume,
    options: &CheckOptions,
    node_ids: Bits,
    live: &mut LiveBlocks,
    progress: ProgressFn<'_>,
) -> Result<(Report, SeenTree)> {
    let mut report = Report::new(options.findings_max);
    let identity = volume.identity();
    let space = LogSpace::of(&identity, segment_capacity(&**volume.device(), identity.first_segment)?);
    let all = volume.checkpoints.lock().last.data_blocks.saturating_mul(BLOCK_SIZE as u64);
    let mut progress = Progress { done: 0, all, tell: progress };
    let tables = Tables { node_ids, ..Tables::default() };
    let mut check = StateCheck { volume, space, options, tables: &tables, report: &mut report };
    let seen = check.tree(live, &mut progress);
    Ok((report, seen))
}

/// Checks the state after replay.
struct StateCheck<'a> {
    volume: &'a Volume,
    space: LogSpace,
    options: &'a CheckOptions,
    tables: &'a Tables,
    report: &'a mut Report,
}

impl StateCheck<'_> {
    fn run(&mut self, live: &mut LiveBlocks, progress: &mut Progress<'_>) {
        let seen = self.tree(live, progress);
        if !seen.incomplete {
            self.totals(&seen.counted);
        }
        self.report.live_blocks = live.total();
        let incomplete = seen.incomplete;
        SegmentCheck { volume: self.volume, space: self.space, live, report: self.report, incomplete }.run();
    }

    /// The tree, its items with their data, and names.
    fn tree(&mut self, live: &mut LiveBlocks, progress: &mut Progress<'_>) -> SeenTree {
        let mut items = ItemCheck::new(self.volume.hash_key(), self.volume.write_clock());
        let mut walk = TreeWalk::new(self.volume, &self.tables.bad_nodes);
        {
            let read = self.options.read_data;
            let device = &**self.volume.device();
            let mut data = DataCheck::new(device, self.space, live, progress, read);
            walk.run(self.report, &mut |report, key, value| {
                items.item(report, key, value);
                if let Value::Extent(extent) = value {
                    data.extent(report, key.ino, key.offset, extent);
                }
            });
        }
        items.finish(self.report);
        self.report.nodes = walk.nodes;
        let incomplete = walk.incomplete || self.tables.incomplete;
        if !incomplete {
            self.leaked(&walk.reached);
            self.names(&mut items);
        }
        SeenTree { counted: items.counted, incomplete }
    }

    /// Nodes in the table that neither the tree has nor replay has freed.
    fn leaked(&mut self, reached: &Bits) {
        let state = self.volume.state.read();
        let freed: HashSet<u64> = state.tree.freed().iter().map(|id| id.0).collect();
        for id in self.tables.node_ids.iter().filter(|id| !reached.contains(*id) && !freed.contains(id)) {
            self.report.add(Finding::NodeLeaked { node: crate::types::NodeId(id) });
        }
    }

    fn names(&mut self, items: &mut ItemCheck) {
        items.links.check(self.report);
        let suspects = items.links.suspects();
        if suspects.is_empty() {
            return;
        }
        // Which entry is wrong is worth a second walk.
        let mut again = TreeWalk::new(self.volume, &self.tables.bad_nodes);
        again.run(&mut Report::new(0), &mut |_, key, value| {
            if let Value::Dirent(entry) = value
                && suspects.contains(&entry.ino)
            {
                self.entry(&items.links, key.ino, entry);
            }
        });
    }

    fn entry(&mut self, links: &links::LinkTable, dir: Ino, entry: &crate::format::value::Dirent) {
        let (name, ino, dtype) = (names::shown(&entry.name), entry.ino, entry.dtype);
        match links.dtype(ino) {
            None => self.report.add(Finding::DanglingEntry { dir, name, ino }),
            Some(actual) if actual != dtype => {
                self.report.add(Finding::EntryType { dir, name, ino, dtype, actual });
            }
            Some(_) => {}
        }
    }

    fn totals(&mut self, counted: &Counted) {
        let (totals, next) = {
            let state = self.volume.state.read();
            (state.totals, state.next_ino)
        };
        for (what, stored, counted) in [
            ("blocks of data", totals.data_blocks, counted.data),
            ("promised blocks", totals.promised_blocks, counted.promised),
        ] {
            if stored != counted {
                self.report.add(Finding::Total { what, stored, counted });
            }
        }
        let used = counted.ino_max;
        if used >= next {
            self.report.add(Finding::NextNumber { what: "inode number", used, next });
        }
    }
}
