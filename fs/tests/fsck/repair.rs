//! Repairs of what no finding alone describes: superblocks, tables and nodes that are gone, damage at random, cuts in the middle.

use std::sync::Arc;

use gleanfs::device::{Device, MemoryDevice};
use gleanfs::format::chunk::{MAGIC, PageId, TableId};
use gleanfs::format::superblock::{BlockRef, SLOTS};
use gleanfs::format::table::Page;
use gleanfs::format::value::Inode;
use gleanfs::repair::{Consent, Verdict};
use gleanfs::types::{BLOCK_SIZE, BlockAddr, Ino};

use crate::image::{
    A_DIR, A_FILE, FILE, Image, SEGMENT_BLOCKS, directory, entry, flushed_on_two_segments, inode, newest_slot, put,
    xattr,
};
use crate::mending::{Allowed, Seen, Tree, errors, kinds, mended, readable, try_repair, worse};

const FILES: u64 = 300;

fn zero(device: &MemoryDevice, addr: BlockAddr) {
    device.tamper(addr, |block| block.fill(0));
}

/// 300 files with long names in `/dir`, a third of them with data, and a checkpoint half-way.
fn busy() -> Image {
    let image = Image::filled();
    for n in 0..FILES {
        let ino = Ino(100 + n);
        let name = format!("a file with a rather long name, so that few fit a leaf of the tree, number {n}");
        let size = if n % 3 == 0 { 4 * BLOCK_SIZE as u64 } else { 0 };
        image.commit(vec![
            put(ino, Inode { size, ..inode(FILE) }),
            entry(A_DIR, &name, ino, 8),
            put(A_DIR, directory(Ino::ROOT, 1, 2 + n)),
        ]);
        if n % 3 == 0 {
            image.write(ino, n % 4, 1);
        }
        if n == FILES / 2 {
            image.volume.checkpoint(false).unwrap();
        }
    }
    image
}

/// A tree of three levels: a leaf for each file, since they have large attributes.
fn tall() -> Image {
    let image = Image::filled();
    for n in 0..FILES * 2 {
        let ino = Ino(100 + n);
        let mut edits: Vec<_> = (0..3).map(|part| xattr(ino, "user.large", part, 3072, &[n as u8; 1024])).collect();
        edits.push(put(ino, Inode { xattrs: 1, ..inode(FILE) }));
        edits.push(entry(A_DIR, &format!("file {n}"), ino, 8));
        edits.push(put(A_DIR, directory(Ino::ROOT, 1, 2 + n)));
        image.commit(edits);
        if n % 100 == 99 {
            image.volume.checkpoint(false).unwrap();
        }
    }
    image
}

fn page(device: &MemoryDevice, id: PageId, at: BlockRef) -> Vec<BlockRef> {
    let mut block = gleanfs::device::AlignedBuf::new(1);
    device.read(at.addr, &mut block).unwrap();
    let fsid = newest_slot(device).1.identity.fsid;
    match Page::decode(&block, id, fsid, at.crc).unwrap() {
        Page::Refs(refs) => refs,
        Page::Segments(_) => Vec::new(),
    }
}

/// Every page of a table, the root first.
fn pages(device: &MemoryDevice, table: TableId, levels: u8) -> Vec<(PageId, BlockRef)> {
    let checkpoint = newest_slot(device).1.checkpoint;
    let root = if table == TableId::Nodes { checkpoint.node_table } else { checkpoint.segment_table };
    let mut pages = vec![(PageId { table, level: levels - 1, index: 0 }, root)];
    let mut next = 0;
    while let Some((id, at)) = pages.get(next).copied() {
        next += 1;
        if id.level > 0 {
            let below = page(device, id, at).into_iter().enumerate().filter(|(_, at)| !at.is_absent());
            let first = id.index * 252;
            pages.extend(below.map(|(n, at)| (PageId { level: id.level - 1, index: first + n as u64, ..id }, at)));
        }
    }
    pages
}

/// Where every node stands: id, address.
fn nodes(device: &MemoryDevice) -> Vec<(u64, BlockAddr)> {
    let leaves = pages(device, TableId::Nodes, 4).into_iter().filter(|(id, _)| id.level == 0);
    let entries = leaves.flat_map(|(id, at)| (id.index * 252..).zip(page(device, id, at)));
    entries.filter(|(_, at)| !at.is_absent()).map(|(id, at)| (id, at.addr)).collect()
}

fn level(device: &MemoryDevice, addr: BlockAddr) -> u8 {
    let mut block = gleanfs::device::AlignedBuf::new(1);
    device.read(addr, &mut block).unwrap();
    block[10]
}

#[track_caller]
fn all_back(sound: &Tree, device: &Arc<MemoryDevice>) {
    assert_eq!(worse(sound, &readable(device), &Allowed::default()), None);
}

