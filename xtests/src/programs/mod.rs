//! Programs that people run: git, cargo, SQLite, tar; and testers that check themselves: fio, stress-ng. Each does its own work on
//! the mount and its own check.
//!
//! | file | duty |
//! |---|---|
//! | `sources` | trees of files: git, cargo, tar |
//! | `sqlite` | transactions, the client killed |
//! | `fio` | random writes by every engine, verified |
//! | `stress` | the filesystem class of stress-ng, verified |

mod fio;
pub(crate) mod sources;
mod sqlite;
mod stress;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::volume::Setup;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Which of them
    #[arg(long, value_enum, value_delimiter = ',', default_value = "git,sqlite,tar,fio,stress,cargo")]
    pub only: Vec<Program>,
    /// Tree for tar to copy [default: the sources of all crates in cargo's cache]
    #[arg(long)]
    pub tree: Option<PathBuf>,
    /// Kills per SQLite journal mode
    #[arg(long, default_value_t = 20)]
    pub kills: u32,
    /// Size of each file that fio writes, in MiB
    #[arg(long, default_value_t = 128)]
    pub fio_mib: u32,
    /// Seconds for each stressor of stress-ng
    #[arg(long, default_value_t = 5)]
    pub stress_secs: u32,
    /// Stressors of stress-ng [default: those that work on files]
    #[arg(long, value_delimiter = ',')]
    pub stressors: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// Clone the source repository with its checkout, git fsck, compare
    Git,
    /// Build gleanfs in the mount, target directory included
    Cargo,
    /// Transactions with WAL and with a rollback journal, the client killed
    Sqlite,
    /// Untar a large tree and compare
    Tar,
    /// Random writes through several engines, direct and buffered, verified at once and after a mount
    Fio,
    /// stress-ng's stressors for filesystems, with its verification
    Stress,
}

/// Runs each on a mount of its own.
pub fn run(options: &Options) -> Result<()> {
    for what in &options.only {
        let mut volume = options.setup.make()?;
        let target = volume.target();
        match what {
            Program::Git => sources::git(target),
            Program::Cargo => sources::cargo(target),
            Program::Sqlite => sqlite::run(target, options.kills),
            Program::Tar => sources::tar(target, options.tree.as_deref()),
            Program::Fio => fio::run(&mut volume, options.fio_mib),
            Program::Stress => stress::run(target, options.stress_secs, &options.stressors),
        }
        .with_context(|| format!("{what:?}"))?;
        volume.end().with_context(|| format!("after {what:?}"))?;
    }
    Ok(())
}
