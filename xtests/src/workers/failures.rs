//! Each way for a worker to fail: done, shown to have happened, and undone where it can be.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gleanfs::control::Status;
use gleanfs::control::message::ModelRole;
use rustix::process::Signal;

use super::advice::{Advice, Worker, is_ready};
use super::starvation::{Burner, IDLE, missing_program, starve};
use super::{Failure, Files, Scene};
use crate::skip;

/// Mount options of a trial.
pub(super) fn mount_options(failure: Failure, files: &Files) -> String {
    match failure {
        Failure::Watched => format!("watch={}", files.watched.display()),
        Failure::NoLibrary => "library=/nonexistent/libonnxruntime.so".into(),
        Failure::BadLibrary => format!("library={}", files.library.display()),
        _ => String::new(),
    }
}

/// Whether there is a worker before anything is done to it.
pub(super) fn begins_ready(failure: Failure) -> bool {
    !matches!(failure, Failure::NoLibrary | Failure::BadLibrary)
}

/// Lets it fail and recover; a line about what was seen.
pub(super) fn inflict(failure: Failure, scene: &Scene<'_>) -> Result<String> {
    match failure {
        Failure::Killed => kill(scene),
        Failure::Stopped => stop(scene),
        Failure::Starved => starve_for_a_while(scene),
        Failure::Refused => refuse(scene),
        Failure::Watched => watch(scene),
        Failure::Swapped => swap(scene),
        Failure::NoLibrary => without_library(scene),
        Failure::BadLibrary => repair_library(scene),
    }
}

/// SIGKILL each time it comes back, and with it the worker that is asked about victims.
fn kill(scene: &Scene<'_>) -> Result<String> {
    let advice = &scene.advice;
    let Status { advisor: before, victim_advisor: victims_before, .. } = advice.status()?;
    let (mut last, mut away) = (0, Duration::ZERO);
    for round in 0..scene.options.rounds {
        let worker = advice.worker()?;
        ensure!(worker.pid != last, "worker {last} was killed and is there again");
        last = worker.pid;
        worker.signal(Signal::KILL)?;
        advice.worker_for_victims()?.signal(Signal::KILL)?;
        let begun = Instant::now();
        let wanted = u64::from(round) + 1;
        advice.await_status(scene.recovery(), "restarted and ready", |status| {
            let (now, victims) = (&status.advisor, &status.victim_advisor);
            now.worker_restarts >= before.worker_restarts + wanted
                && victims.worker_restarts >= victims_before.worker_restarts + wanted
                && is_ready(status)
                && victims.worker == "ready"
        })?;
        away = away.max(begun.elapsed());
    }
    let after = advice.status()?.advisor;
    ensure!(after.worker_restarts - before.worker_restarts >= u64::from(scene.options.rounds), "{after:?}");
    let said = after.last_error.unwrap_or_default();
    ensure!(said.contains("signal"), "nothing is said of the kills: '{said}'");
    Ok(format!(
        "{} kills of both workers, each noticed and repaired; longest without a worker {} ms",
        scene.options.rounds,
        away.as_millis()
    ))
}

/// SIGSTOP for many deadlines. A worker that owes an answer is replaced; one that does not may go on.
fn stop(scene: &Scene<'_>) -> Result<String> {
    let advice = &scene.advice;
    let (mut replaced, mut resumed) = (0, 0);
    let before = advice.status()?.advisor;
    for _ in 0..scene.options.rounds {
        let worker = advice.worker()?;
        stop_worker(&worker)?;
        if worker.has_ended(scene.hold())? {
            replaced += 1;
        } else {
            worker.signal(Signal::CONT)?;
            resumed += 1;
        }
        advice.await_status(scene.recovery(), "ready after a stop", is_ready)?;
    }
    let after = advice.status()?.advisor;
    let restarts = after.worker_restarts - before.worker_restarts;
    let missed = after.deadlines_missed - before.deadlines_missed;
    ensure!(restarts >= replaced, "{replaced} workers ended, but {restarts} restarts are counted");
    ensure!(restarts + missed > 0, "nobody noticed that the worker stood still {} times", scene.options.rounds);
    Ok(format!(
        "stopped {} times: {replaced} replaced, {resumed} went on, {missed} deadlines missed",
        scene.options.rounds
    ))
}

fn stop_worker(worker: &Worker) -> Result<()> {
    worker.signal(Signal::STOP)?;
    let begun = Instant::now();
    // The signal is on its way until the kernel says that it has arrived.
    while worker.kernel_view().map(|(state, _)| state).unwrap_or('X') != 'T' {
        if worker.has_ended(Duration::ZERO)? {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(5), "SIGSTOP does not stop worker {}", worker.pid);
        std::thread::yield_now();
    }
    Ok(())
}

