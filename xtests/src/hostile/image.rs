//! Whole images: a small real one, a script of lies about it, and everything that a host does with an image that it is handed.

use std::sync::Arc;

use gleanfs::cleaner::Cleaner;
use gleanfs::device::{Device, MemoryDevice};
use gleanfs::error::{Error, Result};
use gleanfs::format::value::Time;
use gleanfs::fsck::{CheckOptions, Severity, check};
use gleanfs::meta::volume::{Volume, VolumeOptions};
use gleanfs::namespace::{Filesystem, Reaping};

use super::exercise;
use super::guard::Guard;
use super::script::{Script, forge};
use super::seed::Seeds;

/// The first byte chooses the image, the others are the script.
pub(super) fn attack(input: &[u8]) {
    let mut script = Script(input);
    let device = Seeds::get().copy(script.byte());
    forge(&device, &mut script);
    let sound = findings(&device).is_some_and(|found| found.is_empty());
    watched(device.snapshot(), false, |guard| {
        let Ok(mounted) = mount(guard, true) else { return };
        exercise::walk(&mounted.filesystem);
    });
    watched(device, true, |guard| {
        let opened = mount(guard.clone(), false);
        let mounted = match opened {
            Ok(mounted) => mounted,
            // What this version must not touch is no damage.
            Err(Error::Refused(_)) => return,
            Err(why) => return assert!(!sound, "fsck finds nothing, and a mount says: {why}"),
        };
        exercise::change(&mounted.filesystem, &mounted.volume, &mounted.cleaner);
        let ended = mounted.volume.checkpoint(true);
        drop(mounted);
        if sound && ended.is_ok() {
            let found = findings(guard.device());
            assert!(found.as_ref().is_some_and(String::is_empty), "a sound image is unsound after a mount: {found:?}");
        }
    });
}

/// What fsck finds wrong, in words; `None` if it will not judge the image. It never panics and never writes, whatever the image holds.
fn findings(device: &MemoryDevice) -> Option<String> {
    let mut found = None;
    watched(device.snapshot(), false, |guard| {
        let options = CheckOptions { cache_bytes: 1 << 20, findings_max: 100, ..CheckOptions::default() };
        let Ok(report) = check(guard, &options, &mut |_, _| {}) else { return };
        let errors = report.findings.iter().filter(|finding| finding.severity() == Severity::Error);
        found = Some(errors.map(|finding| finding.to_string()).collect::<Vec<_>>().join("; "));
    });
    found
}

fn watched(device: MemoryDevice, writable: bool, visit: impl FnOnce(Arc<Guard>)) {
    let guard = Arc::new(Guard::new(device, writable));
    visit(guard.clone());
    guard.check();
}

struct Mounted {
    filesystem: Filesystem,
    volume: Arc<Volume>,
    cleaner: Arc<Cleaner>,
}

fn mount(device: Arc<dyn Device>, read_only: bool) -> Result<Mounted> {
    let options = VolumeOptions {
        read_only,
        cache_bytes: 256 << 10,
        writer_threads: 0,
        heads: None,
        placement: Box::new(gleanfs_gc::placement::SepBit::default()),
        kept: None,
    };
    let volume = Arc::new(Volume::open(device, options)?);
    let cleaner = Cleaner::new(volume.clone(), Box::new(gleanfs_gc::victim::Greedy), true);
    let time = || Time { secs: 1_800_000_000, nanos: 7 };
    let filesystem = Filesystem::with_clock(volume.clone(), Box::new(time), Reaping::OnDemand)?;
    Ok(Mounted { filesystem, volume, cleaner })
}
