//! Mounts the in-memory reference filesystem: to try the FUSE front alone, and as a baseline that touches no medium.
//!
//! `cargo run --example mount_reference -- MOUNTPOINT [OPTION,OPTION...]`, with the options of mount(8). Runs until it is unmounted or
//! interrupted; then everything in it is gone.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use gleanfs::fuse::signals::Signals;
use gleanfs::fuse::{Control, MountOptions, serve};
use gleanfs::namespace::reference::Reference;

/// Memory has nothing to trim and nothing to save.
struct NoControl;

impl Control for NoControl {}

fn main() -> Result<()> {
    let signals = Signals::block()?;
    let mut args = std::env::args_os().skip(1);
    let mountpoint = PathBuf::from(args.next().context("usage: mount_reference MOUNTPOINT [OPTIONS]")?);
    let mut options = MountOptions::default();
    let given = args.next().unwrap_or_default();
    for option in given.to_str().context("options are not UTF-8")?.split(',').filter(|o| !o.is_empty()) {
        if !options.set(option) {
            bail!("unknown option {option}");
        }
    }
    let session = serve(Arc::new(Reference::new()), Arc::new(NoControl), &mountpoint, "reference", &options)?;
    signals.unmount_on_arrival(session.unmounter())?;
    session.wait().map(drop)
}
