//! The advisor with real workers, real models and the real ONNX Runtime.
//!
//! The workers are this very program, started again with a first argument that names their role. A
//! role other than `advisor` misbehaves in one way once it is confined. Needs the ONNX Runtime
//! library (fetched once into the cache); without it the tests say why they are skipped.

#[path = "support/harness.rs"]
mod harness;
#[path = "support/onnx.rs"]
#[allow(dead_code)]
mod onnx;
#[path = "support/roles.rs"]
mod roles;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gleanfs_gc::advisor::{
    Advisor, AdvisorConfig, AdvisorState, Answer, Batch, Host, LocalModel, ModelKind, ModelRole, NamedModel, ROWS_MAX,
    Rules, check_model,
};
use gleanfs_gc::runtime::{Request, locate};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use onnx::{Message, ModelWriter, node, tensor};

const KNOWN: [&str; 4] = ["age", "size", "heat", "depth"];
const LONG: Duration = Duration::from_secs(30);

const TESTS: &[harness::Test] = &[
    ("answers_are_what_the_model_computes", answers_are_what_the_model_computes),
    ("a_status_tells_what_is_there", a_status_tells_what_is_there),
    ("old_generations_are_dropped", old_generations_are_dropped),
    ("a_killed_worker_is_started_again", a_killed_worker_is_started_again),
    ("a_stopped_worker_costs_deadlines_and_is_killed", a_stopped_worker_costs_deadlines_and_is_killed),
    ("a_worker_that_scribbles_is_caught", a_worker_that_scribbles_is_caught),
    ("a_worker_that_answers_nan_is_not_believed", a_worker_that_answers_nan_is_not_believed),
    ("a_confined_worker_reaches_nothing", a_confined_worker_reaches_nothing),
    ("bad_models_are_refused_and_change_nothing", bad_models_are_refused_and_change_nothing),
    ("a_slow_model_is_refused", a_slow_model_is_refused),
    ("a_model_that_grows_without_bound_is_refused", a_model_that_grows_without_bound_is_refused),
    ("models_are_swapped_and_rolled_back_under_load", models_are_swapped_and_rolled_back_under_load),
    ("a_model_that_fails_on_live_data_is_refused_in_shadow", a_model_that_fails_on_live_data_is_refused_in_shadow),
    ("a_watched_file_becomes_the_model", a_watched_file_becomes_the_model),
    ("a_missing_library_is_a_clear_line", a_missing_library_is_a_clear_line),
    ("a_model_runs_in_this_process_too", a_model_runs_in_this_process_too),
    ("what_cannot_be_simulated_is_refused_in_this_process", what_cannot_be_simulated_is_refused_in_this_process),
    ("the_worker_ends_with_the_advisor", the_worker_ends_with_the_advisor),
    ("the_worker_dies_with_a_killed_daemon", the_worker_dies_with_a_killed_daemon),
];

fn main() {
    let mut words = std::env::args_os().skip(1);
    if let Some(role) = std::env::args().nth(1).filter(|word| word.starts_with("advisor")) {
        words.next();
        roles::play(&role, words.collect());
    }
    harness::run(TESTS);
}

/// The library, or nothing after saying why.
fn library() -> Option<PathBuf> {
    static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = LIBRARY.get_or_init(|| {
        let request = Request { fetch: true, ..Request::default() };
        locate(request).map(|library| library.path).map_err(|e| e.to_string())
    });
    found.clone().inspect_err(|why| harness::skip(why.clone())).ok()
}

fn host(role: &str, library: PathBuf) -> Host {
    let rules = Rules::new(&KNOWN, "1", Some(ModelKind::Placement));
    Host {
        exe_args: vec![role.into()],
        deadline_us: 200_000,
        overrun: Duration::from_secs(1),
        ..Host::new(std::env::current_exe().unwrap(), library, rules)
    }
}

fn config(role: &str, library: PathBuf, model: &ModelWriter) -> AdvisorConfig {
    let model = NamedModel { name: "first".into(), bytes: model.bytes() };
    AdvisorConfig { model: Some(model), ..AdvisorConfig::new(host(role, library)) }
}

