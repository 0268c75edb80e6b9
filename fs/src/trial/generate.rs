//! A seeded generator of operations. It runs what it generates on a reference of its own, so that it knows what there is, and
//! aims most operations at it.

use super::client::{Slots, apply};
use super::mix::{Kind, Mix};
use super::ops::{Disturbance, Name, New, Operation, Payload, Place, SLOTS, Target, User, XattrName};
use super::random::Random;
use super::{Exactness, TrialClock};
use crate::format::value::Time;
use crate::namespace::api::{AttrChange, Fallocate, Namespace, RenameMode, Seek, SetTime, XattrMode};
use crate::namespace::reference::Reference;
use crate::types::{BLOCK_SIZE, Ino};

const BLOCK: u64 = BLOCK_SIZE as u64;
/// Operations after which the generator looks anew at what there is.
const REFRESH: usize = 8;

/// Paths that there are, by what they are.
#[derive(Default)]
struct Known {
    files: Vec<Vec<Name>>,
    directories: Vec<Vec<Name>>,
    others: Vec<Vec<Name>>,
}

/// Makes operations one after the other.
pub(super) struct Generator<'a> {
    mix: &'a Mix,
    random: Random,
    reference: Reference,
    clock: TrialClock,
    slots: Slots,
    known: Known,
    generated: usize,
}

impl<'a> Generator<'a> {
    pub(super) fn new(mix: &'a Mix, seed: u64) -> Self {
        let clock = TrialClock::default();
        let reference = Reference::with_clock(clock.clock());
        let (random, slots) = (Random::new(seed), Slots::default());
        Self { mix, random, reference, clock, slots, known: Known::default(), generated: 0 }
    }

    pub(super) fn next(&mut self) -> Operation {
        if self.generated.is_multiple_of(REFRESH) {
            self.known = Known::default();
            self.explore(Ino::ROOT, &mut Vec::new());
        }
        self.generated += 1;
        let kind = self.random.weighted(&self.mix.weights);
        let operation = self.operation(kind);
        self.clock.tick();
        if operation == Operation::Remount {
            self.slots = Slots::default();
            self.reference.forget_all();
        }
        apply(&self.reference, &mut self.slots, &operation, Exactness { times: false, sectors: false });
        operation
    }

    fn explore(&mut self, dir: Ino, path: &mut Vec<Name>) {
        self.known.directories.push(path.clone());
        for name in (0..self.mix.names).map(Name) {
            let Ok(attr) = self.reference.lookup(dir, &name.bytes()) else { continue };
            path.push(name);
            match attr.mode & libc::S_IFMT {
                libc::S_IFDIR => self.explore(attr.ino, path),
                libc::S_IFREG => self.known.files.push(path.clone()),
                _ => self.known.others.push(path.clone()),
            }
            path.pop();
        }
    }
}

