//! What a bench says in the end: medians, and how gleanfs stands to each peer.

use std::fmt::Write;

use serde::Serialize;

use super::fio::Measured;
use super::jobs::Job;

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub rounds: u32,
    pub size_bytes: u64,
    pub backing: String,
    pub peers: Vec<String>,
    pub jobs: Vec<JobReport>,
    /// What could not be measured, and why.
    pub left_out: Vec<String>,
}

/// One question and its answers.
#[derive(Debug, Serialize)]
pub struct JobReport {
    pub job: String,
    pub question: String,
    pub unit: &'static str,
    pub answers: Vec<Answer>,
}

/// One peer's answer.
#[derive(Debug, Serialize)]
pub struct Answer {
    pub peer: String,
    /// One per round.
    pub values: Vec<f64>,
    pub median: Option<f64>,
    pub p99_us_median: Option<f64>,
    /// Median of gleanfs over that of this peer; above 1 gleanfs is faster.
    pub gleanfs_ratio: Option<f64>,
    #[serde(skip)]
    p99_us: Vec<f64>,
}

impl Report {
    /// Adds a measurement; jobs and peers are listed in the order in which they first come.
    pub fn add(&mut self, job: &Job, peer: &str, measured: Measured) {
        let at = self.jobs.iter().position(|report| report.job == job.name).unwrap_or_else(|| {
            let (question, unit) = (job.question.clone(), job.metric.quantity.unit());
            self.jobs.push(JobReport { job: job.name.clone(), question, unit, answers: Vec::new() });
            self.jobs.len() - 1
        });
        let answers = &mut self.jobs[at].answers;
        let at = answers.iter().position(|answer| answer.peer == peer).unwrap_or_else(|| {
            answers.push(Answer {
                peer: peer.into(),
                values: Vec::new(),
                median: None,
                p99_us_median: None,
                gleanfs_ratio: None,
                p99_us: Vec::new(),
            });
            answers.len() - 1
        });
        answers[at].values.push(measured.value);
        answers[at].p99_us.extend(measured.p99_us);
    }

    /// Computes medians and ratios from what was added.
    pub fn conclude(&mut self) {
        for job in &mut self.jobs {
            for answer in &mut job.answers {
                answer.median = median(&answer.values);
                answer.p99_us_median = median(&answer.p99_us);
            }
            let ours = job.answers.iter().find(|answer| answer.peer == "gleanfs").and_then(|answer| answer.median);
            for answer in job.answers.iter_mut().filter(|answer| answer.peer != "gleanfs") {
                answer.gleanfs_ratio = ours.zip(answer.median).map(|(ours, theirs)| ours / theirs);
            }
        }
    }

    /// A line per job: the median of each peer, and behind it how many times as fast gleanfs is.
    pub fn table(&self) -> String {
        let mut out = format!("{:<20}{:<7}", "job", "unit");
        for peer in &self.peers {
            let _ = write!(out, "{:>20}", if peer == "gleanfs" { peer.clone() } else { format!("{peer} (ratio)") });
        }
        out.push('\n');
        for job in &self.jobs {
            let _ = write!(out, "{:<20}{:<7}", job.job, job.unit);
            for peer in &self.peers {
                let answer = job.answers.iter().find(|answer| answer.peer == *peer);
                let _ = write!(out, "{:>20}", answer.map_or_else(|| "-".into(), cell));
            }
            out.push('\n');
        }
        out
    }
}

fn cell(answer: &Answer) -> String {
    let median = answer.median.map_or_else(|| "-".into(), |median| format!("{median:.1}"));
    answer.gleanfs_ratio.map_or_else(|| median.clone(), |ratio| format!("{median} (x{ratio:.2})"))
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::jobs::select;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 9.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn ratios_are_ours_over_theirs_and_gaps_are_dashes() {
        let job = &select("mixed").unwrap()[0];
        let mut report = Report { peers: vec!["gleanfs".into(), "ext4".into(), "redoxfs".into()], ..Report::default() };
        for (peer, value) in [("gleanfs", 300.0), ("ext4", 200.0), ("ext4", 100.0), ("ext4", 900.0)] {
            report.add(job, peer, Measured { value, p99_us: Some(value) });
        }
        report.conclude();
        let ext4 = &report.jobs[0].answers[1];
        assert_eq!((ext4.median, ext4.gleanfs_ratio, ext4.p99_us_median), (Some(200.0), Some(1.5), Some(200.0)));
        let table = report.table();
        assert!(table.contains("200.0 (x1.50)") && table.trim_end().ends_with('-'), "{table}");
    }
}
