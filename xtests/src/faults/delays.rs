//! A real mount on a disk that holds operations up for seconds: everything is late, and nothing else is wrong.

use anyhow::{Context, Result, bail, ensure};
use gleanfs::cli::bench::process::installed;

use crate::programs::fio;
use crate::skip;
use crate::testdisk::delays::HeldCounts;
use crate::volume::{Backing, Setup, Volume};

/// How slow, and for how much.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// Holds up each so-and-so-manieth read, write and flush of the disk
    #[arg(long, default_value_t = 20)]
    pub every: u64,
    /// For so long
    #[arg(long, default_value_t = 2000)]
    pub millis: u64,
    /// What each of fio's jobs writes, in MiB
    #[arg(long, default_value_t = 4)]
    pub mib: u32,
}

/// fio's jobs on such a disk, reading back what they wrote; an unmount, fsck, and the same data once more. Answers with what was held up.
pub fn late_disk(options: &Options) -> Result<HeldCounts> {
    if !installed("fio") {
        skip("fio: not installed");
        return Ok(HeldCounts::default());
    }
    let setup = Setup { backing: Backing::Testdisk, size_mib: 128, ..Setup::default() };
    let mut volume = setup.make()?;
    volume.disk().context("a test disk")?.delay(options.every, options.millis)?;
    fio::write(&volume, options.mib)?;
    volume.settle()?;
    goes_on(&volume)?;
    volume.unmount()?;
    let held = volume.disk().context("a test disk")?.held()?;
    ensure!(held.writes > 0 && held.flushes > 0, "nothing was late: {held:?}");
    volume.fsck()?;
    volume.mount()?;
    fio::verify(&volume, options.mib)?;
    goes_on(&volume)?;
    let held = volume.disk().context("a test disk")?.held()?;
    ensure!(held.reads > 0, "no read was late: {held:?}");
    volume.end()?;
    Ok(held)
}

/// A late answer is no failure.
fn goes_on(volume: &Volume) -> Result<()> {
    match volume.status()?.latched {
        None => Ok(()),
        Some(why) => bail!("a disk that is late ended writing: {why}"),
    }
}
