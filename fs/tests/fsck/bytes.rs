//! Damage of the bytes on the medium.

use std::sync::Arc;

use gleanfs::device::{Device, MemoryDevice};
use gleanfs::format::superblock::SLOTS;
use gleanfs::format::table::{StoredSegment, StoredState};
use gleanfs::format::value::Inode;
use gleanfs::fsck::{CheckOptions, Finding, Owner, check};
use gleanfs::types::{BLOCK_SIZE, BlockAddr, NodeId, SegNo};

use crate::image::{
    A_FILE, FILE, Image, SEGMENT_BLOCKS, findings, flushed_on_two_segments, inode, newest_slot, node_at, put, report,
    rewrite_segments, rewrite_superblock,
};

fn flip(device: &MemoryDevice, addr: BlockAddr) {
    device.tamper(addr, |block| block[100] ^= 0x20);
}

#[test]
pub fn data() {
    let image = Image::filled();
    let addr = image.write(A_FILE, 0, 3)[0].addr.offset(1);
    let device = image.unmount();
    flip(&device, addr);
    let found = findings(&device);
    let owner = Owner::Data { ino: A_FILE, file_block: 1 };
    assert!(
        matches!(&found[..], [Finding::Damaged { owner: o, addr: a, .. }] if (*o, *a) == (owner, addr)),
        "{found:?}"
    );
    device.poison(addr);
    let found = findings(&device);
    assert!(
        matches!(&found[..], [Finding::Unreadable { owner: o, addr: a, .. }] if (*o, *a) == (owner, addr)),
        "{found:?}"
    );
    let metadata_only = CheckOptions { read_data: false, ..CheckOptions::default() };
    assert_eq!(check(device, &metadata_only, &mut |_, _| {}).unwrap().findings, []);
}

#[test]
fn a_node() {
    let device = Image::filled().unmount();
    let at = node_at(&device, 1).addr;
    flip(&device, at);
    let found = findings(&device);
    let owner = Owner::Node { node: NodeId::ROOT };
    assert!(matches!(&found[..], [Finding::Damaged { owner: o, addr, .. }] if (*o, *addr) == (owner, at)), "{found:?}");
    assert_eq!(report(&device).status(), 4);
}

#[test]
fn a_table_page() {
    let device = Image::filled().unmount();
    flip(&device, newest_slot(&device).1.checkpoint.segment_table.addr);
    let found = findings(&device);
    assert!(
        matches!(&found[..], [Finding::Damaged { owner: Owner::Page { .. }, .. }, Finding::NotMountable { .. }]),
        "{found:?}"
    );
}

#[test]
pub fn superblock_slots() {
    let device = Image::filled().unmount();
    let (newest, _) = newest_slot(&device);
    let older = SLOTS.into_iter().find(|slot| *slot != newest).unwrap();
    flip(&device, older);
    let found = report(&device);
    assert!(matches!(&found.findings[..], [Finding::BadSlot { slot, .. }] if *slot == older), "{found:?}");
    assert_eq!(found.status(), 0, "the next checkpoint goes over it");
    flip(&device, newest);
    let found = findings(&device);
    assert!(matches!(&found[..], [Finding::NoSuperblock { .. }]), "{found:?}");

    let device = Image::filled().unmount();
    rewrite_superblock(&device, |s| s.identity.made_at_secs += 1);
    assert_eq!(findings(&device), [Finding::SlotsDisagree]);
}

#[test]
pub fn a_chunk_of_a_clean_image() {
    let image = Image::filled();
    image.volume.sync().unwrap();
    let extent = image.write(A_FILE, 0, 2)[0].clone();
    let device = image.unmount();
    // The chunk's header stands before its first payload block.
    flip(&device, BlockAddr(extent.addr.0 - 1));
    let found = findings(&device);
    let segment = SegNo((extent.addr.0 / u64::from(SEGMENT_BLOCKS)) as u32);
    assert_eq!(found[0], Finding::Unclaimed { addr: extent.addr, blocks: 2 });
    assert!(matches!(found[1..], [Finding::LogGap { head: 0, segment: s, .. }] if s == segment), "{found:?}");
}

#[test]
pub fn a_hole_in_what_was_flushed() {
    let (crashed, first) = flushed_on_two_segments();
    assert_eq!(findings(&crashed), []);
    flip(&crashed, BlockAddr(first.0 - 1));
    let found = findings(&crashed);
    assert!(matches!(&found[..], [Finding::NotMountable { why }] if why.contains("is missing")), "{found:?}");
}

/// An image with a sealed segment full of one file's data, which is number 2 or so.
fn with_sealed_segment() -> (Arc<MemoryDevice>, SegNo) {
    let image = Image::filled();
    let size = 200 * BLOCK_SIZE as u64;
    image.commit(vec![put(A_FILE, Inode { size, xattrs: 1, ..inode(FILE) })]);
    let extents = image.write(A_FILE, 3, 190);
    let sealed = SegNo((extents[1].addr.0 / u64::from(SEGMENT_BLOCKS)) as u32);
    (image.unmount(), sealed)
}

