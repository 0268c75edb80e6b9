//! Shared tools of the whole-system tests.
//!
//! Each campaign is a module with an options struct and one `run` function, so that a program under `src/bin` runs it at full size and
//! a test under `tests/` runs it small. All of them also run on ext4 (`--peer ext4`), which shows that a
//! complaint is about the filesystem and not about the driver.

pub mod block;
pub mod campaign;
pub mod corruption;
pub mod counters;
pub mod deadlock;
pub mod faults;
pub mod fsx;
pub mod hostile;
pub mod killloop;
mod load;
pub mod many;
mod map;
pub mod memory;
pub mod pjdfstest;
pub mod policies;
pub mod program;
pub mod programs;
pub mod random;
pub mod recordings;
pub mod repair;
pub mod small;
pub mod sqlite;
pub mod steady;
pub mod table;
pub mod testdisk;
pub mod upgrade;
pub mod volume;
pub mod workers;

/// Says that something was not tested, and why. The words are fixed, so that a log can be searched for them.
pub fn skip(why: impl std::fmt::Display) {
    println!("skipped: {why}");
}

/// Why filesystems cannot be mounted here, if they cannot.
pub fn unmountable() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        Some("mounting for tests needs root")
    } else if std::fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        Some("there is no usable /dev/fuse")
    } else {
        None
    }
}

/// Runs a campaign as a program does: an interrupt ends it after everything has been taken down, a failure is one line.
pub fn campaign(name: &str, run: impl FnOnce() -> anyhow::Result<()>) -> std::process::ExitCode {
    gleanfs::cli::bench::process::take_interrupts();
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{name}: {why:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
