//! One mount from mount(2) to the last request.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Result, anyhow, ensure};
use fuser::Session;

use super::aside::Aside;
use super::connection::{Connection, Terms, go_on};
use super::control::Control;
use super::front::Front;
use super::held::Held;
use super::kernel::KernelLine;
use super::late::Late;
use super::mount::{mount_as_root, own_mount, session_config, set_read_ahead};
use super::options::MountOptions;
use super::requests::Requests;
use super::stop::Stopper;
use super::tracking::{Unlinked, Writers};
use super::umount::{self, Unmounter, clear_stale};
use crate::meta::witness::Witness;
use crate::namespace::api::Namespace;
use crate::types::Ino;

/// Where a session begins.
#[derive(Default)]
pub struct Origin {
    /// `None`: it mounts.
    pub inherited: Option<Inherited>,
    /// Has it that no request is done twice.
    pub witness: Option<Arc<Witness>>,
}

/// A mount that another daemon served.
pub struct Inherited {
    pub connection: Connection,
    /// Inodes without names that the kernel may still hold.
    pub nameless: Vec<Ino>,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Unmounted,
    /// Every request that was read is answered; the mount stands and waits for another daemon.
    Stopped,
}

/// A mounted filesystem. Dropping it unmounts (lazily if it must) and waits for the last request; a mount that was there before us stays, for another
/// daemon to go on with.
pub struct MountedSession {
    unmounter: Unmounter,
    ns: Arc<dyn Namespace>,
    stopper: Arc<Stopper>,
    connection: Connection,
    was_there: bool,
    threads: Option<Threads>,
}

struct Threads {
    session: JoinHandle<io::Result<()>>,
    /// In the order in which they end.
    helpers: Vec<JoinHandle<()>>,
}

/// [`serve_over`] a mount of its own.
pub fn serve(
    ns: Arc<dyn Namespace>,
    control: Arc<dyn Control>,
    mountpoint: &Path,
    spec: &str,
    options: &MountOptions,
) -> Result<MountedSession> {
    serve_over(Origin::default(), ns, control, mountpoint, spec, options)
}

/// Mounts `ns` on `mountpoint`, or goes on with the mount that is there, and begins to answer. `spec` is the device or image as the user named it,
/// shown as the mount's source. When it mounts, a dead mount of ours at `mountpoint` is cleared away first.
///
/// Before any thread is started, signals may be blocked with [`super::signals::Signals`].
pub fn serve_over(
    origin: Origin,
    ns: Arc<dyn Namespace>,
    control: Arc<dyn Control>,
    mountpoint: &Path,
    spec: &str,
    options: &MountOptions,
) -> Result<MountedSession> {
    let was_there = origin.inherited.is_some();
    let mountpoint = prepare(mountpoint, was_there)?;
    let line = Arc::new(KernelLine::default());
    let (aside, aside_thread) = Aside::start(line.clone())?;
    let writers = if was_there { Writers::inherited() } else { Writers::default() };
    let front = Arc::new(Front {
        ns: ns.clone(),
        control,
        options: options.clone(),
        aside,
        unlinked: Arc::new(Unlinked::default()),
        writers,
        witness: origin.witness,
    });
    let (late, mut helpers) = Late::start(&front)?;
    let (held, held_thread) = Held::start()?;
    helpers.extend([held_thread, aside_thread]);
    let requests = Requests::new(Arc::clone(&front), late, held);
    let terms = requests.terms();
    let (session, nameless) = match origin.inherited {
        None => (connect(requests, &mountpoint, spec, options)?, None),
        Some(Inherited { connection, nameless }) => {
            (go_on(requests, &connection, session_config(spec, options))?, Some(nameless))
        }
    };
    let mount = own_mount(&mountpoint)?;
    let unmounter = Unmounter::new(mount.clone());
    let terms = *terms.get().context("the session was not greeted")?;
    let connection = Connection { device: session.as_fd().try_clone_to_owned()?, terms };
    let stopper = Arc::new(Stopper::new(&session)?);
    line.connect(session.as_fd())?;
    if let Some(nameless) = nameless {
        take_over(&front, &line, &terms, nameless)?;
    }
    drop(front);
    let run = start(session).inspect_err(|_| {
        if !was_there {
            detach(&unmounter);
        }
    })?;
    set_read_ahead(&mount, options.read_ahead_bytes);
    let threads = Some(Threads { session: run, helpers });
    Ok(MountedSession { unmounter, ns, stopper, connection, was_there, threads })
}

