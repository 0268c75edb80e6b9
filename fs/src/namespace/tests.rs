//! The whole namespace on a volume in memory: contents against a plain byte vector, names against expectations, and what
//! is left after a remount.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::device::Device;
use crate::device::memory::MemoryDevice;
use crate::error::Error;
use crate::format::value::Time;
use crate::meta::mkfs::{FormatOptions, format};
use crate::meta::volume::{Volume, VolumeOptions};
use crate::types::Ino;

use super::api::{AttrChange, Caller, Fallocate, Namespace, NewInode, NewKind, RenameMode, Seek, XattrMode};
use super::{Filesystem, Reaping, root_edits};

const WHO: Caller = Caller { uid: 0, gid: 0, pid: 0 };

fn device() -> Arc<dyn Device> {
    let device: Arc<dyn Device> = Arc::new(MemoryDevice::new(128 * 1024, 512));
    let root = root_edits(0, 0, Time { secs: 1, nanos: 0 });
    format(Arc::clone(&device), &FormatOptions::new([1; 16], [2; 16], 1), &root).unwrap();
    device
}

fn mount(device: &Arc<dyn Device>, reaping: Reaping) -> Filesystem {
    mount_with_cache(device, reaping, 16 << 20)
}

fn mount_with_cache(device: &Arc<dyn Device>, reaping: Reaping, cache_bytes: usize) -> Filesystem {
    let options = VolumeOptions::of_tool(false, cache_bytes);
    let volume = Arc::new(Volume::open(Arc::clone(device), options).unwrap());
    let ticks = AtomicI64::new(1000);
    let clock = move || Time { secs: ticks.fetch_add(1, Ordering::Relaxed), nanos: 0 };
    Filesystem::with_clock(volume, Box::new(clock), reaping).unwrap()
}

fn file(fs: &Filesystem, name: &str) -> Ino {
    let new = NewInode { kind: NewKind::File, perm: 0o644, umask: 0o022 };
    fs.create(&WHO, Ino::ROOT, name.as_bytes(), &new).unwrap().ino
}

fn set_size(fs: &Filesystem, ino: Ino, size: u64) {
    let attr = fs.setattr(&WHO, ino, &AttrChange { size: Some(size), ..AttrChange::default() }).unwrap();
    assert_eq!(attr.size, size);
}

fn contents(fs: &Filesystem, ino: Ino) -> Vec<u8> {
    let size = fs.getattr(ino).unwrap().size as usize;
    // Longer than the file, and at an odd place in memory.
    let mut buf = vec![0xee; size + 5001];
    assert_eq!(fs.read(ino, 0, &mut buf[1..]).unwrap(), size);
    buf[1..=size].to_vec()
}

/// splitmix64: enough to choose operations, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// An offset or a length, a third of the time a multiple of a block.
    fn bytes(&mut self, below: u64) -> u64 {
        let n = self.below(below);
        if self.below(3) == 0 { n / 4096 * 4096 } else { n }
    }
}

const SPAN: u64 = 400_000;

fn grow(model: &mut Vec<u8>, end: u64) {
    if model.len() < end as usize {
        model.resize(end as usize, 0);
    }
}

fn step(fs: &Filesystem, ino: Ino, model: &mut Vec<u8>, dice: &mut Dice) -> String {
    let (at, len) = (dice.bytes(SPAN), 1 + dice.bytes(60_000));
    let end = at + len;
    let what = dice.below(7);
    match what {
        0 | 1 => {
            let byte = 1 + dice.below(255) as u8;
            let data: Vec<u8> = (0..len).map(|i| byte ^ i as u8).collect();
            fs.write(ino, at, &data, false).unwrap();
            grow(model, end);
            model[at as usize..end as usize].copy_from_slice(&data);
        }
        2 => {
            set_size(fs, ino, at);
            model.resize(at as usize, 0);
        }
        3 => {
            fs.fallocate(ino, at, len, Fallocate::PunchHole).unwrap();
            let range = (at as usize).min(model.len())..(end as usize).min(model.len());
            model[range].fill(0);
        }
        4 => {
            let keep_size = dice.below(2) == 0;
            fs.fallocate(ino, at, len, Fallocate::ZeroRange { keep_size }).unwrap();
            if !keep_size {
                grow(model, end);
            }
            let range = (at as usize).min(model.len())..(end as usize).min(model.len());
            model[range].fill(0);
        }
        5 => {
            let keep_size = dice.below(2) == 0;
            fs.fallocate(ino, at, len, Fallocate::Allocate { keep_size }).unwrap();
            if !keep_size {
                grow(model, end);
            }
        }
        _ => {
            let to = dice.bytes(SPAN);
            let real = len.min((model.len() as u64).saturating_sub(at));
            match fs.copy_range(ino, at, ino, to, len) {
                Err(Error::Invalid) => assert!(real > at.abs_diff(to)),
                other => {
                    assert_eq!(other.unwrap(), real);
                    let source = model[(at as usize).min(model.len())..][..real as usize].to_vec();
                    if real > 0 {
                        grow(model, to + real);
                    }
                    model.iter_mut().skip(to as usize).zip(source).for_each(|(to, from)| *to = from);
                }
            }
        }
    }
    format!("operation {what} at {at}, {len} bytes")
}

