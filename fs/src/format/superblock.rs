//! The superblock slot: what the image is, and the checkpoint that names its state.
//!
//! A slot is one block. Writing it is the commit point of mkfs and of every checkpoint: there is no other
//! record of a checkpoint, so nothing can disagree with it. Layout: `fs/FORMAT.md`, "Superblock slot".

use super::DecodeError;
use super::bytes::{Encode, Reader};
use super::table::NODES_MAX;
use crate::types::{BLOCK_SIZE, BlockAddr, Lsn, SegNo, WriteClock};

/// "GLNF"
pub const MAGIC: u32 = 0x464e_4c47;
/// Newest format version that this code writes and the only one that it reads.
pub const VERSION: u32 = 1;
/// Bytes of a label, at most.
pub const LABEL_MAX: usize = 63;
/// Most segments in a checkpoint's allocation list.
pub const ALLOCATION_MAX: usize = 480;
/// Most positions in a checkpoint's scan list.
pub const SCAN_MAX: usize = 64;
/// Most log heads, the node head included.
pub const HEADS_MAX: usize = 16;
/// No counter of a checkpoint comes near this (2^60 blocks take an exabyte a second for a century), so sums of a few never overflow.
pub const COUNTER_MAX: u64 = 1 << 60;
/// Blocks of the two slots on a conventional device (or in a conventional first zone).
pub const SLOTS: [BlockAddr; 2] = [BlockAddr(0), BlockAddr(8)];

const WHAT: &str = "superblock";
const HEADER_LEN: usize = 16;

/// Incompatible feature of a slot, not of the image: the checkpoint is an extension. No [`Identity`] in memory has it.
const EXTENDED_LOG: u64 = 1;

/// What a mount must know of the format before it may read or write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// May be ignored by code that does not know them.
    pub compatible: u64,
    /// Unknown bits allow a read-only mount.
    pub read_only_compatible: u64,
    /// Unknown bits forbid a mount.
    pub incompatible: u64,
}

/// What the image is. mkfs decides it; `tune` gives another name or UUID, and growing more segments and capacity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name by which users know the image; may be changed.
    pub uuid: [u8; 16],
    /// A number that every structure of this image carries, so that leftovers of an earlier image are told apart. Never changes.
    pub fsid: u64,
    pub label: String,
    pub features: Features,
    /// Blocks per segment (the address step).
    pub segment_blocks: u32,
    /// Segments on the device, superblock segments included.
    pub segments: u32,
    /// First segment of the log; those before it hold superblocks.
    pub first_segment: SegNo,
    /// Blocks that users may fill, metadata included.
    pub capacity_blocks: u64,
    /// Secret of the directory hash.
    pub hash_key: [u8; 16],
    /// Seconds since 1970.
    pub made_at_secs: i64,
}

impl Identity {
    /// The fsid of a new image with this UUID.
    pub fn fsid_of(uuid: &[u8; 16]) -> u64 {
        u64::from_le_bytes(uuid[..8].try_into().expect("eight bytes"))
    }

    /// Whether a slot with this identity may stand beside a newer one with `newer`: what nothing may change is the same, and
    /// the image has not shrunk.
    pub fn may_precede(&self, newer: &Self) -> bool {
        let fixed = |i: &Self| (i.fsid, i.segment_blocks, i.first_segment, i.hash_key, i.made_at_secs);
        fixed(self) == fixed(newer) && self.segments <= newer.segments
    }
}

/// Where a table page or a node stands and what it must look like. Address 0: absent, never used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockRef {
    pub addr: BlockAddr,
    pub crc: u32,
}

/// An open segment of a log head at a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadPosition {
    pub head: u8,
    pub segment: SegNo,
    /// Blocks from the segment's start.
    pub next: u32,
    /// Which life of the segment this is; its chunks carry the same number.
    pub generation: u64,
}