/// The operations.
impl Generator<'_> {
    fn operation(&mut self, kind: Kind) -> Operation {
        match kind {
            Kind::Create => self.create(),
            Kind::Link => Operation::Link { target: self.any(), at: self.place() },
            Kind::Unlink => Operation::Unlink { at: self.existing_place() },
            Kind::Rmdir => Operation::Rmdir { at: self.directory_place() },
            Kind::Rename => self.rename(),
            Kind::Open => Operation::Open { target: self.any(), slot: self.slot() },
            Kind::Close => Operation::Close { slot: self.slot() },
            Kind::Write | Kind::Read | Kind::Truncate | Kind::Fallocate | Kind::Seek | Kind::Copy => self.data(kind),
            Kind::Attributes | Kind::Flags => self.set_attr(kind),
            Kind::Fsync => Operation::Fsync { target: self.file(), data_only: self.random.one_in(2) },
            Kind::Sync => Operation::Sync,
            Kind::SetXattr | Kind::GetXattr | Kind::ListXattr | Kind::RemoveXattr => self.xattr(kind),
            Kind::Readdir => self.readdir(),
            Kind::Readlink => Operation::Readlink { target: self.other() },
            Kind::Stat => Operation::Stat { target: self.any() },
            Kind::TouchAtime => Operation::TouchAtime { target: self.any() },
            Kind::Remount => Operation::Remount,
        }
    }

    fn create(&mut self) -> Operation {
        let new = match self.random.within(0..12) {
            0..6 => New::File,
            6..9 => New::Directory,
            9 => New::Symlink(*self.random.pick(&[1, 10, 100, 1500, 4095, 4096])),
            10 => New::Fifo,
            _ => New::Device(self.random.word() as u32),
        };
        let perm = *self.random.pick(&[0o644, 0o755, 0o777, 0o600, 0o4755, 0o2777, 0o1777]);
        let umask = *self.random.pick(&[0o022, 0, 0o077]);
        Operation::Create { at: self.place(), new, perm, umask, user: self.user() }
    }

    fn rename(&mut self) -> Operation {
        let from = if self.random.one_in(2) { self.directory_place() } else { self.existing_place() };
        let to = match self.random.within(0..4) {
            0 => self.existing_place(),
            1 => self.directory_place(),
            _ => self.place(),
        };
        use RenameMode::{Exchange, NoReplace, Replace};
        Operation::Rename { from, to, mode: *self.random.pick(&[Replace, Replace, Replace, NoReplace, Exchange]) }
    }

    fn data(&mut self, kind: Kind) -> Operation {
        let target = self.file();
        let (offset, len) = self.range();
        match kind {
            Kind::Write => {
                let seed = if self.random.one_in(8) { 0 } else { self.random.word() >> 40 };
                Operation::Write { target, offset, payload: Payload { seed, len }, kill_priv: self.random.one_in(4) }
            }
            Kind::Read => Operation::Read { target, offset, len },
            Kind::Truncate => {
                let size = if self.random.one_in(6) { 0 } else { offset };
                let change = AttrChange { size: Some(size), ..Default::default() };
                Operation::SetAttr { target, user: self.user(), change }
            }
            Kind::Fallocate => {
                let keep_size = self.random.one_in(2);
                use Fallocate::{Allocate, PunchHole, ZeroRange};
                let mode = *self.random.pick(&[Allocate { keep_size }, PunchHole, ZeroRange { keep_size }]);
                Operation::Fallocate { target, offset, len, mode }
            }
            Kind::Seek => {
                let whence = if self.random.one_in(2) { Seek::Data } else { Seek::Hole };
                Operation::Seek { target, offset, whence }
            }
            _ => {
                let mut to_offset = self.range().0;
                if self.mix.align_copies {
                    to_offset = to_offset - to_offset % BLOCK + offset % BLOCK;
                }
                Operation::Copy { from: target, from_offset: offset, to: self.file(), to_offset, len }
            }
        }
    }

    fn set_attr(&mut self, kind: Kind) -> Operation {
        let target = self.any();
        let mut change = AttrChange::default();
        if kind == Kind::Flags {
            // FS_IMMUTABLE_FL, FS_APPEND_FL, FS_NODUMP_FL, FS_NOATIME_FL; most often none, so that files do not stay locked.
            change.flags = Some(*self.random.pick(&[0, 0, 0, 0, 0x10, 0x20, 0x40, 0x80]));
            return Operation::SetAttr { target, user: User(0), change };
        }
        match self.random.within(0..6) {
            0 | 1 => change.mode = Some(*self.random.pick(&[0o644, 0o755, 0o6777, 0o2770, 0o1000, 0o4711])),
            2 => change.uid = Some(*self.random.pick(&[0, 1000, u32::MAX - 1])),
            3 => change.gid = Some(*self.random.pick(&[0, 1000, 77])),
            4 => change.mtime = Some(SetTime::Now),
            _ => {
                let time = Time { secs: self.random.within(0..1 << 33) as i64 - (1 << 31), nanos: 999_999_999 };
                change.atime = Some(SetTime::At(time));
                change.mtime = self.random.one_in(2).then_some(SetTime::At(time));
            }
        }
        Operation::SetAttr { target, user: self.user(), change }
    }

    fn xattr(&mut self, kind: Kind) -> Operation {
        let name = match self.random.within(0..10) {
            0 => XattrName::Long,
            1 | 2 => XattrName::AccessList,
            3 => XattrName::DefaultList,
            n => XattrName::User((n % 3) as u8),
        };
        let is_list = matches!(name, XattrName::AccessList | XattrName::DefaultList);
        let target = if name == XattrName::DefaultList { self.directory() } else { self.any() };
        match kind {
            Kind::SetXattr => {
                let len = *self.random.pick(&[0, 1, 50, 1023, 1024, 1025, 3000, 12_288, 65_537]);
                let payload = Payload { seed: self.random.word() >> 40, len };
                use XattrMode::{Create, Replace, Set};
                // For lists the kernel asks for nothing but `Set`.
                let mode = if is_list { Set } else { *self.random.pick(&[Set, Set, Create, Replace]) };
                Operation::SetXattr { target, name, payload, mode }
            }
            Kind::GetXattr => Operation::GetXattr { target, name },
            Kind::ListXattr => Operation::ListXattr { target },
            _ => Operation::RemoveXattr { target, name },
        }
    }

    fn readdir(&mut self) -> Operation {
        let disturb = self.mix.disturb && self.random.one_in(2);
        let disturbance = disturb.then(|| Disturbance { create: self.name(), unlink: self.name() });
        let chunk = *self.random.pick(&[1, 2, 3, 7, 100]);
        Operation::Readdir { target: self.directory(), chunk, plus: self.random.one_in(2), disturbance }
    }
}

