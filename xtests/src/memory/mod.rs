//! The daemon's memory: its cache and a constant, however many files there are and however large the image is.
//!
//! Images of two sizes, each with one file and with very many. The files are made and looked at with the first cache size; for
//! each further one the filesystem is mounted anew and looked at again. What counts is the most that was ever resident (`VmHWM`): all of it is
//! locked, so it can neither be paged out nor given back later.

mod files;

use std::fmt;

use anyhow::{Context, Result, ensure};

use crate::table;
use crate::volume::{Backing, Peer, Setup, Volume};

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many files are very many
    #[arg(long, default_value_t = 1_000_000)]
    pub files: u64,
    /// Sizes of the images in MiB; sparse, but the files must fit
    #[arg(long, value_delimiter = ',', default_values_t = [4 << 10, 1 << 20])]
    pub images_mib: Vec<u64>,
    /// Cache sizes in MiB
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256])]
    pub caches_mib: Vec<u64>,
    /// Most memory beside the cache, in MiB
    #[arg(long, default_value_t = CONSTANT_MIB)]
    pub constant_mib: u64,
    /// Further mount options
    #[arg(short = 'o', long, default_value = "")]
    pub options: String,
    /// Directory for images and mount points [default: the system's for temporary files]
    #[arg(long)]
    pub scratch: Option<std::path::PathBuf>,
}

/// Memory beside the cache: chunk buffers, nodes that a checkpoint has in flight while they are changed anew, tables, threads,
/// and what the allocator cannot give back.
pub const CONSTANT_MIB: u64 = 96;

/// Memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Resident {
    now_kib: u64,
    most_kib: u64,
}

/// A mount, and what it took.
#[derive(Debug)]
struct Row {
    image_mib: u64,
    files: u64,
    work: &'static str,
    cache_mib: u64,
    daemon: Resident,
    /// Apart from the daemon, and absent where no model runs.
    worker: Option<Resident>,
}

/// Runs all mounts, prints the table.
pub fn run(options: &Options) -> Result<()> {
    let mut rows = Vec::new();
    for image_mib in &options.images_mib {
        for files in [1, options.files] {
            measure(options, *image_mib, files, &mut rows)?;
        }
    }
    print(&rows, options.constant_mib);
    for row in &rows {
        row.check(options.constant_mib)?;
    }
    Ok(())
}

/// One image with all cache sizes.
fn measure(options: &Options, image_mib: u64, files: u64, rows: &mut Vec<Row>) -> Result<()> {
    let (first, further) = options.caches_mib.split_first().context("no cache size to measure")?;
    let setup = Setup {
        peer: Peer::Gleanfs,
        backing: Backing::File,
        options: mount_options(options, *first),
        size_mib: image_mib,
        scratch: options.scratch.clone(),
        ..Setup::default()
    };
    let mut volume = setup.make()?;
    files::make(volume.target(), files)?;
    files::look(volume.target(), files)?;
    rows.push(Row::take(&volume, image_mib, files, "make, list, read", *first)?);
    for cache_mib in further {
        volume.unmount()?;
        volume.set_options(&mount_options(options, *cache_mib));
        volume.mount()?;
        files::look(volume.target(), files)?;
        rows.push(Row::take(&volume, image_mib, files, "list, read", *cache_mib)?);
    }
    volume.end()
}

fn mount_options(options: &Options, cache_mib: u64) -> String {
    match options.options.as_str() {
        "" => format!("cache={cache_mib}M"),
        further => format!("{further},cache={cache_mib}M"),
    }
}

impl Row {
    fn take(volume: &Volume, image_mib: u64, files: u64, work: &'static str, cache_mib: u64) -> Result<Self> {
        let status = volume.status()?;
        let daemon = Resident::of(status.pid)?;
        let worker = status.advisor.worker_pid.map(Resident::of).transpose()?;
        let row = Self { image_mib, files, work, cache_mib, daemon, worker };
        println!("memory: {row}");
        Ok(row)
    }

    fn beside_cache_kib(&self) -> u64 {
        self.daemon.most_kib.saturating_sub(self.cache_mib << 10)
    }

    fn check(&self, constant_mib: u64) -> Result<()> {
        ensure!(self.beside_cache_kib() <= constant_mib << 10, "{self}: more than the cache and {constant_mib} MiB");
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image_mib, files, cache_mib, daemon, .. } = self;
        write!(f, "{files} files on {image_mib} MiB, cache {cache_mib} MiB: at most {} KiB resident", daemon.most_kib)
    }
}

fn print(rows: &[Row], constant_mib: u64) {
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.image_mib.to_string(),
                row.files.to_string(),
                row.work.into(),
                row.cache_mib.to_string(),
                mib(row.daemon.now_kib),
                mib(row.daemon.most_kib),
                (row.cache_mib + constant_mib).to_string(),
                row.worker.map_or("-".into(), |worker| mib(worker.most_kib)),
            ]
        })
        .collect();
    let heads = ["image MiB", "files", "work", "cache", "VmRSS", "VmHWM", "allowed", "worker VmHWM"];
    table::print(&heads, &rows);
}

impl Resident {
    fn of(pid: u32) -> Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        Self::parse(&text).with_context(|| format!("process {pid} has no memory"))
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(Self { now_kib: field("VmRSS:")?, most_kib: field("VmHWM:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_beyond_cache_and_constant_is_an_error() {
        let daemon = Resident::parse("VmHWM:\t  163841 kB\nVmRSS:\t  1000 kB\n").unwrap();
        assert_eq!(daemon, Resident { now_kib: 1000, most_kib: 163_841 });
        let row = Row { image_mib: 1, files: 1, work: "", cache_mib: 64, daemon, worker: None };
        assert!(row.check(96).is_err());
        assert!(row.check(97).is_ok());
    }
}
