//! Programs that work on the mount beside the writer, die in mid-write with the daemon or by a kill, and are judged by checks of their own.
//!
//! | file | what must hold after each kill |
//! |---|---|
//! | `sqlite` | integrity, digests, and every acknowledged row |
//! | `rocksdb` | every checksum of every table, and the tree opens with its log |
//! | `fio` | every block is whole, old or new |

mod fio;
mod rocksdb;
mod sqlite;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::unblock_signals;

use crate::skip;

/// Which programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// Transactions, WAL and rollback journal
    Sqlite,
    /// db_bench with synchronous writes
    Rocksdb,
    /// Random writes with checksums in the blocks
    Fio,
}

/// One program with what it keeps on the mount.
trait Companion {
    /// Begins, again after each kill.
    fn start(&mut self) -> Result<()>;
    /// Whether it is still at work.
    fn is_running(&mut self) -> Result<bool>;
    /// Kills it, if it has not died with its filesystem.
    fn kill(&mut self) -> Result<()>;
    /// Its own check of what it finds; it is not at work.
    fn check(&mut self) -> Result<()>;
}

/// All of them.
#[derive(Default)]
pub struct Company(Vec<(Program, Box<dyn Companion>)>);

impl Company {
    /// Makes what they need on the mount at `target`. What is not installed is left out, and said.
    pub fn gather(programs: &[Program], target: &Path) -> Result<Self> {
        let mut company = Self::default();
        for program in programs {
            let lacks = match program {
                Program::Sqlite => crate::sqlite::lacks(),
                Program::Rocksdb => rocksdb::lacks(),
                Program::Fio => fio::lacks(),
            };
            if let Some(why) = lacks {
                skip(format!("{program:?}: {why}"));
                continue;
            }
            let companion: Box<dyn Companion> = match program {
                Program::Sqlite => Box::new(sqlite::Sqlite::make(target)?),
                Program::Rocksdb => Box::new(rocksdb::Rocksdb::make(target)?),
                Program::Fio => Box::new(fio::Fio::make(target)?),
            };
            company.0.push((*program, companion));
        }
        Ok(company)
    }

    pub fn start(&mut self) -> Result<()> {
        self.each(|companion| companion.start())
    }

    /// Fails if one of them has ended by itself, since then a kill would not hit it at work.
    pub fn ensure_at_work(&mut self) -> Result<()> {
        self.each(|companion| {
            ensure!(companion.is_running()?, "it ended before the kill");
            Ok(())
        })
    }

    pub fn kill(&mut self) -> Result<()> {
        self.each(|companion| companion.kill())
    }

    pub fn check(&mut self) -> Result<()> {
        self.each(|companion| companion.check())
    }

    fn each(&mut self, mut act: impl FnMut(&mut dyn Companion) -> Result<()>) -> Result<()> {
        self.0
            .iter_mut()
            .try_for_each(|(program, companion)| act(&mut **companion).with_context(|| format!("{program:?}")))
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A process that says nothing that anybody needs; killed when dropped.
#[derive(Debug, Default)]
struct Process(Option<Child>);

impl Process {
    fn start(&mut self, command: &mut Command) -> Result<()> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.0 = Some(unblock_signals(quiet).spawn().context("starting it")?);
        Ok(())
    }

    fn is_running(&mut self) -> Result<bool> {
        Ok(match &mut self.0 {
            Some(child) => child.try_wait()?.is_none(),
            None => false,
        })
    }

    fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.0.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}