/// An advisor in service, or nothing if there is no library.
fn start(role: &str, model: &ModelWriter) -> Option<Advisor> {
    let advisor = Advisor::start(config(role, library()?, model)).unwrap();
    wait_ready(&advisor);
    Some(advisor)
}

fn wait_ready(advisor: &Advisor) {
    let ready = advisor.wait_for(LONG, |status| status.state == AdvisorState::Ready);
    assert!(ready && advisor.is_ready(), "{:?}", advisor.status());
}

fn batch(generation: u64, values: &[f32]) -> Batch<'_> {
    Batch { generation, kind: ModelKind::Placement, rows: values.len() / KNOWN.len(), values }
}

/// Posts and waits for the answer.
fn ask(advisor: &Advisor, generation: u64, values: &[f32]) -> Answer {
    assert!(advisor.post(&batch(generation, values)), "{:?}", advisor.status());
    let mut answer = Answer::with_capacity();
    assert!(advisor.poll_until(generation, LONG, &mut answer), "{:?}", advisor.status());
    answer
}

/// y = 2 heat + 10 age + 0.5, with the columns in another order than the caller's.
fn linear() -> ModelWriter {
    ModelWriter::linear(&["heat", "age"], &[2.0, 10.0], 0.5)
}

const ROWS: [f32; 8] = [1.0, 9.0, 3.0, 9.0, 2.0, 9.0, 4.0, 9.0];
const LINEAR_OF_ROWS: [f32; 2] = [16.5, 28.5];

fn answers_are_what_the_model_computes() {
    let Some(advisor) = start("advisor", &linear()) else { return };
    assert_eq!(ask(&advisor, 1, &ROWS).values, LINEAR_OF_ROWS);
    let (hidden, width) = (8, KNOWN.len());
    let first: Vec<f32> = (0..width * hidden).map(|i| ((i * 7 % 11) as f32 - 5.0) / 3.0).collect();
    let second: Vec<f32> = (0..hidden).map(|i| (i as f32 - 3.5) / 2.0).collect();
    let model = ModelWriter::mlp(&KNOWN, hidden, &first, &second);
    advisor.use_model("mlp", &model.bytes()).unwrap();
    let values: Vec<f32> = (0..ROWS_MAX * width).map(|i| ((i * 31 % 97) as f32) / 40.0).collect();
    let answer = ask(&advisor, 2, &values);
    assert_eq!(answer.values.len(), ROWS_MAX);
    for (row, &got) in values.chunks(width).zip(&answer.values) {
        let unit = |h: usize| row.iter().enumerate().map(|(i, x)| x * first[i * hidden + h]).sum::<f32>().max(0.0);
        let wanted: f32 = (0..hidden).map(|h| unit(h) * second[h]).sum();
        assert!((got - wanted).abs() <= 1e-4 * wanted.abs().max(1.0), "{got} instead of {wanted}");
    }
}

fn a_status_tells_what_is_there() {
    let Some(advisor) = start("advisor", &linear()) else { return };
    for generation in 0..20 {
        ask(&advisor, generation, &ROWS);
    }
    let status = advisor.status();
    assert_eq!((status.posted, status.answers, status.restarts), (20, 20, 0));
    assert!(status.pid.is_some() && status.latency_p50_us <= status.latency_p99_us);
    assert_eq!(status.library_version, gleanfs_gc::runtime::VERSION);
    assert!(status.sandbox.contains("seccomp"), "{status:?}");
    assert_eq!(status.models.len(), 1);
    let current = &status.models[0];
    assert_eq!((current.role, current.name.as_str()), (ModelRole::Current, "first"));
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["state"], "ready");
}

fn old_generations_are_dropped() {
    let Some(advisor) = start("advisor", &linear()) else { return };
    assert!(advisor.post(&batch(5, &ROWS)) && advisor.post(&batch(6, &ROWS)));
    let mut answer = Answer::with_capacity();
    assert!(advisor.poll_until(6, LONG, &mut answer));
    assert_eq!((answer.generation, advisor.status().stale), (6, 1));
    assert!(advisor.poll(0).is_none());
}

