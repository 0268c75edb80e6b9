//! `gleanfs bench`: the same questions to gleanfs and to its peers, in turn, on the same backing store.
//!
//! Round by round and job by job every peer runs once before any runs again, on a fresh filesystem, and the order
//! rotates, so that whatever else the machine does falls on all of them. Only ratios of one run mean anything.

pub mod fio;
pub mod jobs;
pub mod peer;
pub mod process;
pub mod report;

use std::path::PathBuf;

use fio::Parameters;
use jobs::Job;
use peer::Peer;
use report::Report;

use super::failure::{About, Failure, Result};
use super::size::Size;

/// Run fio on gleanfs and on the filesystems beside it; print ratios.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Peers: gleanfs; ext4 (on a loop device with direct I/O, needs root); fuse2fs; redoxfs. Those that are not installed are
left out, and the output says so. Mounting in DIR needs root or FUSE for users.

Examples:
  gleanfs bench                                    every job, three rounds, 1 GiB images in the current directory
  gleanfs bench --jobs 'steady-*' --size 4G        what the cleaner costs
  gleanfs bench --jobs my.fio --peers gleanfs,ext4 --json result.json")]
pub struct Args {
    /// Jobs to run: names with *, separated by commas, or the path of a fio file
    #[arg(long, default_value = "*")]
    jobs: String,
    /// How often each job runs on each peer; medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Size of each filesystem
    #[arg(long, default_value = "1G")]
    size: Size,
    /// Seconds that a timed job runs; steady-state jobs take three times as long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    runtime: u64,
    /// Directory for the images, on the disk to be measured
    #[arg(long, value_name = "DIR", default_value = ".")]
    backing: PathBuf,
    /// Write everything measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Who takes part
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "gleanfs,ext4,fuse2fs,redoxfs")]
    peers: Vec<String>,
    /// Mount options for gleanfs
    #[arg(short = 'o', value_name = "OPTIONS", default_value = "")]
    options: String,
    /// Print the jobs and their questions, run nothing
    #[arg(long)]
    list: bool,
}

pub fn run(arguments: &Args) -> Result<()> {
    let jobs = jobs::select(&arguments.jobs)?;
    if arguments.list {
        jobs.iter().for_each(|job| println!("{:<20}{}", job.name, job.question));
        return Ok(());
    }
    if !process::installed("fio") {
        return Err(Failure::new("fio is not installed; install it (apt-get install fio) and try again"));
    }
    process::take_interrupts();
    let mut report = Report {
        rounds: arguments.rounds,
        size_bytes: arguments.size.0,
        backing: arguments.backing.canonicalize().about(arguments.backing.display())?.display().to_string(),
        ..Report::default()
    };
    let peers = present(arguments, &mut report)?;
    let measured = rounds(arguments, &jobs, &peers, &mut report);
    report.conclude();
    print!("{}", report.table());
    report.left_out.iter().for_each(|line| println!("left out: {line}"));
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&report).map_err(Failure::new)?;
        std::fs::write(path, text + "\n").about(path.display())?;
    }
    measured
}

fn present(arguments: &Args, report: &mut Report) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for name in &arguments.peers {
        let mut peer = Peer::by_name(name)?;
        if let Peer::Gleanfs { options, .. } = &mut peer {
            options.clone_from(&arguments.options);
        }
        match peer.missing() {
            Some(why) => report.left_out.push(format!("{name}: {why}")),
            None => {
                report.peers.push(name.clone());
                peers.push(peer);
            }
        }
    }
    Ok(peers)
}

fn rounds(arguments: &Args, jobs: &[Job], peers: &[Peer], report: &mut Report) -> Result<()> {
    for round in 0..arguments.rounds {
        for (number, job) in jobs.iter().enumerate() {
            for turn in 0..peers.len() {
                let peer = &peers[(turn + number + round as usize) % peers.len()];
                eprintln!("round {} of {}: {} on {}", round + 1, arguments.rounds, job.name, peer.name());
                match once(arguments, job, peer) {
                    Ok(measured) => report.add(job, peer.name(), measured),
                    Err(why) => {
                        process::check_interrupt()?;
                        let line = format!("{} on {}: {why}", job.name, peer.name());
                        if !report.left_out.contains(&line) {
                            report.left_out.push(line);
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn once(arguments: &Args, job: &Job, peer: &Peer) -> Result<fio::Measured> {
    let parameters = Parameters { size: arguments.size.0, runtime_secs: arguments.runtime };
    let mounted = peer.make_and_mount(&arguments.backing, arguments.size.0)?;
    let measured = fio::measure(job, mounted.target(), &std::env::temp_dir(), parameters);
    let ended = mounted.end();
    let measured = measured?;
    ended.map(|()| measured)
}
