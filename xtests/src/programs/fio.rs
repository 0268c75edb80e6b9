//! fio: random writes whose blocks carry a checksum, read back at once and again by another process after a mount.

use std::path::Path;

use anyhow::{Context, Result};
use gleanfs::cli::bench::process::{command, installed, run as run_program};

use crate::skip;
use crate::volume::Volume;

/// How a job writes: name, engine, and what else it is told.
const JOBS: [(&str, &str, &[&str]); 6] = [
    ("psync-buffered", "psync", &["--bs=4k"]),
    ("psync-direct", "psync", &["--bs=4k", "--direct=1"]),
    ("psync-synced", "psync", &["--bs=16k", "--fdatasync=32"]),
    ("libaio-direct", "libaio", &["--bs=64k", "--direct=1", "--iodepth=16"]),
    ("libaio-buffered", "libaio", &["--bs=8k", "--iodepth=16"]),
    ("mmap", "mmap", &["--bs=4k"]),
];

pub(super) fn run(volume: &mut Volume, mib: u32) -> Result<()> {
    if !installed("fio") {
        skip("fio: not installed");
        return Ok(());
    }
    for job in JOBS {
        fio(volume.target(), volume.beside(), job, mib, false).with_context(|| job.0)?;
    }
    volume.unmount()?;
    volume.mount()?;
    for job in JOBS {
        fio(volume.target(), volume.beside(), job, mib, true).with_context(|| format!("{} after a mount", job.0))?;
    }
    println!("fio: {} jobs of {mib} MiB, every block verified at once and after a mount", JOBS.len());
    Ok(())
}

/// One job; with `again` it only reads what an earlier run of the same job wrote.
fn fio(
    target: &Path,
    beside: &Path,
    (name, engine, words): (&str, &str, &[&str]),
    mib: u32,
    again: bool,
) -> Result<()> {
    let mut fio = command("fio");
    fio.arg(format!("--name={name}")).arg(format!("--ioengine={engine}")).args(words);
    fio.arg(format!("--directory={}", target.display())).arg(format!("--size={mib}M"));
    fio.args(["--rw=randwrite", "--randseed=7", "--allrandrepeat=1", "--verify=crc32c", "--verify_fatal=1"]);
    fio.args(["--do_verify=1", "--verify_state_save=0", "--output-format=terse"]);
    fio.args(again.then_some("--verify_only"));
    run_program(fio.current_dir(beside))?;
    Ok(())
}
