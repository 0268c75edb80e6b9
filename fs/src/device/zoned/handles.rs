//! Open zone files, a bounded number of them: an image may have far more zones than a process may have descriptors.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::OFlags;

use super::layout::zone_name;
use crate::device::direct::DirectFile;
use crate::device::{OpenMode, ZoneKind};

/// Most zone files open at once, callers' copies aside.
const OPEN_FILES_MAX: usize = 128;

/// Zone files opened so far, by zone.
#[derive(Debug)]
pub(super) struct Handles {
    mode: OpenMode,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// The file and the time of its last use, in uses.
    files: HashMap<u32, (Arc<DirectFile>, u64)>,
    uses: u64,
}

impl Handles {
    pub(super) fn new(mode: OpenMode) -> Self {
        Self { mode, recent: Mutex::default() }
    }

    /// The file of zone `zone` in `directory`; opened if it is not, in place of the one used longest ago.
    pub(super) fn get(&self, directory: &File, kind: ZoneKind, zone: u32) -> io::Result<Arc<DirectFile>> {
        let mut recent = self.recent.lock();
        recent.uses += 1;
        let now = recent.uses;
        if let Some((file, used)) = recent.files.get_mut(&zone) {
            *used = now;
            return Ok(file.clone());
        }
        let name = zone_name(kind, zone);
        let file = DirectFile::open_at(directory.as_fd(), Path::new(&name), self.mode, OFlags::NOFOLLOW)?;
        if recent.files.len() >= OPEN_FILES_MAX
            && let Some(oldest) = recent.files.iter().min_by_key(|(_, (_, used))| *used).map(|(zone, _)| *zone)
        {
            recent.files.remove(&oldest);
        }
        let file = Arc::new(file);
        recent.files.insert(zone, (file.clone(), now));
        Ok(file)
    }

    #[cfg(test)]
    pub(super) fn open_count(&self) -> usize {
        self.recent.lock().files.len()
    }
}