fn a_killed_worker_is_started_again() {
    let Some(advisor) = start("advisor", &linear()) else { return };
    let first = advisor.status().pid.unwrap();
    signal(first, libc::SIGKILL);
    assert!(advisor.wait_for(LONG, |status| status.restarts == 1), "{:?}", advisor.status());
    wait_ready(&advisor);
    assert_ne!(advisor.status().pid, Some(first));
    assert!(advisor.status().last_error.unwrap().contains("signal 9"));
    assert_eq!(ask(&advisor, 1, &ROWS).values, LINEAR_OF_ROWS);
}

fn a_stopped_worker_costs_deadlines_and_is_killed() {
    let Some(advisor) = start("advisor", &linear()) else { return };
    signal(advisor.status().pid.unwrap(), libc::SIGSTOP);
    let (mut answer, mut longest) = (Answer::with_capacity(), Duration::ZERO);
    let since = Instant::now();
    while advisor.status().overruns_killed == 0 {
        assert!(since.elapsed() < LONG, "{:?}", advisor.status());
        let before = Instant::now();
        advisor.post(&batch(1, &ROWS));
        assert!(!advisor.poll_into(0, &mut answer), "a stopped worker answered");
        longest = longest.max(before.elapsed());
        // The load of a cleaner that asks a thousand times a second.
        std::thread::sleep(Duration::from_millis(1));
    }
    let status = advisor.status();
    assert!(status.deadlines_missed > 0 && status.not_posted > 0, "{status:?}");
    assert!(longest < Duration::from_millis(900), "a call took {longest:?}, the worker was stopped for a second");
    wait_ready(&advisor);
    assert_eq!(ask(&advisor, 2, &ROWS).values, LINEAR_OF_ROWS);
}

fn a_worker_that_scribbles_is_caught() {
    let Some(advisor) = start("advisor-scribble", &linear()) else { return };
    let (mut answer, since) = (Answer::with_capacity(), Instant::now());
    while advisor.status().lies + advisor.status().overruns_killed == 0 {
        assert!(since.elapsed() < LONG, "{:?}", advisor.status());
        advisor.post(&batch(1, &ROWS));
        if advisor.poll_into(0, &mut answer) {
            assert!(answer.values.len() == 2 && answer.values.iter().all(|v| v.is_finite()), "{answer:?}");
        }
        std::thread::yield_now();
    }
    assert!(advisor.wait_for(LONG, |status| status.restarts > 0));
}

fn a_worker_that_answers_nan_is_not_believed() {
    let Some(advisor) = start("advisor-nan", &linear()) else { return };
    assert!(advisor.post(&batch(1, &ROWS)));
    let since = Instant::now();
    while advisor.status().refused == 0 {
        assert!(since.elapsed() < LONG, "{:?}", advisor.status());
        assert!(!advisor.poll_until(0, Duration::from_millis(10), &mut Answer::with_capacity()));
    }
    assert_eq!(advisor.status().answers, 0);
}

fn a_confined_worker_reaches_nothing() {
    let Some(advisor) = start("advisor-reach", &linear()) else { return };
    let values = vec![1.0; KNOWN.len() * roles::REACHES.len()];
    let answer = ask(&advisor, 1, &values);
    for ((what, _), errno) in roles::REACHES.iter().zip(&answer.values) {
        let denied = [libc::EPERM as f32, libc::EACCES as f32].contains(errno);
        assert!(denied, "{what}: errno {errno} instead of a refusal");
    }
}

fn bad_models_are_refused_and_change_nothing() {
    let Some(advisor) = start("advisor", &linear()) else { return };
    let mut nan = linear();
    nan.initializers.push(tensor("zero", &[1], &[0.0]));
    nan.nodes =
        vec![node("Gemm", &["x", "w", "b"], "g"), node("Mul", &["g", "zero"], "z"), node("Div", &["z", "zero"], "y")];
    let mut mismatched = linear();
    mismatched.initializers[0] = tensor("w", &[3, 1], &[1.0; 3]);
    let mut victim = linear();
    victim.kind = "victim".into();
    let cases = [
        (nan.bytes(), "not finite"),
        (mismatched.bytes(), "it "),
        (victim.bytes(), "placement model is wanted"),
        (b"rubbish".to_vec(), "not an ONNX model"),
    ];
    let pid = advisor.status().pid;
    for (bytes, part) in &cases {
        let line = advisor.use_model("bad", bytes).unwrap_err();
        assert!(line.contains(part) && !line.contains('\n'), "{part:?}: {line:?}");
        assert_eq!(ask(&advisor, 1, &ROWS).values, LINEAR_OF_ROWS);
    }
    let status = advisor.status();
    assert_eq!((status.pid, status.swaps, status.swaps_refused), (pid, 0, cases.len() as u64));
    assert_eq!(advisor.models().len(), 1);
}

