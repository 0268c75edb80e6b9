//! One mount from mount(2) to the last request.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Result, anyhow, ensure};
use fuser::{Session, SessionACL};

use super::aside::Aside;
use super::control::Control;
use super::front::Front;
use super::held::Held;
use super::kernel::KernelLine;
use super::late::Late;
use super::mount::{mount_as_root, own_mount, session_config, set_read_ahead};
use super::options::MountOptions;
use super::requests::Requests;
use super::tracking::{Unlinked, Writers};
use super::umount::{self, Unmounter, clear_stale};
use crate::namespace::api::Namespace;

/// A mounted filesystem. Dropping it unmounts (lazily if it must) and waits for the last request.
pub struct MountedSession {
    unmounter: Unmounter,
    ns: Arc<dyn Namespace>,
    threads: Option<Threads>,
}

struct Threads {
    session: JoinHandle<io::Result<()>>,
    /// In the order in which they end.
    helpers: Vec<JoinHandle<()>>,
}

/// Mounts `ns` on `mountpoint` and begins to answer. `spec` is the device or image as the user named it, shown as the mount's source.
/// A dead mount of ours at `mountpoint` is cleared away first.
///
/// Before any thread is started, signals may be blocked with [`super::signals::Signals`].
pub fn serve(
    ns: Arc<dyn Namespace>,
    control: Arc<dyn Control>,
    mountpoint: &Path,
    spec: &str,
    options: &MountOptions,
) -> Result<MountedSession> {
    clear_stale(mountpoint)?;
    let mountpoint = umount::resolve(mountpoint)?;
    ensure!(mountpoint.is_dir(), "mount point {} is not a directory", mountpoint.display());
    let line = Arc::new(KernelLine::default());
    let (aside, aside_thread) = Aside::start(line.clone())?;
    let front = Arc::new(Front {
        ns: ns.clone(),
        control,
        options: options.clone(),
        aside,
        unlinked: Arc::new(Unlinked::default()),
        writers: Writers::default(),
    });
    let (late, mut helpers) = Late::start(&front)?;
    let (held, held_thread) = Held::start()?;
    helpers.extend([held_thread, aside_thread]);
    let session = connect(Requests::new(front, late, held), &mountpoint, spec, options)?;
    let mount = own_mount(&mountpoint)?;
    let unmounter = Unmounter::new(mount.clone());
    let run = start(session, &line).inspect_err(|_| detach(&unmounter))?;
    set_read_ahead(&mount, options.read_ahead_bytes);
    Ok(MountedSession { unmounter, ns, threads: Some(Threads { session: run, helpers }) })
}

/// Mounts, and shakes hands with the kernel.
fn connect(requests: Requests, mountpoint: &Path, spec: &str, options: &MountOptions) -> Result<Session<Requests>> {
    let config = session_config(spec, options);
    if !rustix::process::geteuid().is_root() {
        return Session::new(requests, mountpoint, &config)
            .with_context(|| format!("cannot mount on {}", mountpoint.display()));
    }
    let device = mount_as_root(mountpoint, spec, options)?;
    let acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    Session::from_fd(requests, device, acl, config)
        .inspect_err(|_| {
            if let Ok(mount) = own_mount(mountpoint) {
                detach(&Unmounter::new(mount));
            }
        })
        .context("the kernel's FUSE refused our terms")
}

fn start(session: Session<Requests>, line: &KernelLine) -> Result<JoinHandle<io::Result<()>>> {
    line.connect(session.as_fd())?;
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

    /// Blocks until the filesystem is unmounted and the last request answered, then makes everything durable.
    pub fn wait(mut self) -> Result<()> {
        self.join()?;
        self.ns.sync()?;
        Ok(())
    }

    /// Waits for the threads. What is still mounted then (a thread failed, or somebody aborted the connection) has nobody to answer, so it
    /// is taken away.
    fn join(&mut self) -> Result<()> {
        let Some(threads) = self.threads.take() else { return Ok(()) };
        let ended = threads.session.join().map_err(|_| anyhow!("the session's thread panicked"))?;
        if self.unmounter.is_mounted()? {
            detach(&self.unmounter);
        }
        match ended {
            // A reader meets the end of the connection with a request in its hands (`fuse_dev_do_read`).
            Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => {}
            ended => ended.with_context(|| format!("serving {} failed", self.unmounter.mountpoint().display()))?,
        }
        for helper in threads.helpers {
            let name = helper.thread().name().unwrap_or_default().to_owned();
            helper.join().map_err(|_| anyhow!("thread {name} panicked"))?;
        }
        Ok(())
    }
}

impl Drop for MountedSession {
    fn drop(&mut self) {
        if self.threads.is_some() {
            detach(&self.unmounter);
            if let Err(error) = self.join() {
                tracing::warn!("{error:#}");
            }
        }
    }
}
