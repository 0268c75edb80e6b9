//! What happens when a device fails, one behaviour at a time. The campaign in `xtests` lets everything fail in turn.

mod delays;
mod flushes;
mod reads;
mod room;
mod zones;

use std::sync::Arc;

use gleanfs::device::MemoryDevice;
use gleanfs::error::Result;
use gleanfs::format::value::Time;
use gleanfs::namespace::api::{Caller, Namespace, NewInode, NewKind};
use gleanfs::trial::Subject;
use gleanfs::trial::on_memory::{Mounted, OnMemory};
use gleanfs::types::{BLOCK_SIZE, Ino};

const BLOCK: u64 = BLOCK_SIZE as u64;

/// A filesystem on a device that a test makes fail.
struct Bench {
    subject: OnMemory,
    device: Arc<MemoryDevice>,
}

impl Bench {
    fn new(subject: OnMemory) -> Self {
        Self { device: subject.format().unwrap(), subject }
    }

    fn conventional() -> Self {
        Self::new(OnMemory { segments: 96, segment_blocks: 64, cache_bytes: 1 << 20, ..OnMemory::default() })
    }

    fn mount(&self) -> Result<Mounted> {
        mount(&self.subject, &self.device)
    }

    /// fsck and a mount of what a power cut leaves.
    fn cut(&self) -> Mounted {
        let device = Arc::new(self.device.crash(11));
        self.subject.check(&device).unwrap();
        mount(&self.subject, &device).unwrap()
    }

    #[track_caller]
    fn check(&self) {
        self.subject.check(&self.device).unwrap();
    }
}

fn mount(subject: &OnMemory, device: &Arc<MemoryDevice>) -> Result<Mounted> {
    subject.mount(device, Arc::new(|| Time { secs: 1_700_000_000, nanos: 0 }))
}

fn create(fs: &dyn Namespace, name: &str) -> Ino {
    let new = NewInode { kind: NewKind::File, perm: 0o644, umask: 0 };
    fs.create(&Caller { uid: 0, gid: 0, pid: 1 }, Ino::ROOT, name.as_bytes(), &new).unwrap().ino
}

fn find(fs: &dyn Namespace, name: &str) -> Ino {
    fs.lookup(Ino::ROOT, name.as_bytes()).unwrap().ino
}

/// Writes `blocks` blocks of a byte.
fn write(fs: &dyn Namespace, ino: Ino, first: u64, blocks: u64, byte: u8) -> Result<()> {
    fs.write(ino, first * BLOCK, &vec![byte; (blocks * BLOCK) as usize], false)
}

#[track_caller]
fn expect(fs: &dyn Namespace, ino: Ino, first: u64, blocks: u64, byte: u8) {
    let mut buf = vec![0; (blocks * BLOCK) as usize];
    assert_eq!(fs.read(ino, first * BLOCK, &mut buf).unwrap(), buf.len());
    assert!(buf.iter().all(|b| *b == byte), "blocks {first} and on are not all {byte}");
}
