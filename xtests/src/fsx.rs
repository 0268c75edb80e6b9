//! fsx: one file under a random mix of every way to change it, compared with a copy in memory after each read.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::program;
use crate::volume::Setup;

pub const VERSION: &str = "0.3.2";

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Operations per seed and mix
    #[arg(long, default_value_t = 100_000)]
    pub ops: u64,
    /// Seeds
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    pub seeds: Vec<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { setup: Setup::default(), ops: 100_000, seeds: vec![1, 2, 3] }
    }
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

/// Runs every mix at every seed, each on a file of its own on one mount.
pub fn run(options: &Options) -> Result<()> {
    let suite = program::suite("fsx", VERSION)?;
    let volume = options.setup.make()?;
    for (name, mix) in MIXES {
        let configuration = volume.beside().join(format!("{name}.toml"));
        std::fs::write(&configuration, mix)?;
        for seed in &options.seeds {
            let file = volume.target().join(format!("fsx-{name}-{seed}"));
            let mut fsx = Command::new(&suite);
            fsx.arg("-f").arg(&configuration).args(["-N", &options.ops.to_string(), "-S", &seed.to_string()]);
            fsx.arg("-P").arg(volume.beside()).arg(&file);
            let output = fsx.stdin(Stdio::null()).output().context("fsx")?;
            if !output.status.success() {
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said);
                let tail: Vec<&str> = said.lines().rev().take(40).collect();
                for line in tail.into_iter().rev() {
                    println!("{line}");
                }
                bail!("mix {name}, seed {seed}: {}; replay with --ops {} --seeds {seed}", output.status, options.ops);
            }
            println!("fsx: {} operations of mix {name} at seed {seed} agree", options.ops);
        }
    }
    volume.end()
}