/// A consistent state of the filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Counts checkpoints; the newest valid slot wins.
    pub sequence: u64,
    /// Counts read-write mounts: chunks of the log after this checkpoint carry exactly this epoch.
    pub epoch: u64,
    /// The newest operation whose effect is in the state.
    pub lsn: Lsn,
    /// Nothing was logged after this checkpoint (a clean unmount).
    pub clean: bool,
    pub write_clock: WriteClock,
    pub next_node: u64,
    pub next_ino: u64,
    /// Segments opened after this checkpoint have this generation or a later one.
    pub next_generation: u64,
    pub node_table: BlockRef,
    pub segment_table: BlockRef,
    /// Segments from this one on were never used and have no entry in the segment table.
    pub frontier: SegNo,
    /// Live blocks: file data and its promises, nodes, table pages.
    pub data_blocks: u64,
    pub promised_blocks: u64,
    pub node_blocks: u64,
    pub table_blocks: u64,
    /// Bytes since mkfs.
    pub user_bytes: u64,
    pub device_bytes: u64,
    /// Where each head goes on.
    pub heads: Vec<HeadPosition>,
    /// Where roll-forward starts to read, besides the beginnings of `allocation`.
    pub scan: Vec<HeadPosition>,
    /// Free segments in the order in which they will be opened; no other segment is opened before the next checkpoint or extension.
    pub allocation: Vec<SegNo>,
    /// In an extension of the log (`meta/extend.rs`): every operation up to this one is durable, and the segments that it added to the list
    /// hold nothing live once the log up to it is replayed.
    pub extended: Option<Lsn>,
}

/// A superblock slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    pub identity: Identity,
    pub checkpoint: Checkpoint,
}

impl Superblock {
    /// Encodes into one block.
    ///
    /// # Panics
    /// If a list is longer than its limit.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(BLOCK_SIZE);
        let extended = self.checkpoint.extended;
        let slot_features = if extended.is_some() { EXTENDED_LOG } else { 0 };
        self.identity.encode(slot_features, &mut body);
        self.checkpoint.encode(&mut body);
        if let Some(durable) = extended {
            body.put_u64(durable.0);
        }
        assert!(body.len() <= BLOCK_SIZE - HEADER_LEN, "a superblock of {} bytes", body.len());
        let mut block = Vec::with_capacity(BLOCK_SIZE);
        block.put_u32(MAGIC);
        block.put_u32(VERSION);
        block.put_u32(body.len() as u32);
        block.put_u32(0);
        block.extend_from_slice(&body);
        block.resize(BLOCK_SIZE, 0);
        let crc = crc32fast::hash(&block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Decodes and checks one block.
    pub fn decode(block: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(block, WHAT);
        let magic = r.u32()?;
        if magic != MAGIC {
            return Err(DecodeError::BadMagic { what: WHAT, found: magic });
        }
        let version = r.u32()?;
        if version != VERSION {
            return Err(DecodeError::BadVersion { what: WHAT, found: version });
        }
        let len = r.u32()? as usize;
        let stored = r.u32()?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&block[..12]);
        hasher.update(&[0; 4]);
        hasher.update(&block[HEADER_LEN..]);
        let computed = hasher.finalize();
        if stored != computed {
            return Err(DecodeError::BadChecksum { what: WHAT, stored, computed });
        }
        let mut r = Reader::new(r.take(len)?, WHAT);
        let mut identity = Identity::decode(&mut r)?;
        let mut checkpoint = Checkpoint::decode(&mut r, &identity)?;
        if identity.features.incompatible & EXTENDED_LOG != 0 {
            identity.features.incompatible &= !EXTENDED_LOG;
            let durable = r.u64()?;
            if durable > COUNTER_MAX {
                return Err(r.bad(durable));
            }
            checkpoint.extended = Some(Lsn(durable));
        }
        Ok(Self { identity, checkpoint })
    }
}

impl Identity {
    /// `slot_features`: incompatible ones of this slot alone.
    fn encode(&self, slot_features: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.uuid);
        out.put_u64(self.fsid);
        out.put_bytes(self.label.as_bytes());
        out.put_u64(self.features.compatible);
        out.put_u64(self.features.read_only_compatible);
        out.put_u64(self.features.incompatible | slot_features);
        out.put_u32(self.segment_blocks);
        out.put_u32(self.segments);
        out.put_u32(self.first_segment.0);
        out.put_u64(self.capacity_blocks);
        out.extend_from_slice(&self.hash_key);
        out.put_u64(self.made_at_secs as u64);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let identity = Self {
            uuid: r.take(16)?.try_into().expect("sixteen bytes"),
            fsid: r.u64()?,
            label: decode_label(r)?,
            features: Features { compatible: r.u64()?, read_only_compatible: r.u64()?, incompatible: r.u64()? },
            segment_blocks: r.u32()?,
            segments: r.u32()?,
            first_segment: SegNo(r.u32()?),
            capacity_blocks: r.u64()?,
            hash_key: r.take(16)?.try_into().expect("sixteen bytes"),
            made_at_secs: r.u64()? as i64,
        };
        if identity.segment_blocks < 8 || identity.segment_blocks > 1 << 20 {
            return Err(r.bad(u64::from(identity.segment_blocks)));
        }
        if identity.first_segment.0 == 0 || identity.first_segment.0 >= identity.segments {
            return Err(r.bad(u64::from(identity.first_segment.0)));
        }
        if identity.capacity_blocks > u64::from(identity.segments) * u64::from(identity.segment_blocks) {
            return Err(r.bad(identity.capacity_blocks));
        }
        Ok(identity)
    }
}

