//! A mount whose workers are stand-ins, seen from the trial: the program with its orders beside it, and what must be on the mount
//! afterwards.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use gleanfs::control::Status;
use gleanfs::control::status::Advisor;
use tempfile::TempDir;

use crate::block::{BLOCK, Seen, Stamp, see};
use crate::program;

/// What a stand-in is told: the first line of its orders is its misdeed, the second, once it is there, the mount.
pub(super) const ORDERS: &str = "orders";
pub(super) const HANG: &str = "hang";
pub(super) const WRITE: &str = "write";
/// Files on the mount that are written, by the number of the place.
pub(super) const WRITTEN: &str = "written-by-worker";
pub(super) const MAPPED: &str = "mapped-by-worker";
/// Workers that write, and blocks of each of their files.
pub(super) const PLACES: usize = 2;
pub(super) const BLOCKS: u64 = 16;

/// The rounds that one place has made durable, as eight bytes each.
pub(super) fn kept(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("kept-{number}"))
}

/// The newest of them, 0 if there is none.
pub(super) fn last_kept(directory: &Path, number: usize) -> Result<u64> {
    let bytes = std::fs::read(kept(directory, number))?;
    // The worker may have been killed while it added one.
    Ok(bytes.chunks_exact(8).last().map_or(0, |word| u64::from_le_bytes(word.try_into().expect("eight bytes"))))
}

/// The directory of the program.
pub(super) struct Misled {
    directory: TempDir,
    program: PathBuf,
    misdeed: &'static str,
}

impl Misled {
    pub(super) fn prepare(misdeed: &'static str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        let program = path.join("gleanfs");
        let source = program::own("standin")?;
        std::fs::copy(&source, &program).with_context(|| source.display().to_string())?;
        std::fs::write(path.join(ORDERS), format!("{misdeed}\n"))?;
        (0..PLACES).try_for_each(|number| std::fs::write(kept(path, number), []))?;
        Ok(Self { directory, program, misdeed })
    }

    /// What mounts with such workers.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Makes the files that the workers will write to, while there is room.
    pub(super) fn make_room(target: &Path) -> Result<()> {
        for number in 0..PLACES {
            for name in [WRITTEN, MAPPED] {
                let file = File::create_new(target.join(format!("{name}-{number}")))?;
                file.write_all_at(&vec![0; BLOCKS as usize * BLOCK], 0)?;
                file.sync_all()?;
            }
        }
        Ok(())
    }

    /// Tells the workers to begin.
    pub(super) fn begin(&self, target: &Path) -> Result<()> {
        let mut orders = OpenOptions::new().append(true).open(self.directory.path().join(ORDERS))?;
        Ok(orders.write_all(format!("{}\n", target.display()).as_bytes())?)
    }

    /// Workers that are started from now on behave.
    pub(super) fn end(&self) -> Result<()> {
        Ok(std::fs::write(self.directory.path().join(ORDERS), format!("{}\n", self.misdeed))?)
    }

    /// What the workers did between two looks, which must be something.
    pub(super) fn told(&self, before: &Status, after: &Status) -> Result<String> {
        let sum = |status: &Status, of: fn(&Advisor) -> u64| of(&status.advisor) + of(&status.victim_advisor);
        let missed = sum(after, |advisor| advisor.deadlines_missed) - sum(before, |advisor| advisor.deadlines_missed);
        let replaced = sum(after, |advisor| advisor.worker_restarts) - sum(before, |advisor| advisor.worker_restarts);
        let rounds = self.rounds()?;
        let has_begun = if self.misdeed == HANG { replaced > 0 } else { rounds > 0 };
        ensure!(has_begun, "no worker has done what it was told: {:?}, {:?}", after.advisor, after.victim_advisor);
        Ok(format!("{missed} deadlines missed, {replaced} workers replaced, {rounds} rounds made durable by workers"))
    }

    /// Rounds of writing that the workers have made durable.
    fn rounds(&self) -> Result<u64> {
        (0..PLACES).map(|number| last_kept(self.directory.path(), number)).sum()
    }

    /// What a worker has made durable is there, and whole.
    pub(super) fn verify(&self, target: &Path) -> Result<()> {
        for number in 0..PLACES {
            let least = last_kept(self.directory.path(), number)?;
            let open = |name| File::open(target.join(format!("{name}-{number}")));
            let (written, mapped) = (open(WRITTEN)?, open(MAPPED)?);
            for index in 0..BLOCKS {
                let mut block = vec![0; BLOCK];
                mapped.read_exact_at(&mut block, index * BLOCK as u64)?;
                let version = u64::from_le_bytes(block[..8].try_into().expect("eight bytes"));
                ensure!(
                    version >= least,
                    "mapped block {index} of worker {number}: {version}, and {least} was durable"
                );
                written.read_exact_at(&mut block, index * BLOCK as u64)?;
                ensure!(
                    is_at_least(&block, number, index, least),
                    "written block {index} of worker {number} is not {least}"
                );
            }
        }
        Ok(())
    }
}

fn is_at_least(block: &[u8], number: usize, index: u64, least: u64) -> bool {
    match see(block) {
        Seen::Whole(Stamp { file, index: at, version }) => file == number as u64 && at == index && version >= least,
        Seen::Zeros => least == 0,
        Seen::Torn => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_older_than_what_was_durable_is_found() {
        let block = Stamp { file: 1, index: 3, version: 7 }.block();
        assert!(is_at_least(&block, 1, 3, 7) && is_at_least(&block, 1, 3, 6));
        assert!(!is_at_least(&block, 1, 3, 8) && !is_at_least(&block, 1, 4, 7) && !is_at_least(&block, 0, 3, 7));
        assert!(is_at_least(&[0; BLOCK], 0, 0, 0) && !is_at_least(&[0; BLOCK], 0, 0, 1));
    }
}
