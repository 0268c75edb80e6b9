//! SQLite's own client at work until it is killed: which rows it acknowledged, and whether they are all there afterwards.
//!
//! The newest [`ROWS`] rows stay, so a database has a bound. Each row holds a digest of its bytes, and no row may be missing between the
//! oldest and the newest: acknowledged rows in order are what a database promises.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail, ensure};
use gleanfs::cli::bench::process::{command, installed, run};
use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = "sqlite3";
/// Rows that a database holds at the most.
const ROWS: u64 = 2000;

/// Why there is no SQLite here, if so.
pub fn lacks() -> Option<String> {
    (!installed(PROGRAM)).then(|| format!("{PROGRAM} is not installed"))
}

/// A database of rows in ascending order.
#[derive(Clone, Debug)]
pub struct Database {
    path: PathBuf,
    journal: &'static str,
}

impl Database {
    /// A new one, with this journal mode.
    pub fn make(path: PathBuf, journal: &'static str) -> Result<Self> {
        let database = Self { path, journal };
        database.ask(&format!(
            "PRAGMA journal_mode={journal}; CREATE TABLE t(slot INTEGER PRIMARY KEY, n INTEGER, v BLOB, h BLOB);"
        ))?;
        Ok(database)
    }

    /// A client that inserts rows from `next` on, one transaction each, and is killed once it has acknowledged `most` of them.
    pub fn insert_from(&self, next: u64, most: u64) -> Result<Inserter> {
        let mut client = command(PROGRAM);
        // The first error ends it: a row that was not inserted must not be told.
        let client = client.arg("-bail").arg(&self.path);
        let client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = client.spawn().with_context(|| format!("starting {PROGRAM}"))?;
        let statements = client.stdin.take().context("sqlite3's input")?;
        let answers = BufReader::new(client.stdout.take().context("sqlite3's output")?);
        let (pid, journal) = (Pid::from_child(&client), self.journal);
        let feeder = std::thread::spawn(move || feed(statements, journal, next));
        let listener = std::thread::spawn(move || listen(answers, next - 1, most, pid));
        Ok(Inserter { client, feeder, listener })
    }

    /// Integrity, digests, and no gap from the oldest row to the newest, which is at least the acknowledged one. The newest.
    pub fn check(&self, acknowledged: u64) -> Result<u64> {
        let shown = self.path.display();
        let integrity = self.ask("PRAGMA integrity_check;")?;
        ensure!(integrity == "ok", "{shown}: {integrity}");
        let counts = self.ask(
            "SELECT count(*), coalesce(min(n), 1), coalesce(max(n), 0), coalesce(sum(h IS NOT sha3(v)), 0) FROM t;",
        )?;
        let counts = counts.split('|').map(|number| Ok(number.parse()?)).collect::<Result<Vec<u64>>>()?;
        let [count, first, last, torn] = counts[..] else { bail!("{shown}: {counts:?} for an answer") };
        ensure!(torn == 0, "{shown}: {torn} rows are not what was inserted");
        ensure!(count == last + 1 - first, "{shown}: {count} rows from {first} to {last}");
        ensure!(count == last.min(ROWS), "{shown}: {count} rows, but the last is {last}");
        ensure!(last >= acknowledged, "{shown}: row {acknowledged} was acknowledged, but the last is {last}");
        Ok(last)
    }

    fn ask(&self, sql: &str) -> Result<String> {
        let output = run(command(PROGRAM).arg(&self.path).arg(sql))?;
        Ok(String::from_utf8(output)?.trim().to_owned())
    }
}

/// Asks for far more rows than will be acknowledged, so that a kill comes in the middle of work; ends with the pipe.
fn feed(mut statements: ChildStdin, journal: &str, next: u64) {
    // A database remembers of its modes WAL alone.
    let _ = writeln!(statements, "PRAGMA synchronous=FULL; PRAGMA journal_mode={journal};");
    for row in next.. {
        let slot = row % ROWS;
        let insert =
            format!("INSERT OR REPLACE INTO t SELECT {slot}, {row}, v, sha3(v) FROM (SELECT randomblob(3000) AS v);");
        if writeln!(statements, "{insert} SELECT {row};").is_err() {
            break;
        }
    }
}

/// The last row acknowledged, `before` if none was. Kills the client after `most` of them.
fn listen(answers: BufReader<ChildStdout>, before: u64, most: u64, client: Pid) -> Result<u64> {
    let mut acknowledged = before;
    // The first line tells the journal mode.
    for (line, count) in answers.lines().skip(1).zip(1..) {
        acknowledged = line?.trim().parse().context("sqlite3's answer")?;
        if count == most {
            // Nobody has waited for it yet, so the number is its own.
            kill_process(client, Signal::KILL)?;
        }
    }
    Ok(acknowledged)
}

/// A client at work.
#[derive(Debug)]
pub struct Inserter {
    client: Child,
    feeder: JoinHandle<()>,
    listener: JoinHandle<Result<u64>>,
}

impl Inserter {
    /// Whether it has not ended by itself.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.client.try_wait()?.is_none())
    }

    /// Kills it now; the last row that it acknowledged.
    pub fn kill(mut self) -> Result<u64> {
        self.client.kill()?;
        self.end()
    }

    /// Waits until it has ended; the last row that it acknowledged.
    pub fn end(mut self) -> Result<u64> {
        let acknowledged = self.listener.join().expect("no panic in a thread that listens")?;
        self.client.wait()?;
        let _ = self.feeder.join();
        Ok(acknowledged)
    }
}
