//! Which loads go to which logs: the options that all simulations share.

use std::path::PathBuf;

use gleanfs_gc::sim::trace::{self, Recording};
use gleanfs_gc::sim::{Geometry, NamedSource};

use super::super::failure::{Failure, Result};
use super::super::size::{Share, Size};
use super::volume::{Fullness, Volume};
use crate::types::BLOCK_SIZE;

/// Loads, and the logs that they are written to.
#[derive(Clone, Debug, clap::Args)]
pub struct Sources {
    /// Generated loads
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    load: Vec<NamedSource>,
    /// Recorded loads
    #[arg(long, value_name = "FILE")]
    trace: Vec<PathBuf>,
    /// Format of the traces [default: what their content tells]
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// Of the traces only this volume
    #[arg(long, value_name = "NUMBER")]
    volume: Option<u64>,
    /// Size of generated volumes, all of it in use
    #[arg(long, default_value = "256M")]
    size: Size,
    /// Segment sizes
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1M")]
    segment: Vec<Size>,
    /// Clean when more than this share of what is stored is dead
    #[arg(long, default_value = "15%")]
    garbage: Share,
    /// Instead: the live data are this share of the device, and the cleaner starts when free segments run out
    #[arg(long, conflicts_with = "garbage")]
    full: Option<Share>,
    /// Log heads
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=15))]
    pub heads: u8,
    /// Place each block of a write request by itself, as a block device would; a mount places the request as a whole
    #[arg(long)]
    pub each_block: bool,
    /// How often a generated load writes its volume
    #[arg(long, default_value_t = 20.0)]
    times: f64,
}

/// A volume and its log.
pub struct Setting {
    pub volume: Volume,
    pub segment_blocks: u32,
    pub geometry: Geometry,
}

impl Sources {
    pub fn fullness(&self) -> Result<Fullness> {
        let share = |share: Share| f64::from(share.hundredths()) / 10_000.0;
        let fullness = match self.full {
            Some(full) => Fullness::Utilization(share(full)),
            None => Fullness::Garbage(share(self.garbage)),
        };
        match fullness {
            Fullness::Garbage(share) | Fullness::Utilization(share) if !(0.01..=0.99).contains(&share) => {
                Err(Failure::new("the share of garbage or of live data must lie between 1% and 99%"))
            }
            _ => Ok(fullness),
        }
    }

    /// Every volume in every segment size; the last `scored` share of its writes counts.
    pub fn settings(&self, scored: f64) -> Result<Vec<Setting>> {
        let fullness = self.fullness()?;
        let volumes = self.volumes(scored)?;
        let mut settings = Vec::new();
        for (volume, segment) in volumes.iter().flat_map(|v| self.segment.iter().map(move |s| (v, s))) {
            let segment_blocks = (segment.0 / BLOCK_SIZE as u64) as u32;
            if segment_blocks < 8 || u64::from(segment_blocks) * BLOCK_SIZE as u64 != segment.0 {
                return Err(Failure::new("a segment is a multiple of 4K and at least 32K"));
            }
            let geometry = volume.geometry(segment_blocks, fullness, self.heads).map_err(Failure::new)?;
            settings.push(Setting { volume: volume.clone(), segment_blocks, geometry });
        }
        Ok(settings)
    }

    fn volumes(&self, scored: f64) -> Result<Vec<Volume>> {
        let blocks = u32::try_from(self.size.0 / BLOCK_SIZE as u64).ok().filter(|blocks| *blocks >= 4096);
        let blocks = blocks.ok_or_else(|| Failure::new("--size: a volume has at least 16M and less than 16T"))?;
        if self.load.is_empty() && self.trace.is_empty() {
            return Err(Failure::new("name a load with --load or a trace with --trace; see gleanfs sim --help"));
        }
        if !(self.times >= 1.0 && self.times <= 1e6) {
            return Err(Failure::new("--times: a load writes its volume at least once and at most a million times"));
        }
        let made = self.load.iter().map(|source| Ok(Volume::made(source, blocks, self.times, scored)));
        let recorded = self.trace.iter().map(|path| {
            let options = trace::Options { format: self.trace_format()?, volume: self.volume, ..Default::default() };
            let recording = Recording::load(path, &options).map_err(Failure::new)?;
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            Ok(Volume::recorded(name, recording, scored))
        });
        made.chain(recorded).collect()
    }

    fn trace_format(&self) -> Result<Option<trace::Format>> {
        let named = |name: &String| {
            let unknown = || format!("no trace format {name}; there are {}", trace::NAMES.join(", "));
            trace::by_name(name).ok_or_else(|| Failure::new(unknown()))
        };
        self.format.as_ref().map(named).transpose()
    }
}
