//! `gleanfs sim` as its users run it: tables, JSON and pictures from generated and recorded loads, and one line for what cannot be simulated.

mod common;
#[path = "../../gc/tests/support/onnx.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod onnx;

use std::fs;
use std::path::Path;

use common::{Scratch, can_infer, gleanfs, said};
use onnx::{Message, ModelWriter, node};
use serde_json::Value;

const SMALL: [&str; 4] = ["sim", "--size=16M", "--segment=128K", "--times=4"];

fn json(words: &[&str]) -> Value {
    serde_json::from_str(&said(&[&SMALL[..], words, &["--json"]].concat())).unwrap()
}

fn wa(report: &Value, table: usize, row: usize) -> f64 {
    report["tables"][table]["rows"][row]["wa"].as_f64().unwrap()
}

/// A trace as MSR Cambridge publishes them: blocks 0 to 4095, then a quarter of them again and again.
fn trace(path: &Path) {
    let line = |n: u64, block: u64| {
        format!("{},host,0,Write,{},4096,100\n", 128_166_372_000_000_000 + n * 10_000, block * 4096)
    };
    let blocks = (0..4096).chain((0..16_384).map(|n| n * 7 % 1024));
    let text: String = blocks.enumerate().map(|(n, block)| line(n as u64, block)).collect();
    fs::write(path, text).unwrap();
}

#[test]
fn pairs_are_compared_on_a_generated_load() {
    let policies = "--policy=greedy/none,cost-age/sepbit,cost-age/shuffled-rows,cost-age/geometric";
    let report = json(&["--load=zipf:1,circular", policies, "--seeds=1,2"]);
    let [greedy, sepbit, shuffled, oracle] = [0, 1, 2, 3].map(|row| wa(&report, 0, row));
    assert!(oracle < sepbit && sepbit < greedy && shuffled > 1.0, "{greedy} {sepbit} {shuffled} {oracle}");
    let rows = &report["tables"][0]["rows"];
    assert_eq!((&rows[1]["of_best_rule"], &rows[3]["over_oracle"]), (&1.0.into(), &0.0.into()));
    assert_eq!(rows[0]["runs"].as_array().unwrap().len(), 2);
    assert!(wa(&report, 1, 0) < 1.05, "a circular load leaves nothing to move");
    assert_eq!(json(&["--load=zipf:1", policies])["tables"][0]["rows"][0]["runs"][0], rows[0]["runs"][0]);
}

#[test]
fn a_table_names_the_best_and_a_plot_is_drawn() {
    let directory = tempfile::tempdir().unwrap();
    let plot = directory.path().join("plot.svg");
    let words = ["--load=hotcold:0.9/0.1", "--policy=greedy/none,cost-age/ewma,learned/learned", "--plot"];
    let table = said(&[&SMALL[..], &words, &[plot.to_str().unwrap()]].concat());
    assert!(table.contains("cost-age/ewma*") && table.contains("learned/learned*"), "{table}");
    let plot = fs::read_to_string(plot).unwrap();
    assert!(plot.trim_end().ends_with("</svg>") && plot.contains("greedy/none ("));
}

#[test]
fn a_recorded_load_is_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.csv");
    trace(&path);
    let report = json(&["--trace", path.to_str().unwrap(), "--policy=greedy/none,cost-age/geometric", "--score=80%"]);
    let table = &report["tables"][0];
    assert_eq!((&table["live_blocks"], &table["scored_blocks"]), (&4096.into(), &16_384.into()));
    assert!(wa(&report, 0, 0) >= 1.0 && wa(&report, 0, 1) < 1.01);
}

/// The same linear function twice: a chain that is evaluated in place, and nodes that only ONNX Runtime knows.
fn linear(scratch: &Scratch, kind: &str, features: &[&str], weights: &[f32]) -> [String; 2] {
    let mut ours = ModelWriter::linear(features, weights, 0.0);
    ours.kind = kind.into();
    ours.model_extra = Message::default().message(14, Message::default().text(1, "gleanfs.name").text(2, "linear"));
    let mut other = ours.clone();
    other.nodes = vec![node("MatMul", &["x", "w"], "product"), node("Add", &["product", "b"], "y")];
    [("ours", ours), ("other", other)].map(|(name, model)| {
        fs::write(scratch.path(&format!("{name}-{kind}.onnx")), model.bytes()).unwrap();
        scratch.name(&format!("{name}-{kind}.onnx"))
    })
}

