//! The daemon, its workers, all of them or their client are killed with `kill -9` in mid-write, again and again; what was acknowledged
//! must be there each time.
//!
//! Three processes: the daemon, the writer, and this one, which is the oracle. The writer says through a pipe what it is about to do and
//! what fsync acknowledged; the oracle kills after a random number of these lines, so no clock decides. Real programs may work on the mount meanwhile
//! ([`company`]), and judge for themselves what they find afterwards.
//! Killing a process loses nothing that the kernel holds. With `--backing testdisk` the disk under the filesystem dies with the daemon, after a random
//! number of its writes, and loses what was not flushed; `--lie` has it forget flushes too, which must make the campaign fail.
//! On a kernel filesystem the writer is killed instead, which tests the oracle and nothing else.

pub mod company;
pub mod oracle;
pub mod strike;
pub mod writer;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use gleanfs::cli::bench::process::check_interrupt;

use crate::block::{BLOCK, Seen, Stamp, see};
use crate::random::Random;
use crate::volume::{Setup, Volume};
use company::{Company, Program};
use oracle::Oracle;
use strike::{Tally, Victim};
use writer::{Event, Plan};

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// How often to kill
    #[arg(long, default_value_t = 100)]
    pub rounds: u32,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Percent of the filesystem filled beforehand, so that the cleaner has work
    #[arg(long, default_value_t = 70)]
    pub fill: u64,
    /// Most lines of the writer, or most writes of a test disk, before the kill
    #[arg(long, default_value_t = 2000)]
    pub events: u64,
    /// Have the test disk acknowledge flushes and forget them; the campaign has to fail
    #[arg(long)]
    pub lie: bool,
    /// Who is killed: one of these each round, by chance; a test disk's power cut takes the daemon
    #[arg(long, value_enum, value_delimiter = ',', default_value = "daemon")]
    pub kill: Vec<Victim>,
    /// Programs that work on the mount as well
    #[arg(long, value_enum, value_delimiter = ',')]
    pub with: Vec<Program>,
}

impl Default for Options {
    fn default() -> Self {
        let (setup, kill) = (Setup::default(), vec![Victim::Daemon]);
        Self { setup, rounds: 100, seed: 1, fill: 70, events: 2000, lie: false, kill, with: Vec::new() }
    }
}

/// What a round found wrong, in the context of the error that says it in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The filesystem is damaged: fsck or mount refuses it.
    Damage,
    /// It is sound, but something acknowledged is not there.
    Loss,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Damage => "the filesystem is damaged",
            Self::Loss => "acknowledged data is lost",
        })
    }
}

/// An error is the verdict, unless it only says that the campaign was interrupted.
fn judged<T>(outcome: Result<T>, verdict: Verdict) -> Result<T> {
    outcome.or_else(|why| {
        check_interrupt()?;
        Err(why.context(verdict))
    })
}

/// Runs the loop. `writer` is the command that runs [`writer::main`] with its arguments appended.
pub fn run(options: &Options, writer: impl Fn() -> Result<Command>) -> Result<()> {
    let mut volume = options.setup.make()?;
    let victims = strike::possible(&options.kill, &volume)?;
    let mut random = Random::new(options.seed);
    let mut company = Company::gather(&options.with, volume.target())?;
    let filler = fill(&volume, options.fill)?;
    if options.lie {
        // What was there before is safe: to be lost is what the rounds write.
        volume.order(&["sync"])?;
        volume.disk().context("only a test disk (--backing testdisk) lies")?.forget_flushes()?;
    }
    let mut oracle = Oracle::default();
    let mut tally = Tally::default();
    for round in 0..options.rounds {
        check_interrupt()?;
        let replay = format!("round {round}; replay with --seed {} --rounds {}", options.seed, round + 1);
        let plan = Plan { seed: random.draw(), next_version: oracle.next_version(), files: oracle.files() };
        let victim = victims[random.below(victims.len() as u64) as usize];
        company.start()?;
        let child = start(writer()?, volume.target(), &plan)?;
        let events = 1 + random.below(options.events);
        let acknowledged = one_round(&mut volume, child, &mut oracle, &mut company, (victim, events))
            .with_context(|| format!("killing the {victim:?} in {replay}"))?;
        tally.count(victim, acknowledged);
        company.kill()?;
        afterwards(&mut volume, &mut oracle, &mut company, victim)
            .with_context(|| format!("the {victim:?} was killed in {replay}"))?;
        if (round + 1) % 10 == 0 || round + 1 == options.rounds {
            println!("killloop: {tally}");
        }
    }
    judged(verify_filler(volume.target(), filler), Verdict::Loss)?;
    if let Some(disk) = volume.disk() {
        let lost = disk.lost_blocks();
        println!("killloop: the power cuts took {lost} blocks that were not flushed");
        ensure!(lost > 0 || options.rounds == 0, "the power cuts took nothing, so they tested nothing");
    }
    drop(company);
    volume.end()
}

