//! The real images that lies are told to: small, and with one of everything that a tree can hold.

use std::sync::{Arc, OnceLock};

use gleanfs::device::{AlignedBuf, MemoryDevice};
use gleanfs::error::Result;
use gleanfs::format::chunk::{MAGIC, PageId, TableId};
use gleanfs::format::superblock::SLOTS;
use gleanfs::format::value::Time;
use gleanfs::namespace::api::{Caller, Fallocate, Namespace, NewInode, NewKind, XattrMode};
use gleanfs::trial::Subject;
use gleanfs::trial::on_memory::{Mounted, OnMemory};
use gleanfs::types::{BlockAddr, Ino};

use super::patch::{Patch, read};

const SEGMENTS: u32 = 100;
const SEGMENT_BLOCKS: u32 = 64;
const NOBODY: Caller = Caller { uid: 0, gid: 0, pid: 0 };

/// Images by how the last mount ended.
pub(super) struct Seeds {
    /// Unmounted.
    clean: Arc<MemoryDevice>,
    /// The power was cut some operations after a checkpoint.
    cut: Arc<MemoryDevice>,
    /// The same after an extension of the log.
    extended: Arc<MemoryDevice>,
}

impl Seeds {
    pub(super) fn get() -> &'static Self {
        static SEEDS: OnceLock<Seeds> = OnceLock::new();
        SEEDS.get_or_init(|| Self::make().expect("an honest image can be made"))
    }

    fn make() -> Result<Self> {
        let clean = image(false, |subject, medium, mounted| {
            subject.unmount(medium, mounted)?;
            Ok(medium.clone())
        })?;
        let cut = |subject: &OnMemory, medium: &Arc<MemoryDevice>, mounted: Mounted| {
            mounted.volume.checkpoint(false)?;
            change(&mounted.filesystem)?;
            mounted.volume.sync()?;
            Ok(subject.crash(medium, 3))
        };
        Ok(Self { clean, cut: image(false, cut)?, extended: image(true, cut)? })
    }

    /// A copy of one of them, to be forged.
    pub(super) fn copy(&self, which: u8) -> MemoryDevice {
        match which % 3 {
            0 => self.clean.snapshot(),
            1 => self.cut.snapshot(),
            _ => self.extended.snapshot(),
        }
    }
}

/// Honest inputs for a target: blocks of the real images, without the zeros at their ends.
pub(super) fn honest(target: &str) -> Vec<Vec<u8>> {
    let device = Seeds::get().copy(1);
    let Some(patch) = Patch::of(&device) else { return Vec::new() };
    let blocks: Vec<AlignedBuf> = match target {
        "slot" => SLOTS.iter().filter_map(|slot| read(&device, *slot)).collect(),
        "node" => patch.nodes().into_iter().take(12).filter_map(|node| patch.node_block(node)).collect(),
        "page" => {
            let levels = (0..4).flat_map(|level| [(TableId::Nodes, level), (TableId::Segments, level)]);
            let ids = levels.map(|(table, level)| PageId { table, level, index: 0 });
            ids.filter_map(|id| read(&device, patch.page_ref(id)?.addr)).collect()
        }
        "chunk" => {
            let starts = (SEGMENT_BLOCKS..SEGMENTS * SEGMENT_BLOCKS).map(|at| BlockAddr(at.into()));
            let blocks = starts.filter_map(|at| read(&device, at));
            blocks.filter(|block| block.starts_with(&MAGIC.to_le_bytes())).take(20).collect()
        }
        _ => Vec::new(),
    };
    let used = |block: &AlignedBuf| block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    blocks.into_iter().map(|block| block[..used(&block)].to_vec()).collect()
}

fn image(
    extended: bool,
    end: impl FnOnce(&OnMemory, &Arc<MemoryDevice>, Mounted) -> Result<Arc<MemoryDevice>>,
) -> Result<Arc<MemoryDevice>> {
    let clean_every = usize::from(extended);
    let subject = OnMemory {
        segments: SEGMENTS,
        segment_blocks: SEGMENT_BLOCKS,
        clean_every,
        checkpoint_every: 0,
        ..OnMemory::default()
    };
    let medium = subject.format()?;
    let time = Arc::new(|| Time { secs: 1_700_000_000, nanos: 5 });
    let mounted = subject.mount(&medium, time)?;
    fill(&mounted.filesystem)?;
    mounted.volume.checkpoint(false)?;
    for step in 0..3 {
        change(&mounted.filesystem)?;
        subject.background(&mounted, step)?;
    }
    end(&subject, &medium, mounted)
}

fn make(fs: &dyn Namespace, dir: Ino, name: &str, kind: NewKind<'_>) -> Result<Ino> {
    let perm = if matches!(kind, NewKind::Directory) { 0o755 } else { 0o644 };
    Ok(fs.create(&NOBODY, dir, name.as_bytes(), &NewInode { kind, perm, umask: 0 })?.ino)
}

/// Directories in directories, enough small files for a tree of two levels, a long one, holes, promises, links, attributes, orphans.
fn fill(fs: &dyn Namespace) -> Result<()> {
    let dir = make(fs, Ino::ROOT, "dir", NewKind::Directory)?;
    let inner = make(fs, dir, "inner", NewKind::Directory)?;
    for n in 0..160u32 {
        let parent = [Ino::ROOT, dir, inner][n as usize % 3];
        let file = make(fs, parent, &format!("file with a name {n}"), NewKind::File)?;
        fs.write(file, 0, &vec![n as u8; 100 + 37 * n as usize], false)?;
    }
    let long = make(fs, dir, "long", NewKind::File)?;
    for piece in 0..30u64 {
        fs.write(long, piece * 70_000, &[piece as u8; 40_000], false)?;
    }
    fs.fallocate(long, 4 << 20, 1 << 20, Fallocate::Allocate { keep_size: false })?;
    fs.set_xattr(long, b"user.long", &[7; 3000], XattrMode::Set)?;
    fs.set_xattr(dir, b"user.short", b"x", XattrMode::Set)?;
    make(fs, inner, "link", NewKind::Symlink(&[b't'; 1500]))?;
    make(fs, inner, "fifo", NewKind::Special { mode: libc::S_IFIFO, rdev: 0 })?;
    fs.link(long, Ino::ROOT, b"long too")?;
    for name in ["gone", "going"] {
        let file = make(fs, Ino::ROOT, name, NewKind::File)?;
        fs.write(file, 0, &[1; 9000], false)?;
        fs.unlink(Ino::ROOT, name.as_bytes())?;
    }
    Ok(())
}

/// What is overwritten, so that segments have dead blocks and the log has all kinds of edits.
fn change(fs: &dyn Namespace) -> Result<()> {
    let dir = fs.lookup(Ino::ROOT, b"dir")?.ino;
    let long = fs.lookup(dir, b"long")?.ino;
    for piece in 0..12u64 {
        fs.write(long, piece * 140_000, &[!piece as u8; 30_000], false)?;
    }
    fs.fallocate(long, 100_000, 50_000, Fallocate::PunchHole)?;
    for n in 0..6u32 {
        let name = format!("later {n}");
        let _ = fs.unlink(dir, name.as_bytes());
        let file = make(fs, dir, &name, NewKind::File)?;
        fs.write(file, 0, &[n as u8; 6000], false)?;
    }
    fs.set_xattr(long, b"user.long", &[8; 2000], XattrMode::Set)
}
