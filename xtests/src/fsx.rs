//! fsx: one file under a random mix of every way to change it, compared with a copy in memory after each read.
//!
//! Beside it lies a file that fills most of the filesystem and is overwritten here and there before each run, so that what fsx writes
//! makes the cleaner move blocks; that it did is part of the test.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use gleanfs::control::{Client, Request, Response};

use crate::load::Load;
use crate::program;
use crate::volume::{Peer, Setup, Volume};

pub const VERSION: &str = "0.3.2";

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Operations per seed, shared by the mixes
    #[arg(long, default_value_t = 1_000_000)]
    pub ops: u64,
    /// Seeds
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    pub seeds: Vec<u64>,
    /// Percent of the device that another file fills
    #[arg(long, default_value_t = 75)]
    pub fill: u64,
}

/// Name and configuration (see the crate's `doc/fsx.toml`). With `align` fsx calls posix_fallocate for no bytes at all, which every
/// filesystem refuses, so that mix does without.
const MIXES: [(&str, &str); 3] = [
    (
        "plain",
        "flen = 1048576\n[weights]\nclose_open = 1\ninvalidate = 1\nmapread = 10\nmapwrite = 10\nread = 10\nwrite = 10\n\
         truncate = 10\nfsync = 1\nfdatasync = 1\n",
    ),
    (
        "everything",
        "flen = 4194304\n[opsize]\nmax = 262144\n[weights]\nclose_open = 1\ninvalidate = 1\nmapread = 10\nmapwrite = 10\n\
         read = 10\nwrite = 10\ntruncate = 5\nfsync = 1\nfdatasync = 1\nposix_fallocate = 5\npunch_hole = 5\n\
         sendfile = 5\nposix_fadvise = 1\ncopy_file_range = 5\n",
    ),
    (
        "aligned",
        "flen = 4194304\n[opsize]\nmin = 4096\nmax = 262144\nalign = 4096\n[weights]\nread = 10\nwrite = 20\nmapread = 0\n\
         mapwrite = 0\ntruncate = 5\nfsync = 2\nposix_fallocate = 0\npunch_hole = 5\ncopy_file_range = 5\n",
    ),
];

/// Of the filling file's blocks one in so many is overwritten before each run.
const STIRRED: u64 = 4;

/// Runs every mix at every seed, each on a file of its own on one mount.
pub fn run(options: &Options) -> Result<()> {
    let suite = program::suite("fsx", VERSION)?;
    let mut volume = options.setup.make()?;
    let mut beside = Load::fill(&volume, options.fill, 1)?;
    let ops = options.ops.div_ceil(MIXES.len() as u64);
    let mut total = Cleaned::default();
    for seed in &options.seeds {
        for (name, mix) in MIXES {
            let before = Cleaned::by(&volume)?;
            beside.stir(beside.blocks() / STIRRED)?;
            let begun = Instant::now();
            fsx(&suite, &volume, (name, mix), ops, *seed)?;
            let rate = ops as f64 / begun.elapsed().as_secs_f64();
            let cleaned = Cleaned::by(&volume)?.since(before);
            println!(
                "fsx: {ops} operations of mix {name} at seed {seed} agree, {rate:.0}/s; {} segments cleaned, {} blocks moved",
                cleaned.segments, cleaned.moved_blocks
            );
            total.segments += cleaned.segments;
            total.moved_blocks += cleaned.moved_blocks;
        }
        println!("fsx: {} operations at seed {seed} agree", ops * MIXES.len() as u64);
    }
    let Cleaned { segments, moved_blocks } = total;
    println!("fsx: {segments} segments were cleaned and {moved_blocks} blocks moved meanwhile");
    ensure!(volume.peer() != Peer::Gleanfs || moved_blocks > 0, "the cleaner moved nothing; use a smaller --size-mib");
    let contents = beside.end();
    volume.unmount()?;
    volume.mount()?;
    contents.verify(volume.target())?;
    volume.end()
}

/// One mix at one seed; its file is removed at the end.
fn fsx(suite: &Path, volume: &Volume, (name, mix): (&str, &str), ops: u64, seed: u64) -> Result<()> {
    let configuration = volume.beside().join(format!("{name}.toml"));
    std::fs::write(&configuration, mix)?;
    let file = volume.target().join(format!("fsx-{name}-{seed}"));
    let mut fsx = Command::new(suite);
    fsx.arg("-f").arg(&configuration).args(["-N", &ops.to_string(), "-S", &seed.to_string()]);
    fsx.arg("-P").arg(volume.beside()).arg(&file);
    let output = fsx.stdin(Stdio::null()).output().context("fsx")?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let tail: Vec<&str> = said.lines().rev().take(40).collect();
        for line in tail.into_iter().rev() {
            println!("{line}");
        }
        let all = ops * MIXES.len() as u64;
        bail!("mix {name}, seed {seed}: {}; replay with --ops {all} --seeds {seed}", output.status);
    }
    Ok(std::fs::remove_file(file)?)
}

/// What the cleaner has done; nothing on a filesystem without one.
#[derive(Clone, Copy, Debug, Default)]
struct Cleaned {
    segments: u64,
    moved_blocks: u64,
}

impl Cleaned {
    fn by(volume: &Volume) -> Result<Self> {
        if volume.peer() != Peer::Gleanfs {
            return Ok(Self::default());
        }
        let Response::Status(status) = Client::connect(volume.target())?.ask(&Request::Status)? else {
            bail!("the daemon does not tell its status");
        };
        let deciders = status.cleaner.deciders.iter();
        let segments = deciders.clone().map(|work| work.segments).sum();
        Ok(Self { segments, moved_blocks: deciders.map(|work| work.moved_blocks).sum() })
    }

    fn since(self, before: Self) -> Self {
        Self { segments: self.segments - before.segments, moved_blocks: self.moved_blocks - before.moved_blocks }
    }
}
