//! One directory with very many files, and what is demanded of it: every name there, each listed once, also while others come and go.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::check_interrupt;

use super::pace::{Daemon, Pace, Tenths};
use crate::random::Random;

/// The directory and what should be in it.
#[derive(Debug)]
pub struct Crowd {
    directory: PathBuf,
    files: u64,
    seed: u64,
}

/// Names come and go beside those that stay.
const PASSING: &str = "passing-";

impl Crowd {
    pub fn new(target: &Path, files: u64, seed: u64) -> Self {
        Self { directory: target.join("crowd"), files, seed }
    }

    /// The name tells the number; names are of different lengths.
    fn name(&self, number: u64) -> String {
        let letters = Random::new(self.seed ^ number).below(24) as usize;
        format!("{number}-{}", &"abcdefghijklmnopqrstuvwx"[..letters])
    }

    /// The number whose name this is.
    fn number(&self, name: &str) -> Option<u64> {
        let number = name.split_once('-')?.0.parse().ok().filter(|number| *number < self.files)?;
        (self.name(number) == name).then_some(number)
    }

    pub fn create(&self, daemon: Daemon) -> Result<Pace> {
        fs::create_dir(&self.directory)?;
        let mut tenths = Tenths::new(self.files, daemon);
        for number in 0..self.files {
            let path = self.directory.join(self.name(number));
            File::create_new(&path).with_context(|| format!("creating file {number}"))?;
            tenths.note(number + 1)?;
            if number % 1024 == 0 {
                check_interrupt()?;
            }
        }
        // Durable, as a rate without that would be one of memory.
        File::open(&self.directory)?.sync_all()?;
        Ok(tenths.pace())
    }

    /// Lists all; each name once and no other. Entries per second.
    pub fn list(&self) -> Result<f64> {
        let begun = Instant::now();
        let mut seen = vec![false; self.files as usize];
        for entry in fs::read_dir(&self.directory)? {
            self.mark(&mut seen, &file_name(&entry?)?)?;
        }
        let missing = seen.iter().filter(|seen| !**seen).count();
        ensure!(missing == 0, "{missing} of {} files are not listed", self.files);
        Ok(self.files as f64 / begun.elapsed().as_secs_f64())
    }

    fn mark(&self, seen: &mut [bool], name: &str) -> Result<()> {
        let number = self.number(name).with_context(|| format!("{name} is listed but was never created"))?;
        ensure!(!std::mem::replace(&mut seen[number as usize], true), "{name} is listed twice");
        Ok(())
    }

    /// Looks up `sample` names at random, and as many that are not there. Look-ups per second.
    pub fn look_up(&self, sample: u64) -> Result<f64> {
        let mut random = Random::new(self.seed);
        let begun = Instant::now();
        for _ in 0..sample {
            let name = self.name(random.below(self.files));
            let found =
                fs::symlink_metadata(self.directory.join(&name)).with_context(|| format!("looking up {name}"))?;
            ensure!(found.is_file() && found.nlink() == 1 && found.len() == 0, "{name} is another file: {found:?}");
            let absent = self.directory.join(format!("{name}-absent"));
            let outcome = fs::symlink_metadata(&absent).map_err(|e| e.kind());
            ensure!(outcome.err() == Some(std::io::ErrorKind::NotFound), "{} is there", absent.display());
        }
        Ok(2.0 * sample as f64 / begun.elapsed().as_secs_f64())
    }

    /// Lists while another thread creates and removes: what was there throughout appears once, what passes at most once.
    pub fn list_amid_changes(&self) -> Result<()> {
        let (done, changes) = (AtomicBool::new(false), AtomicU64::new(0));
        let (listed, passed) = std::thread::scope(|scope| {
            let passing = scope.spawn(|| self.pass(&done, &changes));
            let listed = self.list_until_changed(&changes, || passing.is_finished());
            done.store(true, Ordering::Relaxed);
            (listed, passing.join().expect("the changing thread does not panic"))
        });
        passed?;
        let (passing, amid) = listed?;
        println!("many: {} names listed once each amid {amid} changes; {passing} passing names seen", self.files);
        Ok(())
    }

