//! One folder of the cache: the library and a note of what was installed.
//!
//! A folder appears whole, by rename, or not at all; so any number of processes may fetch at once
//! and a crash leaves at worst a stray temporary folder. Before each use the library is compared
//! with the note: size and times always, the hash when the times differ.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::pins::VERSION;
use super::sha256_file;

const NOTE: &str = "installed.json";

/// What was installed, written beside it.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    file: String,
    bytes: u64,
    mtime_ns: i128,
    sha256: String,
}

/// The place of this version and machine in the cache.
pub(super) struct Entry {
    pub root: PathBuf,
    dir: PathBuf,
}

impl Entry {
    pub(super) fn new(root: &Path) -> Entry {
        let dir = root.join(format!("onnxruntime-{VERSION}-{}", std::env::consts::ARCH));
        Entry { root: root.into(), dir }
    }

    /// The library's path, if it is there and is what was installed.
    pub(super) fn verified(&self) -> Option<PathBuf> {
        let note: Note = serde_json::from_slice(&fs::read(self.dir.join(NOTE)).ok()?).ok()?;
        if note.file.contains('/') {
            return None;
        }
        let path = self.dir.join(&note.file);
        let meta = fs::metadata(&path).ok()?;
        if meta.len() != note.bytes {
            return None;
        }
        let same = mtime_ns(&meta) == note.mtime_ns || sha256_file(&path).ok()? == note.sha256;
        same.then_some(path)
    }

    /// Makes a folder for a fetch to work in, on the same filesystem as the entry.
    pub(super) fn workshop(&self) -> io::Result<Workshop> {
        fs::create_dir_all(&self.root)?;
        let nanos = crate::advisor::protocol::monotonic_ns();
        let path = self.root.join(format!(".fetch-{}-{nanos}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Workshop { path })
    }

    /// Moves the library `from` a workshop into the cache and returns its final path.
    pub(super) fn install(&self, workshop: &Workshop, from: &Path) -> io::Result<PathBuf> {
        let file = from.file_name().and_then(|n| n.to_str()).ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let staged = workshop.path.join("staged");
        fs::create_dir(&staged)?;
        let library = staged.join(&file);
        fs::rename(from, &library)?;
        fs::File::open(&library)?.sync_all()?;
        let meta = fs::metadata(&library)?;
        let note = Note { file, bytes: meta.len(), mtime_ns: mtime_ns(&meta), sha256: sha256_file(&library)? };
        fs::write(staged.join(NOTE), serde_json::to_vec_pretty(&note)?)?;
        self.replace_by(&staged, workshop)?;
        self.verified().ok_or_else(|| io::Error::other("the installed library does not verify"))
    }

    fn replace_by(&self, staged: &Path, workshop: &Workshop) -> io::Result<()> {
        match fs::rename(staged, &self.dir) {
            Ok(()) => return Ok(()),
            // Somebody else was faster, and what they installed is good.
            Err(_) if self.verified().is_some() => return Ok(()),
            Err(e) if !self.dir.exists() => return Err(e),
            Err(_) => {}
        }
        match fs::rename(&self.dir, workshop.path.join("broken")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        match fs::rename(staged, &self.dir) {
            Err(_) if self.verified().is_some() => Ok(()),
            other => other,
        }
    }
}

/// A temporary folder, removed with all in it when dropped.
pub(super) struct Workshop {
    pub path: PathBuf,
}

impl Workshop {
    /// Bytes of all files in it, for progress.
    pub(super) fn bytes(&self) -> u64 {
        fn below(dir: &Path) -> u64 {
            let Ok(entries) = fs::read_dir(dir) else { return 0 };
            entries
                .flatten()
                .map(|entry| match entry.metadata() {
                    Ok(meta) if meta.is_dir() => below(&entry.path()),
                    Ok(meta) => meta.len(),
                    Err(_) => 0,
                })
                .sum()
        }
        below(&self.path)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What cannot be removed stays behind as a dot folder; nothing depends on it.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn mtime_ns(meta: &fs::Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(entry: &Entry, bytes: &[u8]) -> PathBuf {
        let workshop = entry.workshop().unwrap();
        let made = workshop.path.join("libonnxruntime.so.1");
        fs::write(&made, bytes).unwrap();
        entry.install(&workshop, &made).unwrap()
    }

    #[test]
    fn what_was_installed_is_found_until_it_changes() {
        let root = tempfile::tempdir().unwrap();
        let entry = Entry::new(root.path());
        assert_eq!(entry.verified(), None);
        let path = install(&entry, b"library one");
        assert_eq!(entry.verified(), Some(path.clone()));
        // Same length, other bytes: the time differs, so the hash is looked at.
        fs::write(&path, b"library two").unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        fs::File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
        assert_eq!(entry.verified(), None);
        // A broken entry is replaced by the next install.
        assert_eq!(fs::read(install(&entry, b"library three")).unwrap(), b"library three");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "no temporary folder stays behind");
    }

    #[test]
    fn concurrent_installs_all_succeed() {
        let root = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| install(&Entry::new(root.path()), b"the same library"));
            }
        });
        assert!(Entry::new(root.path()).verified().is_some());
    }
}
