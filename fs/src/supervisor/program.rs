//! What daemons are started from: this program, or one that somebody has named. Either is held, so that it can be started again whatever becomes of
//! its file.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};

/// The program that runs here, also if its file was replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Bits that let others than the owner change a file.
const OTHERS_WRITE: u32 = 0o022;

/// A program to be started.
#[derive(Debug)]
pub(super) struct Program {
    name: PathBuf,
    /// `None`: this one.
    file: Option<OwnedFd>,
}

impl Program {
    pub(super) fn own() -> Self {
        Self { name: THIS_PROGRAM.into(), file: None }
    }

    /// The file `name`. With `only_roots` it must be root's, and nobody else's to change.
    pub(super) fn named(name: &Path, only_roots: bool) -> Result<Self> {
        let file = open(name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("opening it")?;
        let stat = fstat(&file).context("looking at it")?;
        ensure!(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile, "it is not a file");
        ensure!(
            !only_roots || (stat.st_uid == 0 && stat.st_mode & OTHERS_WRITE == 0),
            "it must be root's, and only root's to change, since the daemons of this mount are not root"
        );
        Ok(Self { name: name.into(), file: Some(file) })
    }

    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// What execve(2) is given in a child of this process.
    pub(super) fn path(&self) -> PathBuf {
        match &self.file {
            None => self.name.clone(),
            Some(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_can_be_started_when_its_file_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("program");
        std::fs::copy("/bin/true", &file).unwrap();
        let program = Program::named(&file, false).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(Command::new(program.path()).status().unwrap().success());
        assert!(Program::named(&file, false).is_err() && Program::named(directory.path(), false).is_err());
    }

    #[test]
    fn what_others_may_change_is_not_roots() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o757)).unwrap();
        assert!(Program::named(file.path(), true).unwrap_err().to_string().contains("root's"));
        assert!(Program::named(file.path(), false).is_ok());
    }
}
