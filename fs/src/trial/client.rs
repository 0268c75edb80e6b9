//! Applies operations to a filesystem as a kernel would, and tells what came of it in a form that two filesystems can share.

use super::Exactness;
use super::compare::Facts;
use super::listing::{Entry, Listing};
use super::ops::{Disturbance, New, Operation, Place, SLOTS, Target, User};
use crate::error::{Error, Result};
use crate::namespace::api::{Caller, Namespace, NewInode, NewKind};
use crate::types::Ino;

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Attr(Facts),
    Bytes(Vec<u8>),
    Count(u64),
    Entries(Vec<Entry>),
    Names(Vec<Vec<u8>>),
    /// The name of the error.
    Refused(String),
    /// The filesystem contradicts itself: never equal to what it ought to be.
    Broken(String),
}

impl Outcome {
    pub fn of(error: &Error) -> Self {
        Self::Refused(name_of(error))
    }

    /// The device is gone, or the filesystem has given up on it.
    pub fn is_power_loss(&self) -> bool {
        matches!(self, Self::Refused(name) if ["Device", "Latched", "ReadOnly"].contains(&name.as_str()))
    }

    pub fn is_success(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Broken(_))
    }

    /// One line, cut short.
    pub fn brief(&self) -> String {
        let text = match self {
            Self::Bytes(bytes) => format!("{} bytes {:02x?}", bytes.len(), &bytes[..bytes.len().min(16)]),
            other => format!("{other:?}"),
        };
        text.chars().take(1000).collect()
    }

    /// The first difference of two long answers, which [`Outcome::brief`] might not reach.
    pub fn difference(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::Broken(why), _) | (_, Self::Broken(why)) => Some(why.clone()),
            (Self::Bytes(a), Self::Bytes(b)) if a.len() == b.len() => {
                let at = a.iter().zip(b).position(|(x, y)| x != y)?;
                Some(format!("byte {at} of the answer: {:#04x} against {:#04x}", a[at], b[at]))
            }
            _ if self == other => None,
            _ => Some(format!("{} against {}", self.brief(), other.brief())),
        }
    }
}

/// Files that are kept open.
#[derive(Clone, Debug, Default)]
pub struct Slots([Option<Ino>; SLOTS]);

impl Slots {
    fn holds(&self, ino: Ino) -> bool {
        self.0.contains(&Some(ino))
    }
}

/// Applies one operation. [`Operation::Remount`] is the caller's business.
pub fn apply(fs: &dyn Namespace, slots: &mut Slots, operation: &Operation, exact: Exactness) -> Outcome {
    let client = Client { fs, exact };
    match client.run(slots, operation) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::of(&error),
    }
}

