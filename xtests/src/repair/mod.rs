//! What a check and a repair cost: an image with many files, and the program run on it, with its time and its peak of memory.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use gleanfs::cleaner::Cleaner;
use gleanfs::device::open::OpenMode;
use gleanfs::meta::image::open_image;
use gleanfs::meta::volume::{Volume, VolumeOptions};
use gleanfs::namespace::Filesystem;
use gleanfs::namespace::api::{Caller, Namespace, NewInode, NewKind};
use gleanfs::types::{BLOCK_SIZE, Ino};

use crate::program::gleanfs;

/// Files in a directory.
const CROWD: u64 = 1000;

/// What to measure.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Files in the image, each of one block
    #[arg(long, default_value_t = 1_000_000)]
    files: u64,
    /// Where the image is made, as large as it needs to be; removed afterwards
    #[arg(long, default_value = "/tmp")]
    dir: std::path::PathBuf,
}

/// Makes the image, checks it, and repairs it without slots, and without slots, tables and index.
pub fn run(options: &Options) -> Result<()> {
    let dir = tempfile::tempdir_in(&options.dir)?;
    let image = dir.path().join("image");
    let mib = (options.files * 8 / 1024).max(64) + 256;
    measure("mkfs", &["mkfs", "-q", "--size", &format!("{mib}M")], &image, options.files, 0)?;
    populate(&image, options.files)?;
    let sound = std::fs::metadata(&image)?.len();
    println!("{} files in {} MiB", options.files, sound >> 20);
    measure("check", &["fsck"], &image, options.files, 0)?;
    measure("check of metadata", &["fsck", "--metadata-only"], &image, options.files, 0)?;
    for slots in [0u64, 8] {
        let file = std::fs::OpenOptions::new().write(true).open(&image)?;
        file.write_all_at(&[0; BLOCK_SIZE], slots * BLOCK_SIZE as u64)?;
    }
    measure("repair without slots", &["fsck", "--repair", "--yes"], &image, options.files, 1)?;
    zero_nodes_above_leaves(&image)?;
    measure("repair without node table and index", &["fsck", "--repair", "--yes"], &image, options.files, 1)?;
    measure("check after it", &["fsck"], &image, options.files, 0)?;
    all_there(&image, options.files)?;
    println!("all {} files are there", options.files);
    Ok(())
}

/// A file's place: its directory, if it is the first there, and its name.
fn names(n: u64) -> (Option<String>, String) {
    (n.is_multiple_of(CROWD).then(|| format!("directory {}", n / CROWD)), format!("file {n}"))
}

/// What the file holds.
fn content(n: u64) -> [u8; BLOCK_SIZE] {
    [n as u8 | 1; BLOCK_SIZE]
}

fn populate(image: &Path, files: u64) -> Result<()> {
    let opened = open_image(image, OpenMode::ReadWrite)?;
    let options = VolumeOptions::of_tool(false, 64 << 20);
    let volume = Arc::new(Volume::open(opened.device, options)?);
    let cleaner = Cleaner::new(Arc::clone(&volume), Box::new(gleanfs_gc::victim::Greedy), true);
    let fs = Filesystem::new(Arc::clone(&volume))?;
    let who = Caller::default();
    let new = |kind| NewInode { kind, perm: 0o755, umask: 0 };
    let mut dir = Ino::ROOT;
    for n in 0..files {
        let (directory, name) = names(n);
        if let Some(directory) = directory {
            dir = fs.create(&who, Ino::ROOT, directory.as_bytes(), &new(NewKind::Directory))?.ino;
        }
        let file = fs.create(&who, dir, name.as_bytes(), &new(NewKind::File))?.ino;
        fs.write(file, 0, &content(n), false)?;
    }
    fs.stop();
    drop(cleaner);
    volume.checkpoint(true).context("the last checkpoint")
}

/// Every file under its name, with its bytes.
fn all_there(image: &Path, files: u64) -> Result<()> {
    let opened = open_image(image, OpenMode::ReadOnly)?;
    let volume = Arc::new(Volume::open(opened.device, VolumeOptions::of_tool(true, 64 << 20))?);
    let fs = Filesystem::new(volume)?;
    let (mut dir, mut block) = (Ino::ROOT, [0; BLOCK_SIZE]);
    for n in 0..files {
        let (directory, name) = names(n);
        if let Some(directory) = directory {
            dir = fs.lookup(Ino::ROOT, directory.as_bytes()).with_context(|| directory)?.ino;
        }
        let file = fs.lookup(dir, name.as_bytes()).with_context(|| name.clone())?;
        let read = fs.read(file.ino, 0, &mut block)?;
        ensure!(read == BLOCK_SIZE && block == content(n), "{name} holds something else");
    }
    Ok(())
}

/// Every page of the node table and every node that is no leaf.
fn zero_nodes_above_leaves(image: &Path) -> Result<()> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(image)?;
    let blocks = file.metadata()?.len() / BLOCK_SIZE as u64;
    let mut block = [0; BLOCK_SIZE];
    for n in 16..blocks {
        file.read_exact_at(&mut block[..16], n * BLOCK_SIZE as u64)?;
        let page = &block[..4] == b"GLTB" && block[6] == 1;
        let inner = &block[..4] == b"GLNO" && block[10] > 0;
        if page || inner {
            file.write_all_at(&[0; BLOCK_SIZE], n * BLOCK_SIZE as u64)?;
        }
    }
    Ok(())
}

/// Runs the program and prints what it took, also for a million files.
fn measure(what: &str, words: &[&str], image: &Path, files: u64, status: i32) -> Result<()> {
    let begun = Instant::now();
    let mut child = Command::new(gleanfs()?).args(words).arg(image).stdout(std::process::Stdio::null()).spawn()?;
    let peak = peak_of(&mut child)?;
    let (code, kib) = peak;
    ensure!(code == status, "{what}: status {code}, not {status}");
    let secs = begun.elapsed().as_secs_f64();
    let millions = files as f64 / 1e6;
    let mib = kib as f64 / 1024.0;
    println!("{what}: {secs:.1} s, {mib:.0} MiB at its peak ({:.1} s per million files)", secs / millions);
    Ok(())
}

/// The exit status and the peak of memory, in KiB, of a process that is waited for.
fn peak_of(child: &mut std::process::Child) -> Result<(i32, i64)> {
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both are places for what wait4 fills in, and the process is our child that nobody else waits for.
    let waited = unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, usage.as_mut_ptr()) };
    ensure!(waited > 0, "the program cannot be waited for: {}", std::io::Error::last_os_error());
    // SAFETY: zeroes are a value of it, and wait4 has filled it in.
    let usage = unsafe { usage.assume_init() };
    Ok((libc::WEXITSTATUS(status), usage.ru_maxrss))
}
