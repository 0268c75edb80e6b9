//! Threads that use the mount without pause and note each error.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use gleanfs::cli::bench::process::command;

use crate::block::{BLOCK, Seen, Stamp, see};

/// Names that a client uses in turn.
const NAMES: u64 = 16;

/// What clients saw.
pub(super) struct SeenByClients {
    pub(super) operations: u64,
    pub(super) longest: Duration,
}

/// Running clients.
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<Duration>>>,
}

impl Clients {
    pub(super) fn start(directory: &Path, clients: u32) -> Result<Self> {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..u64::from(clients)).map(|client| {
            let (stop, rounds, directory) = (Arc::clone(&stop), Arc::clone(&rounds), directory.to_owned());
            std::thread::spawn(move || go_on(&directory, client, &stop, &rounds))
        });
        Ok(Self { threads: threads.collect(), stop, rounds })
    }

    /// Waits until each client can have done something.
    pub(super) fn await_progress(&self) -> Result<()> {
        let before = self.rounds.load(Ordering::Relaxed);
        while self.rounds.load(Ordering::Relaxed) < before + 2 * self.threads.len() as u64 {
            ensure!(!self.threads.iter().any(JoinHandle::is_finished), "a client met an error and ended");
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Ends them; the first error that one met.
    pub(super) fn end(self) -> Result<SeenByClients> {
        self.stop.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for thread in self.threads {
            longest = longest.max(thread.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        let operations = self.rounds.load(Ordering::Relaxed);
        ensure!(operations > 0, "the clients did nothing, so they tested nothing");
        Ok(SeenByClients { operations, longest })
    }
}

fn go_on(directory: &Path, client: u64, stop: &AtomicBool, rounds: &AtomicU64) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let since = Instant::now();
        busy(directory, client, round).with_context(|| format!("client {client}, round {round}"))?;
        longest = longest.max(since.elapsed());
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    Ok(longest)
}

/// Creates, renames, reads, and removes; makes a directory and removes it. None of it can be done twice unseen.
fn busy(directory: &Path, client: u64, round: u64) -> Result<()> {
    let name = |what: &str| directory.join(format!("{what}-{client}-{}", round % NAMES));
    let (new, renamed, made) = (name("new"), name("renamed"), name("made"));
    let stamp = Stamp { file: client, index: round, version: 0 };
    let file = File::create_new(&new)?;
    file.write_all_at(&stamp.block(), 0)?;
    std::fs::rename(&new, &renamed)?;
    std::fs::create_dir(&made)?;
    ensure!(see(&std::fs::read(&renamed)?) == Seen::Whole(stamp), "{} has other contents", renamed.display());
    std::fs::remove_dir(&made)?;
    Ok(std::fs::remove_file(&renamed)?)
}

/// What the daemon says of a block.
pub(super) fn see_stored(path: &Path, index: u64) -> Result<Seen> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path)?;
    let mut block = vec![0; 2 * BLOCK];
    // O_DIRECT wants aligned memory.
    let from = block.as_ptr().align_offset(BLOCK);
    let block = &mut block[from..from + BLOCK];
    file.read_exact_at(block, index * BLOCK as u64)?;
    Ok(see(block))
}

/// fio, which writes and verifies beside the clients.
pub(super) fn fio(directory: &Path) -> Result<Child> {
    let mut fio = command("fio");
    fio.args(["--name=verify", "--rw=randwrite", "--bsrange=4k-256k", "--size=32M", "--numjobs=2", "--loops=4"]);
    fio.args(["--verify=crc32c", "--do_verify=1", "--ioengine=psync"])
        .arg(format!("--directory={}", directory.display()));
    fio.stdout(Stdio::null()).spawn().context("starting fio")
}
