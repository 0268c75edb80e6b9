//! Taking a mount over from a daemon before us, and making way for one after us.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rustix::fs::Access;

use crate::control::status::Supervision;
use crate::control::{Response, server};
use crate::fuse::{Connection, Stopper, umount};
use crate::meta::volume::Volume;
use crate::meta::witness::Witness;
use crate::supervisor::Link;

/// A mount's line to its supervisor, if it has one.
#[derive(Default)]
pub(crate) struct Handover {
    link: Option<Link>,
    stopper: OnceLock<Arc<Stopper>>,
    /// Who is to follow, and who asked for it.
    wanted: Mutex<Option<(PathBuf, UnixStream)>>,
}

/// What stands of a mount that is to be taken over.
pub(super) enum Standing {
    /// Nothing: it is to be mounted.
    Nothing,
    Whole(Connection),
}

impl Handover {
    pub(super) fn new(link: Option<Link>) -> Self {
        Self { link, ..Self::default() }
    }

    /// The connection that `volume` may go on with. When operations that clients know of are lost, their files, names and caches must not
    /// be taken for what the volume holds now: then the mount is cut off from them, loudly, and made anew.
    pub(super) fn take_up(link: Option<&mut Link>, volume: &Volume, target: &Path) -> Result<Standing> {
        let Some(link) = link else { return Ok(Standing::Nothing) };
        let Some(witness) = link.witness.take() else { return Ok(Standing::Nothing) };
        let standing = match link.connection.take() {
            None => Standing::Nothing,
            Some(connection) if witness.accepted() <= volume.last_lsn() => Standing::Whole(connection),
            Some(connection) => {
                tell_loss(&witness, volume);
                // Before the witness forgets: nobody may go on with this connection if we fail from here on.
                link.cut().context("telling the supervisor")?;
                // The supervisor may not have let go yet, and a mount that is alive must not get another on top.
                if connection.is_alive() {
                    umount::cut_off(target)?;
                }
                Standing::Nothing
            }
        };
        match standing {
            Standing::Nothing => witness.forget(),
            Standing::Whole(_) => witness.take_up(volume.last_lsn()),
        }
        let _ = volume.witness.set(witness);
        Ok(standing)
    }

    /// Requests are answered; tells the supervisor.
    pub(super) fn serving(&self, stopper: Arc<Stopper>, connection: &Connection, is_new: bool) -> Result<()> {
        let _ = self.stopper.set(stopper);
        match &self.link {
            Some(_) if !connection.terms.resend() => {
                bail!(
                    "supervise: this kernel cannot send requests again that a dead daemon has read (Linux 6.9 can); leave it out"
                )
            }
            Some(link) => link.serving(connection, is_new).context("telling the supervisor"),
            None => Ok(()),
        }
    }

    /// Begins to make way for `executable`; `client` is answered by whoever serves then. A refusal leaves all as it was.
    pub(super) fn begin(&self, volume: &Volume, executable: PathBuf, client: UnixStream) -> Option<Response> {
        let refused = |why: String| Some(Response::Refused(why));
        let Some(stopper) = self.stopper.get().filter(|_| self.link.as_ref().is_some_and(Link::is_watched)) else {
            return refused(
                "this mount has no supervisor that could start another daemon; mount with -o supervise".into(),
            );
        };
        // The supervisor starts programs as root, also where the daemon and its user are not.
        if !rustix::net::sockopt::socket_peercred(&client).is_ok_and(|peer| peer.uid.is_root()) {
            return refused("only root may have another program serve a supervised mount".into());
        }
        // A daemon that is not root any more may not be let where the program is; the supervisor looks at it in any case.
        if rustix::process::geteuid().is_root()
            && let Err(error) = rustix::fs::access(&executable, Access::EXEC_OK)
        {
            return refused(format!("{}: {error}", executable.display()));
        }
        if let Err(error) = volume.writable().or_else(|e| if volume.is_read_only() { Ok(()) } else { Err(e) }) {
            return refused(format!("what is not durable would be lost: {error}"));
        }
        let mut wanted = self.wanted.lock();
        if wanted.is_some() {
            return refused("this mount is being handed over already".into());
        }
        *wanted = Some((executable, client));
        match stopper.stop() {
            Ok(()) => None,
            Err(error) => {
                *wanted = None;
                refused(format!("{error:#}"))
            }
        }
    }

    /// All is durable, or cannot be made so: lets the next daemon go on.
    pub(super) fn finish(&self, outcome: &Result<()>) -> Result<()> {
        let Some((executable, mut client)) = self.wanted.lock().take() else { return Ok(()) };
        match (outcome, &self.link) {
            (Ok(()), Some(link)) => {
                link.chunks.clear();
                link.replace(&executable, &client).context("handing the mount to the supervisor")
            }
            (Err(error), _) => {
                let why =
                    Response::Refused(format!("this daemon ended with an error and is followed by another: {error:#}"));
                Ok(server::send(&mut client, &why)?)
            }
            (Ok(()), None) => Ok(()),
        }
    }

    pub(super) fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    pub(super) fn status(&self) -> Option<Supervision> {
        let link = self.link.as_ref()?;
        Some(Supervision { watched: link.is_watched(), deaths: link.deaths, upgrades: link.upgrades })
    }
}

/// Tells the supervisor, if there is one, why the daemon ends.
pub(super) fn tell_failure(link: Option<&Link>, error: &anyhow::Error) {
    if let Some(link) = link {
        // If it is gone, too, the log says it.
        let _ = link.failed(&format!("{error:#}"));
    }
}

fn tell_loss(witness: &Witness, volume: &Volume) {
    tracing::error!(
        "the daemon before died with operations that were answered and neither synced nor written (LSN {} of {}); \
         files that were open are cut off",
        volume.last_lsn().0,
        witness.accepted().0
    );
}
