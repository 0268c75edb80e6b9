//! Writers that wait for room on a real mount, over the real filesystem on a device in memory: who does not need room is answered meanwhile.
//!
//! Needs root and `/dev/fuse`; without them the test says so and is skipped.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use gleanfs::device::{AlignedBuf, MemoryDevice};
use gleanfs::error::{Error, Result as FsResult};
use gleanfs::format::value::Time;
use gleanfs::fuse::{Control, MountOptions, serve};
use gleanfs::log::Purpose;
use gleanfs::meta::mkfs::{self, FormatOptions};
use gleanfs::meta::patience::may_wait;
use gleanfs::meta::volume::{Relief, Volume, VolumeOptions};
use gleanfs::namespace::{Filesystem, root_edits};
use parking_lot::{Condvar, Mutex};

const SESSION_THREADS: usize = 4;
/// More than there are session threads and late threads together.
const WRITERS: u8 = 12;
const WRITER_BLOCKS: usize = 256;
/// With so few that can be opened the log counts as used up.
const SEGMENTS_LEFT: u32 = 16;

struct NoControl;

impl Control for NoControl {}

/// Makes no room until it is told to; says of every operation that it sent it to wait.
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    refused: Mutex<Sender<()>>,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock() = true;
        self.opened.notify_all();
    }
}

impl Relief for Gate {
    fn relieve(&self, volume: &Volume, _purpose: Purpose) -> FsResult<()> {
        // Buffers come back by themselves: only a log that has run out of segments counts as no room.
        let log = volume.log();
        while log.available_segments() > SEGMENTS_LEFT {
            log.prepare(2)?;
            log.drive();
            if log.has_room(Purpose::User) {
                return Ok(());
            }
            log.wait_for_change(Duration::from_millis(1));
        }
        if log.prepare(2)? && log.has_room(Purpose::User) {
            return Ok(());
        }
        if !may_wait() {
            let _ = self.refused.lock().send(());
            return Err(Error::MustWait);
        }
        let mut is_open = self.is_open.lock();
        while !*is_open {
            self.opened.wait(&mut is_open);
        }
        drop(is_open);
        // What was overwritten is free again.
        volume.checkpoint(false)
    }
}

fn unmountable() -> Option<String> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        return Some(format!("/dev/fuse: {error}"));
    }
    (!rustix::process::geteuid().is_root()).then(|| "mounting needs root".into())
}

fn volume() -> FsResult<Arc<Volume>> {
    let device = Arc::new(MemoryDevice::new(256 * 256, 256));
    mkfs::format(device.clone(), &FormatOptions::new([7; 16], [9; 16], 0), &root_edits(0, 0, Time::default()))?;
    let options = VolumeOptions {
        read_only: false,
        cache_bytes: 1 << 20,
        writer_threads: 1,
        heads: Some(1),
        placement: Box::new(gleanfs_gc::placement::NoSeparation),
        kept: None,
    };
    Ok(Arc::new(Volume::open(device, options)?))
}

/// Overwrites a file of its own past the page cache, a block at a time, until `stop`; then once more, with [`last`].
fn write(path: &Path, writer: u8, stop: &AtomicBool) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT).open(path)?;
    let mut block = AlignedBuf::new(1);
    let mut round = |byte: u8| {
        block.fill(byte);
        (0..WRITER_BLOCKS).try_for_each(|n| file.write_all_at(&block, (n * 4096) as u64))
    };
    while !stop.load(Ordering::Relaxed) {
        round(writer)?;
    }
    round(last(writer))
}

/// What stands in a writer's file at the end.
fn last(writer: u8) -> u8 {
    !writer
}

/// Lookups of names that the kernel has not seen, and a read past its cache.
fn look(dir: &Path, read: &Path) -> io::Result<u8> {
    for n in 0..100 {
        let missing = fs::symlink_metadata(dir.join(format!("missing-{n}")));
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(read)?;
    let mut block = AlignedBuf::new(1);
    file.read_exact_at(&mut block, 0)?;
    Ok(block[0])
}

/// Runs `look` on a thread of its own; what it found, or `None` if it was kept waiting.
fn look_in_time(dir: &Path, read: &Path) -> Option<u8> {
    let (found, result): (_, Receiver<u8>) = channel();
    let (dir, read) = (dir.to_owned(), read.to_owned());
    std::thread::spawn(move || found.send(look(&dir, &read).unwrap()));
    result.recv_timeout(Duration::from_secs(20)).ok()
}

#[test]
fn lookups_and_reads_are_answered_while_every_writer_waits_for_room() {
    if let Some(why) = unmountable() {
        eprintln!("skipped: {why}");
        return;
    }
    let (refused, refusals) = channel();
    let gate = Arc::new(Gate { is_open: Mutex::new(false), opened: Condvar::new(), refused: Mutex::new(refused) });
    let volume = volume().unwrap();
    let relief: Arc<dyn Relief> = gate.clone();
    volume.set_relief(Arc::downgrade(&relief));
    let dir = tempfile::tempdir().unwrap();
    let options = MountOptions { threads: SESSION_THREADS, ..MountOptions::default() };
    // As a daemon does: without them nobody would write the chunks that a checkpoint waits for.
    let log = Arc::clone(volume.log());
    let log_writers = log.start_writers().unwrap();
    let ns = Arc::new(Filesystem::new(volume).unwrap());
    let session = serve(ns, Arc::new(NoControl), dir.path(), "memory", &options).unwrap();
    fs::write(dir.path().join("read"), vec![77; 4096]).unwrap();
    File::open(dir.path().join("read")).unwrap().sync_all().unwrap();

    let path = |writer: u8| dir.path().join(format!("writer-{writer}"));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<JoinHandle<io::Result<()>>> = (0..WRITERS)
        .map(|writer| {
            let (path, stop) = (path(writer), Arc::clone(&stop));
            std::thread::spawn(move || write(&path, writer, &stop))
        })
        .collect();
    let all_wait = (0..WRITERS).all(|_| refusals.recv_timeout(Duration::from_secs(60)).is_ok());
    let seen = look_in_time(dir.path(), &dir.path().join("read"));
    // Before anything is judged: a mount with waiting writers cannot be taken down.
    stop.store(true, Ordering::Relaxed);
    gate.open();
    assert!(all_wait, "every writer comes to wait");
    assert_eq!(seen, Some(77), "a lookup and a read were kept waiting by writers");
    for writer in writers {
        writer.join().unwrap().unwrap();
    }
    for writer in 0..WRITERS {
        let bytes = fs::read(path(writer)).unwrap();
        assert_eq!(bytes.len(), WRITER_BLOCKS * 4096);
        assert!(bytes.iter().all(|b| *b == last(writer)), "what came last stands there");
    }
    session.unmounter().unmount().unwrap();
    session.wait().unwrap();
    log.stop();
    log_writers.into_iter().for_each(|writer| writer.join().unwrap());
}
