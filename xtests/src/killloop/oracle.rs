//! What must be on the disk: everything acknowledged, and of what was only begun any part that a crash may leave.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::writer::{Change, Event, FileState, NAMES, SLOTS, path};
use crate::block::{BLOCK, Seen, see};

/// Knows of each file what is certain and what is possible.
#[derive(Debug, Default)]
pub struct Oracle {
    slots: Vec<Slot>,
    version_max: u64,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    certain: Option<FileState>,
    /// Begun after the last acknowledgement, in order.
    possible: Vec<Change>,
}

impl Oracle {
    fn slot(&mut self, slot: u64) -> &mut Slot {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS as usize, Slot::default());
        }
        &mut self.slots[slot as usize]
    }

    /// Takes note of a line of the writer.
    pub fn hear(&mut self, event: Event) {
        match event {
            Event::Begin { slot, change } => {
                if let Change::Create { version, .. } | Change::Overwrite { version, .. } = change {
                    self.version_max = self.version_max.max(version);
                }
                self.slot(slot).possible.push(change);
            }
            Event::Synced { slot } => {
                let slot = self.slot(slot);
                for change in slot.possible.drain(..) {
                    change.apply(&mut slot.certain);
                }
            }
        }
    }

    /// The files as [`Oracle::verify`] found them last.
    pub fn files(&self) -> Vec<Option<FileState>> {
        self.slots.iter().map(|slot| slot.certain.clone()).collect()
    }

    /// A version that no block has yet.
    pub fn next_version(&self) -> u64 {
        self.version_max + 1
    }

    /// Compares the files in `directory` with what may be there; what was found is certain from then on.
    pub fn verify(&mut self, directory: &Path) -> Result<()> {
        for (number, slot) in (0..).zip(&mut self.slots) {
            let found = find(directory, number)?;
            slot.check(number, found.as_ref())
                .with_context(|| format!("file {number}: certain {:?}, possible {:?}", slot.certain, slot.possible))?;
            slot.certain = found.map(|found| found.state());
            slot.possible.clear();
        }
        Ok(())
    }
}

/// A file as it was found: `None` for a block of zeros.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    name: u8,
    versions: Vec<Option<u64>>,
    /// Bytes past the last whole block.
    rest: usize,
}

impl Found {
    fn state(&self) -> FileState {
        FileState { name: self.name, versions: self.versions.iter().map(|version| version.unwrap_or(0)).collect() }
    }
}

fn find(directory: &Path, slot: u64) -> Result<Option<Found>> {
    let mut found = None;
    for name in 0..NAMES {
        let path = path(directory, slot, name);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.with_context(|| path.display().to_string())?,
        };
        ensure!(found.is_none(), "file {slot} is there under two names");
        let mut versions = Vec::new();
        for (index, block) in (0..).zip(bytes.chunks_exact(BLOCK)) {
            versions.push(match see(block) {
                Seen::Whole(stamp) if (stamp.file, stamp.index) == (slot, index) => Some(stamp.version),
                Seen::Zeros => None,
                other => bail!("{}, block {index}: {other:?}", path.display()),
            });
        }
        found = Some(Found { name, versions, rest: bytes.len() % BLOCK });
    }
    Ok(found)
}

impl Slot {
    fn check(&self, slot: u64, found: Option<&Found>) -> Result<()> {
        // Every state that a crash between two changes leaves, for names and existence.
        let mut states = vec![self.certain.clone()];
        for change in &self.possible {
            let mut next = states.last().cloned().flatten();
            change.apply(&mut next);
            states.push(next);
        }
        let Some(found) = found else {
            ensure!(states.contains(&None), "file {slot} is gone");
            return Ok(());
        };
        let named = states.iter().flatten().any(|state| state.name == found.name);
        ensure!(named, "file {slot} has name {}, which it neither had nor got", found.name);
        let created = self.possible.iter().any(|change| matches!(change, Change::Create { .. }));
        self.check_length(found, created)?;
        for (index, version) in found.versions.iter().enumerate() {
            self.check_block(index, *version, created)?;
        }
        Ok(())
    }

