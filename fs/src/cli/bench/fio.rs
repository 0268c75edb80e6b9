//! One run of fio: the job file goes in, the one number that answers its question comes out.

use std::path::Path;

use serde_json::Value;

use super::jobs::{Direction, Job, Metric, Quantity};
use super::process::{command, run};
use crate::cli::failure::{About, Failure, Result};

/// What one run measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// In the unit of the job's metric.
    pub value: f64,
    /// 99th percentile of the completion latency of the slower direction.
    pub p99_us: Option<f64>,
}

/// Sizes and times that the job files ask for by name.
#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    /// Bytes of the filesystem.
    pub size: u64,
    pub runtime_secs: u64,
}

/// Runs `job` in the directory `target`; `scratch` takes the job file.
pub fn measure(job: &Job, target: &Path, scratch: &Path, parameters: Parameters) -> Result<Measured> {
    let file = scratch.join(format!("{}-{}.fio", job.name, std::process::id()));
    std::fs::write(&file, &job.text).about(file.display())?;
    let Parameters { size, runtime_secs } = parameters;
    let mut fio = command("fio");
    fio.arg("--output-format=json").arg(&file).current_dir(scratch);
    fio.env("DIR", target)
        .env("FILE_SIZE", (size / 2).to_string())
        .env("FILL_80", (size / 100 * 80).to_string())
        .env("FILL_90", (size / 100 * 90).to_string())
        .env("RUNTIME", runtime_secs.to_string())
        .env("STEADY_RUNTIME", (3 * runtime_secs).to_string());
    let output = run(&mut fio);
    let _ = std::fs::remove_file(&file);
    read(&output?, job.metric)
}

/// Sums the jobs named `measure`. fio may print notes before its JSON.
fn read(output: &[u8], metric: Metric) -> Result<Measured> {
    let unreadable = || Failure::new("fio: its output is not the JSON that fio 3 prints; check fio --version");
    let begin = output.iter().position(|byte| *byte == b'{').ok_or_else(unreadable)?;
    let report: Value = serde_json::Deserializer::from_slice(&output[begin..])
        .into_iter()
        .next()
        .and_then(std::result::Result::ok)
        .ok_or_else(unreadable)?;
    let jobs: Vec<&Value> =
        report["jobs"].as_array().ok_or_else(unreadable)?.iter().filter(|job| job["jobname"] == "measure").collect();
    if let Some(failed) = jobs.iter().find(|job| job["error"] != 0) {
        let error = std::io::Error::from_raw_os_error(failed["error"].as_i64().unwrap_or(0) as i32);
        return Err(Failure::new(format_args!("fio: {error}")));
    }
    let sides: &[&str] = match metric.direction {
        Direction::Read => &["read"],
        Direction::Write => &["write"],
        Direction::Total => &["read", "write"],
    };
    let sides = || jobs.iter().flat_map(|job| sides.iter().map(|side| &job[*side]));
    let value = match metric.quantity {
        Quantity::Bandwidth => sides().filter_map(|side| side["bw_bytes"].as_f64()).sum::<f64>() / f64::from(1 << 20),
        Quantity::Iops => sides().filter_map(|side| side["iops"].as_f64()).sum(),
    };
    let p99 = sides().filter_map(|side| side["clat_ns"]["percentile"]["99.000000"].as_f64()).reduce(f64::max);
    if value > 0.0 { Ok(Measured { value, p99_us: p99.map(|ns| ns / 1e3) }) } else { Err(unreadable()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &[u8] = br#"fio: a note
        {"jobs": [
            {"jobname": "prepare", "error": 0, "write": {"bw_bytes": 9e9, "iops": 9e9}},
            {"jobname": "measure", "error": 0,
             "read": {"bw_bytes": 2097152, "iops": 512.0, "clat_ns": {"percentile": {"99.000000": 5000}}},
             "write": {"bw_bytes": 1048576, "iops": 256.0, "clat_ns": {"percentile": {"99.000000": 7000}}}}]}"#;

    fn metric(direction: Direction, quantity: Quantity) -> Metric {
        Metric { direction, quantity }
    }

    #[test]
    fn the_measured_job_alone_counts() {
        let read = |metric| read(REPORT, metric).unwrap();
        let writes = read(metric(Direction::Write, Quantity::Bandwidth));
        assert_eq!((writes.value, writes.p99_us), (1.0, Some(7.0)));
        let both = read(metric(Direction::Total, Quantity::Iops));
        assert_eq!((both.value, both.p99_us), (768.0, Some(7.0)));
    }

    #[test]
    fn errors_and_nonsense_are_no_measurements() {
        let read = |text: &str| read(text.as_bytes(), metric(Direction::Read, Quantity::Iops));
        assert!(read("fio died").is_err());
        assert!(read(r#"{"jobs": []}"#).is_err());
        let full = read(r#"{"jobs": [{"jobname": "measure", "error": 28, "read": {"iops": 3.0}}]}"#);
        assert!(full.unwrap_err().message.contains("No space left"));
    }
}