fn a_slow_model_is_refused() {
    let Some(library) = library() else { return };
    let mut slow = linear();
    let (edge, middle) = ([0.001; 2048], vec![0.001; 1 << 20]);
    slow.initializers = vec![tensor("in", &[2, 1024], &edge), tensor("mid", &[1024, 1024], &middle)];
    slow.initializers.push(tensor("out", &[1024, 1], &edge[..1024]));
    let names: Vec<String> = (0..9).map(|i| format!("h{i}")).collect();
    slow.nodes = vec![node("MatMul", &["x", "in"], "h0")];
    slow.nodes.extend(names.windows(2).map(|pair| node("MatMul", &[&pair[0], "mid"], &pair[1])));
    slow.nodes.push(node("MatMul", &["h8", "out"], "y"));
    let patient = Host { overrun: LONG, ready_timeout: LONG, deadline_us: 500, ..host("advisor", library) };
    let line = check_model(&patient, "slow", &slow.bytes()).unwrap_err();
    assert!(line.contains("the deadline is 500 us"), "{line}");
}

fn a_model_that_grows_without_bound_is_refused() {
    let Some(library) = library() else { return };
    let axis = onnx::Message::default().text(1, "axis").varint(3, 1).varint(20, 2);
    let mut bomb = linear();
    let names: Vec<String> = (0..31).map(|i| if i == 0 { "x".into() } else { format!("h{i}") }).collect();
    bomb.nodes =
        names.windows(2).map(|pair| node("Concat", &[&pair[0], &pair[0]], &pair[1]).message(5, axis.clone())).collect();
    let mut mean = node("ReduceMean", &["h30"], "y");
    mean = mean.message(5, onnx::Message::default().text(1, "axes").varint(8, 1).varint(20, 7));
    bomb.nodes.push(mean);
    bomb.initializers.clear();
    let patient = Host { ready_timeout: LONG, ..host("advisor", library) };
    let line = check_model(&patient, "bomb", &bomb.bytes()).unwrap_err();
    assert!(line.contains("it fails when it is run"), "{line}");
}

fn models_are_swapped_and_rolled_back_under_load() {
    let Some(advisor) = start("advisor", &linear()) else { return };
    let doubled = ModelWriter::linear(&["heat", "age"], &[4.0, 20.0], 1.0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let (mut answer, mut count) = (Answer::with_capacity(), [0u64; 2]);
            while !stop.load(Ordering::Relaxed) {
                advisor.post(&batch(1, &ROWS));
                if advisor.poll_until(0, Duration::from_millis(5), &mut answer) {
                    let second = answer.values[0] != LINEAR_OF_ROWS[0];
                    let factor = if second { 2.0 } else { 1.0 };
                    assert_eq!(answer.values, LINEAR_OF_ROWS.map(|y| y * factor));
                    count[usize::from(second)] += 1;
                }
            }
            count
        });
        // Ends the load whatever happens, so that a failure is reported and not waited for.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| swap_to_and_fro(&advisor, &doubled)));
        stop.store(true, Ordering::Relaxed);
        let count = load.join().unwrap();
        outcome.unwrap();
        assert!(count[0] > 0 && count[1] > 0, "{count:?}");
    });
    let status = advisor.status();
    assert_eq!((status.refused, status.lies, status.restarts, status.swaps), (0, 0, 0, 2), "{status:?}");
}

