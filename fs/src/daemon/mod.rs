//! A mount from its image to its end: puts device, volume, cleaner, namespace, FUSE front and control socket together.
//!
//! Above all layers, below the command line. Order matters: protection before the first thread, signals blocked before the
//! first thread, the control socket after the mount it is named by, the last checkpoint after the last request.

mod control;
mod handover;
mod protect;
mod sampling;
mod stalls;
mod status;
mod user;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gleanfs_gc::advisor::ROWS_MAX;
use gleanfs_gc::ghost;
use gleanfs_gc::pair::{self, Pair};
use gleanfs_gc::placement::NoSeparation;
use gleanfs_gc::victim;

use crate::cleaner::{Background, Cleaner, Pressure};
use crate::control::{Server, mounts};
use crate::device::OpenMode;
use crate::device::lock::ImageLock;
use crate::fuse::{self, Ended, Inherited, MountOptions, Origin};
use crate::meta::image::open_image;
use crate::meta::volume::{Volume, VolumeOptions};
use crate::namespace::Filesystem;
use crate::namespace::api::Namespace;
use crate::proxy::service::{Advice, AdviceOptions, Prepared};
use crate::proxy::{Candidates, LogAround, Surroundings, VictimSurroundings};
use crate::scrub::Scrubber;
use crate::supervisor::Link;
use control::Controls;
use handover::{Handover, Standing};
use stalls::Watched;
use user::User;

/// When the cleaner works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleaning {
    /// In the background, and for whoever waits for room.
    Background,
    /// Only for those who wait for room.
    OnDemand,
    /// On the writers' own threads: nothing happens at the same time, so that measurements repeat.
    Inline,
}

/// A mount to be served.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// The image, absolute.
    pub source: PathBuf,
    /// The mount point, absolute.
    pub target: PathBuf,
    pub read_only: bool,
    /// Bytes of metadata kept in memory.
    pub cache_bytes: usize,
    /// `VICTIM` or `VICTIM/PLACEMENT`; `None`: [`POLICY_DEFAULT`].
    pub policy: Option<String>,
    pub cleaning: Cleaning,
    pub checkpoint_every: Duration,
    /// Data heads; `None`: as many as the image can afford.
    pub heads: Option<u8>,
    pub advice: AdviceOptions,
    /// User whom the daemon becomes once everything that needs root is open.
    pub run_as: Option<String>,
    pub fuse: MountOptions,
}

/// The best fixed pair: what decides when no model does.
pub const POLICY_DEFAULT: &str = "cost-age-class/ewma";

/// Threads that write chunks.
const WRITER_THREADS: usize = 2;

/// Reads `VICTIM` or `VICTIM/PLACEMENT`.
pub fn policy_by_name(name: &str) -> Result<Pair> {
    Ok(pair::by_name(name)?)
}

/// The policy of a mount, which has both halves.
fn policy_of(options: &DaemonOptions) -> Result<Pair> {
    let mut policy = policy_by_name(options.policy.as_deref().unwrap_or(POLICY_DEFAULT))?;
    if policy.placement.is_none() {
        policy.placement = policy_by_name(POLICY_DEFAULT)?.placement;
    }
    Ok(policy)
}

/// Reads the first model, so that a bad one is refused before anything is touched. Mounts that write nothing, or whose writes must
/// repeat exactly, have no advisor.
fn prepare_advice(options: &DaemonOptions) -> Result<Prepared> {
    if options.read_only {
        return Ok(Prepared::absent("the mount is read-only"));
    }
    if options.cleaning == Cleaning::Inline {
        return Ok(Prepared::absent("gc=sync repeats exactly"));
    }
    Prepared::new(&options.advice).map_err(anyhow::Error::msg)
}

/// What the model proxy knows of the mount. `victim`: the name of the fixed rule.
fn surroundings(cleaner: &Arc<Cleaner>, volume: &Arc<Volume>, victim: &str) -> Surroundings {
    let segment_blocks = cleaner.segment_blocks();
    let (pressed, cleaner, rooms) = (Arc::clone(cleaner), Arc::clone(cleaner), Arc::clone(volume));
    let stored = move || {
        let high = cleaner.marks().high;
        u64::from(rooms.room().segments.saturating_sub(high)) * u64::from(segment_blocks)
    };
    let log = LogAround {
        capacity_blocks: volume.usage().capacity,
        stored_blocks: Box::new(stored),
        victim: victim::by_name(victim).unwrap_or_else(|| Box::new(victim::CostAgeClass)),
        ghost_blocks_max: ghost::BLOCKS_MAX,
    };
    Surroundings { emergency: Box::new(move || pressed.pressure() == Pressure::Emergency), segment_blocks, log }
}

