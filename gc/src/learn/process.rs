//! The trainer as a process: this program again, under a hidden subcommand.
//!
//! Never on the path of a write: it reads a ring of telemetry that nobody waits for it to empty, works when nobody else wants the processor, has its memory
//! limited, can open nothing, and may be killed at any time. It writes no file: what it has learnt it sends to the daemon, who checks it like any other model.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::talk::{Answer, LINE_BYTES_MAX, Line, ModelFollows, Report};
use super::trainer::{Said, Trainer};
use crate::advisor::process::{Child, inherited};
use crate::advisor::{reserve, sandbox};
use crate::telemetry::{Event, RingReader};

/// Address space that a trainer may use.
const TRAINER_BYTES_MAX: u64 = 512 << 20;
/// It sleeps so long when nothing happens.
const PAUSE: Duration = Duration::from_millis(50);
/// Events taken in one go.
const EVENTS_MAX: usize = 1 << 14;
/// At most so much of the time goes to fitting: one part in this.
const FITTING_SHARE: u32 = 20;
/// Exit status of a trainer that was started wrongly.
const EXIT_USAGE: i32 = 64;
const SEED: u64 = 1;

/// A started trainer, killed and reaped when dropped.
#[derive(Debug)]
pub struct TrainerProcess {
    child: Child,
    socket: UnixStream,
}

impl TrainerProcess {
    /// Starts `exe` with the words that make it a trainer, on the ring behind `ring`.
    pub fn start(exe: &Path, exe_args: &[OsString], ring: BorrowedFd<'_>) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Child::start(exe, exe_args, &[ring, theirs.as_fd()], &[])?;
        Ok(Self { child, socket: ours })
    }

    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<&str> {
        self.child.ended()
    }

    /// What it says next, if that comes within `patience`. An error: it has ended, or says what no honest trainer does.
    pub fn hear(&mut self, patience: Duration) -> io::Result<Option<Line>> {
        if !readable(&self.socket, patience)? {
            return Ok(None);
        }
        read_line(&mut self.socket)
    }

    /// The bytes of a model that was announced, at most `bytes_max`.
    pub fn model(&mut self, follows: &ModelFollows, bytes_max: usize) -> io::Result<Vec<u8>> {
        if follows.bytes > bytes_max {
            return Err(io::Error::other(format!("a model of {} bytes is more than {bytes_max}", follows.bytes)));
        }
        // An honest trainer has them ready; another one is not waited for for ever.
        self.socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut model = vec![0; follows.bytes];
        let read = self.socket.read_exact(&mut model);
        self.socket.set_read_timeout(None)?;
        read.map(|()| model)
    }

    pub fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        write_line(&mut self.socket, answer)
    }
}

/// The whole life of a trainer; `words` are the arguments after the hidden subcommand.
pub fn trainer_main(words: impl Iterator<Item = OsString>) -> ! {
    let numbers: Vec<i32> = words.map_while(|word| word.to_str()?.parse().ok()).collect();
    let &[ring, socket, parent] = numbers.as_slice() else {
        eprintln!("gleanfs trainer: this is started by the mounted filesystem and is of no use alone");
        std::process::exit(EXIT_USAGE);
    };
    let outcome = confine(ring, socket, parent).and_then(|(ring, socket)| Pupilage::new(ring, socket).run());
    // Nobody reads standard error; the daemon sees the status and starts another one.
    std::process::exit(i32::from(outcome.is_err()));
}

/// The socket as a file: the sandbox allows read(2) and write(2), and not what else there is for sockets.
fn confine(ring: RawFd, socket: RawFd, parent: i32) -> Result<(RingReader, File), String> {
    if !reserve::die_with(parent) {
        return Err("its parent is gone".into());
    }
    reserve::close_others(&[ring, socket]);
    let ring = RingReader::open(inherited(ring).map_err(|e| e.to_string())?)?;
    let socket: OwnedFd = inherited(socket).map_err(|e| e.to_string())?;
    reserve::stand_back(TRAINER_BYTES_MAX);
    reserve::enter_nowhere();
    sandbox::enter()?;
    Ok((ring, socket.into()))
}

/// The trainer at work.
struct Pupilage {
    ring: RingReader,
    socket: File,
    trainer: Trainer,
    report: Report,
    not_before: Instant,
}

impl Pupilage {
    fn new(ring: RingReader, socket: File) -> Self {
        let trainer = Trainer::new(SEED);
        Self { ring, socket, trainer, report: Report::default(), not_before: Instant::now() }
    }

    /// Until the ring is closed.
    fn run(mut self) -> Result<(), String> {
        let gone = |e: io::Error| e.to_string();
        loop {
            let trainer = &mut self.trainer;
            let taken = self.ring.take(EVENTS_MAX, |bytes| {
                if let Ok(event) = Event::decode(bytes) {
                    trainer.told(&event);
                }
            });
            if taken.lost > 0 {
                self.trainer.told(&Event::Lost(taken.lost));
            }
            self.report.events += taken.events as u64;
            self.report.lost += taken.lost;
            if taken.closed {
                return Ok(());
            }
            if Instant::now() >= self.not_before && self.trainer.is_due() {
                self.study().map_err(gone)?;
            }
            let pause = if taken.events == EVENTS_MAX { Duration::ZERO } else { PAUSE };
            if readable(&self.socket, pause).map_err(gone)? {
                self.listen().map_err(gone)?;
            }
        }
    }

    fn study(&mut self) -> io::Result<()> {
        let (begun, cpu) = (Instant::now(), cpu_time());
        let said = self.trainer.study();
        self.not_before = Instant::now() + begun.elapsed() * FITTING_SHARE;
        let Report { events, lost, .. } = self.report;
        let fit_cpu_ms = cpu_time().saturating_sub(cpu).as_millis() as u64;
        self.report = Report { events, lost, fit_cpu_ms, ..Report::of(&self.trainer.findings()) };
        write_line(&mut self.socket, &Line::Report(self.report.clone()))?;
        match said {
            Said::Nothing => Ok(()),
            Said::Withdraw => write_line(&mut self.socket, &Line::Withdraw),
            Said::Offer { number, onnx } => {
                let follows = ModelFollows { number, bytes: onnx.len() };
                write_line(&mut self.socket, &Line::Offer(follows))?;
                self.socket.write_all(&onnx)
            }
        }
    }

    fn listen(&mut self) -> io::Result<()> {
        match read_line(&mut self.socket)? {
            Some(Answer::Taken(_)) => self.trainer.taken(),
            Some(Answer::TakenBack) => self.trainer.taken_back(),
            Some(Answer::Refused(_)) | None => {}
        }
        Ok(())
    }
}

fn cpu_time() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

fn readable(socket: &impl AsFd, patience: Duration) -> io::Result<bool> {
    let patience = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: i64::from(patience.subsec_nanos()) };
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&patience)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn write_line(socket: &mut impl Write, value: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    socket.write_all(&line)
}

/// Reads one line, byte by byte: what comes after it may be a model. The other side's end is an error.
fn read_line<T: serde::de::DeserializeOwned>(socket: &mut impl Read) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LINE_BYTES_MAX {
        match socket.read(&mut byte)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if byte[0] == b'\n' => return Ok(Some(serde_json::from_slice(&line)?)),
            _ => line.push(byte[0]),
        }
    }
    Err(io::Error::other("a line that does not end"))
}
