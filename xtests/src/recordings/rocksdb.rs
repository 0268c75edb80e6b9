//! RocksDB under its own db_bench: a log, tables flushed from memory, compactions that rewrite them level by level.

use std::process::Command;

use anyhow::Result;
use gleanfs::cli::bench::process::{command, installed, run};

use super::{Load, Place};

const PROGRAM: &str = "db_bench";
const KEY_BYTES: u64 = 16;
const VALUE_BYTES: u64 = 400;
/// What a tree with this many levels holds beside its newest entries, in percent of them.
const SPACE_PERCENT: u64 = 117;
/// A round overwrites this share of the keys.
const ROUNDS_PER_PASS: u64 = 4;

/// Small tables and little debt, so that compactions are many and their room is bounded.
const SHAPE: [&str; 12] = [
    "--compression_type=none",
    "--compression_ratio=1.0",
    "--write_buffer_size=2097152",
    "--target_file_size_base=2097152",
    "--max_bytes_for_level_base=8388608",
    "--soft_pending_compaction_bytes_limit=33554432",
    "--hard_pending_compaction_bytes_limit=67108864",
    "--level0_slowdown_writes_trigger=8",
    "--level0_stop_writes_trigger=12",
    "--bytes_per_sync=1048576",
    "--histogram=false",
    "--stats_per_interval=0",
];

pub(super) struct Rocksdb<'a> {
    place: Place<'a>,
    rounds: u64,
}

pub(super) fn lacks() -> Option<String> {
    (!installed(PROGRAM)).then(|| format!("{PROGRAM} is not installed"))
}

impl<'a> Rocksdb<'a> {
    pub(super) fn new(place: Place<'a>) -> Self {
        Self { place, rounds: 0 }
    }

    fn keys(&self) -> u64 {
        (self.place.live_bytes * 100 / SPACE_PERCENT / (KEY_BYTES + VALUE_BYTES)).max(1000)
    }

    fn bench(&self) -> Command {
        let mut bench = command(PROGRAM);
        bench.arg(format!("--db={}", self.place.target.join("tree").display())).args(SHAPE);
        bench.arg(format!("--key_size={KEY_BYTES}")).arg(format!("--value_size={VALUE_BYTES}"));
        bench.arg(format!("--num={}", self.keys())).arg(format!("--seed={}", self.place.seed + self.rounds));
        bench
    }
}

impl Load for Rocksdb<'_> {
    /// Every key once, in random order: `fillrandom` would miss a third of them and the tree would grow during the rounds.
    fn fill(&mut self) -> Result<()> {
        run(self.bench().arg("--benchmarks=filluniquerandom"))?;
        Ok(())
    }

    fn round(&mut self) -> Result<()> {
        self.rounds += 1;
        let writes = self.keys() / ROUNDS_PER_PASS;
        run(self.bench().args(["--benchmarks=overwrite", "--use_existing_db=1"]).arg(format!("--writes={writes}")))?;
        Ok(())
    }
}