#[test]
fn both_slots_gone_everything_comes_back() {
    for clean in [true, false] {
        let image = busy();
        image.volume.sync().unwrap();
        let device = if clean { image.unmount() } else { Arc::new(image.device.crash(3)) };
        let sound = readable(&device);
        assert!(sound.len() > FILES as usize);
        let identity = newest_slot(&device).1.identity;
        SLOTS.into_iter().for_each(|slot| zero(&device, slot));
        let (repaired, repairs) = mended(&device);
        all_back(&sound, &repaired);
        assert_eq!(kinds(&repairs), ["go_back", "superblock"]);
        assert_eq!(newest_slot(&repaired).1.identity, identity);
        assert!(crate::image::report(&repaired).findings.is_empty(), "both slots are good again");
    }
}

#[test]
fn slots_and_the_copy_of_the_identity_gone_everything_comes_back_under_another_hash() {
    let device = busy().unmount();
    let sound = readable(&device);
    (0..u64::from(SEGMENT_BLOCKS)).for_each(|n| zero(&device, BlockAddr(n)));
    let (repaired, repairs) = mended(&device);
    all_back(&sound, &repaired);
    // The next time there is a copy of it.
    let again = Arc::new(repaired.snapshot());
    SLOTS.into_iter().for_each(|slot| zero(&again, slot));
    assert_eq!(kinds(&mended(&again).1), ["go_back", "superblock"]);
    assert!(kinds(&repairs).contains(&"move_entry".to_owned()));
    assert_eq!(newest_slot(&repaired).1.identity.hash_key, [8; 16]);
}

#[test]
fn tables_gone_everything_comes_back() {
    let all: [&[(TableId, u8)]; 3] =
        [&[(TableId::Nodes, 4)], &[(TableId::Segments, 3)], &[(TableId::Nodes, 4), (TableId::Segments, 3)]];
    for tables in all {
        for slots_too in [false, true] {
            let device = busy().unmount();
            let sound = readable(&device);
            let doomed: Vec<BlockAddr> =
                tables.iter().flat_map(|(table, levels)| pages(&device, *table, *levels)).map(|p| p.1.addr).collect();
            assert!(doomed.len() >= 3);
            doomed.into_iter().for_each(|addr| zero(&device, addr));
            if slots_too {
                SLOTS.into_iter().for_each(|slot| zero(&device, slot));
            }
            let (repaired, repairs) = mended(&device);
            all_back(&sound, &repaired);
            let nodes_too = tables.iter().any(|(table, _)| *table == TableId::Nodes);
            // Without slots it goes by an older checkpoint of which everything is left, and the log.
            let kind = if slots_too { "go_back" } else { "node_table" };
            assert_eq!(repairs.iter().any(|r| r.kind() == kind), nodes_too || slots_too, "{repairs:?}");
        }
    }
}

#[test]
fn root_and_inner_nodes_gone_everything_comes_back() {
    let device = tall().unmount();
    let sound = readable(&device);
    let inner: Vec<_> = nodes(&device).into_iter().filter(|(_, addr)| level(&device, *addr) > 0).collect();
    assert!(inner.len() >= 2, "a tree of three levels: {inner:?}");
    for doomed in inner.iter().map(|node| vec![*node]).chain([inner.clone()]) {
        let damaged = Arc::new(device.snapshot());
        doomed.iter().for_each(|(_, addr)| zero(&damaged, *addr));
        let (repaired, repairs) = mended(&damaged);
        all_back(&sound, &repaired);
        assert!(kinds(&repairs).contains(&"index".to_owned()), "{repairs:?}");
    }
}

/// What the log holds could bring everything back by itself; here it may not: the image was unmounted, so nothing is replayed.
#[test]
fn an_older_root_that_is_still_there_is_not_taken_for_the_root() {
    let device = tall().unmount();
    let sound = readable(&device);
    let tables = pages(&device, TableId::Nodes, 4).into_iter().map(|(_, at)| at.addr);
    let inner: Vec<_> = nodes(&device).into_iter().filter(|(_, addr)| level(&device, *addr) > 0).collect();
    let doomed: Vec<BlockAddr> = tables.chain(inner.iter().map(|(_, addr)| *addr)).collect();
    let mended_without = |headers: bool| {
        let damaged = Arc::new(device.snapshot());
        doomed.iter().for_each(|addr| zero(&damaged, *addr));
        if headers {
            inner.iter().for_each(|(_, addr)| zero(&damaged, header_of(&device, *addr)));
        }
        let (repaired, repairs) = mended(&damaged);
        assert!(kinds(&repairs).contains(&"index".to_owned()), "{repairs:?}");
        repaired
    };
    all_back(&sound, &mended_without(false));
    // Without the headers nothing tells of the other leaves in those chunks either, and the rest is most of it.
    let back = readable(&mended_without(true));
    assert!(sound.keys().filter(|path| back.contains_key(*path)).count() > sound.len() / 2);
}

/// The header of the chunk in which a block stands.
fn header_of(device: &MemoryDevice, addr: BlockAddr) -> BlockAddr {
    let before = (0..addr.0).rev().map(BlockAddr);
    before.into_iter().find(|at| crate::image::read(device, *at).starts_with(&MAGIC.to_le_bytes())).expect("a header")
}

