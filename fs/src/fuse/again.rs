//! Requests that a dead daemon has done and not answered, sent once more to the daemon after it.

use std::sync::Arc;

use super::aside::Aside;
use super::control::Control;
use super::front::{Front, Place};
use super::options::MountOptions;
use super::tracking::{Unlinked, Writers};
use crate::device::{Device, MemoryDevice};
use crate::error::{Error, Result};
use crate::format::value::Time;
use crate::meta::mkfs::{FormatOptions, format};
use crate::meta::volume::{Volume, VolumeOptions};
use crate::meta::witness::Witness;
use crate::namespace::api::{Caller, NewInode, NewKind};
use crate::namespace::{Filesystem, Reaping, root_edits};
use crate::types::Ino;

struct NoControl;

impl Control for NoControl {}

/// What outlives daemons: the medium, and the supervisor's memory.
struct Mount {
    device: Arc<dyn Device>,
    memory: std::os::fd::OwnedFd,
}

impl Mount {
    fn new() -> Self {
        let device: Arc<dyn Device> = Arc::new(MemoryDevice::new(64 * 1024, 512));
        let root = root_edits(0, 0, Time { secs: 1, nanos: 0 });
        format(Arc::clone(&device), &FormatOptions::new([1; 16], [2; 16], 1), &root).unwrap();
        Self { device, memory: Witness::create().unwrap() }
    }

    fn daemon(&self) -> Front {
        let volume = Volume::open(Arc::clone(&self.device), VolumeOptions::of_tool(false, 16 << 20)).unwrap();
        let witness = Arc::new(Witness::map(&self.memory).unwrap());
        witness.take_up(volume.last_lsn());
        let _ = volume.witness.set(Arc::clone(&witness));
        let clock = Box::new(|| Time { secs: 2, nanos: 0 });
        let filesystem = Filesystem::with_clock(Arc::new(volume), clock, Reaping::OnDemand).unwrap();
        Front {
            ns: Arc::new(filesystem),
            control: Arc::new(NoControl),
            options: MountOptions::default(),
            aside: Aside::start(Arc::default()).unwrap().0,
            unlinked: Arc::new(Unlinked::default()),
            writers: Writers::default(),
            witness: Some(witness),
        }
    }
}

const FIRST: u64 = 40;
/// The same as the kernel sends it again.
const AGAIN: u64 = FIRST | 1 << 63;

fn at(name: &str) -> Place<'_> {
    Place { parent: Ino::ROOT, name: name.as_bytes() }
}

fn create(front: &Front, name: &str) -> Result<Ino> {
    let new = NewInode { kind: NewKind::File, perm: 0o644, umask: 0 };
    Ok(front.create(&Caller::default(), at(name), &new)?.ino)
}

/// Does `request` in a daemon that dies before it answers, and once more in the next. `durable`: whether the first time is on the medium.
fn twice<T>(mount: &Mount, durable: bool, request: impl Fn(&Front) -> Result<T>) -> (Result<T>, Front) {
    let first = mount.daemon();
    let mark = first.mark(FIRST).unwrap();
    assert!(mark.during(|| request(&first)).is_ok());
    if durable {
        first.ns.sync().unwrap();
    }
    std::mem::forget(mark);
    drop(first);
    let next = mount.daemon();
    let mark = next.mark(AGAIN).unwrap();
    let outcome = mark.during(|| request(&next));
    drop(mark);
    (outcome, next)
}

#[test]
fn what_was_done_and_not_answered_is_answered_and_not_done_again() {
    for durable in [true, false] {
        let mount = Mount::new();
        let (made, front) = twice(&mount, durable, |front| create(front, "a"));
        assert_eq!(front.lookup(at("a")).unwrap().ino, made.unwrap());
        create(&front, "b").unwrap();
        front.ns.sync().unwrap();
        let inodes = |front: &Front| ["a", "b"].map(|name| front.lookup(at(name)).unwrap().ino);
        let before = inodes(&front);
        drop(front);

        let (exchanged, front) = twice(&mount, durable, |front| front.rename(at("a"), at("b"), libc::RENAME_EXCHANGE));
        exchanged.unwrap();
        assert_eq!(inodes(&front), [before[1], before[0]]);
        front.ns.sync().unwrap();
        drop(front);

        let (linked, front) = twice(&mount, durable, |front| front.link(before[0], at("c")));
        assert_eq!(linked.unwrap().nlink, 2);
        front.ns.sync().unwrap();
        drop(front);

        let (set, front) =
            twice(&mount, durable, |front| front.set_xattr(before[0], b"user.x", b"1", libc::XATTR_CREATE));
        set.unwrap();
        front.ns.sync().unwrap();
        drop(front);
        let (removed, front) = twice(&mount, durable, |front| front.remove_xattr(before[0], b"user.x"));
        removed.unwrap();
        front.ns.sync().unwrap();
        drop(front);

        let (unlinked, front) = twice(&mount, durable, |front| front.unlink(at("c")));
        unlinked.unwrap();
        assert!(matches!(front.lookup(at("c")), Err(Error::NotFound)));
        assert_eq!(front.lookup(at("b")).unwrap().nlink, 1);
    }
}

#[test]
fn another_request_is_done_whatever_was_done_before() {
    let mount = Mount::new();
    let (_, front) = twice(&mount, true, |front| create(front, "a"));
    let mark = front.mark(AGAIN + 2).unwrap();
    assert!(matches!(mark.during(|| create(&front, "a")), Err(Error::Exists)));
    // The request was answered: its number means nothing any more.
    let mark = front.mark(AGAIN).unwrap();
    assert!(matches!(mark.during(|| create(&front, "a")), Err(Error::Exists)));
}
