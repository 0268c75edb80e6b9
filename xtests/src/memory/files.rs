//! Very many files: made, then listed, looked at and read once. Several threads, since one would mostly wait.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::check_interrupt;

const PER_DIRECTORY: u64 = 1000;
const THREADS: u64 = 4;
/// One file in so many has data; the others have an inode and a name.
const DATA_EVERY: u64 = 8;
const DATA: [u8; 100] = [0x5a; 100];

/// Makes `files` files below `target`, durable.
pub(super) fn make(target: &Path, files: u64) -> Result<()> {
    each_directory(target, files, |directory, numbers| {
        std::fs::create_dir(directory)?;
        for number in numbers {
            let file = File::create_new(directory.join(number.to_string()))?;
            if number % DATA_EVERY == 0 {
                file.write_all_at(&DATA, 0)?;
            }
        }
        Ok(())
    })?;
    Ok(rustix::fs::syncfs(File::open(target)?)?)
}

/// Lists all directories, asks for each file's attributes and reads those with data.
pub(super) fn look(target: &Path, files: u64) -> Result<()> {
    each_directory(target, files, |directory, numbers| {
        let mut found = 0;
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let length = entry.metadata()?.len();
            if length > 0 {
                let mut data = Vec::new();
                File::open(entry.path())?.read_to_end(&mut data)?;
                ensure!(data == DATA, "{}: not what was written", entry.path().display());
            }
            found += 1;
        }
        let made = numbers.end - numbers.start;
        ensure!(found == made, "{found} files of {made}");
        Ok(())
    })
}

fn each_directory(
    target: &Path,
    files: u64,
    work: impl Fn(&Path, std::ops::Range<u64>) -> Result<()> + Sync,
) -> Result<()> {
    let directories = files.div_ceil(PER_DIRECTORY);
    let work_of = |thread: u64| -> Result<()> {
        for directory in (thread..directories).step_by(THREADS as usize) {
            check_interrupt()?;
            let path: PathBuf = target.join(format!("d{directory}"));
            let first = directory * PER_DIRECTORY;
            let numbers = first..(first + PER_DIRECTORY).min(files);
            work(&path, numbers).with_context(|| path.display().to_string())?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let work_of = &work_of;
                    move || work_of(thread)
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
    })
}
