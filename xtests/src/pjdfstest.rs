//! pjdfstest: what POSIX demands of a filesystem, 398 times. Every failure that is not listed with a reason is an error, and so is
//! a listed one that passes: the list stays true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use gleanfs::cli::bench::process::{command, installed, run as run_program, run_always};

use crate::volume::{Peer, Setup, Volume};
use crate::{program, skip};

pub const VERSION: &str = "0.2.2";
const EXCEPTIONS: &str = include_str!("../pjdfstest-exceptions.txt");

/// What to run.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Also run it on bindfs, which hands everything on to another filesystem: what fails there is FUSE's doing
    #[arg(long)]
    pub bindfs: bool,
    /// Run only tests whose names contain one of these words
    pub patterns: Vec<String>,
}

/// Results of a run by test name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Results {
    passed: BTreeSet<String>,
    skipped: BTreeSet<String>,
    /// With what the test said.
    failed: BTreeMap<String, String>,
}

/// Runs the suite on a fresh mount.
pub fn run(options: &Options) -> Result<()> {
    let suite = program::suite("pjdfstest", VERSION)?;
    let mut volume = options.setup.make()?;
    // The read-only tests call mount(8) for a remount, and that looks for our helper.
    let _links = match volume.peer() {
        Peer::Gleanfs => Some(program::HelperLinks::install(&program::gleanfs()?)?),
        Peer::Ext4 => None,
    };
    let configuration = volume.beside().join("pjdfstest.toml");
    std::fs::write(&configuration, configuration_for(volume.peer()))?;
    let runner = Runner { suite: &suite, configuration: &configuration };
    let mut results = runner.run(volume.target(), volume.beside(), &options.patterns, false)?;
    ensure!(!results.passed.is_empty() || !results.failed.is_empty(), "pjdfstest ran no test at all");
    rerun_alone(&runner, &mut volume, &mut results)?;
    if options.bindfs {
        compare_with_bindfs(&runner, volume.beside(), &options.patterns, &results)?;
    }
    let verdict = judge(&results, &exceptions(EXCEPTIONS)?, options.patterns.is_empty());
    let ended = volume.end();
    verdict?;
    ended
}

/// A file that one test leaves behind unlinked makes every later remount fail as busy, also on ext4. So what failed
/// gets a chance by itself, on a mount that nothing has touched.
fn rerun_alone(runner: &Runner<'_>, volume: &mut Volume, results: &mut Results) -> Result<()> {
    let failed: Vec<String> = results.failed.keys().cloned().collect();
    for name in failed {
        volume.unmount()?;
        volume.mount()?;
        // Exact matching wants the name that the suite does not print.
        let alone = runner.run(volume.target(), volume.beside(), &[format!("pjdfstest::tests::{name}")], true)?;
        if alone.passed.contains(&name) {
            println!("{name}: passes when run alone");
            results.failed.remove(&name);
            results.passed.insert(name);
        }
    }
    Ok(())
}

/// The same suite on a filesystem that only passes requests on, for the eye: nothing here depends on it.
fn compare_with_bindfs(runner: &Runner<'_>, beside: &Path, patterns: &[String], ours: &Results) -> Result<()> {
    if !installed("bindfs") {
        skip("bindfs: not installed");
        return Ok(());
    }
    let (under, over) = (beside.join("under"), beside.join("over"));
    std::fs::create_dir(&under)?;
    std::fs::create_dir(&over)?;
    run_program(command("bindfs").arg(&under).arg(&over))?;
    let theirs = runner.run(&over, beside, patterns, false);
    run_always(command("umount").arg("-l").arg(&over))?;
    let theirs = theirs?;
    let only_theirs: Vec<&str> =
        theirs.failed.keys().filter(|name| ours.passed.contains(*name)).map(String::as_str).collect();
    println!("bindfs: {} passed, {} failed", theirs.passed.len(), theirs.failed.len());
    println!("bindfs: {} fail that pass here: {}", only_theirs.len(), only_theirs.join(" "));
    Ok(())
}

struct Runner<'a> {
    suite: &'a Path,
    configuration: &'a Path,
}

impl Runner<'_> {
    fn run(&self, target: &Path, beside: &Path, patterns: &[String], exact: bool) -> Result<Results> {
        let mut command = Command::new(self.suite);
        command.arg("-c").arg(self.configuration).arg("-p").arg(target);
        command.arg("-s").arg(beside).args(exact.then_some("-e")).arg("--").args(patterns);
        let output = command.env("NO_COLOR", "1").stdin(Stdio::null()).output().context("pjdfstest")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(text.contains("Summary"), "pjdfstest did not finish: {}", String::from_utf8_lossy(&output.stderr));
        Ok(parse(&text))
    }
}

