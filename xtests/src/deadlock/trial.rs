//! The corners, and what each of them is made of.

use super::misled::{HANG, WRITE};

/// A corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Trial {
    /// `vm.dirty_bytes` and its background twin at the minimum
    DirtyLimits,
    /// A hog leaves next to no memory
    LittleMemory,
    /// The writing process in a small memory cgroup
    ClientCgroup,
    /// The daemon in one, from its start
    DaemonCgroup,
    /// Both workers in one
    WorkerCgroup,
    /// Client, daemon and workers in the same one, so that each has to reclaim what the others hold
    SharedCgroup,
    /// 95 % full, cleaned only by those who wait for room
    Full,
    /// All of these at once but for the shared cgroup, with workers that write to the mount
    AllAtOnce,
    /// Workers get SIGSTOP and SIGCONT
    WorkerStopped,
    /// Workers take questions and answer none
    WorkerHung,
    /// Workers are killed each time they come back
    WorkerKilled,
    /// Models take turns
    WorkerSwapped,
    /// Workers get no processor and no more memory
    WorkerStarved,
    /// Workers, not locked in, write to files and mapped files on the mount before they answer
    WorkerWriting,
    /// The daemon gets SIGSTOP and SIGCONT
    DaemonStopped,
}

impl Trial {
    pub const ALL: [Self; 15] = [
        Self::DirtyLimits,
        Self::LittleMemory,
        Self::ClientCgroup,
        Self::DaemonCgroup,
        Self::WorkerCgroup,
        Self::SharedCgroup,
        Self::Full,
        Self::AllAtOnce,
        Self::WorkerStopped,
        Self::WorkerHung,
        Self::WorkerKilled,
        Self::WorkerSwapped,
        Self::WorkerStarved,
        Self::WorkerWriting,
        Self::DaemonStopped,
    ];

    /// Whether it has `part`: it is it, or it has them all.
    pub(super) fn has(self, part: Self) -> bool {
        let parts = [Self::DirtyLimits, Self::LittleMemory, Self::ClientCgroup, Self::DaemonCgroup, Self::WorkerCgroup];
        self == part || self == Self::AllAtOnce && (parts.contains(&part) || part == Self::Full)
    }

    pub(super) fn needs_worker(self) -> bool {
        use Trial::*;
        matches!(self, WorkerCgroup | WorkerStopped | WorkerKilled | WorkerSwapped | WorkerStarved)
            || self.misdeed().is_some()
    }

    /// What its workers do that no worker should.
    pub(super) fn misdeed(self) -> Option<&'static str> {
        match self {
            Self::WorkerHung => Some(HANG),
            Self::WorkerWriting | Self::AllAtOnce => Some(WRITE),
            _ => None,
        }
    }

    /// Percent filled and mount options, where the trial has its own.
    pub(super) fn fullness(self) -> Option<(u64, &'static str)> {
        self.has(Self::Full).then_some((95, "gc=off"))
    }
}

impl std::fmt::Display for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self).expect("no trial is skipped");
        f.write_str(value.get_name())
    }
}
