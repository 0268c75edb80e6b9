//! The fio jobs that come with the program: one question each, and which number answers it.

use std::path::PathBuf;

use crate::cli::failure::{About, Failure, Result};

/// One question to a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub name: String,
    /// The comment that opens the file.
    pub question: String,
    pub metric: Metric,
    /// The fio job file; the job in it that is named `measure` is the one that counts.
    pub text: String,
}

/// Which of fio's numbers answers the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub direction: Direction,
    pub quantity: Quantity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
    /// Both together.
    Total,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// MiB/s
    Bandwidth,
    /// Operations a second.
    Iops,
}

impl Quantity {
    pub fn unit(self) -> &'static str {
        match self {
            Self::Bandwidth => "MiB/s",
            Self::Iops => "op/s",
        }
    }
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../fio-jobs/", $name, ".fio")))),*]
    };
}

/// In the order in which they are run.
const EMBEDDED: [(&str, &str); 18] = embedded![
    "seq-write-buffered",
    "seq-write-direct",
    "seq-read-buffered",
    "seq-read-direct",
    "rand-read-buffered",
    "rand-read-direct",
    "rand-write-buffered",
    "rand-write-direct",
    "fsync-per-write",
    "fsync-four-writers",
    "mixed",
    "file-create",
    "file-stat",
    "file-delete",
    "steady-random-80",
    "steady-random-90",
    "steady-zipf-80",
    "steady-zipf-90",
];

/// The embedded jobs whose names match `pattern` (`*` stands for anything), or the job files that it names by path.
pub fn select(pattern: &str) -> Result<Vec<Job>> {
    if pattern.contains('/') || pattern.ends_with(".fio") {
        let path = PathBuf::from(pattern);
        let text = std::fs::read_to_string(&path).about(pattern)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(vec![parse(&name, &text)?]);
    }
    let chosen =
        EMBEDDED.iter().filter(|(name, _)| pattern.split(',').any(|glob| matches(glob.as_bytes(), name.as_bytes())));
    let jobs = chosen.map(|(name, text)| parse(name, text)).collect::<Result<Vec<_>>>()?;
    if jobs.is_empty() {
        let names = EMBEDDED.map(|(name, _)| name).join(", ");
        return Err(Failure::new(format_args!("--jobs {pattern}: matches none of {names}")));
    }
    Ok(jobs)
}

fn parse(name: &str, text: &str) -> Result<Job> {
    let mut comments = text.lines().map_while(|line| line.strip_prefix(';')).map(str::trim);
    let question = comments.next().unwrap_or_default().to_owned();
    let words = comments.find_map(|line| line.strip_prefix("metric:")).unwrap_or("total iops");
    let (direction, quantity) = words.trim().split_once(' ').unwrap_or_default();
    let direction = match direction {
        "read" => Some(Direction::Read),
        "write" => Some(Direction::Write),
        "total" => Some(Direction::Total),
        _ => None,
    };
    let quantity = match quantity {
        "bandwidth" => Some(Quantity::Bandwidth),
        "iops" => Some(Quantity::Iops),
        _ => None,
    };
    match (direction, quantity) {
        (Some(direction), Some(quantity)) => {
            Ok(Job { name: name.into(), question, metric: Metric { direction, quantity }, text: text.into() })
        }
        _ => Err(Failure::new(format_args!(
            "{name}.fio: '; metric:{words}' must name read, write or total, and bandwidth or iops"
        ))),
    }
}

/// Shell-like matching with `*` alone.
fn matches(glob: &[u8], name: &[u8]) -> bool {
    match glob.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        Some((first, rest)) => name.split_first().is_some_and(|(byte, name)| byte == first && matches(rest, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_job_asks_a_question_and_measures() {
        for job in select("*").unwrap() {
            assert!(job.question.ends_with('?'), "{}: {}", job.name, job.question);
            assert!(job.text.contains("[measure]"), "{}", job.name);
        }
    }

    #[test]
    fn globs_and_lists_choose() {
        let names = |pattern| select(pattern).unwrap().into_iter().map(|job| job.name).collect::<Vec<_>>();
        assert_eq!(names("steady-*-80"), ["steady-random-80", "steady-zipf-80"]);
        assert_eq!(names("mixed,file-stat"), ["mixed", "file-stat"]);
        assert!(select("nothing").unwrap_err().message.contains("matches none of"));
        assert!(!matches(b"a*b", b"acbd") && matches(b"a*b*", b"acbd"));
    }

    #[test]
    fn a_job_with_an_unknown_metric_is_refused() {
        assert!(parse("x", "; why?\n; metric: write love\n").is_err());
    }
}
