//! `gleanfs model samples` as its users run it: tables of rows and labels from generated and recorded loads.

mod common;

use std::fs;
use std::io::Read;

use common::{Scratch, gleanfs, said};

const SMALL: [&str; 5] = ["model", "samples", "--size=16M", "--segment=128K", "--times=6"];

/// Writes a table and reads it: the names of the columns and the rows.
fn table(scratch: &Scratch, words: &[&str]) -> (Vec<String>, Vec<Vec<String>>) {
    let file = scratch.name("rows.csv");
    said(&[&SMALL[..], words, &[&file]].concat());
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect());
    (lines.next().unwrap(), lines.collect())
}

fn numbers(table: &(Vec<String>, Vec<Vec<String>>), column: &str) -> Vec<f64> {
    let at = table.0.iter().position(|name| name == column).unwrap();
    table.1.iter().map(|row| row[at].parse().unwrap()).collect()
}

#[test]
fn rows_say_when_and_where_and_what_became_of_them() {
    let scratch = Scratch::new();
    let found = table(&scratch, &["--load=zipf:1,files", "--max=4000"]);
    assert!(found.0[..3] == ["newest_interval", "mean_interval", "rule_lifetime"]);
    assert_eq!(found.0[found.0.len() - 4..], ["label", "censored", "volume", "clock"]);
    assert!(found.1.iter().all(|row| row.len() == found.0.len()));
    let of = |name: &str| found.1.iter().filter(|row| row[row.len() - 2] == name).count();
    assert!(of("zipf:1") == 2000 && of("files") == 2000, "{} {}", of("zipf:1"), of("files"));
    let (labels, censored, clocks) = (numbers(&found, "label"), numbers(&found, "censored"), numbers(&found, "clock"));
    // 4096 blocks, six times over; the last quarter adds no rows.
    let taken = 6.0 * 4096.0 * 0.75;
    assert!(clocks[..2000].is_sorted() && clocks[2000..].is_sorted());
    assert!(clocks.iter().all(|clock| *clock < taken) && clocks[1999] > 0.9 * taken);
    let twice: Vec<f64> = (0..2000).filter(|n| censored[*n] == 1.0).map(|n| labels[n]).collect();
    let alive = (2.0 * (6.0 * 4096.0 - taken) / 4096.0f64).log2();
    assert!(!twice.is_empty() && twice.iter().all(|label| *label >= alive), "survivors lived through the last quarter");
    let moved = numbers(&found, "is_cleaning");
    assert!(moved.contains(&0.0) && moved.contains(&1.0));
}

#[test]
fn a_seed_repeats_itself_and_compression_loses_nothing() {
    let scratch = Scratch::new();
    let words = ["--load=tenants:1/60/30", "--max=1000", "--seed=5"];
    let plain = table(&scratch, &words);
    let file = scratch.name("rows.csv.gz");
    let line = said(&[&SMALL[..], &words, &["--jobs=1", &file]].concat());
    assert!(line.contains("1000 rows of 1 volume"), "{line}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, fs::read_to_string(scratch.path("rows.csv")).unwrap());
    assert_ne!(plain.1, table(&scratch, &["--load=tenants:1/60/30", "--max=1000", "--seed=6"]).1);
    // What a load knows of itself is a label without chance.
    let expected = table(&scratch, &["--load=uniform", "--expected"]);
    let labels = numbers(&expected, "label");
    assert!(labels.windows(2).skip(labels.len() / 2).all(|two| (two[0] - two[1]).abs() < 1e-3));
}

#[test]
fn victims_come_with_what_cleaning_them_is_worth() {
    let scratch = Scratch::new();
    let found = table(&scratch, &["--load=zipf:1", "--kind=victim", "--max=500"]);
    assert_eq!((found.0[0].as_str(), found.1.len()), ("utilization", 500));
    let (full, worth) = (numbers(&found, "utilization"), numbers(&found, "label"));
    let mean = |of: &dyn Fn(f64) -> bool| {
        let some: Vec<f64> = full.iter().zip(&worth).filter(|(u, _)| of(**u)).map(|(_, worth)| *worth).collect();
        some.iter().sum::<f64>() / some.len() as f64
    };
    assert!(mean(&|u| u < 0.8) > mean(&|u| u >= 0.8), "what is emptier is worth more");
}

#[test]
fn a_trace_gives_its_name_and_what_cannot_be_recorded_is_one_line() {
    let scratch = Scratch::new();
    let line = |n: u64| format!("{},host,0,Write,{},4096,100\n", 128_166_372_000_000_000 + n * 10_000, n % 4096 * 4096);
    let trace = scratch.name("a,b.csv");
    fs::write(&trace, (0..20_000).map(line).collect::<String>()).unwrap();
    let file = scratch.name("rows.csv");
    said(&["model", "samples", "--trace", &trace, "--segment=128K", "--max=100", &file]);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.lines().count() == 101 && text.lines().skip(1).all(|line| line.contains(",\"a,b.csv\",")));

    let to = scratch.name("no/such/rows.csv");
    for (words, in_it) in [
        (vec![&file[..]], vec!["--load", "--trace"]),
        (vec!["--load=files", &to], vec!["no/such/rows.csv", "No such file"]),
        (vec!["--load=files", "--watched=100%", &file], vec!["--watched"]),
        (vec!["--load=files", "--model=/no/model", &file], vec!["/no/model"]),
        (vec!["--load=files", "--max=0", &file], vec!["--max"]),
        (vec!["--load=files", "--kind=cat", &file], vec!["cat", "victim"]),
    ] {
        let output = gleanfs(&[&["model", "samples"], &words[..]].concat()).output().unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), line.trim_end().lines().count()), (Some(1), 1), "{words:?}: {line}");
        in_it.iter().for_each(|word| assert!(line.contains(word), "{words:?}: no {word:?} in: {line}"));
    }
}
