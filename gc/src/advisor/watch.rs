//! A file that is looked at now and then, to see whether somebody replaced it.
//!
//! By looking, not by inotify: the file may lie on any filesystem, a missing file may appear later,
//! and a look a second costs nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::check::MODEL_BYTES_MAX;
use super::host::NamedModel;

/// What changes when a file is replaced or rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    mtime: (i64, i64),
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Watch {
    path: PathBuf,
    /// What was there when it was last used or when watching began.
    used: Option<Stamp>,
    /// What was there at the last look: a file still being written changes between two looks.
    seen: Option<Stamp>,
}

impl Watch {
    pub(crate) fn new(path: &Path) -> Watch {
        let now = stamp(path);
        Watch { path: path.into(), used: now, seen: now }
    }

    /// The new contents, once they have stayed the same for one interval between two looks.
    pub(crate) fn look(&mut self) -> Option<io::Result<NamedModel>> {
        let now = stamp(&self.path);
        let settled = now == self.seen;
        self.seen = now;
        if !settled || now.is_none() || now == self.used {
            return None;
        }
        self.used = now;
        Some(read_model(&self.path))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok().filter(|meta| meta.is_file())?;
    let mtime = (meta.mtime(), meta.mtime_nsec());
    Some(Stamp { device: meta.dev(), inode: meta.ino(), bytes: meta.len(), mtime })
}

/// Reads a model file, at most one byte more than a model may have, so that the check refuses it.
pub(crate) fn read_model(path: &Path) -> io::Result<NamedModel> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MODEL_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(NamedModel { name: path.display().to_string(), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_reported_once_it_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        fs::write(&path, b"one").unwrap();
        let mut watch = Watch::new(&path);
        assert!(watch.look().is_none());
        fs::write(dir.path().join("new"), b"second").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(watch.look().is_none(), "first sight");
        assert_eq!(watch.look().unwrap().unwrap().bytes, b"second");
        assert!(watch.look().is_none());
        fs::remove_file(&path).unwrap();
        assert!(watch.look().is_none() && watch.look().is_none());
        fs::write(&path, b"third").unwrap();
        assert!(watch.look().is_none());
        assert_eq!(watch.look().unwrap().unwrap().bytes, b"third");
    }
}
