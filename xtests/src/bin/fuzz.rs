//! Attacks with bytes, without the help of a compiler: `cargo run --release -p xtests --bin fuzz -- image --minutes 5`.
//!
//! Inputs of the corpus are mutated and crossed by a seeded generator that sees no coverage. `xtests/fuzz` is stronger, and needs a nightly compiler.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use xtests::hostile::{TARGETS, Target, by_name, corpus, meter::Meter};
use xtests::random::Random;

#[global_allocator]
static METER: Meter = Meter;

/// An input that takes longer has found an endless loop.
const INPUT_SECS_MAX: u64 = 60;

/// Hand forged bytes to all that reads bytes; nothing may panic, hang or take memory without bound
#[derive(Parser)]
struct Line {
    /// What to attack; everything in turn if nothing is named
    targets: Vec<String>,
    /// For how long, all targets together
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Where the generator starts
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hand over this file alone, and say how it went
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Where an input that does harm is written
    #[arg(long, default_value = "harmful")]
    harmful: PathBuf,
}

fn main() -> ExitCode {
    let line = Line::parse();
    xtests::campaign("fuzz", || run(&line))
}

fn run(line: &Line) -> anyhow::Result<()> {
    let named = line.targets.iter().map(|name| by_name(name).with_context(|| format!("no target is called {name}")));
    let mut targets = named.collect::<anyhow::Result<Vec<_>>>()?;
    if targets.is_empty() {
        targets = TARGETS.iter().collect();
    }
    if let Some(path) = &line.replay {
        let input = std::fs::read(path).with_context(|| path.display().to_string())?;
        targets.iter().for_each(|target| target.attack(&input));
        return Ok(());
    }
    let each = Duration::from_secs_f64(line.minutes * 60.0 / targets.len() as f64);
    watch(line.harmful.clone());
    for target in targets {
        let executions = attack(target, line, each)?;
        println!("{}: {executions} executions in {:.0} s, no harm done", target.name, each.as_secs_f64());
    }
    Ok(())
}

/// Executions so far, of all targets.
static DONE: AtomicU64 = AtomicU64::new(0);
/// The one that is under way.
static CURRENT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Ends the program if one input takes for ever.
fn watch(harmful: PathBuf) {
    std::thread::spawn(move || {
        loop {
            let before = DONE.load(Relaxed);
            std::thread::sleep(Duration::from_secs(INPUT_SECS_MAX));
            if DONE.load(Relaxed) == before {
                let _ = std::fs::write(&harmful, &*CURRENT.lock().unwrap_or_else(PoisonError::into_inner));
                eprintln!("fuzz: the input in {} takes more than {INPUT_SECS_MAX} s", harmful.display());
                std::process::abort();
            }
        }
    });
}

fn attack(target: &Target, line: &Line, time: Duration) -> anyhow::Result<u64> {
    let mut random = Random::new(line.seed);
    let mut seeds = target.honest();
    seeds.extend(corpus::inputs(&corpus::root().join(target.name))?.into_iter().map(|(_, input)| input));
    let since = Instant::now();
    let mut executions = 0;
    while since.elapsed() < time {
        let input = mutated(&mut random, &seeds, target.input_bytes_max);
        CURRENT.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&input);
        let outcome = std::panic::catch_unwind(|| target.attack(&input));
        DONE.fetch_add(1, Relaxed);
        executions += 1;
        if outcome.is_err() {
            std::fs::write(&line.harmful, &input)?;
            let (name, path) = (target.name, line.harmful.display());
            bail!("{name} takes harm; again: cargo run --release -p xtests --bin fuzz -- {name} --replay {path}");
        }
    }
    Ok(executions)
}

/// An input of the corpus, cut, crossed and changed; or a new one.
fn mutated(random: &mut Random, seeds: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
    let choose = |random: &mut Random| match seeds.len() as u64 {
        0 => Vec::new(),
        count => seeds[random.below(count) as usize].clone(),
    };
    let mut input = choose(random);
    if random.below(4) == 0 {
        input.truncate(random.below(input.len() as u64 + 1) as usize);
        input.extend(choose(random));
    }
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() as u64 + 1) as usize;
        match random.below(5) {
            0 => input.truncate(at),
            1 => input.insert(at, random.draw() as u8),
            2 => input.extend((0..random.below(24)).map(|_| random.draw() as u8)),
            _ => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.draw() as u8),
        }
    }
    input.truncate(bytes_max);
    input
}
