//! What every repair is held to: it ends clean, it leaves readable what was readable, and there is nothing for a second one to do.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use gleanfs::device::{Device, MemoryDevice};
use gleanfs::error::Result;
use gleanfs::format::value::Time;
use gleanfs::fsck::{CheckOptions, Finding, Report, Severity, check};
use gleanfs::meta::volume::{Volume, VolumeOptions};
use gleanfs::namespace::api::Namespace;
use gleanfs::namespace::{Filesystem, Reaping};
use gleanfs::repair::{Consent, Outcome, Repair, RepairOptions, Verdict, repair};
use gleanfs::types::{BLOCK_SIZE, Ino};

/// Directories that are walked into below each other: more is a loop.
const DEPTH_MAX: usize = 12;

pub fn try_repair(device: &Arc<MemoryDevice>, consent: Consent) -> Result<Outcome> {
    let check = CheckOptions { cache_bytes: 1 << 20, ..CheckOptions::default() };
    let now = Time { secs: 1_000_000, nanos: 0 };
    let options = RepairOptions { check, consent, hash_key: [8; 16], now };
    let device: Arc<dyn Device> = device.clone();
    repair(&device, &options, &mut |_, _| {})
}

fn checked(device: &Arc<MemoryDevice>) -> Report {
    let device: Arc<dyn Device> = device.clone();
    check(device, &CheckOptions::default(), &mut |_, _| {}).expect("it is an image")
}

/// What can be read of a file: by block, without what cannot.
type Blocks = BTreeMap<u64, u32>;

/// What can be read of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Directory,
    File(Ino, Blocks),
    Link(Vec<u8>),
    Other(u32),
}

pub type Tree = BTreeMap<Vec<u8>, Seen>;

/// Everything that can be read on a read-only mount; nothing if there can be none.
pub fn readable(device: &Arc<MemoryDevice>) -> Tree {
    let mounted = catch_unwind(AssertUnwindSafe(|| mount(device)));
    let Ok(Ok(filesystem)) = mounted else { return Tree::new() };
    let mut tree = Tree::new();
    let walked = catch_unwind(AssertUnwindSafe(|| walk(&filesystem, Ino::ROOT, &mut Vec::new(), 0, &mut tree)));
    drop(walked);
    tree
}

fn mount(device: &Arc<MemoryDevice>) -> Result<Filesystem> {
    let options = VolumeOptions { heads: Some(1), ..VolumeOptions::of_tool(true, 1 << 20) };
    let volume = Arc::new(Volume::open(device.clone(), options)?);
    Filesystem::with_clock(volume, Box::new(Time::default), Reaping::OnDemand)
}

fn walk(fs: &Filesystem, dir: Ino, path: &mut Vec<u8>, depth: usize, tree: &mut Tree) {
    let mut names = Vec::new();
    let listed = fs.readdir(dir, 0, false, &mut |entry| {
        if !matches!(entry.name, b"." | b"..") {
            names.push(entry.name.to_vec());
        }
        true
    });
    if listed.is_err() || depth > DEPTH_MAX {
        return;
    }
    for name in names {
        let Ok(attr) = fs.lookup(dir, &name) else { continue };
        let len = path.len();
        path.push(b'/');
        path.extend_from_slice(&name);
        let seen = match attr.mode & libc::S_IFMT {
            libc::S_IFDIR => Some(Seen::Directory),
            libc::S_IFREG => Some(Seen::File(attr.ino, blocks(fs, attr.ino, attr.size))),
            libc::S_IFLNK => fs.readlink(attr.ino).ok().map(Seen::Link),
            libc::S_IFIFO | libc::S_IFSOCK | libc::S_IFCHR | libc::S_IFBLK => Some(Seen::Other(attr.mode)),
            // Of no type at all: nobody can do anything with it.
            _ => None,
        };
        let directory = seen == Some(Seen::Directory);
        tree.extend(seen.map(|seen| (path.clone(), seen)));
        if directory {
            walk(fs, attr.ino, path, depth + 1, tree);
        }
        path.truncate(len);
    }
}

fn blocks(fs: &Filesystem, ino: Ino, size: u64) -> Blocks {
    let count = size.div_ceil(BLOCK_SIZE as u64).min(1024);
    let mut buf = vec![0; BLOCK_SIZE];
    let mut read = |block: u64| {
        let len = fs.read(ino, block * BLOCK_SIZE as u64, &mut buf).ok()?;
        Some((block, crc32fast::hash(&buf[..len])))
    };
    (0..count).filter_map(&mut read).collect()
}

/// What a repair may take away, since nobody could keep it: by what it says that it did.
#[derive(Default)]
pub struct Allowed {
    /// Blocks that two files claimed are lost to one of them.
    lost: bool,
    /// Second names of directories.
    names: Vec<String>,
    /// Files whose size was none; what reads as zeros behind their data ends.
    resized: Vec<Ino>,
}