    /// Lists until something changed meanwhile: a short listing may be over before the other thread gets to run. How many passing names
    /// were seen then, and how many changes there were.
    fn list_until_changed(&self, changes: &AtomicU64, ended: impl Fn() -> bool) -> Result<(usize, u64)> {
        loop {
            check_interrupt()?;
            let before = changes.load(Ordering::Relaxed);
            let passing = self.list_with_passing()?;
            let amid = changes.load(Ordering::Relaxed) - before;
            if amid > 0 {
                return Ok((passing, amid));
            }
            ensure!(!ended(), "the changing thread has ended");
        }
    }

    /// Creates names and removes each again some names later, until told to stop.
    fn pass(&self, done: &AtomicBool, changes: &AtomicU64) -> Result<()> {
        const STAY: u64 = 64;
        let path = |number: u64| self.directory.join(format!("{PASSING}{number}"));
        let mut number = 0;
        while !done.load(Ordering::Relaxed) {
            File::create_new(path(number))?;
            if number >= STAY {
                fs::remove_file(path(number - STAY))?;
            }
            number += 1;
            changes.store(number, Ordering::Relaxed);
        }
        for left in number.saturating_sub(STAY)..number {
            fs::remove_file(path(left))?;
        }
        // A kill may come next, and what is not durable may come back.
        File::open(&self.directory)?.sync_all()?;
        Ok(())
    }

    fn list_with_passing(&self) -> Result<usize> {
        let mut seen = vec![false; self.files as usize];
        let mut passing = HashSet::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = file_name(&entry?)?;
            if name.starts_with(PASSING) {
                ensure!(passing.insert(name.clone()), "{name} is listed twice");
            } else {
                self.mark(&mut seen, &name)?;
            }
        }
        let missing = seen.iter().filter(|seen| !**seen).count();
        ensure!(missing == 0, "{missing} files were there throughout and are not listed");
        Ok(passing.len())
    }

    /// Removes each name as the listing brings it: none is missed, none comes twice, and at the end the directory can be removed.
    pub fn remove_as_listed(&self, daemon: Daemon) -> Result<Pace> {
        let mut seen = vec![false; self.files as usize];
        let mut tenths = Tenths::new(self.files, daemon);
        for (entry, count) in fs::read_dir(&self.directory)?.zip(1..) {
            let name = file_name(&entry?)?;
            self.mark(&mut seen, &name)?;
            fs::remove_file(self.directory.join(&name)).with_context(|| format!("removing {name}"))?;
            tenths.note(count)?;
            if count % 1024 == 0 {
                check_interrupt()?;
            }
        }
        let missing = seen.iter().filter(|seen| !**seen).count();
        ensure!(missing == 0, "{missing} files were never listed while others were removed");
        fs::remove_dir(&self.directory).context("removing the directory that is empty now")?;
        Ok(tenths.pace())
    }
}

fn file_name(entry: &fs::DirEntry) -> Result<String> {
    entry.file_name().into_string().map_err(|name| anyhow::anyhow!("{} was never created", name.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_what_it_was_made_and_a_stranger_shows() {
        let directory = tempfile::tempdir().unwrap();
        let crowd = Crowd::new(directory.path(), 500, 7);
        crowd.create(Daemon::none()).unwrap();
        crowd.list().unwrap();
        crowd.look_up(50).unwrap();
        crowd.list_amid_changes().unwrap();
        let removed = directory.path().join("crowd").join(crowd.name(3));
        fs::remove_file(&removed).unwrap();
        assert!(crowd.list().is_err());
        File::create(&removed).unwrap();
        let stranger = directory.path().join("crowd/500-");
        File::create(&stranger).unwrap();
        assert!(crowd.list().is_err());
        fs::remove_file(stranger).unwrap();
        crowd.remove_as_listed(Daemon::none()).unwrap();
    }
}
