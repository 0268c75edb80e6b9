//! PostgreSQL under pgbench: random updates of a heap and its indexes, a write-ahead log that is recycled, checkpoints, vacuum.
//!
//! The server refuses to be root, so it and its clients run as another user; the cluster lies on the mount, the socket in a private
//! directory elsewhere, and nothing listens on a port.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail, ensure};
use gleanfs::cli::bench::process::{check_interrupt, run, unblock_signals};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Load, Place};

/// Where Debian puts the versions.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Who may be the server, the first that exists.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// An empty cluster, its log, and what vacuum has not yet given back, per cluster and per byte of tables.
const CLUSTER_MIB: u64 = 24 + WAL_MIB;
const WAL_MIB: u64 = 64;
/// A unit of pgbench's scale: 100,000 accounts and their index, at this fill factor.
const SCALE_KIB: u64 = 17_200;
const FILL_FACTOR: &str = "90";

const CLIENTS: &str = "8";
const ROUND_SECS: &str = "20";

/// Small shared buffers, so that dirty pages also leave between checkpoints; small segments of the log, so that they are recycled often.
const WAL_SEGMENT_MIB: &str = "4";
const SETTINGS: [&str; 8] = [
    "listen_addresses=",
    "shared_buffers=48MB",
    "max_wal_size=64MB",
    "min_wal_size=32MB",
    "checkpoint_timeout=30s",
    "autovacuum_naptime=10s",
    "autovacuum_vacuum_cost_delay=0",
    "fsync=on",
];
/// What the server says once clients may come.
const READY: &str = "ready to accept connections";

/// A user that is not root.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

/// PostgreSQL's programs, run as their user.
struct Programs {
    directory: PathBuf,
    user: User,
}

/// The server. Dropped, it is gone, by an immediate shutdown.
struct Server {
    process: Option<Child>,
    /// Reads what it says until it ends; the last line.
    said: Option<JoinHandle<String>>,
}

pub(super) struct Pgbench<'a> {
    place: Place<'a>,
    programs: Programs,
    /// Of the socket.
    private: TempDir,
    server: Option<Server>,
    rounds: u64,
}

pub(super) fn lacks() -> Option<String> {
    Programs::find().err().map(|why| format!("{why:#}"))
}

impl User {
    fn find() -> Result<Self> {
        let ask = |what: &str, name: &str| -> Option<u32> {
            let answer = run(Command::new("id").args([what, name])).ok()?;
            String::from_utf8(answer).ok()?.trim().parse().ok()
        };
        let mut users = USERS.iter().filter_map(|name| Some(Self { uid: ask("-u", name)?, gid: ask("-g", name)? }));
        users.next().with_context(|| format!("none of the users {USERS:?} exists"))
    }

    /// Makes a directory for this user alone.
    fn own(self, directory: &Path) -> Result<()> {
        chown(directory, Some(self.uid), Some(self.gid))?;
        Ok(std::fs::set_permissions(directory, Permissions::from_mode(0o700))?)
    }
}

impl Programs {
    /// Those of the newest version that has all of them.
    fn find() -> Result<Self> {
        let needed = ["initdb", "postgres", "pgbench"];
        let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
        let directories = versions.map(|version| version.path().join("bin"));
        let whole = directories.filter(|bin| needed.iter().all(|program| bin.join(program).is_file()));
        let newest = whole.max_by_key(|bin| version_of(bin)).context("PostgreSQL with pgbench is not installed")?;
        Ok(Self { directory: newest, user: User::find()? })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.directory.join(program));
        // Our own directory may be closed to that user.
        command.uid(self.user.uid).gid(self.user.gid).current_dir("/").env("LC_ALL", "C");
        command
    }
}

fn version_of(bin: &Path) -> Option<u32> {
    bin.parent()?.file_name()?.to_str()?.parse().ok()
}

impl Server {
    /// Returns once it takes clients.
    fn start(programs: &Programs, data: &Path, socket: &Path) -> Result<Self> {
        check_interrupt()?;
        let mut server = programs.command("postgres");
        server.arg("-D").arg(data).arg("-k").arg(socket);
        for setting in SETTINGS {
            server.args(["-c", setting]);
        }
        server.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = unblock_signals(&mut server).spawn().context("starting postgres")?;
        let errors = process.stderr.take().context("postgres' messages")?;
        let mut server = Self { process: Some(process), said: None };
        server.said = Some(await_ready(errors)?);
        Ok(server)
    }

    /// Lets it end with a last checkpoint.
    fn end(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        signal(&process, Signal::INT);
        let status = process.wait()?;
        let said = self.said.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        ensure!(status.success(), "postgres: {status}: {said}");
        Ok(())
    }
}

/// Reads until the server is ready, and leaves a thread that reads on, so that the server never waits for a reader.
fn await_ready(errors: ChildStderr) -> Result<JoinHandle<String>> {
    let mut lines = BufReader::new(errors).lines();
    let mut last = String::new();
    for line in lines.by_ref() {
        last = line?;
        if last.contains(READY) {
            return Ok(std::thread::spawn(move || lines.map_while(|line| line.ok()).last().unwrap_or_default()));
        }
    }
    bail!("postgres did not start: {last}")
}

fn signal(process: &Child, signal: Signal) {
    let _ = kill_process(Pid::from_child(process), signal);
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // An immediate shutdown: the postmaster ends its children and waits for them.
            signal(&process, Signal::QUIT);
            let _ = process.wait();
        }
    }
}

impl<'a> Pgbench<'a> {
    pub(super) fn new(place: Place<'a>) -> Result<Self> {
        let programs = Programs::find()?;
        let private = tempfile::Builder::new().prefix("xtests-").tempdir()?;
        programs.user.own(private.path())?;
        Ok(Self { place, programs, private, server: None, rounds: 0 })
    }

    /// pgbench, as a client of our server.
    fn client(&self) -> Command {
        let mut client = self.programs.command("pgbench");
        client.arg("--host").arg(self.private.path()).arg("--username=bench");
        client
    }

    fn scale(&self) -> u64 {
        ((self.place.live_bytes >> 10).saturating_sub(CLUSTER_MIB << 10) / SCALE_KIB).max(1)
    }
}

impl Load for Pgbench<'_> {
    fn fill(&mut self) -> Result<()> {
        let data = self.place.target.join("cluster");
        std::fs::create_dir(&data)?;
        self.programs.user.own(&data)?;
        let mut initdb = self.programs.command("initdb");
        initdb.args(["--username=bench", "--auth=trust", "--locale=C", "--encoding=UTF8"]);
        run(initdb.arg(format!("--wal-segsize={WAL_SEGMENT_MIB}")).arg("-D").arg(&data))?;
        self.server = Some(Server::start(&self.programs, &data, self.private.path())?);
        let scale = self.scale().to_string();
        run(self.client().args([
            "--initialize",
            "--quiet",
            "--scale",
            &scale,
            "--fillfactor",
            FILL_FACTOR,
            "postgres",
        ]))?;
        Ok(())
    }

    fn round(&mut self) -> Result<()> {
        self.rounds += 1;
        let mut bench = self.client();
        bench.args(["--client", CLIENTS, "--jobs", "2", "--time", ROUND_SECS, "--no-vacuum"]);
        bench.arg(format!("--random-seed={}", self.place.seed + self.rounds));
        run(bench.arg("postgres"))?;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.server.as_mut().map_or(Ok(()), Server::end)
    }
}