impl Allowed {
    fn by(repairs: &[Repair], lost: bool) -> Self {
        let mut allowed = Self { lost, ..Self::default() };
        for repair in repairs {
            match repair {
                Repair::RemoveEntry { name, why: "the directory has another name", .. } => {
                    allowed.names.push(name.clone());
                }
                Repair::SetField { ino, what: "size", .. } => allowed.resized.push(*ino),
                _ => {}
            }
        }
        allowed
    }

    fn path(&self, path: &[u8]) -> bool {
        let mut parts = path.split(|byte| *byte == b'/');
        parts.any(|part| self.names.iter().any(|name| name.as_bytes() == part))
    }

    fn block(&self, ino: Ino, hash: u32) -> bool {
        self.lost || self.resized.contains(&ino) && hash == crc32fast::hash(&[0; BLOCK_SIZE])
    }
}

/// The first thing that was readable and is not any more, or differently.
pub fn worse(before: &Tree, after: &Tree, allowed: &Allowed) -> Option<String> {
    before.iter().find_map(|(path, seen)| {
        let same = match (seen, after.get(path)) {
            (Seen::File(ino, old), Some(Seen::File(_, new))) => {
                old.iter().all(|(block, hash)| new.get(block).map_or(allowed.block(*ino, *hash), |other| other == hash))
            }
            (_, None) => allowed.path(path),
            (old, new) => Some(old) == new,
        };
        (!same).then(|| format!("{}: {seen:?} became {:?}", path.escape_ascii(), after.get(path)))
    })
}

/// What is wrong with an image once it is repaired: errors, but also what a repair should have left nothing of.
pub fn errors(report: &Report) -> Vec<&Finding> {
    report.findings.iter().filter(|found| found.severity() == Severity::Error).collect()
}

/// Repairs a copy of the image and holds the repair to its promises. Returns the copy and what was done.
#[track_caller]
pub fn mended(damaged: &Arc<MemoryDevice>) -> (Arc<MemoryDevice>, Vec<Repair>) {
    let device = Arc::new(damaged.snapshot());
    let before = readable(&device);
    let dry = try_repair(&device, Consent::DryRun).unwrap_or_else(|e| panic!("dry run: {e}"));
    assert!(same_bytes(&device, damaged), "a dry run writes nothing");
    let outcome = try_repair(&device, Consent::All).unwrap_or_else(|e| panic!("{e}: {:?}", dry.before.findings));
    assert_eq!(dry.repairs, outcome.repairs, "the dry run says what is done");
    if outcome.before.errors() == 0 {
        assert_eq!((outcome.verdict, outcome.repairs.len()), (Verdict::Clean, 0));
        return (device, Vec::new());
    }
    assert_eq!((dry.verdict, outcome.verdict), (Verdict::Planned, Verdict::Corrected));
    assert!(!outcome.repairs.is_empty(), "something was repaired: {:?}", outcome.before.findings);
    let after = checked(&device);
    assert_eq!(errors(&after), Vec::<&Finding>::new(), "after {:?}", outcome.repairs);
    let twice = outcome.before.findings.iter().any(|f| matches!(f, Finding::OwnedTwice { .. }));
    let allowed = Allowed::by(&outcome.repairs, twice);
    assert_eq!(worse(&before, &readable(&device), &allowed), None, "after {:?}", outcome.repairs);
    let repaired = device.snapshot();
    let again = try_repair(&device, Consent::All).unwrap();
    assert_eq!((again.verdict, again.repairs), (Verdict::Clean, Vec::new()));
    assert!(same_bytes(&device, &repaired), "a second repair writes nothing");
    (device, outcome.repairs)
}

fn same_bytes(a: &MemoryDevice, b: &MemoryDevice) -> bool {
    let blocks = a.geometry().total_blocks;
    let read = |device: &MemoryDevice, n| {
        let mut block = gleanfs::device::AlignedBuf::new(1);
        device.read(gleanfs::types::BlockAddr(n), &mut block).ok().map(|()| block.to_vec())
    };
    (0..blocks).all(|n| read(a, n) == read(b, n))
}

#[test]
fn what_is_not_there_any_more_or_reads_differently_is_told() {
    let blocks = |hash| Seen::File(Ino(16), [(0, 7), (1, hash)].into());
    let tree = |seen: Seen| Tree::from([(b"/dir".to_vec(), Seen::Directory), (b"/dir/file".to_vec(), seen)]);
    let (none, before) = (Allowed::default(), tree(blocks(8)));
    assert_eq!(worse(&before, &before, &none), None);
    assert!(worse(&before, &tree(blocks(9)), &none).is_some());
    assert!(worse(&before, &tree(Seen::File(Ino(16), [(0, 7)].into())), &none).is_some());
    assert!(worse(&before, &Tree::from([(b"/dir".to_vec(), Seen::Directory)]), &none).is_some());
    assert!(worse(&before, &tree(Seen::Other(1)), &Allowed { lost: true, ..Allowed::default() }).is_some());
}

/// Kinds of repairs, each once.
pub fn kinds(repairs: &[Repair]) -> Vec<String> {
    let mut kinds: Vec<String> = repairs.iter().map(Repair::kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}