    /// A file that was being created may be any part of itself; any other has its length.
    fn check_length(&self, found: &Found, created: bool) -> Result<()> {
        let certain = self.certain.as_ref().map_or(0, |file| file.versions.len());
        let length = found.versions.len();
        ensure!(created || length == certain && found.rest == 0, "{length} blocks and {} bytes long", found.rest);
        Ok(())
    }

    fn check_block(&self, index: usize, version: Option<u64>, created: bool) -> Result<()> {
        let certain = self.certain.as_ref().and_then(|file| file.versions.get(index)).copied();
        let Some(version) = version else {
            ensure!(created || certain == Some(0), "block {index} has lost its bytes");
            return Ok(());
        };
        let possible = self.possible.iter().any(|change| match change {
            Change::Create { version: at, blocks, .. } => *at == version && (index as u64) < *blocks,
            Change::Overwrite { first, blocks, version: at } => {
                *at == version && (*first..first + blocks).contains(&(index as u64))
            }
            Change::Rename { .. } | Change::Unlink => false,
        });
        ensure!(possible || certain == Some(version), "block {index} has version {version}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(certain: Option<FileState>, possible: Vec<Change>) -> Slot {
        Slot { certain, possible }
    }

    fn file(name: u8, versions: &[u64]) -> Option<FileState> {
        Some(FileState { name, versions: versions.to_vec() })
    }

    fn found(name: u8, versions: &[u64]) -> Found {
        Found { name, versions: versions.iter().copied().map(Some).collect(), rest: 0 }
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let slot = slot(file(1, &[4, 5]), vec![]);
        assert!(slot.check(0, Some(&found(1, &[4, 5]))).is_ok());
        for wrong in [found(2, &[4, 5]), found(1, &[4]), found(1, &[3, 5]), found(1, &[4, 5, 6])] {
            assert!(slot.check(0, Some(&wrong)).is_err(), "{wrong:?}");
        }
        assert!(slot.check(0, None).is_err());
        assert!(slot.check(0, Some(&Found { versions: vec![Some(4), None], ..found(1, &[]) })).is_err());
    }

    #[test]
    fn what_was_begun_may_be_there_block_by_block() {
        let slot = slot(file(0, &[1, 1, 1]), vec![Change::Overwrite { first: 1, blocks: 2, version: 7 }]);
        for right in [[1, 1, 1], [1, 7, 1], [1, 1, 7], [1, 7, 7]] {
            assert!(slot.check(0, Some(&found(0, &right))).is_ok(), "{right:?}");
        }
        assert!(slot.check(0, Some(&found(0, &[7, 7, 7]))).is_err());
    }

    #[test]
    fn names_change_whole_or_not_at_all() {
        let renamed = slot(file(0, &[1]), vec![Change::Rename { to: 1 }]);
        assert!(renamed.check(0, Some(&found(0, &[1]))).is_ok());
        assert!(renamed.check(0, Some(&found(1, &[1]))).is_ok());
        assert!(renamed.check(0, None).is_err());
        let unlinked = slot(file(0, &[1]), vec![Change::Unlink]);
        assert!(unlinked.check(0, None).is_ok() && unlinked.check(0, Some(&found(0, &[1]))).is_ok());
    }

    #[test]
    fn a_file_in_creation_may_be_any_part_of_itself() {
        let slot = slot(None, vec![Change::Create { name: 2, blocks: 2, version: 9 }]);
        assert!(slot.check(0, None).is_ok());
        assert!(slot.check(0, Some(&found(2, &[]))).is_ok());
        assert!(slot.check(0, Some(&Found { versions: vec![None, Some(9)], ..found(2, &[]) })).is_ok());
        assert!(slot.check(0, Some(&found(2, &[9, 8]))).is_err());
    }
}