fn name_of(error: &Error) -> String {
    format!("{error:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}

struct Client<'a> {
    fs: &'a dyn Namespace,
    exact: Exactness,
}

impl Client<'_> {
    fn run(&self, slots: &mut Slots, operation: &Operation) -> Result<Outcome> {
        match operation {
            Operation::Open { target, slot } => {
                let ino = self.find(slots, target)?;
                self.keep(slots, *slot, Some(ino));
            }
            Operation::Close { slot } => self.keep(slots, *slot, None),
            Operation::Unlink { at } => {
                let (dir, name) = self.place(slots, at)?;
                self.replacing(slots, dir, &name, || self.fs.unlink(dir, &name))?;
            }
            Operation::Rmdir { at } => {
                let (dir, name) = self.place(slots, at)?;
                self.replacing(slots, dir, &name, || self.fs.rmdir(dir, &name))?;
            }
            Operation::Rename { from, to, mode } => {
                let ((dir, name), (new_dir, new_name)) = (self.place(slots, from)?, self.place(slots, to)?);
                let rename = || self.fs.rename(dir, &name, new_dir, &new_name, *mode);
                self.replacing(slots, new_dir, &new_name, rename)?;
            }
            Operation::Create { .. } | Operation::Link { .. } => return self.make(slots, operation),
            Operation::SetXattr { target, .. }
            | Operation::GetXattr { target, .. }
            | Operation::ListXattr { target }
            | Operation::RemoveXattr { target, .. } => return self.xattr(self.find(slots, target)?, operation),
            Operation::Readdir { target, chunk, plus, disturbance } => {
                return self.readdir(slots, self.find(slots, target)?, *chunk, *plus, *disturbance);
            }
            Operation::SetAttr { target, user, change } => {
                let attr = self.fs.setattr(&caller(*user), self.find(slots, target)?, change)?;
                return Ok(Outcome::Attr(Facts::of(&attr, self.exact)));
            }
            Operation::Stat { target } => {
                let attr = self.fs.getattr(self.find(slots, target)?)?;
                return Ok(Outcome::Attr(Facts::of(&attr, self.exact)));
            }
            Operation::TouchAtime { target } => self.fs.touch_atime(self.find(slots, target)?)?,
            Operation::Readlink { target } => {
                return Ok(Outcome::Bytes(self.fs.readlink(self.find(slots, target)?)?));
            }
            Operation::Fsync { target, data_only } => self.fs.fsync(self.find(slots, target)?, *data_only)?,
            Operation::Sync => self.fs.sync()?,
            Operation::Remount => {}
            data => return self.data(slots, data),
        }
        Ok(Outcome::Done)
    }

    fn data(&self, slots: &Slots, operation: &Operation) -> Result<Outcome> {
        match operation {
            Operation::Write { target, offset, payload, kill_priv } => {
                self.fs.write(self.find(slots, target)?, *offset, &payload.bytes(), *kill_priv)?;
            }
            Operation::Read { target, offset, len } => {
                let mut buf = vec![0xa5; *len as usize];
                let count = self.fs.read(self.find(slots, target)?, *offset, &mut buf)?;
                buf.truncate(count);
                return Ok(Outcome::Bytes(buf));
            }
            Operation::Fallocate { target, offset, len, mode } => {
                self.fs.fallocate(self.find(slots, target)?, *offset, *len, *mode)?;
            }
            Operation::Seek { target, offset, whence } => {
                return Ok(Outcome::Count(self.fs.seek(self.find(slots, target)?, *offset, *whence)?));
            }
            Operation::Copy { from, from_offset, to, to_offset, len } => {
                let (from, to) = (self.regular(slots, from)?, self.regular(slots, to)?);
                return Ok(Outcome::Count(self.fs.copy_range(from, *from_offset, to, *to_offset, *len)?));
            }
            other => unreachable!("{other} is handled elsewhere"),
        }
        Ok(Outcome::Done)
    }

    fn make(&self, slots: &Slots, operation: &Operation) -> Result<Outcome> {
        let attr = match operation {
            Operation::Create { at, new, perm, umask, user } => {
                let (dir, name) = self.place(slots, at)?;
                let target: Vec<u8> = match new {
                    New::Symlink(len) => (0..*len).map(|i| b'a' + (i % 26) as u8).collect(),
                    _ => Vec::new(),
                };
                let kind = match new {
                    New::File => NewKind::File,
                    New::Directory => NewKind::Directory,
                    New::Symlink(_) => NewKind::Symlink(&target),
                    New::Fifo => NewKind::Special { mode: libc::S_IFIFO, rdev: 0 },
                    New::Device(rdev) => NewKind::Special { mode: libc::S_IFCHR, rdev: *rdev },
                };
                self.fs.create(&caller(*user), dir, &name, &NewInode { kind, perm: *perm, umask: *umask })?
            }
            Operation::Link { target, at } => {
                let ino = self.find(slots, target)?;
                let (dir, name) = self.place(slots, at)?;
                self.fs.link(ino, dir, &name)?
            }
            other => unreachable!("{other} is handled elsewhere"),
        };
        Ok(Outcome::Attr(Facts::of(&attr, self.exact)))
    }

    fn xattr(&self, ino: Ino, operation: &Operation) -> Result<Outcome> {
        match operation {
            Operation::SetXattr { name, payload, mode, .. } => {
                self.fs.set_xattr(ino, &name.bytes(), &name.value(*payload), *mode)?;
            }
            Operation::GetXattr { name, .. } => return Ok(Outcome::Bytes(self.fs.get_xattr(ino, &name.bytes())?)),
            Operation::RemoveXattr { name, .. } => self.fs.remove_xattr(ino, &name.bytes())?,
            _ => return Ok(Outcome::Names(xattr_names(self.fs, ino)?)),
        }
        Ok(Outcome::Done)
    }

    fn readdir(
        &self,
        slots: &Slots,
        dir: Ino,
        chunk: u8,
        plus: bool,
        disturbance: Option<Disturbance>,
    ) -> Result<Outcome> {
        if self.fs.getattr(dir)?.nlink == 0 {
            // The kernel asks nothing of a directory that is gone.
            return Ok(Outcome::Done);
        }
        let mut waiting = disturbance;
        // Attributes may change with the disturbance, before or after an entry is shown.
        let mut listing = Listing::new(dir, plus && disturbance.is_none(), self.exact);
        loop {
            let more = listing.read_on(self.fs, usize::from(chunk.max(1)))?;
            if let Some(Disturbance { create, unlink }) = waiting.take() {
                // Either may be refused; what counts is that the reading goes on undisturbed.
                let new = NewInode { kind: NewKind::File, perm: 0o600, umask: 0 };
                let _ = self.fs.create(&caller(User(0)), dir, &create.bytes(), &new);
                let name = unlink.bytes();
                let _ = self.replacing(slots, dir, &name, || self.fs.unlink(dir, &name));
            }
            if !more {
                break;
            }
        }
        let ignored = disturbance.map(|d| [d.create.bytes(), d.unlink.bytes()]);
        Ok(match listing.finish(ignored.as_ref().map_or(&[], |names| names)) {
            Ok(entries) => Outcome::Entries(entries.into_iter().map(Entry::anonymous).collect()),
            Err(why) => Outcome::Broken(why),
        })
    }

    /// Runs what may take the name away from an inode, which then is forgotten unless it is open.
    fn replacing(&self, slots: &Slots, dir: Ino, name: &[u8], run: impl FnOnce() -> Result<()>) -> Result<()> {
        let victim = self.fs.lookup(dir, name);
        run()?;
        if let Ok(victim) = victim {
            self.release(slots, victim.ino);
        }
        Ok(())
    }

    fn keep(&self, slots: &mut Slots, slot: u8, ino: Option<Ino>) {
        let before = std::mem::replace(&mut slots.0[usize::from(slot)], ino);
        if let Some(before) = before {
            self.release(slots, before);
        }
    }

    fn release(&self, slots: &Slots, ino: Ino) {
        if !slots.holds(ino) {
            self.fs.forget(ino);
        }
    }

    fn find(&self, slots: &Slots, target: &Target) -> Result<Ino> {
        let start = match target.slot {
            Some(slot) => slots.0[usize::from(slot)].ok_or(Error::NotFound)?,
            None => Ino::ROOT,
        };
        target.path.iter().try_fold(start, |dir, name| Ok(self.fs.lookup(dir, &name.bytes())?.ino))
    }

    /// The same, of regular files alone: of a copy's two files the kernel makes sure before it asks.
    fn regular(&self, slots: &Slots, target: &Target) -> Result<Ino> {
        let ino = self.find(slots, target)?;
        let regular = self.fs.getattr(ino)?.mode & libc::S_IFMT == libc::S_IFREG;
        if regular { Ok(ino) } else { Err(Error::Invalid) }
    }

    fn place(&self, slots: &Slots, place: &Place) -> Result<(Ino, Vec<u8>)> {
        Ok((self.find(slots, &place.dir)?, place.name.bytes()))
    }
}

fn caller(user: User) -> Caller {
    // No process: nobody can look up more groups.
    Caller { uid: user.0, gid: user.0, pid: 0 }
}

/// Names of an inode's extended attributes, sorted.
pub(super) fn xattr_names(fs: &dyn Namespace, ino: Ino) -> Result<Vec<Vec<u8>>> {
    let list = fs.list_xattr(ino)?;
    let mut names: Vec<Vec<u8>> = list.split_inclusive(|b| *b == 0).map(|name| name.to_vec()).collect();
    names.sort();
    Ok(names)
}
