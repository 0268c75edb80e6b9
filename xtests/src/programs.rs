//! Programs that people run: git, cargo, SQLite, tar. Each does its own work on the mount and its own check.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::{command, installed, run as run_program};

use crate::random::Random;
use crate::volume::Setup;
use crate::{program, skip};

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Which of them
    #[arg(long, value_enum, value_delimiter = ',', default_value = "git,sqlite,tar,cargo")]
    pub only: Vec<Program>,
    /// Tree for tar to copy [default: Rust's own libraries]
    #[arg(long)]
    pub tree: Option<PathBuf>,
    /// Kills per SQLite journal mode
    #[arg(long, default_value_t = 20)]
    pub kills: u32,
}

impl Default for Options {
    fn default() -> Self {
        let setup = Setup { size_mib: 4096, ..Setup::default() };
        Self { setup, only: vec![Program::Git, Program::Sqlite, Program::Tar], tree: None, kills: 20 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// Clone the source repository with its checkout, git fsck, compare
    Git,
    /// Build gleanfs in the mount, target directory included
    Cargo,
    /// Transactions with WAL and with a rollback journal, the client killed
    Sqlite,
    /// Untar a large tree and compare
    Tar,
}

/// Runs each on a mount of its own.
pub fn run(options: &Options) -> Result<()> {
    for what in &options.only {
        let volume = options.setup.make()?;
        let target = volume.target();
        match what {
            Program::Git => git(target),
            Program::Cargo => cargo(target),
            Program::Sqlite => sqlite(target, options.kills),
            Program::Tar => tar(target, options.tree.as_deref()),
        }
        .with_context(|| format!("{what:?}"))?;
        volume.end().with_context(|| format!("after {what:?}"))?;
    }
    Ok(())
}

fn git(target: &Path) -> Result<()> {
    let source = program::workspace();
    if !installed("git") || !source.join(".git").exists() {
        skip("git: not installed, or the source is no repository");
        return Ok(());
    }
    let clone = target.join("clone");
    // A repository of another owner is git's business, not ours.
    let git = || {
        let mut git = command("git");
        git.args(["-c", "safe.directory=*"]);
        git
    };
    run_program(git().args(["clone", "--quiet", "--no-local"]).arg(source).arg(&clone))?;
    run_program(git().arg("-C").arg(&clone).args(["fsck", "--full", "--strict"]))?;
    let changed = run_program(git().arg("-C").arg(&clone).args(["status", "--porcelain"]))?;
    ensure!(changed.is_empty(), "the checkout differs: {}", String::from_utf8_lossy(&changed));
    run_program(git().arg("-C").arg(&clone).args(["gc", "--quiet"]))?;
    run_program(git().arg("-C").arg(&clone).args(["fsck", "--full", "--strict"]))?;
    println!("git: cloned, checked, repacked, checked again");
    Ok(())
}

fn cargo(target: &Path) -> Result<()> {
    let source = target.join("source");
    std::fs::create_dir(&source)?;
    let mut pack = command("tar");
    pack.arg("-C").arg(program::workspace()).args(["--exclude=./target", "--exclude=./.git", "-cf", "-", "."]);
    pipe_into_tar(pack, &source)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "-p", "gleanfs"]).current_dir(&source);
    run_program(build.env("CARGO_TARGET_DIR", source.join("target")))?;
    run_program(Command::new(source.join("target/debug/gleanfs")).arg("--version"))?;
    println!("cargo: built gleanfs in the mount, and it runs");
    Ok(())
}

fn tar(target: &Path, tree: Option<&Path>) -> Result<()> {
    let tree = match tree {
        Some(tree) => tree.to_owned(),
        None => {
            let output = run_program(Command::new("rustc").args(["--print", "sysroot"]))?;
            PathBuf::from(String::from_utf8(output)?.trim()).join("lib")
        }
    };
    let copy = target.join("copy");
    std::fs::create_dir(&copy)?;
    let mut pack = command("tar");
    pack.arg("-C").arg(&tree).args(["-cf", "-", "."]);
    pipe_into_tar(pack, &copy)?;
    run_program(command("diff").args(["-r", "--no-dereference"]).arg(&tree).arg(&copy))?;
    println!("tar: {} unpacked, no difference", tree.display());
    Ok(())
}

fn pipe_into_tar(mut pack: Command, into: &Path) -> Result<()> {
    let mut packing = pack.stdout(Stdio::piped()).spawn().context("tar")?;
    let out = packing.stdout.take().context("tar's output")?;
    let unpacked = command("tar").arg("-C").arg(into).args(["-xf", "-"]).stdin(out).status()?;
    ensure!(packing.wait()?.success() && unpacked.success(), "tar failed; see its message above");
    Ok(())
}

fn sqlite(target: &Path, kills: u32) -> Result<()> {
    if !installed("sqlite3") {
        skip("sqlite: sqlite3 is not installed");
        return Ok(());
    }
    for journal in ["wal", "delete"] {
        let database = target.join(format!("{journal}.db"));
        ask(&database, &format!("PRAGMA journal_mode={journal}; CREATE TABLE t(n INTEGER PRIMARY KEY, v BLOB);"))?;
        let mut random = Random::new(u64::from(kills));
        let mut next = 1;
        for _ in 0..kills {
            let acknowledged = insert_until_killed(&database, next, 1 + random.below(200))?;
            next = check(&database, acknowledged)? + 1;
        }
        println!("sqlite: {kills} kills with journal_mode={journal}, {} rows, every acknowledged one there", next - 1);
    }
    Ok(())
}

/// Inserts rows from `next` on, one transaction each, and kills the client after `answers` acknowledgements. The last one acknowledged.
fn insert_until_killed(database: &Path, next: u64, answers: u64) -> Result<u64> {
    let mut client = command("sqlite3");
    let mut client =
        client.arg(database).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting sqlite3")?;
    let mut statements = client.stdin.take().context("sqlite3's input")?;
    // More than will be acknowledged, so that the kill comes in the middle of work; the thread ends with the pipe.
    let feeder = std::thread::spawn(move || {
        let _ = writeln!(statements, "PRAGMA synchronous=FULL;");
        for row in next.. {
            let insert = format!("INSERT INTO t VALUES({row}, randomblob(3000)); SELECT {row};");
            if writeln!(statements, "{insert}").is_err() {
                break;
            }
        }
    });
    let mut acknowledged = next - 1;
    let lines = BufReader::new(client.stdout.take().context("sqlite3's output")?).lines();
    for (line, count) in lines.zip(1..) {
        acknowledged = line?.trim().parse().context("sqlite3's answer")?;
        if count == answers {
            client.kill()?;
        }
    }
    client.wait()?;
    let _ = feeder.join();
    Ok(acknowledged)
}

/// Integrity, and no gap up to the last row; which that is.
fn check(database: &Path, acknowledged: u64) -> Result<u64> {
    let integrity = ask(database, "PRAGMA integrity_check;")?;
    ensure!(integrity == "ok", "{}: {integrity}", database.display());
    let counts = ask(database, "SELECT count(*), coalesce(max(n), 0) FROM t;")?;
    let (count, last) = counts.split_once('|').context("sqlite3's answer")?;
    let (count, last): (u64, u64) = (count.parse()?, last.parse()?);
    ensure!(count == last, "{count} rows, but the last is {last}");
    ensure!(last >= acknowledged, "row {acknowledged} was acknowledged, but the last is {last}");
    Ok(last)
}

fn ask(database: &Path, sql: &str) -> Result<String> {
    let output = run_program(command("sqlite3").arg(database).arg(sql))?;
    Ok(String::from_utf8(output)?.trim().to_owned())
}