/// What the proxy of victims knows of the mount.
fn surroundings_of_victims(cleaner: &Arc<Cleaner>) -> VictimSurroundings {
    let (pressed, cleaner) = (Arc::clone(cleaner), Arc::clone(cleaner));
    let look = move |candidates: &mut Candidates, facts: bool| {
        cleaner.survey(|index, context, rule| {
            candidates.context = context;
            candidates.rule = rule;
            candidates.facts.clear();
            candidates.values.clear();
            for (segment, row) in victim::rows(index, &context).take(if facts { ROWS_MAX } else { 0 }) {
                candidates.facts.push(segment);
                candidates.values.extend_from_slice(&row);
            }
        });
        candidates.moved_blocks = cleaner.moved_blocks();
        candidates.moves_max = cleaner.moves_max();
    };
    VictimSurroundings { emergency: Box::new(move || pressed.pressure() == Pressure::Emergency), look: Box::new(look) }
}

/// Puts a fixed policy to use from the next decision on, each half where it belongs, so that halves that share a plan stay together. Without a
/// placement in it the one in use stays.
fn use_policy(policy: Pair, cleaner: &Cleaner, volume: &Volume, advice: &Advice) {
    cleaner.set_policy(policy.victim);
    // What comes back when nobody advises is for the volume itself to ask.
    let unused = policy.placement.and_then(|placement| advice.set_fallback(placement));
    if let Some(placement) = unused {
        volume.set_placement(placement);
    }
}

/// What serves a mount, below its front.
pub(crate) struct Core {
    pub volume: Arc<Volume>,
    pub cleaner: Arc<Cleaner>,
    pub namespace: Arc<Watched>,
    pub scrubber: Arc<Scrubber>,
    pub advice: Advice,
    pub options: DaemonOptions,
    pub protection: protect::Protection,
    pub handover: Handover,
}

/// Mounts, or goes on with the mount that a supervisor holds, and serves until the mount ends or another daemon is to follow. Calls `mounted` once
/// requests are answered. When it returns without an error, everything is durable.
pub fn serve(options: DaemonOptions, mounted: Box<dyn FnOnce()>, mut link: Option<Link>) -> Result<()> {
    protect::abort_on_panic();
    let protection = protect::enter();
    let signals = fuse::signals::Signals::block().context("blocking signals")?;
    let opened = open_core(options, protection, &mut link);
    let (core, start, lock) = opened.inspect_err(|error| handover::tell_failure(link.as_ref(), error))?;
    let outcome = serve_core(&core, start, signals, mounted);
    drop(lock);
    outcome.inspect_err(|error| handover::tell_failure(core.handover.link(), error))
}

/// From where a mount is served, and as whom.
struct Start {
    standing: Standing,
    user: Option<User>,
}

/// Opens the image, and sees what stands of its mount.
fn open_core(
    mut options: DaemonOptions,
    mut protection: protect::Protection,
    link: &mut Option<Link>,
) -> Result<(Arc<Core>, Start, ImageLock)> {
    // A mount that stands waits for us, so it must not be looked into; nor need it be, since its first daemon did.
    let stands = link.as_ref().is_some_and(|link| link.connection.is_some());
    if !stands && fuse::image_inside(&options.target, &options.source) {
        bail!("{} lies on the filesystem that is to be mounted from it", options.source.display());
    }
    let user = options.run_as.as_deref().map(User::find).transpose()?;
    if let Some(user) = &user {
        options.fuse.owner = user.ids();
        options.advice.user = Some(user.ids());
        protection.memory_locked &= protect::keep_memory_locked();
    }
    let advised = prepare_advice(&options)?;
    let mode = if options.read_only { OpenMode::ReadOnly } else { OpenMode::ReadWrite };
    let opened = open_image(&options.source, mode)?;
    let (core, standing) = Core::open(Arc::clone(&opened.device), options, advised, protection, link)?;
    Ok((core, Start { standing, user }, opened.lock))
}