impl BlockRef {
    pub const ABSENT: Self = Self { addr: BlockAddr::NONE, crc: 0 };

    pub fn is_absent(self) -> bool {
        self.addr == BlockAddr::NONE
    }

    pub fn encode(self, out: &mut Vec<u8>) {
        out.put_u64(self.addr.0);
        out.put_u32(self.crc);
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { addr: BlockAddr(r.u64()?), crc: r.u32()? })
    }
}

impl Checkpoint {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.sequence);
        out.put_u64(self.epoch);
        out.put_u64(self.lsn.0);
        out.put_u8(u8::from(self.clean));
        out.put_u64(self.write_clock.0);
        out.put_u64(self.next_node);
        out.put_u64(self.next_ino);
        out.put_u64(self.next_generation);
        self.node_table.encode(out);
        self.segment_table.encode(out);
        out.put_u32(self.frontier.0);
        for v in [
            self.data_blocks,
            self.promised_blocks,
            self.node_blocks,
            self.table_blocks,
            self.user_bytes,
            self.device_bytes,
        ] {
            out.put_u64(v);
        }
        encode_positions(&self.heads, out);
        encode_positions(&self.scan, out);
        assert!(self.allocation.len() <= ALLOCATION_MAX);
        out.put_u32(self.allocation.len() as u32);
        for seg in &self.allocation {
            out.put_u32(seg.0);
        }
    }

    fn decode(r: &mut Reader<'_>, identity: &Identity) -> Result<Self, DecodeError> {
        let mut checkpoint = Self {
            sequence: r.u64()?,
            epoch: r.u64()?,
            lsn: Lsn(r.u64()?),
            clean: r.u8()? != 0,
            write_clock: WriteClock(r.u64()?),
            next_node: r.u64()?,
            next_ino: r.u64()?,
            next_generation: r.u64()?,
            node_table: BlockRef::decode(r)?,
            segment_table: BlockRef::decode(r)?,
            frontier: SegNo(r.u32()?),
            data_blocks: r.u64()?,
            promised_blocks: r.u64()?,
            node_blocks: r.u64()?,
            table_blocks: r.u64()?,
            user_bytes: r.u64()?,
            device_bytes: r.u64()?,
            heads: decode_positions(r, identity, HEADS_MAX)?,
            scan: decode_positions(r, identity, SCAN_MAX)?,
            allocation: Vec::new(),
            extended: None,
        };
        checkpoint.check(identity, r)?;
        let count = r.u32()?;
        if count as usize > ALLOCATION_MAX {
            return Err(r.bad(u64::from(count)));
        }
        for _ in 0..count {
            checkpoint.allocation.push(decode_segment(r, identity)?);
        }
        Ok(checkpoint)
    }
}

impl Checkpoint {
    /// What no state can be, whatever the log says.
    fn check(&self, identity: &Identity, r: &Reader<'_>) -> Result<(), DecodeError> {
        if self.frontier.0 > identity.segments {
            return Err(r.bad(u64::from(self.frontier.0)));
        }
        let counters = [
            self.sequence,
            self.epoch,
            self.lsn.0,
            self.write_clock.0,
            self.next_ino,
            self.next_generation,
            self.promised_blocks,
            self.user_bytes,
            self.device_bytes,
        ];
        let blocks = u64::from(identity.segments) * u64::from(identity.segment_blocks);
        let live = [self.data_blocks, self.node_blocks, self.table_blocks];
        let limits = [(&counters[..], COUNTER_MAX), (&live[..], blocks), (&[self.next_node][..], NODES_MAX)];
        for (values, most) in limits {
            if let Some(value) = values.iter().find(|value| **value > most) {
                return Err(r.bad(*value));
            }
        }
        Ok(())
    }
}

fn decode_label(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    let bytes = r.bytes(LABEL_MAX)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| r.bad(bytes.len() as u64))
}

fn encode_positions(positions: &[HeadPosition], out: &mut Vec<u8>) {
    out.put_u8(positions.len() as u8);
    for p in positions {
        out.put_u8(p.head);
        out.put_u32(p.segment.0);
        out.put_u32(p.next);
        out.put_u64(p.generation);
    }
}

