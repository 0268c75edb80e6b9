//! RocksDB's db_bench, which waits for its log at every write: small tables, so that compactions are under way when the kill comes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use gleanfs::cli::bench::process::{command, installed, run};

use super::{Companion, Process};

const PROGRAM: &str = "db_bench";
const SHAPE: [&str; 9] = [
    "--compression_type=none",
    "--write_buffer_size=1048576",
    "--target_file_size_base=1048576",
    "--max_bytes_for_level_base=4194304",
    "--num=20000",
    "--key_size=16",
    "--value_size=400",
    "--histogram=false",
    "--stats_per_interval=0",
];

pub(super) struct Rocksdb {
    tree: PathBuf,
    process: Process,
}

pub(super) fn lacks() -> Option<String> {
    (!installed(PROGRAM)).then(|| format!("{PROGRAM} is not installed"))
}

impl Rocksdb {
    pub(super) fn make(target: &Path) -> Result<Self> {
        let rocksdb = Self { tree: target.join("tree"), process: Process::default() };
        run(rocksdb.bench().args(["--benchmarks=fillrandom", "--writes=1000"]))?;
        Ok(rocksdb)
    }

    fn bench(&self) -> Command {
        let mut bench = command(PROGRAM);
        bench.arg(format!("--db={}", self.tree.display())).args(SHAPE);
        bench
    }
}

impl Companion for Rocksdb {
    fn start(&mut self) -> Result<()> {
        let mut bench = self.bench();
        bench.args(["--benchmarks=overwrite", "--use_existing_db=1", "--sync=1", "--writes=1000000000"]);
        self.process.start(&mut bench)
    }

    fn is_running(&mut self) -> Result<bool> {
        self.process.is_running()
    }

    fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Opening replays its log; then every table is read.
    fn check(&mut self) -> Result<()> {
        run(self.bench().args(["--benchmarks=verifychecksum,readseq", "--use_existing_db=1"]))?;
        Ok(())
    }
}