#[test]
pub fn live_counts_and_states_of_segments() {
    let (device, sealed) = with_sealed_segment();
    assert_eq!(findings(&device), []);
    rewrite_segments(&device, |entries| entries[sealed.0 as usize].live -= 1);
    let found = findings(&device);
    let [Finding::LiveCount { segment, stored, counted }] = found[..] else { panic!("{found:?}") };
    assert_eq!((segment, stored + 1), (sealed, counted));

    let (device, sealed) = with_sealed_segment();
    rewrite_segments(&device, |entries| entries[sealed.0 as usize] = StoredSegment::default());
    let found = findings(&device);
    assert!(
        matches!(found[..], [Finding::LiveInFree { segment, state: "free", .. }] if segment == sealed),
        "{found:?}"
    );

    let (device, sealed) = with_sealed_segment();
    rewrite_segments(&device, |entries| entries[sealed.0 as usize].live = 1000);
    let found = findings(&device);
    assert!(matches!(found[0], Finding::SegmentEntry { segment, .. } if segment == sealed), "{found:?}");

    let (device, _) = with_sealed_segment();
    rewrite_segments(&device, |entries| entries[0] = StoredSegment { state: StoredState::Bad, ..entries[0] });
    let found = findings(&device);
    assert!(matches!(found[..], [Finding::SegmentEntry { segment: SegNo(0), .. }]), "{found:?}");
}

#[test]
pub fn what_the_checkpoint_lists_and_counts() {
    let (device, sealed) = with_sealed_segment();
    rewrite_superblock(&device, |s| s.checkpoint.allocation.push(sealed));
    let found = findings(&device);
    assert_eq!(found, [Finding::AllocationList { segment: sealed, why: "which is in use" }]);

    // An extension may name what is in use in its checkpoint, but not what is in use for good.
    let (device, sealed) = with_sealed_segment();
    rewrite_superblock(&device, |s| {
        s.checkpoint.extended = Some(s.checkpoint.lsn);
        s.checkpoint.allocation.push(sealed);
    });
    let found = findings(&device);
    assert_eq!(found, [Finding::AllocationList { segment: sealed, why: "which is in use after the log, too" }]);
    let refused = Image::try_open(device).err().expect("it would be overwritten").to_string();
    assert!(refused.contains("allocation list") && refused.contains("is to be written"), "{refused}");

    // One that a head had opened and put nothing into: there is no block to count out.
    let (device, _) = with_sealed_segment();
    let mut listed = SegNo(0);
    rewrite_superblock(&device, |s| {
        s.checkpoint.extended = Some(s.checkpoint.lsn);
        listed = *s.checkpoint.allocation.last().unwrap();
    });
    rewrite_segments(&device, |entries| {
        entries[listed.0 as usize] = StoredSegment { state: StoredState::Used, ..StoredSegment::default() };
    });
    assert_eq!(findings(&device), []);
    Image::try_open(device).expect("it is empty");

    let (device, _) = with_sealed_segment();
    rewrite_superblock(&device, |s| s.checkpoint.allocation.push(s.checkpoint.allocation[0]));
    let found = findings(&device);
    assert!(matches!(found[..], [Finding::AllocationList { why: "twice", .. }]), "{found:?}");

    let (device, _) = with_sealed_segment();
    rewrite_superblock(&device, |s| {
        let head = s.checkpoint.heads.iter_mut().find(|p| p.head == 0).unwrap();
        head.next = 1;
    });
    let found = findings(&device);
    assert!(matches!(found[..], [Finding::LiveAhead { head: 0, .. }]), "{found:?}");

    let (device, _) = with_sealed_segment();
    let mut before = [0; 4];
    rewrite_superblock(&device, |s| {
        let c = &mut s.checkpoint;
        let counts = [&mut c.data_blocks, &mut c.promised_blocks, &mut c.node_blocks, &mut c.table_blocks];
        for (count, before) in counts.into_iter().zip(&mut before) {
            *before = *count;
            *count += 1;
        }
    });
    let total = |what, counted: u64| Finding::Total { what, stored: counted + 1, counted };
    assert_eq!(
        findings(&device),
        [
            total("nodes", before[2]),
            total("table pages", before[3]),
            total("blocks of data", before[0]),
            total("promised blocks", before[1]),
        ]
    );

    let (device, _) = with_sealed_segment();
    rewrite_superblock(&device, |s| s.checkpoint.next_ino = A_FILE.0);
    let found = findings(&device);
    assert!(matches!(found[..], [Finding::NextNumber { what: "inode number", next: 16, .. }]), "{found:?}");

    let (device, _) = with_sealed_segment();
    rewrite_superblock(&device, |s| s.checkpoint.node_table.addr = BlockAddr(1));
    let found = findings(&device);
    assert!(matches!(found[0], Finding::BadAddress { owner: Owner::Page { .. }, addr: BlockAddr(1) }), "{found:?}");
}

#[test]
fn no_flipped_byte_in_a_live_block_goes_unnoticed_and_none_makes_the_check_panic() {
    for clean in [true, false] {
        let image = Image::filled();
        image.volume.sync().unwrap();
        let device = if clean { image.unmount() } else { Arc::new(image.device.crash(2)) };
        let sound = report(&device);
        assert_eq!(sound.findings, []);
        let mut noticed = 0;
        for addr in (0..5 * u64::from(SEGMENT_BLOCKS)).map(BlockAddr) {
            let copy = device.snapshot();
            for byte in [0, 9, 40, 130, 2000, 4095] {
                copy.tamper(addr, |block| block[byte] ^= 0x41);
            }
            let copy: Arc<dyn Device> = Arc::new(copy);
            let outcome = check(copy, &CheckOptions::default(), &mut |_, _| {});
            noticed += u64::from(outcome.is_ok_and(|report| report.errors() > 0));
        }
        // What a crash may have torn is not part of the state: there a damaged chunk is the end of the log.
        assert!(sound.live_blocks > 8 && noticed > 4);
        assert!(!clean || noticed >= sound.live_blocks, "{noticed} of {}", sound.live_blocks);
    }
}