/// Every byte that SEEK_DATA passes over must be zero, and both calls must agree.
fn check_seek(fs: &Filesystem, ino: Ino, model: &[u8]) {
    let mut at = 0;
    loop {
        let data = match fs.seek(ino, at, Seek::Data) {
            Ok(data) => data,
            Err(Error::NoSuchAddress) => model.len() as u64,
            Err(other) => panic!("{other}"),
        };
        assert!(model[at as usize..data as usize].iter().all(|&byte| byte == 0));
        if data == model.len() as u64 {
            return;
        }
        assert_eq!(fs.seek(ino, data, Seek::Data).unwrap(), data);
        at = fs.seek(ino, data, Seek::Hole).unwrap();
        assert!(at > data);
        if at == model.len() as u64 {
            return;
        }
    }
}

fn assert_same(found: &[u8], expected: &[u8], when: &str) {
    let differs = found.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!((found.len(), differs), (expected.len(), None), "{when}");
}

#[test]
fn contents_agree_with_a_byte_vector_through_every_operation_and_a_remount() {
    for seed in 0..6 {
        let device = device();
        let fs = mount(&device, Reaping::OnDemand);
        let (ino, mut model, mut dice) = (file(&fs, "f"), Vec::new(), Dice(seed));
        for n in 0..120 {
            let what = step(&fs, ino, &mut model, &mut dice);
            assert_same(&contents(&fs, ino), &model, &format!("seed {seed}, step {n}: {what}"));
        }
        check_seek(&fs, ino, &model);
        fs.sync().unwrap();
        drop(fs);
        let found = contents(&mount(&device, Reaping::OnDemand), ino);
        assert_same(&found, &model, &format!("seed {seed}, after the remount"));
    }
}

#[test]
fn writes_in_parallel_to_one_file_all_arrive() {
    let device = device();
    let fs = mount(&device, Reaping::Background);
    let ino = file(&fs, "f");
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let fs = &fs;
            scope.spawn(move || {
                for i in 0..64 {
                    let data = vec![1 + thread as u8; 1500];
                    fs.write(ino, (i * 4 + thread) * 1500, &data, false).unwrap();
                }
            });
        }
    });
    let found = contents(&fs, ino);
    assert_eq!(found.len(), 256 * 1500);
    assert!(found.chunks(1500).enumerate().all(|(i, part)| part.iter().all(|&b| b == 1 + (i % 4) as u8)));
}

#[test]
fn a_deleted_file_lives_until_it_is_forgotten_and_then_gives_its_space_back() {
    let device = device();
    let fs = mount(&device, Reaping::OnDemand);
    let before = fs.space().unwrap().free;
    let ino = file(&fs, "f");
    fs.write(ino, 0, &[7; 1 << 20], false).unwrap();
    fs.unlink(Ino::ROOT, b"f").unwrap();
    assert_eq!(fs.reap(100).unwrap(), 0, "somebody still uses it");
    assert_eq!((contents(&fs, ino).len(), fs.getattr(ino).unwrap().nlink), (1 << 20, 0));
    fs.forget(ino);
    assert!(fs.reap(100).unwrap() > 0);
    assert!(matches!(fs.getattr(ino), Err(Error::Stale)));
    assert!(before - fs.space().unwrap().free < 16);
}

/// Promises all the room that there is to a file.
fn fill(fs: &Filesystem, ino: Ino) {
    let (mut end, mut bytes) = (0, 1 << 30);
    while bytes >= 4096 {
        match fs.fallocate(ino, end, bytes, Fallocate::Allocate { keep_size: true }) {
            Ok(()) => end += bytes,
            Err(Error::NoSpace) => bytes /= 2,
            Err(other) => panic!("{other}"),
        }
    }
}

