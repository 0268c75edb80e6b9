//! A nearly full filesystem that is overwritten at random for ever: it must not fail, not stop, and not lose a byte.
//!
//! Fills a share of the device, overwrites 4 KiB at random until a multiple of the device's capacity has been written, while a probe in
//! another process measures how long the simplest requests take. At the end the filesystem is unmounted, checked,
//! mounted again and read through, block by block.

pub mod probe;

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use gleanfs::cli::bench::process::check_interrupt;

use crate::block::{BLOCK, Seen, Stamp, see};
use crate::random::Random;
use crate::volume::{Setup, Volume};
use probe::Longest;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Percent of the device that is filled with data
    #[arg(long, default_value_t = 90)]
    pub fill: u64,
    /// How many times the device's capacity is overwritten
    #[arg(long, default_value_t = 10.0)]
    pub times: f64,
    /// Overwrites between two fsyncs
    #[arg(long, default_value_t = 1024)]
    pub fsync_every: u64,
    /// Write past the page cache
    #[arg(long)]
    pub direct: bool,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { setup: Setup::default(), fill: 90, times: 10.0, fsync_every: 1024, direct: false, seed: 1 }
    }
}

/// What was seen from outside.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub overwritten_blocks: u64,
    pub seconds: f64,
    pub longest: Longest,
}

const FILE: u64 = 1;

/// Runs the load. `probe` is the command that runs [`probe::main`] with its arguments appended.
pub fn run(options: &Options, probe: impl Fn() -> Result<Command>) -> Result<Outcome> {
    let mut volume = options.setup.make()?;
    let probe = Probe::start(probe()?, volume.target(), volume.beside())?;
    let mut load = Load::fill(&volume, options)?;
    println!("steady: {} MiB written, {} % of the device", (load.versions.len() * BLOCK) >> 20, options.fill);
    let overwrites = (volume.device_bytes() as f64 * options.times) as u64 / BLOCK as u64;
    let begun = Instant::now();
    load.overwrite(overwrites, options.fsync_every)?;
    let seconds = begun.elapsed().as_secs_f64();
    let longest = probe.end()?;
    let versions = load.end()?;
    volume.unmount()?;
    volume.fsck()?;
    volume.mount()?;
    verify(volume.target(), &versions)?;
    volume.end()?;
    Ok(Outcome { overwritten_blocks: overwrites, seconds, longest })
}

struct Load {
    file: File,
    /// Newest version of each block.
    versions: Vec<u32>,
    random: Random,
    buffer: Aligned,
}

/// A block's bytes as direct I/O wants them.
#[repr(C, align(4096))]
struct Aligned([u8; BLOCK]);

impl Load {
    fn fill(volume: &Volume, options: &Options) -> Result<Self> {
        let space = rustix::fs::statvfs(volume.target())?;
        let blocks = volume.device_bytes() / BLOCK as u64 * options.fill / 100;
        let room = space.f_bavail * space.f_frsize / BLOCK as u64;
        ensure!(blocks <= room, "{} % of the device are {blocks} blocks, but users have only {room}", options.fill);
        let flags = if options.direct { libc::O_DIRECT } else { 0 };
        let path = volume.target().join("data");
        let file = OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path)?;
        let mut load = Self {
            file,
            versions: vec![0; blocks as usize],
            random: Random::new(options.seed),
            buffer: Aligned([0; BLOCK]),
        };
        for index in 0..blocks {
            if index % 1024 == 0 {
                check_interrupt()?;
            }
            load.write(index).with_context(|| format!("filling, block {index} of {blocks}"))?;
        }
        load.file.sync_all()?;
        Ok(load)
    }

    fn write(&mut self, index: u64) -> std::io::Result<()> {
        let version = &mut self.versions[index as usize];
        *version += 1;
        Stamp { file: FILE, index, version: u64::from(*version) }.fill(&mut self.buffer.0);
        self.file.write_all_at(&self.buffer.0, index * BLOCK as u64)
    }

    fn overwrite(&mut self, overwrites: u64, fsync_every: u64) -> Result<()> {
        let begun = Instant::now();
        for done in 0..overwrites {
            let index = self.random.below(self.versions.len() as u64);
            self.write(index).with_context(|| format!("overwrite {done} of {overwrites}"))?;
            if (done + 1) % fsync_every == 0 {
                check_interrupt()?;
                self.file.sync_data().with_context(|| format!("fsync after overwrite {done}"))?;
            }
            if (done + 1) % (overwrites / 10).max(1) == 0 {
                let rate = (done as f64 / begun.elapsed().as_secs_f64()) as u64;
                println!("steady: {done} of {overwrites} overwrites, {rate}/s");
            }
        }
        Ok(())
    }

    fn end(self) -> Result<Vec<u32>> {
        self.file.sync_all()?;
        Ok(self.versions)
    }
}

fn verify(directory: &Path, versions: &[u32]) -> Result<()> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(directory.join("data"))?);
    let mut block = vec![0; BLOCK];
    for (index, version) in (0..).zip(versions) {
        file.read_exact(&mut block).with_context(|| format!("block {index}"))?;
        let seen = see(&block);
        let stamp = Stamp { file: FILE, index, version: u64::from(*version) };
        if seen != Seen::Whole(stamp) {
            bail!("block {index}: {seen:?} instead of version {version}");
        }
    }
    Ok(())
}

/// The other process; ended with its standard input.
pub(crate) struct Probe(Child);

impl Probe {
    pub(crate) fn start(mut command: Command, target: &Path, beside: &Path) -> Result<Self> {
        let child = command.arg(target).arg(beside).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Ok(Self(child.context("starting the probe")?))
    }

    pub(crate) fn end(mut self) -> Result<Longest> {
        drop(self.0.stdin.take());
        let mut text = String::new();
        self.0.stdout.take().context("the probe's answer")?.read_to_string(&mut text)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "the probe failed: {status}; see its message above");
        serde_json::from_str(&text).context("the probe's answer")
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Outcome {
    /// The longest stall that the filesystem itself has to answer for.
    pub fn stall_us(&self) -> u64 {
        let Longest { write_us, stat_us, read_us, backing_us, .. } = self.longest;
        write_us.max(stat_us).max(read_us).saturating_sub(backing_us)
    }

    pub fn print(&self) {
        let Longest { rounds, write_us, stat_us, read_us, backing_us } = self.longest;
        let rate = self.overwritten_blocks as f64 / self.seconds;
        println!("steady: {} overwrites in {:.0} s, {rate:.0}/s; data verified", self.overwritten_blocks, self.seconds);
        println!(
            "probe: {rounds} rounds; longest write+fsync {write_us} us, stat {stat_us} us, read {read_us} us; \
             longest of the backing store {backing_us} us; stall {} us",
            self.stall_us()
        );
    }
}
