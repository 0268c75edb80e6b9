//! A great many files in one directory, and a great deal of space: neither may cost more than it must.
//!
//! Creates, lists, looks up and removes them, on the filesystem under test and, for the ratios, on ext4 on a loop device of the same size.
//! Then a mount after an orderly end, one after a kill, and one of an image of many terabytes, each of which must be prompt.

pub mod crowd;
pub mod pace;
pub mod prompt;

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::volume::{Backing, Peer, Setup, Volume};
use crowd::Crowd;
use pace::{Daemon, Pace};

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Files in the directory
    #[arg(long, default_value_t = 1_000_000)]
    pub files: u64,
    /// Names to look up at random
    #[arg(long, default_value_t = 100_000)]
    pub sample: u64,
    /// Size of the sparse image in TiB
    #[arg(long, default_value_t = 15)]
    pub sparse_tib: u64,
    /// Longest mkfs and mount
    #[arg(long, default_value_t = 1000)]
    pub mount_max_ms: u64,
    /// Do not run the same on ext4
    #[arg(long)]
    pub alone: bool,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Options {
    /// ext4 makes an inode for each 16 KiB; the image is sparse, so room costs nothing.
    fn sized(&self) -> Setup {
        Setup { size_mib: self.setup.size_mib.max(self.files * 20 / 1024), ..self.setup.clone() }
    }
}

/// Operations per second.
#[derive(Clone, Debug)]
pub struct Rates {
    pub create: Pace,
    pub list: f64,
    pub look_up: f64,
    pub look_up_cold: f64,
    pub remove: Pace,
}

/// Runs all of it.
pub fn run(options: &Options) -> Result<()> {
    let setup = options.sized();
    let rates = crowded(options, &setup)?;
    rates.print(setup.peer);
    if setup.peer == Peer::Gleanfs {
        if !options.alone {
            let peer = Setup { peer: Peer::Ext4, backing: Backing::File, options: String::new(), ..setup.clone() };
            let of_peer = crowded(options, &peer)?;
            of_peer.print(peer.peer);
            rates.print_ratios(&of_peer);
        }
        prompt::sparse(&setup, options.sparse_tib)?.check("the sparse image", options.mount_max_ms)?;
    }
    Ok(())
}

/// The life of a crowded directory on one filesystem.
fn crowded(options: &Options, setup: &Setup) -> Result<Rates> {
    let mut volume = setup.make()?;
    let crowd = Crowd::new(volume.target(), options.files, options.seed);
    let create = crowd.create(Daemon::of(&volume)?)?;
    let list = crowd.list()?;
    let look_up = crowd.look_up(options.sample)?;
    remount(&mut volume, "an orderly end", options)?;
    let look_up_cold = crowd.look_up(options.sample)?;
    crowd.list()?;
    crowd.list_amid_changes()?;
    if volume.peer() == Peer::Gleanfs {
        volume.kill_daemon()?;
        remount(&mut volume, "a kill", options)?;
        crowd.list()?;
    }
    let remove = crowd.remove_as_listed(Daemon::of(&volume)?)?;
    volume.end()?;
    Ok(Rates { create, list, look_up, look_up_cold, remove })
}

fn remount(volume: &mut Volume, after: &str, options: &Options) -> Result<()> {
    let was = prompt::timed(|| volume.unmount())?;
    let took = prompt::timed(|| volume.mount())?;
    println!("many: unmounted in {} ms, mounted in {} ms after {after}", was.as_millis(), took.as_millis());
    let most = Duration::from_millis(options.mount_max_ms);
    let ours = volume.peer() == Peer::Gleanfs;
    ensure!(!ours || took <= most, "the mount after {after} took {took:?}; at most {most:?} is allowed");
    Ok(())
}

impl Rates {
    fn print(&self, peer: Peer) {
        let Self { create, list, look_up, look_up_cold, remove } = self;
        println!("{peer:?}: created {create}; removed {remove}");
        println!("{peer:?}: listed {list:.0}/s; looked up {look_up:.0}/s, {look_up_cold:.0}/s after a mount");
    }

    fn print_ratios(&self, peer: &Self) {
        println!(
            "ratio to ext4: create {:.2}, list {:.2}, look up {:.2}, look up cold {:.2}, remove {:.2}",
            self.create.mean / peer.create.mean,
            self.list / peer.list,
            self.look_up / peer.look_up,
            self.look_up_cold / peer.look_up_cold,
            self.remove.mean / peer.remove.mean
        );
    }
}