fn decode_positions(r: &mut Reader<'_>, identity: &Identity, most: usize) -> Result<Vec<HeadPosition>, DecodeError> {
    let count = usize::from(r.u8()?);
    if count > most {
        return Err(r.bad(count as u64));
    }
    let mut positions = Vec::with_capacity(count);
    for _ in 0..count {
        let head = r.u8()?;
        if usize::from(head) >= HEADS_MAX {
            return Err(r.bad(u64::from(head)));
        }
        let segment = decode_segment(r, identity)?;
        let next = r.u32()?;
        if next > identity.segment_blocks {
            return Err(r.bad(u64::from(next)));
        }
        positions.push(HeadPosition { head, segment, next, generation: r.u64()? });
    }
    Ok(positions)
}

fn decode_segment(r: &mut Reader<'_>, identity: &Identity) -> Result<SegNo, DecodeError> {
    let seg = r.u32()?;
    if seg < identity.first_segment.0 || seg >= identity.segments {
        return Err(r.bad(u64::from(seg)));
    }
    Ok(SegNo(seg))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Superblock {
        Superblock {
            identity: Identity {
                uuid: [7; 16],
                fsid: 5,
                label: "l".repeat(LABEL_MAX),
                features: Features::default(),
                segment_blocks: 512,
                segments: 2048,
                first_segment: SegNo(1),
                capacity_blocks: 900_000,
                hash_key: [9; 16],
                made_at_secs: 1_700_000_000,
            },
            checkpoint: Checkpoint {
                sequence: 3,
                epoch: 2,
                lsn: Lsn(77),
                frontier: SegNo(600),
                heads: (0..16).map(|head| HeadPosition { head, segment: SegNo(5), next: 9, generation: 1 }).collect(),
                scan: (0..SCAN_MAX as u8)
                    .map(|i| HeadPosition { head: i % 16, segment: SegNo(5), next: 9, generation: 2 })
                    .collect(),
                allocation: (1..=ALLOCATION_MAX as u32).map(SegNo).collect(),
                extended: Some(Lsn(99)),
                ..Checkpoint::default()
            },
        }
    }

    #[test]
    fn the_fullest_slot_fits_a_block_and_survives_a_round_trip() {
        let block = sample().encode();
        assert_eq!(block.len(), BLOCK_SIZE);
        assert_eq!(Superblock::decode(&block).unwrap(), sample());
    }

    #[test]
    fn only_an_extension_carries_its_feature_bit_and_no_identity_keeps_it() {
        let bit_of = |superblock: &Superblock| {
            let block = superblock.encode();
            let mut r = Reader::new(&block[HEADER_LEN..], WHAT);
            Identity::decode(&mut r).unwrap().features.incompatible
        };
        let mut superblock = sample();
        assert_eq!(bit_of(&superblock), EXTENDED_LOG);
        assert_eq!(Superblock::decode(&superblock.encode()).unwrap().identity.features, Features::default());
        superblock.checkpoint.extended = None;
        assert_eq!(bit_of(&superblock), 0);
        assert_eq!(Superblock::decode(&superblock.encode()).unwrap(), superblock);
    }

    #[test]
    fn what_no_checkpoint_can_say_is_refused() {
        let lies: [fn(&mut Superblock); 7] = [
            |s| s.checkpoint.epoch = COUNTER_MAX + 1,
            |s| s.checkpoint.lsn = Lsn(u64::MAX),
            |s| s.checkpoint.next_node = NODES_MAX + 1,
            |s| s.checkpoint.data_blocks = u64::from(s.identity.segments) * u64::from(s.identity.segment_blocks) + 1,
            |s| s.checkpoint.extended = Some(Lsn(u64::MAX)),
            |s| s.checkpoint.heads.push(s.checkpoint.heads[0]),
            |s| s.checkpoint.frontier = SegNo(s.identity.segments + 1),
        ];
        for (n, lie) in lies.into_iter().enumerate() {
            let mut superblock = sample();
            superblock.checkpoint.scan.truncate(8);
            assert!(Superblock::decode(&superblock.encode()).is_ok());
            lie(&mut superblock);
            assert!(Superblock::decode(&superblock.encode()).is_err(), "lie {n}");
        }
    }

    #[test]
    fn a_label_that_is_no_text_is_refused() {
        let mut block = sample().encode();
        block[HEADER_LEN + 25] = 0xff;
        block[12..16].fill(0);
        let crc = crc32fast::hash(&block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(Superblock::decode(&block), Err(DecodeError::BadValue { .. })));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let block = sample().encode();
        for byte in 0..block.len() {
            let mut bad = block.clone();
            bad[byte] ^= 0x10;
            assert!(Superblock::decode(&bad).is_err(), "byte {byte}");
        }
    }
}