/// The kernel forgets a deleted file only after it has told whoever deleted it.
#[test]
fn room_that_is_about_to_come_back_is_waited_for() {
    let device = device();
    let fs = mount(&device, Reaping::Background);
    let other = file(&fs, "other");
    let append = || fs.write(other, fs.getattr(other).unwrap().size, &[1; 4096], false);
    // On a machine that stands still the wait may end too early.
    let is_waited_for = (0..20).any(|n| {
        let ino = file(&fs, &format!("f{n}"));
        fill(&fs, ino);
        let refusal = std::iter::repeat_with(append).find_map(Result::err);
        assert!(matches!(refusal, Some(Error::NoSpace)));
        fs.unlink(Ino::ROOT, format!("f{n}").as_bytes()).unwrap();
        std::thread::scope(|scope| {
            let writing = scope.spawn(append);
            std::thread::sleep(std::time::Duration::from_millis(20));
            fs.forget(ino);
            writing.join().unwrap().is_ok()
        })
    });
    assert!(is_waited_for);
}

#[test]
fn what_was_open_when_the_power_went_is_freed_by_the_next_mount() {
    let device = device();
    let fs = mount(&device, Reaping::OnDemand);
    let ino = file(&fs, "f");
    fs.write(ino, 0, &[7; 5000], false).unwrap();
    fs.unlink(Ino::ROOT, b"f").unwrap();
    fs.sync().unwrap();
    drop(fs);
    let fs = mount(&device, Reaping::OnDemand);
    assert_eq!(fs.getattr(ino).unwrap().size, 5000);
    assert!(fs.reap(10).unwrap() > 0);
    assert!(matches!(fs.getattr(ino), Err(Error::Stale)));
}

#[test]
fn old_data_never_comes_back_when_a_fragmented_file_shrinks_and_grows() {
    let device = device();
    let fs = mount(&device, Reaping::OnDemand);
    let ino = file(&fs, "f");
    for i in 0..700 {
        fs.write(ino, i * 8192, &[7; 4096], false).unwrap();
    }
    set_size(&fs, ino, 6000);
    assert!(fs.getattr(ino).unwrap().sectors > 8 * 300, "most of it is still to be unmapped");
    set_size(&fs, ino, 700 * 8192);
    let found = contents(&fs, ino);
    assert!(found[..4096].iter().all(|&b| b == 7) && found[4096..].iter().all(|&b| b == 0));
    assert_eq!(fs.getattr(ino).unwrap().sectors, 8);
}

#[test]
fn a_file_without_names_outlives_its_daemon_until_it_is_forgotten() {
    let device = device();
    let fs = mount(&device, Reaping::OnDemand);
    let ino = file(&fs, "f");
    fs.write(ino, 0, &[7; 4096], false).unwrap();
    fs.unlink(Ino::ROOT, b"f").unwrap();
    fs.sync().unwrap();
    drop(fs);
    let fs = mount(&device, Reaping::Inherited);
    assert_eq!(fs.nameless(), [ino]);
    assert_eq!(fs.reap(10).unwrap(), 0);
    assert_eq!(contents(&fs, ino), [7; 4096]);
    fs.forget(ino);
    while fs.getattr(ino).is_ok() {
        fs.reap(10).unwrap();
    }
    assert!(fs.nameless().is_empty());
    fs.sync().unwrap();
    drop(fs);
    assert!(mount(&device, Reaping::Inherited).nameless().is_empty());
}

#[test]
fn the_reaper_thread_trims_what_a_truncation_left() {
    let device = device();
    let fs = mount(&device, Reaping::Background);
    let ino = file(&fs, "f");
    for i in 0..700 {
        fs.write(ino, i * 8192, &[7; 4096], false).unwrap();
    }
    set_size(&fs, ino, 0);
    let start = std::time::Instant::now();
    while fs.getattr(ino).unwrap().sectors > 0 {
        assert!(start.elapsed().as_secs() < 60, "the thread does nothing");
        std::thread::yield_now();
    }
}