fn swap_to_and_fro(advisor: &Advisor, doubled: &ModelWriter) {
    assert!(advisor.rollback().unwrap_err().contains("no previous model"));
    let posted = |advisor: &Advisor| advisor.status().answers;
    let before = posted(advisor);
    assert!(advisor.wait_for(LONG, |status| status.answers > before + 10));
    advisor.use_model("doubled", &doubled.bytes()).unwrap();
    let middle = posted(advisor);
    assert!(advisor.wait_for(LONG, |status| status.answers > middle + 10));
    let names = |advisor: &Advisor| advisor.models().iter().map(|m| (m.role, m.name.clone())).collect::<Vec<_>>();
    let (first, second) = ("first".to_owned(), "doubled".to_owned());
    assert_eq!(names(advisor), [(ModelRole::Current, second.clone()), (ModelRole::Previous, first.clone())]);
    advisor.rollback().unwrap();
    assert_eq!(names(advisor), [(ModelRole::Current, first), (ModelRole::Previous, second)]);
}

fn a_model_that_fails_on_live_data_is_refused_in_shadow() {
    let Some(advisor) = start("advisor", &linear()) else { return };
    // The root of what is negative on the load below, and on nothing that the probe tries.
    let mut root = linear();
    root.initializers[1] = tensor("b", &[1], &[1000.0]);
    root.nodes = vec![node("Gemm", &["x", "w", "b"], "g"), node("Sqrt", &["g"], "y")];
    let rows = [-1000.0, 0.0, 0.0, 0.0];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut answer = Answer::with_capacity();
            while !stop.load(Ordering::Relaxed) {
                advisor.post(&batch(1, &rows));
                advisor.poll_until(0, Duration::from_millis(5), &mut answer);
            }
        });
        let refused = advisor.use_model("root", &root.bytes());
        stop.store(true, Ordering::Relaxed);
        assert!(refused.unwrap_err().contains("live data"));
    });
    let status = advisor.status();
    assert_eq!((status.swaps, status.refused, status.restarts), (0, 0, 0), "{status:?}");
}

fn a_watched_file_becomes_the_model() {
    let Some(library) = library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    let config = AdvisorConfig { watch: Some(path.clone()), ..AdvisorConfig::new(host("advisor", library)) };
    let advisor = Advisor::start(config).unwrap();
    assert!(!advisor.post(&batch(1, &ROWS)), "nobody is there to answer");
    std::fs::write(&path, linear().bytes()).unwrap();
    wait_ready(&advisor);
    assert_eq!(ask(&advisor, 1, &ROWS).values, LINEAR_OF_ROWS);
    std::fs::write(&path, b"rubbish").unwrap();
    assert!(advisor.wait_for(LONG, |status| status.swaps_refused == 1));
    assert!(advisor.status().last_error.unwrap().contains("not an ONNX model"));
    assert_eq!(ask(&advisor, 2, &ROWS).values, LINEAR_OF_ROWS);
}

fn a_missing_library_is_a_clear_line() {
    let missing = PathBuf::from("/nonexistent/libonnxruntime.so");
    let line = check_model(&host("advisor", missing.clone()), "m", &linear().bytes()).unwrap_err();
    assert!(line.contains("libonnxruntime.so") && !line.contains('\n'), "{line}");
    let advisor = Advisor::start(config("advisor", missing, &linear())).unwrap();
    assert!(advisor.wait_for(LONG, |status| status.starts >= 2), "{:?}", advisor.status());
    assert!(advisor.status().last_error.unwrap().contains("libonnxruntime.so"));
    assert!(!advisor.post(&batch(1, &ROWS)) && advisor.poll(0).is_none());
    assert!(advisor.use_model("second", &linear().bytes()).unwrap_err().contains("libonnxruntime.so"));
}

fn local_rules() -> Rules {
    Rules::new(&KNOWN, "1", None)
}

