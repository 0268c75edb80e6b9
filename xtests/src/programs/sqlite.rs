//! SQLite in both journal modes under kill -9 of its client: what was acknowledged is there, and nothing is torn.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::{command, installed, run as run_program};

use crate::random::Random;
use crate::skip;

pub(super) fn run(target: &Path, kills: u32) -> Result<()> {
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