fn configuration_for(peer: Peer) -> String {
    // FUSE as our crate speaks it carries no birth time.
    let birth_time = if peer == Peer::Ext4 { "stat_st_birthtime = {}\n" } else { "" };
    format!(
        "[features]\nposix_fallocate = {{}}\nrename_ctime = {{}}\n{birth_time}utime_now = {{}}\nutimensat = {{}}\n\
         [settings]\nnaptime = 0.01\nallow_remount = true\n\
         [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n"
    )
}

/// Lines are `name   result`; indented ones belong to the test above.
fn parse(text: &str) -> Results {
    let mut results = Results::default();
    let mut last_failed: Option<String> = None;
    for line in text.lines() {
        if let Some(said) = line.strip_prefix('\t') {
            if let Some(words) = last_failed.as_ref().and_then(|name| results.failed.get_mut(name)) {
                words.push_str(said.trim());
                words.push(' ');
            }
            continue;
        }
        last_failed = None;
        let Some((name, result)) = line.split_once(char::is_whitespace).filter(|(name, _)| name.contains("::")) else {
            continue;
        };
        match result.trim() {
            "ok" => drop(results.passed.insert(name.into())),
            "skipped" => drop(results.skipped.insert(name.into())),
            "FAILED" => {
                results.failed.insert(name.into(), String::new());
                last_failed = Some(name.into());
            }
            _ => {}
        }
    }
    results
}

/// `name: reason` a line; empty lines and those that begin with `#` are comments.
fn exceptions(text: &str) -> Result<BTreeMap<String, String>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_once(": ") {
            Some((name, reason)) => Ok((name.trim().to_owned(), reason.trim().to_owned())),
            None => bail!("pjdfstest-exceptions.txt: '{line}' gives no reason"),
        })
        .collect()
}

fn judge(results: &Results, exceptions: &BTreeMap<String, String>, complete: bool) -> Result<()> {
    let (expected, unexpected): (Vec<_>, Vec<_>) =
        results.failed.iter().partition(|(name, _)| exceptions.contains_key(*name));
    let stale: Vec<&String> = exceptions.keys().filter(|name| complete && results.passed.contains(*name)).collect();
    for (name, _) in &expected {
        println!("expected to fail: {name}: {}", exceptions[*name]);
    }
    for (name, said) in &unexpected {
        println!("FAILED: {name}: {said}");
    }
    for name in &stale {
        println!("listed as an exception but passes: {name}");
    }
    let (passed, skipped) = (results.passed.len(), results.skipped.len());
    let (expected, unexpected, stale) = (expected.len(), unexpected.len(), stale.len());
    println!("pjdfstest: {passed} passed, {skipped} do not apply, {expected} failed as listed, {unexpected} failed");
    ensure!(unexpected == 0, "{unexpected} tests failed; run one alone: cargo run -p xtests --bin pjdfstest -- NAME");
    ensure!(stale == 0, "{stale} exceptions are out of date; remove them from pjdfstest-exceptions.txt");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "chmod::a                 ok\n\
        chmod::b                 FAILED\n\tassertion failed\n\tleft: 1\n\
        open::c                  skipped\n\trequires features: chflags\n\n\
        Summary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total\n";

    #[test]
    fn output_is_read() {
        let results = parse(OUTPUT);
        assert_eq!((results.passed.len(), results.skipped.len()), (1, 1));
        assert_eq!(results.failed["chmod::b"], "assertion failed left: 1 ");
    }

    #[test]
    fn only_listed_failures_are_forgiven_and_the_list_must_be_true() {
        let results = parse(OUTPUT);
        let listed = |text| exceptions(text).unwrap();
        assert!(judge(&results, &listed(""), true).is_err());
        assert!(judge(&results, &listed("# why\nchmod::b: FUSE cannot\n"), true).is_ok());
        assert!(judge(&results, &listed("chmod::b: FUSE cannot\nchmod::a: old"), true).is_err());
        assert!(exceptions("chmod::b").is_err());
    }

    #[test]
    fn the_shipped_list_has_reasons() {
        exceptions(EXCEPTIONS).unwrap();
    }
}
