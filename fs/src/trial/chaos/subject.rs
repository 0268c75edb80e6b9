//! The real filesystem, of whose blocks of file data some are damaged on purpose: what fsck may say of it.

use std::cell::Cell;
use std::sync::Arc;

use crate::device::memory::MemoryDevice;
use crate::error::Result;
use crate::fsck::{self, CheckOptions, Finding, Owner, Severity};
use crate::namespace::api::Namespace;
use crate::namespace::reference::Clock;
use crate::trial::Subject;
use crate::trial::on_memory::{Mounted, OnMemory};

/// A filesystem in memory with so many blocks damaged, at the most.
pub(super) struct Damaged {
    pub inner: OnMemory,
    pub flips: Cell<u64>,
}

impl Damaged {
    /// Whether a finding is what a flipped bit may lead to.
    fn is_flip(finding: &Finding) -> bool {
        matches!(finding, Finding::Damaged { owner: Owner::Data { .. }, .. })
    }
}

impl Subject for Damaged {
    type Medium = Arc<MemoryDevice>;
    type Mounted = Mounted;

    fn namespace<'a>(&self, mounted: &'a Mounted) -> &'a dyn Namespace {
        self.inner.namespace(mounted)
    }

    fn format(&self) -> Result<Arc<MemoryDevice>> {
        self.flips.set(0);
        self.inner.format()
    }

    fn mount(&self, medium: &Arc<MemoryDevice>, clock: Clock) -> Result<Mounted> {
        self.inner.mount(medium, clock)
    }

    fn unmount(&self, medium: &Arc<MemoryDevice>, mounted: Mounted) -> Result<()> {
        self.inner.unmount(medium, mounted)
    }

    fn writes(&self, medium: &Arc<MemoryDevice>) -> u64 {
        self.inner.writes(medium)
    }

    fn cut_after(&self, medium: &Arc<MemoryDevice>, writes: u64) {
        self.inner.cut_after(medium, writes);
    }

    fn crash(&self, medium: &Arc<MemoryDevice>, seed: u64) -> Arc<MemoryDevice> {
        self.inner.crash(medium, seed)
    }

    fn fork(&self, medium: &Arc<MemoryDevice>) -> Arc<MemoryDevice> {
        self.inner.fork(medium)
    }

    fn check(&self, medium: &Arc<MemoryDevice>) -> std::result::Result<(), String> {
        let options = CheckOptions { cache_bytes: 1 << 20, findings_max: 1000, ..CheckOptions::default() };
        let report = fsck::check(medium.clone(), &options, &mut |_, _| {}).map_err(|e| format!("fsck: {e}"))?;
        let errors = || report.findings.iter().filter(|finding| finding.severity() == Severity::Error);
        if let Some(finding) = errors().find(|finding| !Self::is_flip(finding)) {
            return Err(format!("fsck: {finding}"));
        }
        match errors().count() as u64 {
            damaged if damaged > self.flips.get() => {
                Err(format!("fsck: {damaged} blocks are damaged, {} were flipped", self.flips.get()))
            }
            _ => Ok(()),
        }
    }
}