#[test]
fn names_links_and_attributes_survive_a_remount() {
    let device = device();
    let fs = mount(&device, Reaping::OnDemand);
    let new = NewInode { kind: NewKind::Directory, perm: 0o755, umask: 0 };
    let dir = fs.create(&WHO, Ino::ROOT, b"d", &new).unwrap().ino;
    let ino = file(&fs, "f");
    fs.link(ino, dir, b"g").unwrap();
    fs.rename(Ino::ROOT, b"f", dir, b"h", RenameMode::Replace).unwrap();
    fs.set_xattr(ino, b"user.a", &[1; 5000], XattrMode::Create).unwrap();
    let target = vec![b'x'; 4095];
    let link = NewInode { kind: NewKind::Symlink(&target), perm: 0, umask: 0 };
    let link = fs.create(&WHO, dir, b"l", &link).unwrap().ino;
    fs.sync().unwrap();
    let before = [ino, dir, link, Ino::ROOT].map(|ino| fs.getattr(ino).unwrap());
    drop(fs);
    let fs = mount(&device, Reaping::OnDemand);
    assert_eq!([ino, dir, link, Ino::ROOT].map(|ino| fs.getattr(ino).unwrap()), before);
    assert_eq!(fs.lookup(dir, b"h").unwrap().ino, ino);
    assert!(matches!(fs.lookup(Ino::ROOT, b"f"), Err(Error::NotFound)));
    assert_eq!((fs.parent(dir).unwrap(), fs.parent(Ino::ROOT).unwrap()), (Ino::ROOT, Ino::ROOT));
    assert_eq!(fs.get_xattr(ino, b"user.a").unwrap(), [1; 5000]);
    assert_eq!(fs.list_xattr(ino).unwrap(), b"user.a\0");
    assert_eq!(fs.readlink(link).unwrap(), target);
    let mut names = Vec::new();
    fs.readdir(dir, 0, true, &mut |entry| {
        names.push(entry.name.to_vec());
        true
    })
    .unwrap();
    names.sort();
    assert_eq!(names, [&b"."[..], b"..", b"g", b"h", b"l"]);
}

#[test]
fn a_refused_entry_is_visited_again_from_the_cookie_before() {
    let device = device();
    let fs = mount(&device, Reaping::OnDemand);
    for i in 0..300 {
        file(&fs, &i.to_string());
    }
    let (mut names, mut cookie, mut more) = (Vec::new(), 0, true);
    while more {
        let (mut room, from) = (7, cookie);
        more = false;
        let visit = &mut |entry: &super::api::DirEntry<'_>| {
            if room == 0 {
                more = true;
                return false;
            }
            room -= 1;
            cookie = entry.cookie;
            names.push(entry.name.to_vec());
            true
        };
        fs.readdir(Ino::ROOT, from, false, visit).unwrap();
    }
    assert_eq!(names.len(), 302);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 302);
}

#[test]
fn size_mode_and_flags_in_one_call_all_take_effect() {
    let device = device();
    let fs = mount(&device, Reaping::OnDemand);
    let ino = file(&fs, "f");
    let flags = Some(super::flags::IMMUTABLE);
    let change = AttrChange { size: Some(10), mode: Some(0o4755), flags, ..AttrChange::default() };
    let attr = fs.setattr(&WHO, ino, &change).unwrap();
    assert_eq!((attr.size, attr.mode & 0o7777, attr.flags), (10, 0o4755, super::flags::IMMUTABLE));
    assert!(matches!(fs.setattr(&WHO, ino, &change), Err(Error::NotPermitted)));
}

#[test]
fn more_than_there_is_cannot_be_promised_and_nothing_stays_promised() {
    let device = device();
    let fs = mount(&device, Reaping::OnDemand);
    let ino = file(&fs, "f");
    let free = fs.space().unwrap().free;
    let result = fs.fallocate(ino, 0, 1 << 40, Fallocate::Allocate { keep_size: true });
    assert!(matches!(result, Err(Error::NoSpace)));
    assert_eq!(fs.space().unwrap().free, free);
    assert!(matches!(fs.fallocate(ino, 0, u64::MAX, Fallocate::PunchHole), Err(Error::FileTooBig)));
    assert!(matches!(fs.fallocate(ino, 0, 0, Fallocate::PunchHole), Err(Error::Invalid)));
    assert!(matches!(fs.write(ino, super::FILE_SIZE_MAX, b"x", false), Err(Error::FileTooBig)));
}

/// Making files loads hardly a node, so the cache has to be trimmed where it grows as well as where it misses.
#[test]
fn the_cache_keeps_its_limit_while_files_are_only_made() {
    const CACHE_BYTES: usize = 1 << 20;
    let device = device();
    let fs = mount_with_cache(&device, Reaping::OnDemand, CACHE_BYTES);
    for number in 0..8000 {
        file(&fs, &format!("file-{number}"));
        if number % 500 == 0 {
            fs.volume.checkpoint(false).unwrap();
        }
    }
    fs.volume.checkpoint(false).unwrap();
    let cached = fs.volume.cached_bytes();
    assert!(cached <= CACHE_BYTES, "{cached} bytes are cached");
}
