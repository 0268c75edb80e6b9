//! fio's part: a file is filled, then overwritten in steps.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::{command, run};
use serde_json::Value;

/// How the file is overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// fio's zipf of 0.99
    Zipf,
    /// Nine of ten writes go to a tenth of the file, which moves on by its own width with every step
    Shifting,
}

/// Steps in which the file's size is written once.
pub(super) const STEPS_PER_VOLUME: f64 = 2.0;
/// The hot tenth is at one of so many places.
const PLACES: u64 = 10;
/// Spreads centres evenly.
const GOLDEN: f64 = 0.618_033_988_75;
const NAME: &str = "file";

/// What fio says of a step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latency {
    pub p999_us: f64,
}

impl Latency {
    pub(super) fn worst(all: &[Self]) -> Self {
        Self { p999_us: all.iter().map(|latency| latency.p999_us).fold(0.0, f64::max) }
    }
}

/// Writes the file from front to back.
pub(super) fn fill(target: &Path, bytes: u64) -> Result<()> {
    fio(target, bytes, &["--rw=write", "--bs=1M", "--end_fsync=1"]).map(drop)
}

/// Overwrites some of the file.
pub(super) fn step(target: &Path, bytes: u64, shape: Shape, seed: u64, step: u64) -> Result<Latency> {
    let amount = format!("--io_size={}", (bytes as f64 / STEPS_PER_VOLUME) as u64);
    // The centre says which blocks are hot: the same ones in every step, which is seeded for itself.
    let distribution = match shape {
        Shape::Zipf => format!("--random_distribution=zipf:0.99:{:.3}", (seed as f64 * GOLDEN).fract()),
        Shape::Shifting => format!("--random_distribution=zoned:{}", zones(step % PLACES)),
    };
    let seed = format!("--randseed={}", seed * 1000 + step);
    let words = ["--rw=randwrite", "--bs=4k", "--norandommap", "--refill_buffers", "--randrepeat=0"];
    let words = [&words[..], &[&amount, &distribution, &seed]].concat();
    latency(&fio(target, bytes, &words)?)
}

/// fio's way to say it: traffic and space of the part before, of the hot tenth, and of the part after, in percent.
fn zones(place: u64) -> String {
    let (before, after) = (place * 10, 90 - place * 10);
    // The parts share the tenth of the traffic by their size.
    let cold = |space: u64| (space as f64 / 9.0).round() as u64;
    let parts = [(cold(before), before), (90, 10), (10 - cold(before), after)];
    let parts = parts.iter().filter(|(_, space)| *space > 0);
    parts.map(|(traffic, space)| format!("{traffic}/{space}")).collect::<Vec<_>>().join(":")
}

fn fio(target: &Path, bytes: u64, words: &[&str]) -> Result<Value> {
    let mut fio = command("fio");
    fio.args(["--name=measure", "--filename", NAME, "--direct=1", "--ioengine=libaio", "--iodepth=4"]);
    fio.args(["--output-format=json", &format!("--size={bytes}")]).args(words).current_dir(target);
    let output = run(&mut fio)?;
    let begin = output.iter().position(|byte| *byte == b'{').context("fio printed no JSON")?;
    let report: Value = serde_json::from_slice(&output[begin..]).context("what fio printed")?;
    ensure!(report["jobs"][0]["error"] == 0, "fio: {}", report["jobs"][0]["error"]);
    Ok(report)
}

fn latency(report: &Value) -> Result<Latency> {
    let p999 = report["jobs"][0]["write"]["clat_ns"]["percentile"]["99.900000"].as_f64();
    Ok(Latency { p999_us: p999.context("fio printed no percentiles")? / 1e3 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hot_tenth_moves_through_the_file() {
        assert_eq!(zones(0), "90/10:10/90");
        assert_eq!(zones(4), "4/40:90/10:6/50");
        assert_eq!(zones(9), "10/90:90/10");
    }
}
