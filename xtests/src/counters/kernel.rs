//! The kernel's own count of what was written to the backing store.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::volume::{Backing, Volume};

/// Unit of the block layer's statistics, whatever the device's sectors are.
const SECTOR_BYTES: u64 = 512;

/// Who is asked.
#[derive(Debug)]
pub(crate) enum Witness {
    /// `/sys/block/loopN/stat`.
    Device(PathBuf),
    /// `/proc/PID/io` of the daemon: what it caused to be sent to the storage layer. With direct I/O that is what it wrote.
    Process(PathBuf),
}

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Testimony {
    pub written_bytes: u64,
    /// A process's flushes are not counted.
    pub flushes: Option<u64>,
}

impl Witness {
    pub(crate) fn of(volume: &Volume) -> Result<Self> {
        match volume.backing() {
            Backing::Loop => {
                let source = volume.source();
                let name = source.file_name().context("the loop device's name")?;
                Ok(Self::Device(PathBuf::from("/sys/block").join(name).join("stat")))
            }
            Backing::File => Ok(Self::Process(PathBuf::from(format!("/proc/{}/io", volume.status()?.pid)))),
            other => bail!("the kernel keeps no count for backing {other:?}"),
        }
    }

    pub(crate) fn ask(&self) -> Result<Testimony> {
        match self {
            Self::Device(path) => parse_device(&std::fs::read_to_string(path)?),
            Self::Process(path) => parse_process(&std::fs::read_to_string(path)?),
        }
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Device(path) | Self::Process(path)) = self;
        path.display().fmt(f)
    }
}

/// The fields of `Documentation/block/stat.rst`: the seventh is sectors written, the sixteenth flushes.
fn parse_device(text: &str) -> Result<Testimony> {
    let fields: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let sectors = fields.get(6).context("a block device counts the sectors written")?;
    Ok(Testimony { written_bytes: sectors * SECTOR_BYTES, flushes: fields.get(15).copied() })
}

fn parse_process(text: &str) -> Result<Testimony> {
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(Testimony { written_bytes: line.context("a process counts the bytes written")?.parse()?, flushes: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_witnesses_are_understood() {
        let device = parse_device(" 1 2 3 4 5 6 70 8 9 10 11 12 13 14 15 16 17\n").unwrap();
        assert_eq!(device, Testimony { written_bytes: 70 * 512, flushes: Some(16) });
        let process = parse_process("rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: 4096\n").unwrap();
        assert_eq!(process, Testimony { written_bytes: 4096, flushes: None });
    }
}
