//! No information from one file ever shows in another: a medium full of secrets, files each of one byte value, and everything that may uncover
//! what was there before. Whatever is read is the file's own byte or zero.

use std::sync::Arc;

use gleanfs::device::{Device, MemoryDevice};
use gleanfs::error::Error;
use gleanfs::format::value::Time;
use gleanfs::meta::mkfs::{self, FormatOptions};
use gleanfs::namespace::api::{AttrChange, Caller, Fallocate, Namespace, NewInode, NewKind};
use gleanfs::namespace::root_edits;
use gleanfs::trial::Subject;
use gleanfs::trial::on_memory::{Mounted, OnMemory};
use gleanfs::trial::random::Random;
use gleanfs::types::{BLOCK_SIZE, BlockAddr, Ino};

/// What the medium held before.
const SECRET: u8 = 0xee;
const FILES: u64 = 24;
const BYTES_MAX: u64 = 40 * BLOCK_SIZE as u64;
const WHO: Caller = Caller { uid: 0, gid: 0, pid: 1 };

/// A formatted device whose every other byte is a secret.
fn full_of_secrets(subject: &OnMemory) -> Arc<MemoryDevice> {
    let blocks = u64::from(subject.segments) * u64::from(subject.segment_blocks);
    let device = Arc::new(MemoryDevice::new(blocks, subject.segment_blocks));
    let mut piece = gleanfs::device::AlignedBuf::new(subject.segment_blocks as usize);
    piece.fill(SECRET);
    for segment in 0..u64::from(subject.segments) {
        device.write(BlockAddr(segment * u64::from(subject.segment_blocks)), &piece).unwrap();
    }
    device.flush().unwrap();
    let options = FormatOptions::new([7; 16], [9; 16], 0);
    mkfs::format(device.clone(), &options, &root_edits(0, 0, Time::default())).unwrap();
    device
}

/// Files by number; each holds but its own byte, `number + 1`.
struct Files {
    mounted: Mounted,
    random: Random,
}

impl Files {
    fn name(number: u64) -> Vec<u8> {
        format!("file {number}").into_bytes()
    }

    fn find(&self, number: u64) -> Option<Ino> {
        self.mounted.filesystem.lookup(Ino::ROOT, &Self::name(number)).ok().map(|attr| attr.ino)
    }

    fn find_or_make(&self, number: u64) -> Result<Ino, Error> {
        let new = NewInode { kind: NewKind::File, perm: 0o600, umask: 0 };
        match self.find(number) {
            Some(ino) => Ok(ino),
            None => self.mounted.filesystem.create(&WHO, Ino::ROOT, &Self::name(number), &new).map(|attr| attr.ino),
        }
    }

    /// A stretch of bytes that hardly ever begins or ends with a block.
    fn stretch(&mut self) -> (u64, u64) {
        let at = self.random.within(0..BYTES_MAX);
        (at, self.random.within(1..3 * BLOCK_SIZE as u64))
    }

    fn step(&mut self) -> Result<(), Error> {
        let number = self.random.within(0..FILES);
        let ino = self.find_or_make(number)?;
        let (at, len) = self.stretch();
        let filesystem = &self.mounted.filesystem;
        match self.random.within(0..10) {
            0..4 => filesystem.write(ino, at, &vec![number as u8 + 1; len as usize], false),
            4 | 5 => {
                let change = AttrChange { size: Some(at), ..AttrChange::default() };
                filesystem.setattr(&WHO, ino, &change).map(drop)
            }
            6 => filesystem.fallocate(ino, at, len, Fallocate::Allocate { keep_size: false }),
            7 => filesystem.fallocate(ino, at, len, Fallocate::PunchHole),
            8 => filesystem.fallocate(ino, at, len, Fallocate::ZeroRange { keep_size: false }),
            _ => {
                filesystem.unlink(Ino::ROOT, &Self::name(number))?;
                filesystem.forget(ino);
                Ok(())
            }
        }
    }

    /// Reads all there is.
    fn look(&self) {
        for number in 0..FILES {
            let Some(ino) = self.find(number) else { continue };
            let size = self.mounted.filesystem.getattr(ino).unwrap().size as usize;
            let mut bytes = vec![SECRET; size];
            let read = self.mounted.filesystem.read(ino, 0, &mut bytes).unwrap();
            assert_eq!(read, size);
            let foreign = bytes.iter().position(|byte| *byte != 0 && *byte != number as u8 + 1);
            assert_eq!(foreign.map(|at| (at, bytes[at])), None, "file {number}");
        }
    }
}

#[test]
fn what_a_file_shows_is_its_own_or_zero_whatever_was_there_and_wherever_the_power_goes() {
    let subject = OnMemory { segments: 64, segment_blocks: 64, ..OnMemory::default() };
    for seed in 0..12 {
        let mut device = full_of_secrets(&subject);
        for life in 0..4 {
            let mounted = subject.mount(&device, Arc::new(|| Time { secs: 1_700_000_000, nanos: 0 })).unwrap();
            let mut files = Files { mounted, random: Random::new(seed * 100 + life) };
            files.look();
            device.crash_after(files.random.within(1..200));
            for step in 0..400 {
                let done = match files.step() {
                    Ok(()) | Err(Error::NoSpace) => subject.background(&files.mounted, step).map(drop),
                    failed => failed,
                };
                if done.is_err() {
                    break;
                }
                if step % 50 == 0 && !device.power_is_gone() {
                    files.look();
                }
            }
            device = Arc::new(device.crash(seed));
        }
    }
}