/// Listens to the writer, strikes after `events` lines or writes of the test disk, listens on until the writer has ended.
fn one_round(
    volume: &mut Volume,
    mut child: Child,
    oracle: &mut Oracle,
    company: &mut Company,
    (victim, events): (Victim, u64),
) -> Result<u64> {
    let cut = volume.arm_power_cut(events)?;
    let lines = BufReader::new(child.stdout.take().context("the writer's lines")?).lines();
    // Without its workers the daemon has to go on, and the writer with it, for as long again.
    let last = if victim == Victim::Worker { 2 * events } else { events };
    let (mut seen, mut acknowledged) = (0, 0);
    for line in lines {
        let event: Event = serde_json::from_str(&line?).context("a line of the writer")?;
        acknowledged += u64::from(matches!(event, Event::Synced { .. }));
        oracle.hear(event);
        seen += 1;
        if cut.is_some() {
            continue;
        }
        if seen == events || seen == last {
            company.ensure_at_work()?;
        }
        if seen == events {
            victim.strike(volume)?;
        }
        if seen == last && victim.spares_daemon() {
            child.kill()?;
        }
    }
    let status = child.wait()?;
    if let Some(cut) = cut {
        let has_come = cut.has_come();
        volume.end_power_cut(cut)?;
        ensure!(has_come, "the writer ended before the power cut: {status}; see its message above");
    } else if seen < last {
        bail!("the writer ended before the kill: {status}, after {seen} lines; see its message above");
    }
    Ok(acknowledged)
}

/// Mounts again if need be, and holds what is found against what was acknowledged.
fn afterwards(volume: &mut Volume, oracle: &mut Oracle, company: &mut Company, victim: Victim) -> Result<()> {
    if !victim.spares_daemon() {
        volume.unmount().context("clearing the dead mount")?;
        judged(volume.fsck(), Verdict::Damage)?;
        judged(volume.mount(), Verdict::Damage)?;
    }
    judged(oracle.verify(volume.target()), Verdict::Loss)?;
    judged(company.check(), Verdict::Loss)?;
    if victim.spares_daemon() {
        // What was found here counts as acknowledged from now on, and some of it is in memory alone.
        volume.settle()?;
    }
    Ok(())
}

fn start(mut writer: Command, directory: &Path, plan: &Plan) -> Result<Child> {
    let mut child =
        writer.arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting the writer")?;
    let mut plan = serde_json::to_vec(plan)?;
    plan.push(b'\n');
    child.stdin.take().context("the writer's plan")?.write_all(&plan)?;
    Ok(child)
}

const FILLER: u64 = u64::MAX;

/// Fills `percent` of what is free with stamped blocks; how many.
fn fill(volume: &Volume, percent: u64) -> Result<u64> {
    let space = rustix::fs::statvfs(volume.target())?;
    let blocks = space.f_bavail * space.f_frsize * percent / 100 / BLOCK as u64;
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(volume.target().join("filler"))?);
    for index in 0..blocks {
        file.write_all(&Stamp { file: FILLER, index, version: 0 }.block())?;
    }
    file.into_inner()?.sync_all()?;
    Ok(blocks)
}

fn verify_filler(directory: &Path, blocks: u64) -> Result<()> {
    let mut file = BufReader::with_capacity(1 << 20, std::fs::File::open(directory.join("filler"))?);
    let mut block = vec![0; BLOCK];
    for index in 0..blocks {
        std::io::Read::read_exact(&mut file, &mut block).with_context(|| format!("filler, block {index}"))?;
        let seen = see(&block);
        if seen != Seen::Whole(Stamp { file: FILLER, index, version: 0 }) {
            bail!("filler, block {index}: {seen:?}");
        }
    }
    Ok(())
}