/// Whoever serves is starved, also the one that comes after it.
fn starve_for_a_while(scene: &Scene<'_>) -> Result<String> {
    if let Some(program) = missing_program() {
        skip(format_args!("starving a worker needs {program}"));
        return Ok("not tried".into());
    }
    let advice = &scene.advice;
    let before = advice.status()?.advisor;
    let burners = [Burner::start()?, Burner::start()?];
    let begun = Instant::now();
    let mut starved = 0;
    while begun.elapsed() < scene.hold() * scene.options.rounds {
        let Ok(worker) = advice.worker() else { continue };
        // A worker may be killed for its slowness while this is done to it.
        if starve(&worker).is_err() {
            continue;
        }
        match worker.kernel_view() {
            Ok((_, class)) => ensure!(class == IDLE || worker.has_ended(Duration::ZERO)?, "the worker does not starve"),
            // It may end between any two looks at it.
            Err(why) => ensure!(worker.has_ended(Duration::ZERO)?, "{why:#}"),
        }
        starved += 1;
        worker.has_ended(scene.hold())?;
    }
    let during = advice.status()?.advisor;
    drop(burners);
    ensure!(starved > 0, "no worker stood still for it");
    // What still serves has the idle class for good; a new one has not.
    if let Ok(worker) = advice.worker() {
        let _ = worker.signal(Signal::KILL);
    }
    advice.await_status(scene.recovery(), "ready with a worker of its own", |status| {
        is_ready(status) && status.advisor.worker_restarts > before.worker_restarts
    })?;
    let missed = during.deadlines_missed - before.deadlines_missed;
    let restarts = during.worker_restarts - before.worker_restarts;
    let latency = during.latency_p99_us;
    Ok(format!("starved {starved} times: {restarts} replaced, {missed} deadlines missed, p99 {latency} us"))
}

/// Bad files one after the other: a line each, and nothing changes.
fn refuse(scene: &Scene<'_>) -> Result<String> {
    for bad in &scene.files.bad {
        let before = (scene.advice.models()?, scene.advice.status()?);
        let Err(line) = scene.advice.use_model(&bad.path) else { bail!("{} became the model", bad.name) };
        let after = (scene.advice.models()?, scene.advice.status()?);
        ensure!(before.0 == after.0, "{} changed the models from {:?} to {:?}", bad.name, before.0, after.0);
        // By whichever advisor the file says it is for.
        let refused = |status: &Status| status.advisor.swaps_refused + status.victim_advisor.swaps_refused;
        let swaps = |status: &Status| status.advisor.swaps + status.victim_advisor.swaps;
        let counted = refused(&after.1) - refused(&before.1);
        ensure!(counted == u64::from(bad.is_counted), "refusing {} counted {counted} times", bad.name);
        ensure!(swaps(&after.1) == swaps(&before.1), "{} counted as a swap", bad.name);
        let file = bad.path.display().to_string();
        println!("refused: {}", line.replace(&file, bad.name));
    }
    scene.advice.await_ready(scene.recovery())?;
    Ok(format!("{} files refused, nothing changed", scene.files.bad.len()))
}

/// The watched file is replaced by good ones and bad ones, cut short, and removed.
fn watch(scene: &Scene<'_>) -> Result<String> {
    let (advice, files) = (&scene.advice, &scene.files);
    let watched = &files.watched;
    let bad: Vec<_> = files.bad.iter().filter(|bad| bad.is_counted).collect();
    for (round, bad) in (0..scene.options.rounds).zip(bad.iter().cycle()) {
        let before = advice.status()?.advisor;
        files.replace(watched, &files.good[round as usize % 2])?;
        let after = advice.await_status(scene.recovery(), "switched to the watched file", |status| {
            status.advisor.swaps > before.swaps || status.advisor.swaps_refused > before.swaps_refused
        })?;
        let said = after.advisor.last_error.clone().unwrap_or_default();
        ensure!(after.advisor.swaps > before.swaps || is_slowness(&said), "a good watched file was refused: {said}");
        let models = advice.models()?;
        let before = after.advisor;
        files.replace(watched, &bad.path)?;
        let after = advice.await_status(scene.recovery(), "refused the watched file", |status| {
            status.advisor.swaps_refused > before.swaps_refused
        })?;
        ensure!(after.advisor.swaps == before.swaps, "{} became the model", bad.name);
        ensure!(advice.models()? == models, "{} changed the models", bad.name);
    }
    std::fs::remove_file(watched)?;
    advice.await_ready(scene.recovery())?;
    let Some(after) = advice.status()?.advisor.model else { bail!("the model went with its file") };
    Ok(format!(
        "replaced {} times by a good and a bad file each, then removed; the model is {after}",
        scene.options.rounds
    ))
}

/// A busy machine may make a good model miss its deadline; that is no defect of the swap.
fn is_slowness(line: &str) -> bool {
    ["deadline", "slow", "not ready", "no answer"].iter().any(|word| line.contains(word))
}

