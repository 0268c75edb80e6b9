//! A subject that is the reference itself with a journal of whole states below it, and with faults to order: what shows that trials
//! find what they are for.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Subject;
use super::random::Random;
use crate::device::DeviceError;
use crate::error::{Error, Result};
use crate::namespace::api::*;
use crate::namespace::reference::{Clock, Reference};
use crate::types::{BLOCK_SIZE, BlockAddr, Ino};

/// How a [`Toy`] is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// A rename says that it happened, and did not.
    DropsRenames,
    /// Punching a hole leaves the data.
    KeepsHoles,
    /// fsync and sync do nothing.
    IgnoresSync,
    /// fsync and sync forget the last data write before them.
    ForgetsSyncedWrite,
    /// After a crash the first data write since the last sync is missing, and what came after it is there.
    ReordersWrites,
    /// After a crash a rename may be half done: both names are there.
    TearsRenames,
    /// After a crash only the first block of a write may be there.
    TearsWrites,
    /// Unmounting loses what happened since the last sync.
    ForgetsAtUnmount,
}

/// The subject.
pub struct Toy(pub Fault);

/// What lies on the toy's medium.
pub struct Flash {
    durable: Reference,
    /// States that a crash may leave.
    pending: Vec<Reference>,
    writes: u64,
    limit: u64,
}

/// The toy's medium.
pub type Medium = Arc<Mutex<Flash>>;

/// The mounted toy.
pub struct Mounted {
    live: Reference,
    lossy: Mutex<Lossy>,
    medium: Medium,
    fault: Fault,
}

/// The live state without one data write since the last sync: the last or the first one, as the fault has it.
struct Lossy {
    state: Reference,
    lacks_one: bool,
}

impl Subject for Toy {
    type Medium = Medium;
    type Mounted = Mounted;

    fn namespace<'a>(&self, mounted: &'a Mounted) -> &'a dyn Namespace {
        mounted
    }

    fn format(&self) -> Result<Medium> {
        Ok(flash(Reference::new()))
    }

    fn mount(&self, medium: &Medium, clock: Clock) -> Result<Mounted> {
        let live = medium.lock().durable.fork().on_clock(clock);
        live.forget_all();
        let lossy = Mutex::new(Lossy { state: live.fork(), lacks_one: false });
        Ok(Mounted { live, lossy, medium: medium.clone(), fault: self.0 })
    }

    fn unmount(&self, medium: &Medium, mounted: Mounted) -> Result<()> {
        if self.0 != Fault::ForgetsAtUnmount {
            medium.lock().durable = mounted.live;
        }
        Ok(())
    }

    fn writes(&self, medium: &Medium) -> u64 {
        medium.lock().writes
    }

    fn cut_after(&self, medium: &Medium, writes: u64) {
        let mut flash = medium.lock();
        flash.limit = flash.writes + writes;
    }

    fn fork(&self, medium: &Medium) -> Medium {
        flash(medium.lock().durable.fork())
    }

    fn crash(&self, medium: &Medium, seed: u64) -> Medium {
        let flash_now = medium.lock();
        let at = Random::new(seed).within(0..flash_now.pending.len() as u64 + 1) as usize;
        flash(at.checked_sub(1).map_or(&flash_now.durable, |at| &flash_now.pending[at]).fork())
    }
}

fn flash(durable: Reference) -> Medium {
    Arc::new(Mutex::new(Flash { durable, pending: Vec::new(), writes: 0, limit: u64::MAX }))
}

impl Flash {
    fn write(&mut self) -> Result<()> {
        if self.writes >= self.limit {
            let source = std::io::Error::other("the power is gone");
            return Err(Error::Device(DeviceError { op: "write", addr: BlockAddr(0), blocks: 1, source }));
        }
        self.writes += 1;
        Ok(())
    }
}

impl Mounted {
    /// Carries out an operation that changes something.
    fn commit<T>(&self, run: impl Fn(&Reference) -> Result<T>) -> Result<T> {
        let mut flash = self.medium.lock();
        flash.write()?;
        let result = run(&self.live)?;
        let lossy = self.lossy.lock();
        // Inode numbers are the same in both, and so is what is refused.
        let _ = run(&lossy.state);
        flash.pending.push(if self.fault == Fault::ReordersWrites { lossy.state.fork() } else { self.live.fork() });
        Ok(result)
    }

    /// Puts a state on the medium that no prefix of the operations leads to.
    fn tear(&self, run: impl FnOnce(&Reference) -> Result<()>) {
        let torn = self.live.fork();
        if run(&torn).is_ok() {
            self.medium.lock().pending.push(torn);
        }
    }