#[test]
fn a_model_of_any_tool_is_judged_beside_its_controls() {
    if !can_infer() {
        return;
    }
    let scratch = Scratch::new();
    let [ours, other] = linear(&scratch, "placement", &["age", "rule_lifetime"], &[0.0, 1.0]);
    let policies = "--policy=cost-age/none,cost-age/ewma,cost-age/learned,cost-age/shuffled-rows,cost-age/constant";
    // Long enough for the shuffled rows, which first collect 65536 answers.
    let long = ["sim", "--size=16M", "--segment=128K", "--times=40", "--load=hotcold:0.9/0.1", policies, "--jobs=4"];
    let of = |model: &str| -> Value {
        serde_json::from_str(&said(&[&long[..], &["--json", "--model", model]].concat())).unwrap()
    };
    let report = of(&other);
    let [none, rule, model, shuffled, constant] = [0, 1, 2, 3, 4].map(|row| wa(&report, 0, row));
    assert!((model / rule - 1.0).abs() < 0.05 && model < shuffled, "{none} {rule} {model} {shuffled}");
    assert_eq!(constant, none, "a constant separates nothing");
    let in_place = of(&ours);
    assert_eq!([2, 3, 4].map(|row| wa(&in_place, 0, row)), [model, shuffled, constant]);

    let [ours, other] = linear(&scratch, "victim", &["age", "utilization"], &[0.0, 1.0]);
    let of = |model: &str| json(&["--load=zipf:1", "--policy=learned/none,greedy/none", "--victim-model", model]);
    let [in_place, report] = [of(&ours), of(&other)];
    assert_eq!(wa(&report, 0, 0), wa(&in_place, 0, 0));
    assert!(wa(&report, 0, 0) > 1.5 * wa(&report, 0, 1), "this one cleans what is fullest");
}

#[test]
fn what_is_no_model_for_it_is_one_line() {
    let scratch = Scratch::new();
    let [_, other] = linear(&scratch, "placement", &["age"], &[1.0]);
    let [_, victim] = linear(&scratch, "victim", &["age"], &[1.0]);
    let line = |words: &[&str]| {
        let output = gleanfs(&[&SMALL[..], &["--load=zipf:1", "--policy=greedy/learned"], words].concat()).output();
        let output = output.unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{words:?}: {line}");
        assert!(output.stdout.is_empty());
        line
    };
    assert!(line(&["--model", &victim]).contains("a placement model is wanted"));
    assert!(line(&["--victim-model", &other]).contains("a victim model is wanted"));
    assert!(line(&["--model", "/no/such.onnx"]).contains("/no/such.onnx: No such file"));
    let missing = line(&["--model", &other, "--library", "/no/lib.so"]);
    assert!(missing.contains("/no/lib.so") && missing.contains("model fetch"), "{missing}");
    let rubbish = scratch.name("rubbish.so");
    fs::write(&rubbish, b"to be or not to be").unwrap();
    assert!(line(&["--model", &other, "--library", &rubbish]).contains("rubbish.so"));
    if !can_infer() {
        return;
    }
    // Fine in a trial and on most rows, but not for what was never overwritten.
    let mut late = ModelWriter::new(&["newest_interval"]);
    late.initializers = vec![onnx::tensor("b", &[1], &[5.5])];
    late.nodes = vec![
        node("Greater", &["x", "b"], "unknown"),
        node("Sub", &["x", "x"], "zero"),
        node("Div", &["x", "zero"], "wrong"),
        node("Where", &["unknown", "wrong", "x"], "y"),
    ];
    fs::write(scratch.path("wrong.onnx"), late.bytes()).unwrap();
    assert!(line(&["--model", &scratch.name("wrong.onnx")]).contains("not finite"));
}

#[test]
fn what_cannot_be_simulated_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let whole = directory.path().join("whole.csv");
    trace(&whole);
    let mut cut = fs::read(&whole).unwrap();
    cut.truncate(cut.len() - 20);
    let [unknown, empty, cut] = [file("unknown", b"to be or not to be\n"), file("empty", b""), file("cut.csv", &cut)];
    let whole = whole.to_str().unwrap();
    for (words, in_it) in [
        (vec!["--trace", &unknown], vec!["unknown", "--format"]),
        (vec!["--trace", &empty], vec!["empty"]),
        (vec!["--trace", &cut], vec!["cut.csv", "line 20480"]),
        (vec!["--trace", "/no/such/trace"], vec!["/no/such/trace"]),
        (vec!["--trace", whole, "--format", "tape"], vec!["tape", "msr"]),
        (vec!["--trace", whole, "--volume", "77"], vec!["77"]),
        (vec!["--load", "zipf"], vec!["zipf:THETA"]),
        (vec!["--load", "uniform", "--policy", "best/none"], vec!["best", "cost-age-class"]),
        (vec!["--load", "uniform", "--full", "99%"], vec!["spare segments"]),
        (vec!["--load", "uniform", "--size", "15T"], vec!["uniform: a log of"]),
        (vec!["--load", "uniform", "--segment", "2T"], vec!["uniform: a log of"]),
        (vec!["--load", "uniform", "--model", &unknown], vec!["unknown"]),
        (vec!["--load", "uniform", "--score", "0%"], vec!["--score"]),
        (vec![], vec!["--load", "--trace"]),
    ] {
        let words = [&["sim"], &words[..]].concat();
        let output = gleanfs(&words).output().unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {line}");
        assert!(line.starts_with("gleanfs: ") && line.trim_end().lines().count() == 1, "{words:?}: {line}");
        in_it.iter().for_each(|word| assert!(line.contains(word), "{words:?}: no {word:?} in: {line}"));
        assert!(output.stdout.is_empty());
    }
}