fn serve_core(
    core: &Arc<Core>,
    Start { standing, user }: Start,
    signals: fuse::signals::Signals,
    mounted: Box<dyn FnOnce()>,
) -> Result<()> {
    let writers = if core.options.read_only { Vec::new() } else { core.volume.log().start_writers()? };
    let background = match core.options.cleaning {
        Cleaning::Inline => None,
        _ if core.options.read_only => None,
        cleaning => {
            core.cleaner.set_enabled(cleaning == Cleaning::Background);
            Some(Background::start(Arc::clone(&core.cleaner), core.options.checkpoint_every)?)
        }
    };
    let controls = Arc::new(Controls(Arc::clone(core)));
    let spec = core.options.source.display().to_string();
    let is_new = matches!(standing, Standing::Nothing);
    let inherited = match standing {
        Standing::Nothing => None,
        Standing::Whole(connection) => Some(Inherited { connection, nameless: core.namespace.nameless() }),
    };
    let origin = Origin { inherited, witness: core.volume.witness.get().cloned() };
    let session = fuse::serve_over(
        origin,
        Arc::clone(&core.namespace) as Arc<dyn Namespace>,
        controls.clone(),
        &core.options.target,
        &spec,
        &core.options.fuse,
    )?;
    signals.unmount_on_arrival(session.unmounter())?;
    let server = mounts::at(&core.options.target)?
        .map(|mount| Server::start(mount.device, controls))
        .transpose()
        .context("opening the control socket")?;
    if let Some(user) = user {
        user.become_for_good()?;
    }
    let sampling = sampling::Sampling::start(core)?;
    core.handover.serving(session.stopper(), session.connection(), is_new)?;
    mounted();
    let served = session.wait();
    drop(sampling);
    core.scrubber.close();
    core.namespace.stop();
    drop(background);
    core.advice.stop();
    core.volume.taps.close();
    let ended = core.end();
    core.volume.log().stop();
    for writer in writers {
        let _ = writer.join();
    }
    let stopped = matches!(served, Ok(Ended::Stopped));
    let outcome = served.and(ended);
    // Whoever waits for the end of a mount that another daemon goes on with unmounts it just now: then this is the last word of it.
    if let Some(server) = server {
        server.finish(outcome.as_ref().map(|_| ()).map_err(|e| format!("{e:#}")));
    }
    if stopped {
        core.handover.finish(&outcome)?;
    }
    outcome
}

impl Core {
    fn open(
        device: Arc<dyn crate::device::Device>,
        options: DaemonOptions,
        advised: Prepared,
        protection: protect::Protection,
        link: &mut Option<Link>,
    ) -> Result<(Arc<Self>, Standing)> {
        let policy = policy_of(&options)?;
        let inline = options.cleaning == Cleaning::Inline;
        let volume = Arc::new(Volume::open(
            device,
            VolumeOptions {
                read_only: options.read_only,
                cache_bytes: options.cache_bytes,
                writer_threads: if inline { 0 } else { WRITER_THREADS },
                heads: options.heads,
                placement: Box::new(NoSeparation),
                kept: link.as_ref().map(|link| Arc::clone(&link.chunks)),
            },
        )?);
        let standing = Handover::take_up(link.as_mut(), &volume, &options.target)?;
        let cleaner = Cleaner::new(Arc::clone(&volume), Box::new(victim::Greedy), inline);
        let around_victims = surroundings_of_victims(&cleaner);
        let advice = advised
            .start(
                Box::new(NoSeparation),
                surroundings(&cleaner, &volume, policy.victim.name()),
                around_victims,
                Arc::clone(&volume.taps),
            )
            .map_err(anyhow::Error::msg)?;
        cleaner.set_recommender(advice.recommender());
        use_policy(policy, &cleaner, &volume, &advice);
        if let Some(placement) = advice.placement(volume.heads()) {
            volume.set_placement(placement);
        }
        let pressed = Arc::clone(&cleaner);
        let is_pressed = Box::new(move || pressed.pressure() == Pressure::Emergency);
        let scrubber = Scrubber::new(Arc::clone(&volume), is_pressed);
        let filesystem = match standing {
            Standing::Nothing => Filesystem::new(Arc::clone(&volume))?,
            Standing::Whole(_) => Filesystem::inherited(Arc::clone(&volume))?,
        };
        let (namespace, handover) = (Arc::new(Watched::new(filesystem)), Handover::new(link.take()));
        let core = Self { volume, cleaner, namespace, scrubber, advice, options, protection, handover };
        Ok((Arc::new(core), standing))
    }

    /// The last checkpoint. A filesystem that is read-only, or became so, is left as it is.
    fn end(&self) -> Result<()> {
        match self.volume.writable() {
            Ok(()) => self.volume.checkpoint(true).context("the last checkpoint"),
            Err(crate::error::Error::ReadOnly) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}