#[test]
fn a_leaf_gone_costs_at_most_what_was_in_it() {
    let device = busy().unmount();
    let sound = readable(&device);
    let leaves: Vec<_> = nodes(&device).into_iter().filter(|(_, addr)| level(&device, *addr) == 0).collect();
    let mut lost_most = 0;
    for (_, addr) in leaves {
        let damaged = Arc::new(device.snapshot());
        zero(&damaged, addr);
        let (repaired, repairs) = mended(&damaged);
        assert!(kinds(&repairs).contains(&"salvage".to_owned()), "{repairs:?}");
        let back = readable(&repaired);
        lost_most = lost_most.max(sound.keys().filter(|path| !back.contains_key(*path)).count());
    }
    // The log still has every operation, so nothing was lost for good.
    assert_eq!(lost_most, 0);
}

#[test]
fn a_gap_in_the_log_costs_the_operations_behind_it() {
    let (crashed, first) = flushed_on_two_segments();
    zero(&crashed, BlockAddr(first.0 - 1));
    let (repaired, repairs) = mended(&crashed);
    assert!(kinds(&repairs).contains(&"cut_log".to_owned()), "{repairs:?}");
    let Some(Seen::File(ino, _)) = readable(&repaired).remove(&b"/file"[..]) else { panic!("the file is there") };
    assert_eq!(ino, A_FILE);
}

#[test]
fn only_what_loses_nothing_is_done_unasked() {
    let lossless = Image::filled();
    lossless.commit(vec![put(A_FILE, Inode { nlink: 3, size: 3 * BLOCK_SIZE as u64, xattrs: 1, ..inode(FILE) })]);
    let lossless = lossless.unmount();
    assert_eq!(try_repair(&lossless, Consent::Safe).unwrap().verdict, Verdict::Corrected);
    let image = Image::filled();
    let addr = image.write(A_FILE, 0, 1)[0].addr;
    let damaged = image.unmount();
    zero(&damaged, addr);
    let outcome = try_repair(&damaged, Consent::Safe).unwrap();
    assert_eq!((outcome.verdict, kinds(&outcome.repairs)), (Verdict::NeedsConsent, vec!["lose_blocks".to_owned()]));
    assert_eq!(try_repair(&damaged, Consent::All).unwrap().verdict, Verdict::Corrected);
}

#[test]
fn a_cut_at_any_write_of_a_repair_leaves_the_old_state_or_the_new_one() {
    type Damage = fn(&MemoryDevice);
    let slots: Damage = |device| SLOTS.into_iter().for_each(|slot| zero(device, slot));
    let leaf: Damage = |device| {
        let leaf = nodes(device).into_iter().find(|(_, addr)| level(device, *addr) == 0).unwrap();
        zero(device, leaf.1);
    };
    let tables: Damage = |device| pages(device, TableId::Nodes, 4).iter().for_each(|page| zero(device, page.1.addr));
    let sound = busy().unmount();
    for damage in [slots, leaf, tables] {
        let damaged = Arc::new(sound.snapshot());
        damage(&damaged);
        let (whole, _) = mended(&damaged);
        let wanted = readable(&whole);
        let writes = whole.traffic().writes - damaged.traffic().writes;
        assert!(writes >= 2);
        for cut in 0..writes {
            let device = Arc::new(damaged.snapshot());
            device.crash_after(cut);
            assert!(try_repair(&device, Consent::All).is_err(), "cut after {cut} of {writes} writes");
            let crashed = Arc::new(device.crash(cut));
            // Either way, another attempt ends where the first would have.
            let outcome = try_repair(&crashed, Consent::All).unwrap();
            assert!(matches!(outcome.verdict, Verdict::Corrected | Verdict::Clean));
            let report = crate::image::report(&crashed);
            assert_eq!(errors(&report).len(), 0, "{report:?}");
            assert_eq!(readable(&crashed), wanted, "cut after {cut} of {writes} writes");
        }
    }
}

#[test]
fn damage_at_random_is_repaired_and_what_was_readable_stays() {
    let sound = {
        let image = busy();
        image.volume.sync().unwrap();
        [Arc::new(image.device.crash(9)), image.unmount()]
    };
    for seed in 0..24u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let damaged = Arc::new(sound[seed as usize % 2].snapshot());
        let used = 14 * u64::from(SEGMENT_BLOCKS);
        for _ in 0..1 + next(12) {
            let (addr, other) = (BlockAddr(next(used)), BlockAddr(next(used)));
            let mut copy = gleanfs::device::AlignedBuf::new(1);
            damaged.read(other, &mut copy).unwrap();
            let at = next(BLOCK_SIZE as u64) as usize;
            match next(3) {
                0 => zero(&damaged, addr),
                1 => damaged.tamper(addr, |block| block[at] ^= 0x10),
                _ => damaged.tamper(addr, |block| block.copy_from_slice(&copy)),
            }
        }
        println!("seed {seed}");
        mended(&damaged);
    }
}
