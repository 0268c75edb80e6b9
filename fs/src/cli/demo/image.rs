//! One image and its mount, in the hands of this program started again.
//!
//! Unmounts and removes when dropped, whatever happened.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::bench::process::{run, run_always};
use crate::cli::failure::{About, Failure, Result};
use crate::control::Status;

/// An image, mounted or not.
#[derive(Debug)]
pub struct Image {
    program: PathBuf,
    path: PathBuf,
    mount_point: PathBuf,
    options: String,
    is_mounted: bool,
    is_finished: bool,
}

impl Image {
    /// `mkfs`. The second answer is the line that it prints.
    pub fn make(path: PathBuf, mount_point: PathBuf, options: &str, bytes: u64) -> Result<(Self, String)> {
        let program = std::env::current_exe().about("finding this program")?;
        std::fs::create_dir(&mount_point).about(mount_point.display())?;
        let options = options.to_owned();
        let image = Self { program, path, mount_point, options, is_mounted: false, is_finished: false };
        let said = image.ask(&["mkfs", "--force", "--size", &bytes.to_string(), &shown(&image.path)?])?;
        let line = said.trim().trim_start_matches(&format!("{}: ", image.path.display())).to_owned();
        Ok((image, line))
    }

    pub fn mount(&mut self) -> Result<()> {
        let mut words = vec!["mount"];
        if !self.options.is_empty() {
            words.extend(["-o", &self.options]);
        }
        let (path, mount_point) = (shown(&self.path)?, shown(&self.mount_point)?);
        words.extend([path.as_str(), mount_point.as_str()]);
        // Short, and not to be cut off between the mount and our knowing of it.
        complaint_of(words[0], run_always(Command::new(&self.program).args(&words)))?;
        self.is_mounted = true;
        Ok(())
    }

    /// Returns when everything is durable.
    pub fn unmount(&mut self) -> Result<()> {
        self.ask(&["umount", &shown(&self.mount_point)?])?;
        self.is_mounted = false;
        Ok(())
    }

    /// Checks the unmounted image; anything that is not clean is a failure. The answer is what fsck prints.
    pub fn fsck(&self) -> Result<String> {
        let said = self.ask(&["fsck", &shown(&self.path)?])?;
        let line = said.lines().last().unwrap_or_default();
        Ok(line.trim_start_matches(&format!("{}: ", self.path.display())).to_owned())
    }

    /// Makes everything accepted so far durable.
    pub fn sync(&self) -> Result<()> {
        self.ask(&["ctl", &shown(&self.mount_point)?, "sync"]).map(|_| ())
    }

    pub fn status(&self) -> Result<Status> {
        let said = self.ask(&["ctl", &shown(&self.mount_point)?, "status", "--json"])?;
        serde_json::from_str(&said).about("ctl status --json")
    }

    /// Switches to another model; the answer is the daemon's line.
    pub fn use_model(&self, file: &Path) -> Result<String> {
        self.ask(&["model", "use", &shown(&self.mount_point)?, &shown(file)?]).map(|said| said.trim().to_owned())
    }

    /// Returns to the model before.
    pub fn roll_back(&self) -> Result<String> {
        self.ask(&["model", "rollback", &shown(&self.mount_point)?]).map(|said| said.trim().to_owned())
    }

    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Unmounts and removes everything; says what went wrong, which a drop cannot.
    pub fn remove(mut self) -> Result<()> {
        if self.is_mounted {
            self.unmount()?;
        }
        self.is_finished = true;
        std::fs::remove_dir(&self.mount_point).about(self.mount_point.display())?;
        std::fs::remove_file(&self.path).about(self.path.display())
    }

    /// Leaves image and mount to the user.
    pub fn keep(mut self) -> (PathBuf, PathBuf) {
        self.is_finished = true;
        (self.path.clone(), self.mount_point.clone())
    }

    /// Runs this program. Its one line of complaint becomes ours.
    fn ask(&self, words: &[&str]) -> Result<String> {
        let said = complaint_of(words[0], run(Command::new(&self.program).args(words)))?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

fn complaint_of(word: &str, outcome: Result<Vec<u8>>) -> Result<Vec<u8>> {
    outcome.map_err(|failure| match failure.message.rsplit_once("gleanfs: ") {
        Some((_, why)) => Failure::with_status(format_args!("{word}: {why}"), failure.status),
        None => failure,
    })
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        if self.is_mounted {
            let umount = |lazy: Option<&str>| {
                run_always(Command::new(&self.program).arg("umount").args(lazy).arg(&self.mount_point))
            };
            if umount(None).is_err() {
                // A drop cannot say more; the image below is removed all the same.
                let _ = umount(Some("--lazy"));
            }
        }
        let _ = std::fs::remove_dir(&self.mount_point);
        let _ = std::fs::remove_file(&self.path);
    }
}

fn shown(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::new(format_args!("{}: the path is not UTF-8; name another", path.display())))
}