/// The mount point as the kernel names it. A mount that waits for its daemon must not be touched: it would wait for us.
fn prepare(mountpoint: &Path, is_there: bool) -> Result<PathBuf> {
    if is_there {
        return Ok(mountpoint.to_owned());
    }
    clear_stale(mountpoint)?;
    let mountpoint = umount::resolve(mountpoint)?;
    ensure!(mountpoint.is_dir(), "mount point {} is not a directory", mountpoint.display());
    Ok(mountpoint)
}

/// Takes up what the daemon before has left: requests that it has read and not answered, and inodes without names, which the kernel may have
/// forgotten since.
fn take_over(front: &Front, line: &KernelLine, terms: &Terms, nameless: Vec<Ino>) -> Result<()> {
    for ino in nameless {
        front.unlinked.add(ino);
        front.forgotten(ino);
    }
    if terms.resend() {
        line.resend().context("asking the kernel for unanswered requests")?;
    }
    Ok(())
}

/// Mounts, and shakes hands with the kernel.
fn connect(requests: Requests, mountpoint: &Path, spec: &str, options: &MountOptions) -> Result<Session<Requests>> {
    let config = session_config(spec, options);
    if !rustix::process::geteuid().is_root() {
        return Session::new(requests, mountpoint, &config)
            .with_context(|| format!("cannot mount on {}", mountpoint.display()));
    }
    let device = mount_as_root(mountpoint, spec, options)?;
    let acl = config.acl;
    Session::from_fd(requests, device, acl, config)
        .inspect_err(|_| {
            if let Ok(mount) = own_mount(mountpoint) {
                detach(&Unmounter::new(mount));
            }
        })
        .context("the kernel's FUSE refused our terms")
}

fn start(session: Session<Requests>) -> Result<JoinHandle<io::Result<()>>> {
    Ok(Builder::new().name("fuse-session".into()).spawn(move || session.run())?)
}

fn detach(unmounter: &Unmounter) {
    if let Err(error) = unmounter.unmount_or_detach() {
        tracing::warn!("{error:#}");
    }
}

impl MountedSession {
    /// For unmounting from another thread.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// For ending the session while the mount stays.
    pub fn stopper(&self) -> Arc<Stopper> {
        Arc::clone(&self.stopper)
    }

    /// What another daemon could go on with.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Blocks until the filesystem is unmounted or the session stopped, and the last request answered, then makes everything durable.
    pub fn wait(mut self) -> Result<Ended> {
        self.join()?;
        self.ns.sync()?;
        Ok(if self.stopper.is_stopped() { Ended::Stopped } else { Ended::Unmounted })
    }

    /// Waits for the threads. What is still mounted then (a thread failed, or somebody aborted the connection) has nobody to answer, so it
    /// is taken away.
    fn join(&mut self) -> Result<()> {
        let Some(threads) = self.threads.take() else { return Ok(()) };
        let ended = threads.session.join().map_err(|_| anyhow!("the session's thread panicked"))?;
        let stopped = self.stopper.is_stopped();
        if !stopped && self.unmounter.is_mounted()? {
            detach(&self.unmounter);
        }
        match ended {
            // What a session says that was stopped: it has read an end.
            Err(_) if stopped => {}
            // A reader meets the end of the connection with a request in its hands (`fuse_dev_do_read`).
            Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => {}
            ended => ended.with_context(|| format!("serving {} failed", self.unmounter.mountpoint().display()))?,
        }
        for helper in threads.helpers {
            let name = helper.thread().name().unwrap_or_default().to_owned();
            helper.join().map_err(|_| anyhow!("thread {name} panicked"))?;
        }
        self.stopper.finish();
        Ok(())
    }
}

impl Drop for MountedSession {
    fn drop(&mut self) {
        if self.threads.is_some() {
            if !self.was_there || self.stopper.stop().is_err() {
                detach(&self.unmounter);
            }
            if let Err(error) = self.join() {
                tracing::warn!("{error:#}");
            }
        }
    }
}
