//! The worker: the process that runs one model.
//!
//! The same executable as the daemon, started again. It gets its model, the shared region and two
//! eventfds by descriptor number, prepares, locks itself in, says ready, and then answers batches
//! until it is killed. It keeps no state worth keeping.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};

use super::check::MODEL_BYTES_MAX;
use super::engine::{Engine, Trouble, library_version};
use super::process::{WorkerArgs, inherited};
use super::protocol::{ROWS_MAX, WorkerState, fault, header, monotonic_ns};
use super::region::Region;
use super::ring::{AnswerHead, AnswerWriter, BatchHead, DatasetReader};
use super::{reserve, sandbox};

/// Exit status of a worker that was started wrongly.
const EXIT_USAGE: i32 = 64;
/// Exit status of a worker that said why it failed.
const EXIT_FAILED: i32 = 70;

/// Runs before the largest batch is timed: the first takes milliseconds, the second still warms up.
const WARMUP_RUNS: usize = 3;

/// Places where a test looks into a worker or makes it misbehave. The shipped worker has none.
pub trait Hooks {
    /// Bounds what the worker may use, before it loads anything. Only a program of tests leaves that out.
    fn limit(&mut self) {
        reserve::limit_itself();
    }
    /// Locks the worker in; answers with what stands. Only a program of tests leaves that out.
    fn confine(&mut self) -> Result<u32, String> {
        sandbox::enter()
    }
    /// After the sandbox is up and before the worker says ready.
    fn confined(&mut self) {}
    /// After each successful run, before the answer is sent.
    fn answered(&mut self, _values: &mut [f32]) {}
}

/// No hooks.
pub struct Plain;

impl Hooks for Plain {}

/// The whole life of a worker; `words` are the arguments after the hidden subcommand.
pub fn worker_main(words: impl Iterator<Item = OsString>, hooks: &mut dyn Hooks) -> ! {
    let Some(args) = WorkerArgs::from_words(words) else {
        eprintln!("gleanfs advisor: this is started by the mounted filesystem and is of no use alone");
        std::process::exit(EXIT_USAGE);
    };
    if !reserve::die_with(args.parent) {
        std::process::exit(EXIT_USAGE);
    }
    reserve::close_others(&[args.region, args.model, args.wake, args.done]);
    let (Ok(region), Ok(wake), Ok(done)) = (inherited(args.region), inherited(args.wake), inherited(args.done)) else {
        std::process::exit(EXIT_USAGE);
    };
    let Ok(region) = Region::open(region).map(Arc::new) else { std::process::exit(EXIT_USAGE) };
    report_panics(region.clone());
    let Err(trouble) = Worker::prepare(&args, region.clone(), wake, done, hooks).and_then(|mut w| w.serve(hooks));
    fail(&region, trouble);
}

fn fail(region: &Region, trouble: Trouble) -> ! {
    let (state, line) = match trouble {
        Trouble::Machine(line) => (WorkerState::Failed, line),
        Trouble::Model(line) => (WorkerState::Refused, line),
    };
    region.store_text(header::MESSAGE, header::MESSAGE_BYTES, &line);
    region.u32(header::STATE).store(state.code(), Ordering::Release);
    std::process::exit(EXIT_FAILED);
}

/// A panic is told like any other failure: nobody reads standard error.
fn report_panics(region: Arc<Region>) {
    std::panic::set_hook(Box::new(move |panic| fail(&region, Trouble::Machine(panic.to_string()))));
}

struct Worker {
    wake: OwnedFd,
    done: OwnedFd,
    engine: Engine,
    batches: DatasetReader,
    answers: AnswerWriter,
}