/// What the operations are aimed at.
impl Generator<'_> {
    fn user(&mut self) -> User {
        User(*self.random.pick(&[0, 0, 1000]))
    }

    fn slot(&mut self) -> u8 {
        self.random.within(0..SLOTS as u64) as u8
    }

    fn name(&mut self) -> Name {
        if self.random.one_in(100) {
            Name::TOO_LONG
        } else {
            Name(self.random.within(0..u64::from(self.mix.names)) as u16)
        }
    }

    /// Mostly one of `paths`, at times something open or whatever.
    fn aim(&mut self, paths: impl Fn(&Known) -> &[Vec<Name>]) -> Target {
        if self.random.one_in(8) {
            let path = if self.random.one_in(4) { vec![self.name()] } else { Vec::new() };
            return Target { slot: Some(self.slot()), path };
        }
        if self.random.one_in(12) || paths(&self.known).is_empty() {
            let len = self.random.within(1..self.mix.depth as u64 + 2);
            return Target { slot: None, path: (0..len).map(|_| self.name()).collect() };
        }
        Target { slot: None, path: self.random.pick(paths(&self.known)).clone() }
    }

    fn file(&mut self) -> Target {
        self.aim(|known| &known.files)
    }

    fn directory(&mut self) -> Target {
        self.aim(|known| &known.directories)
    }

    fn other(&mut self) -> Target {
        self.aim(|known| &known.others)
    }

    fn any(&mut self) -> Target {
        match self.random.within(0..6) {
            0 => self.directory(),
            1 => self.other(),
            _ => self.file(),
        }
    }

    /// Any name in a directory that is not at the greatest depth.
    fn place(&mut self) -> Place {
        let mut dir = self.directory();
        let deepest = self.mix.depth - 1;
        if dir.slot.is_none() {
            dir.path.truncate(deepest);
        }
        Place { dir, name: self.name() }
    }

    fn existing_place(&mut self) -> Place {
        let target = self.any();
        self.place_of(target)
    }

    fn directory_place(&mut self) -> Place {
        let target = self.directory();
        self.place_of(target)
    }

    fn place_of(&mut self, mut target: Target) -> Place {
        match target.path.pop() {
            Some(name) => Place { dir: target, name },
            None => self.place(),
        }
    }

    /// An offset and a length: whole blocks or not, short or up to the largest.
    fn range(&mut self) -> (u64, u64) {
        let mut offset = self.random.within(0..self.mix.file_blocks) * BLOCK;
        let mut len = match self.random.within(0..4) {
            0 => self.random.within(0..200),
            1 => BLOCK * self.random.within(1..5),
            2 => self.random.within(1..4 * BLOCK),
            _ => BLOCK * self.random.within(1..self.mix.blocks_max + 1),
        };
        if self.random.one_in(2) {
            offset += self.random.within(0..BLOCK);
        }
        len = len.min((self.mix.blocks_max - 1) * BLOCK);
        if self.mix.far_one_in > 0 && self.random.one_in(self.mix.far_one_in) {
            offset += 1 << 40;
        }
        (offset, len)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::trial::client::Outcome;

    #[test]
    fn a_seed_is_a_list() {
        let mix = Mix::everything();
        assert!(mix.generate(5, 300) == mix.generate(5, 300));
        assert!(mix.generate(5, 300) != mix.generate(6, 300));
    }

    /// An operation's first word, as printed, and what came of it.
    fn outcomes(mix: &Mix) -> BTreeMap<(String, String), usize> {
        let mut counts = BTreeMap::new();
        for seed in 1..6 {
            count_outcomes(&mix.generate(seed, 2000), &mut counts);
        }
        counts
    }

    fn count_outcomes(operations: &[Operation], counts: &mut BTreeMap<(String, String), usize>) {
        let fs = Reference::new();
        let mut slots = Slots::default();
        for operation in operations {
            let outcome = apply(&fs, &mut slots, operation, Exactness { times: true, sectors: true });
            let word = operation.to_string().split(' ').next().unwrap_or_default().to_string();
            let result = match outcome {
                Outcome::Refused(error) => error,
                Outcome::Broken(why) => panic!("{operation}: {why}"),
                _ => "success".into(),
            };
            *counts.entry((word, result)).or_default() += 1;
        }
    }

    #[test]
    fn every_operation_succeeds_often_and_fails_in_every_way() {
        let counts = outcomes(&Mix::everything());
        let count = |word: &str, result: &str| counts.get(&(word.into(), result.into())).copied().unwrap_or(0);
        let words: Vec<&String> = counts.keys().map(|(word, _)| word).collect();
        for word in words {
            assert!(count(word, "success") >= 10, "{word} hardly ever succeeds: {counts:?}");
        }
        for (word, error) in [
            ("create", "Exists"),
            ("create", "NameTooLong"),
            ("create", "NotADirectory"),
            ("link", "NotPermitted"),
            ("link", "Exists"),
            ("unlink", "IsADirectory"),
            ("rmdir", "NotEmpty"),
            ("rename", "Invalid"),
            ("rename", "NotEmpty"),
            ("rename", "Exists"),
            ("rename", "NotADirectory"),
            ("rename", "IsADirectory"),
            ("fallocate", "NotPermitted"),
            ("write", "IsADirectory"),
            ("seek", "NoSuchAddress"),
            ("copy", "Invalid"),
            ("fallocate", "Invalid"),
            ("setxattr", "Exists"),
            ("setxattr", "NoAttribute"),
            ("setxattr", "TooLong"),
            ("getxattr", "NoAttribute"),
            ("readlink", "Invalid"),
        ] {
            assert!(count(word, error) > 0, "{word} never ends in {error}: {counts:?}");
        }
    }
}