    /// What becomes the lossy state if the write that comes now is the one to be lost.
    fn state_to_lack_a_write(&self) -> Option<Reference> {
        match self.fault {
            Fault::ForgetsSyncedWrite => Some(self.live.fork()),
            Fault::ReordersWrites if !self.lossy.lock().lacks_one => Some(self.live.fork()),
            _ => None,
        }
    }

    fn persist(&self) -> Result<()> {
        let mut flash = self.medium.lock();
        flash.write()?;
        if self.fault != Fault::IgnoresSync {
            let mut lossy = self.lossy.lock();
            flash.durable = if self.fault == Fault::ForgetsSyncedWrite { lossy.state.fork() } else { self.live.fork() };
            flash.pending.clear();
            *lossy = Lossy { state: self.live.fork(), lacks_one: false };
        }
        Ok(())
    }
}

/// Hands calls on: those that read to the live state, those that change something through a commit.
macro_rules! hand_on {
    (read: $(fn $r:ident($($ra:ident: $rt:ty),*) -> $ro:ty;)* change: $(fn $c:ident($($ca:ident: $ct:ty),*) -> $co:ty;)*) => {
        $(fn $r(&self, $($ra: $rt),*) -> Result<$ro> { self.live.$r($($ra),*) })*
        $(fn $c(&self, $($ca: $ct),*) -> Result<$co> { self.commit(|fs| fs.$c($($ca),*)) })*
    };
}

impl Namespace for Mounted {
    hand_on! {
        read:
        fn lookup(parent: Ino, name: &[u8]) -> Attr;
        fn parent(dir: Ino) -> Ino;
        fn getattr(ino: Ino) -> Attr;
        fn readlink(ino: Ino) -> Vec<u8>;
        fn readdir(dir: Ino, cookie: u64, plus: bool, visit: &mut dyn FnMut(&DirEntry<'_>) -> bool) -> ();
        fn read(ino: Ino, offset: u64, buf: &mut [u8]) -> usize;
        fn seek(ino: Ino, offset: u64, whence: Seek) -> u64;
        fn get_xattr(ino: Ino, name: &[u8]) -> Vec<u8>;
        fn list_xattr(ino: Ino) -> Vec<u8>;
        fn space() -> SpaceInfo;
        change:
        fn setattr(who: &Caller, ino: Ino, change: &AttrChange) -> Attr;
        fn create(who: &Caller, parent: Ino, name: &[u8], new: &NewInode<'_>) -> Attr;
        fn link(ino: Ino, parent: Ino, name: &[u8]) -> Attr;
        fn unlink(parent: Ino, name: &[u8]) -> ();
        fn rmdir(parent: Ino, name: &[u8]) -> ();
        fn touch_atime(ino: Ino) -> ();
        fn copy_range(from: Ino, from_offset: u64, to: Ino, to_offset: u64, len: u64) -> u64;
        fn set_xattr(ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> ();
        fn remove_xattr(ino: Ino, name: &[u8]) -> ();
    }

    fn rename(&self, parent: Ino, name: &[u8], new_parent: Ino, new_name: &[u8], mode: RenameMode) -> Result<()> {
        match self.fault {
            Fault::DropsRenames => return Ok(()),
            Fault::TearsRenames => self.tear(|fs| {
                let ino = fs.lookup(parent, name)?.ino;
                fs.link(ino, new_parent, new_name).map(drop)
            }),
            _ => {}
        }
        self.commit(|fs| fs.rename(parent, name, new_parent, new_name, mode))
    }

    fn forget(&self, ino: Ino) {
        self.live.forget(ino);
    }

    fn write(&self, ino: Ino, offset: u64, data: &[u8], kill_priv: bool) -> Result<()> {
        let in_first_block = BLOCK_SIZE - (offset % BLOCK_SIZE as u64) as usize;
        if self.fault == Fault::TearsWrites && data.len() > in_first_block {
            self.tear(|fs| fs.write(ino, offset, &data[..in_first_block], kill_priv));
        }
        let without = self.state_to_lack_a_write();
        self.commit(|fs| fs.write(ino, offset, data, kill_priv))?;
        if let Some(state) = without {
            *self.lossy.lock() = Lossy { state, lacks_one: true };
        }
        Ok(())
    }

    fn fallocate(&self, ino: Ino, offset: u64, len: u64, mode: Fallocate) -> Result<()> {
        if self.fault == Fault::KeepsHoles && mode == Fallocate::PunchHole {
            return self.commit(|fs| fs.fallocate(ino, offset, len, Fallocate::Allocate { keep_size: true }));
        }
        self.commit(|fs| fs.fallocate(ino, offset, len, mode))
    }

    fn fsync(&self, ino: Ino, _data_only: bool) -> Result<()> {
        self.live.getattr(ino)?;
        self.persist()
    }

    fn sync(&self) -> Result<()> {
        self.persist()
    }
}