impl Worker {
    /// Everything up to saying ready.
    fn prepare(
        args: &WorkerArgs,
        region: Arc<Region>,
        wake: OwnedFd,
        done: OwnedFd,
        hooks: &mut dyn Hooks,
    ) -> Result<Worker, Trouble> {
        hooks.limit();
        reserve::enter_nowhere();
        // For libraries that users bring along: with telemetry, creating the environment would
        // start a thread that writes files.
        reserve::set_variable("ORT_DISABLE_TELEMETRY", "1");
        reserve::reserve_heap(args.reserve_bytes);
        let model = read_model(args)?;
        let mut engine = Engine::load(&args.library, &model)?;
        drop(model);
        let warmup_us = warm_up(&mut engine)?;
        region.lock();
        reserve::lock_memory();
        region.u64(header::LOCKED_BYTES).store(reserve::locked_bytes(), Ordering::Relaxed);
        region.u64(header::WARMUP_US).store(warmup_us, Ordering::Relaxed);
        let version = library_version(&args.library).unwrap_or_else(|| "unknown".into());
        region.store_text(header::LIBRARY_VERSION, header::LIBRARY_VERSION_BYTES, &version);
        if let Some(user) = args.user {
            reserve::become_user(user).map_err(|e| format!("becoming the mount's user: {e}"))?;
            if !reserve::die_with(args.parent) {
                std::process::exit(EXIT_USAGE);
            }
        }
        region.u32(header::SANDBOX).store(hooks.confine()?, Ordering::Relaxed);
        hooks.confined();
        let batches = DatasetReader::new(region.clone());
        let answers = AnswerWriter::new(region.clone());
        region.u32(header::STATE).store(WorkerState::Ready.code(), Ordering::Release);
        let worker = Worker { wake, done, engine, batches, answers };
        worker.ring()?;
        Ok(worker)
    }

    /// Answers batches for ever.
    fn serve(&mut self, hooks: &mut dyn Hooks) -> Result<Infallible, Trouble> {
        loop {
            while let Some(head) = self.batches.pop(self.engine.input()) {
                self.answer(head, hooks);
                self.ring()?;
            }
            let mut fds = [PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(format!("waiting for batches: {e}").into()),
            }
            // Empties the counter; that it is empty already is fine.
            let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
        }
    }

    fn answer(&mut self, head: BatchHead, hooks: &mut dyn Hooks) {
        let since = Instant::now();
        let outcome = if head.features as usize == self.engine.features() {
            self.engine.run(head.label.rows as usize)
        } else {
            Err(fault::BAD_BATCH)
        };
        let run_ns = since.elapsed().as_nanos() as u64;
        let (code, values) = match outcome {
            Ok(values) => {
                hooks.answered(values);
                (fault::NONE, &*values)
            }
            Err(code) => (code, &[][..]),
        };
        let label = head.label;
        let answer = AnswerHead { label, fault: code, run_ns, done_ns: monotonic_ns() };
        self.answers.push(answer, values);
    }

    /// Tells the daemon that there is something to see. A full counter has told it already.
    fn ring(&self) -> Result<(), String> {
        match rustix::io::write(&self.done, &1u64.to_ne_bytes()) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(e) => Err(format!("telling the daemon: {e}")),
        }
    }
}

fn read_model(args: &WorkerArgs) -> Result<Vec<u8>, String> {
    let fd = inherited(args.model).map_err(|e| format!("the model's descriptor: {e}"))?;
    let size = rustix::fs::fstat(&fd).map_err(|e| format!("the model's descriptor: {e}"))?.st_size;
    if size <= 0 || size > MODEL_BYTES_MAX as i64 {
        return Err(format!("the model has {size} bytes"));
    }
    let mut bytes = vec![0; size as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::pread(&fd, &mut bytes[filled..], filled as u64) {
            Ok(0) | Err(_) => return Err("the model cannot be read".into()),
            Ok(count) => filled += count,
        }
    }
    Ok(bytes)
}

/// Runs the largest batch until its memory is there; answers with the time of the last run.
fn warm_up(engine: &mut Engine) -> Result<u64, Trouble> {
    let mut last_us = 0;
    for _ in 0..WARMUP_RUNS {
        let since = Instant::now();
        engine.input().fill(0.5);
        match engine.run(ROWS_MAX) {
            // What it computes is judged by the probe, not here.
            Ok(_) | Err(fault::NOT_FINITE) => {}
            Err(_) => return Err(Trouble::Model("it fails when it is run".into())),
        }
        last_us = since.elapsed().as_micros() as u64;
    }
    Ok(last_us)
}