/// Two good models take turns.
fn swap(scene: &Scene<'_>) -> Result<String> {
    let advice = &scene.advice;
    let before = advice.status()?.advisor;
    let (mut switched, mut slow) = (0, 0);
    for round in 0..scene.options.rounds {
        let file = &scene.files.good[round as usize % 2];
        match advice.use_model(file) {
            Ok(()) => {
                switched += 1;
                ensure!(advice.current()? == name_of(file), "{} is in use", advice.current()?);
            }
            Err(line) if is_slowness(&line) => slow += 1,
            Err(line) => bail!("a good model was refused: {line}"),
        }
    }
    ensure!(switched >= 2, "{switched} swaps of {} came through", scene.options.rounds);
    let current = advice.current()?;
    advice.rollback()?;
    ensure!(advice.current()? != current, "a rollback left {current} in use");
    let after = advice.status()?.advisor;
    ensure!(after.swaps - before.swaps == switched + 1, "{} swaps are counted", after.swaps - before.swaps);
    advice.await_ready(scene.recovery())?;
    Ok(format!("{switched} swaps and a rollback, {slow} given up because the machine was too slow"))
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// No library: said so, for as long as the mount lives, and models are refused.
fn without_library(scene: &Scene<'_>) -> Result<String> {
    let status = scene.advice.status()?;
    ensure!(status.advisor.worker.starts_with("absent: "), "the worker is {}", status.advisor.worker);
    let Err(line) = scene.advice.use_model(&scene.files.good[0]) else { bail!("a model is used without a library") };
    ensure!(line.contains("no advisor"), "{line}");
    let clock = status.traffic.user_bytes;
    scene.advice.await_status(scene.recovery(), "written to meanwhile", |status| {
        status.traffic.user_bytes > clock + (8 << 20)
    })?;
    Ok(format!("worker {}", status.advisor.worker))
}

/// A file that is no library, until the real one is put in its place.
fn repair_library(scene: &Scene<'_>) -> Result<String> {
    let advice = &scene.advice;
    let dead = advice.await_status(scene.recovery(), "without a worker", |status| {
        !is_ready(status) && status.advisor.last_error.is_some()
    })?;
    let said = dead.advisor.worker;
    let real = gleanfs_gc::runtime::locate(gleanfs_gc::runtime::Request::default())?;
    scene.files.replace(&scene.files.library, &real.path)?;
    let begun = Instant::now();
    advice.await_ready(scene.recovery()).with_context(|| format!("it was {said}"))?;
    Ok(format!("worker {said}; ready {} ms after the library was repaired", begun.elapsed().as_millis()))
}

/// The failure in the midst of which a mount is ended.
pub(super) struct Amid {
    how: &'static str,
    swapping: Option<std::thread::JoinHandle<Result<(), String>>>,
    _burner: Option<Burner>,
}

impl Amid {
    pub(super) fn how(&self) -> &'static str {
        self.how
    }

    /// Whoever waited for a swap has been told by now.
    pub(super) fn end(self) {
        if let Some(swapping) = self.swapping {
            let _ = swapping.join();
        }
    }
}

/// Brings the failure about once more and leaves it at that.
pub(super) fn leave_amid(failure: Failure, scene: &Scene<'_>) -> Result<Amid> {
    let (advice, files) = (&scene.advice, &scene.files);
    let mut amid = Amid { how: "with a worker that serves", swapping: None, _burner: None };
    match failure {
        Failure::Killed => {
            advice.worker()?.signal(Signal::KILL)?;
            amid.how = "with a worker just killed";
        }
        Failure::Stopped => {
            stop_worker(&advice.worker()?)?;
            amid.how = "with a stopped worker";
        }
        Failure::Starved if missing_program().is_none() => {
            amid._burner = Some(Burner::start()?);
            starve(&advice.worker()?)?;
            amid.how = "with a starved worker";
        }
        Failure::Refused | Failure::Swapped => {
            let file = if failure == Failure::Swapped {
                files.good[1].clone()
            } else {
                files.bad.iter().find(|bad| bad.name == "too slow").context("a slow model")?.path.clone()
            };
            let theirs = Advice::of(scene.advice.target())?;
            amid.swapping = Some(std::thread::spawn(move || theirs.use_model(&file)));
            advice.await_status(scene.recovery(), "trying a model", |_| has_candidate(advice))?;
            amid.how = "in the middle of a swap";
        }
        Failure::Watched => files.replace(&files.watched, &files.bad[0].path)?,
        Failure::NoLibrary => amid.how = "without a library",
        Failure::BadLibrary => files.replace(&files.library, &files.bad[1].path)?,
        Failure::Starved => {}
    }
    Ok(amid)
}

/// Whether a model is being tried. A daemon that answers this only after the swap keeps others waiting.
fn has_candidate(advice: &Advice) -> bool {
    advice.models().is_ok_and(|models| models.iter().any(|model| model.role == ModelRole::Shadow))
}