fn a_model_runs_in_this_process_too() {
    let Some(library) = library() else { return };
    let model = LocalModel::load(&library, &linear().bytes(), &local_rules()).unwrap();
    let rows: Vec<[f32; 4]> = (0..ROWS_MAX + 5).map(|n| [(n % 7) as f32, 1e9, n as f32, 1e9]).collect();
    let ask = |mut model: LocalModel| {
        let mut answers = Vec::new();
        for _ in 0..20 {
            model.ask(&rows, &mut answers);
        }
        answers
    };
    // Clones on other threads do not get into each other's way.
    let asked: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let others: Vec<_> = (0..3).map(|_| scope.spawn(|| ask(model.clone()))).collect();
        others.into_iter().map(|other| other.join().unwrap()).collect()
    });
    let wanted: Vec<f32> = rows.iter().map(|row| 2.0 * row[2] + 10.0 * row[0] + 0.5).collect();
    assert!(asked.iter().all(|answers| *answers == wanted) && model.faults() == 0);
    assert_eq!((model.card().columns.as_slice(), model.card().kind), (&[2, 0][..], ModelKind::Placement));
}

fn what_cannot_be_simulated_is_refused_in_this_process() {
    let Some(library) = library() else { return };
    let refused = |model: &ModelWriter| LocalModel::load(&library, &model.bytes(), &local_rules()).unwrap_err();
    let mut logarithm = ModelWriter::new(&["age"]);
    logarithm.nodes = vec![node("Log", &["x"], "y")];
    assert!(refused(&logarithm).contains("not finite"));
    // Each row gets its share of the batch's sum.
    let mut share = ModelWriter::new(&["age"]);
    share.initializers = vec![axes("axis", 0)];
    share.nodes = vec![node("ReduceSum", &["x", "axis"], "sum"), node("Add", &["x", "sum"], "y")];
    assert!(refused(&share).contains("other rows"), "{}", refused(&share));
    assert!(refused(&ModelWriter::new(&["age"])).contains("empty"));

    // What goes wrong only later is counted.
    let mut root = ModelWriter::new(&["age"]);
    root.initializers = vec![tensor("b", &[1], &[100.0])];
    root.nodes = vec![node("Add", &["x", "b"], "sum"), node("Sqrt", &["sum"], "y")];
    let mut model = LocalModel::load(&library, &root.bytes(), &local_rules()).unwrap();
    let mut answers = Vec::new();
    model.ask(&[[44.0, 0.0, 0.0, 0.0]], &mut answers);
    assert_eq!((answers[0], model.faults()), (12.0, 0));
    model.clone().ask(&[[-500.0, 0.0, 0.0, 0.0], [44.0, 0.0, 0.0, 0.0]], &mut answers);
    assert!(answers.len() == 2 && answers.iter().all(|answer| answer.is_nan()));
    assert_eq!(model.faults(), 2);
}

/// A vector of one integer.
fn axes(name: &str, value: i64) -> Message {
    Message::default().varint(1, 1).varint(2, 7).text(8, name).bytes(9, &value.to_le_bytes())
}

fn the_worker_ends_with_the_advisor() {
    let Some(advisor) = start("advisor", &linear()) else { return };
    let pid = advisor.status().pid.unwrap();
    drop(advisor);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    let report = check_model(&host("advisor", library().unwrap()), "m", &linear().bytes()).unwrap().1;
    assert!(report.p50_us <= report.p99_us && report.p99_us <= report.deadline_us);
}

/// The other process of the next test: has a worker, says its number, and hangs.
fn be_a_daemon() -> ! {
    let advisor = start("advisor", &linear()).unwrap();
    println!("worker {}", advisor.status().pid.unwrap());
    loop {
        std::thread::park();
    }
}

fn the_worker_dies_with_a_killed_daemon() {
    if library().is_none() {
        return;
    }
    let mut daemon = Command::new(std::env::current_exe().unwrap());
    let mut daemon = daemon.arg("advisor-daemon").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let worker: i32 = line.trim().strip_prefix("worker ").unwrap().parse().unwrap();
    let worker = rustix::process::Pid::from_raw(worker).unwrap();
    let ended = rustix::process::pidfd_open(worker, rustix::process::PidfdFlags::empty()).unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let mut fds = [PollFd::new(&ended, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 30, tv_nsec: 0 })), Ok(1), "the worker lives on");
}

fn signal(pid: i32, signal: libc::c_int) {
    // SAFETY: sends a signal to a worker that this test started.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}
