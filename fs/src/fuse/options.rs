//! How to mount: what the kernel is told, and what the front does itself.

/// Options of a mount. [`MountOptions::default`] is what `mount` without options means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    pub read_only: bool,
    /// Ignore setuid and setgid bits.
    pub nosuid: bool,
    /// Ignore device files.
    pub nodev: bool,
    pub noexec: bool,
    /// Never update access times; otherwise as relatime.
    pub noatime: bool,
    /// Never update access times of directories.
    pub nodiratime: bool,
    /// Every write and every change of names is durable before it returns.
    pub sync: bool,
    /// Every change of names is durable before it returns.
    pub dirsync: bool,
    /// Let users other than the one who mounts use the filesystem. A user who is not root may be denied this.
    pub allow_other: bool,
    /// User and group whose mount it is, where root mounts for somebody: they may unmount it.
    pub owner: (u32, u32),
    /// Let the kernel collect written pages and write them later (I7: then ENOSPC may surface at fsync or close).
    pub writeback: bool,
    /// Threads that answer requests, at least 1.
    pub threads: usize,
    /// Requests that the kernel sends ahead in the background (read-ahead, writing back).
    pub background_max: u16,
    /// Bytes that the kernel reads ahead of a sequential reader; what cannot be set (no privilege) is left.
    pub read_ahead_bytes: u32,
    /// Another process may go on with the mount: all threads read one descriptor, which it holds.
    pub outlives: bool,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            nosuid: false,
            nodev: false,
            noexec: false,
            noatime: false,
            nodiratime: false,
            sync: false,
            dirsync: false,
            allow_other: rustix::process::geteuid().is_root(),
            owner: (0, 0),
            writeback: true,
            // Throttled writes sleep on their threads; the others answer reads meanwhile.
            threads: 8,
            background_max: 64,
            read_ahead_bytes: 1 << 20,
            outlives: false,
        }
    }
}

impl MountOptions {
    /// Takes one option of mount(8) (`ro`, `nosuid`, `sync`, `writeback=off`, ...). False if it is none of ours.
    pub fn set(&mut self, option: &str) -> bool {
        let (flag, value) = match option {
            "ro" | "rw" => (&mut self.read_only, option == "ro"),
            "nosuid" | "suid" => (&mut self.nosuid, option == "nosuid"),
            "nodev" | "dev" => (&mut self.nodev, option == "nodev"),
            "noexec" | "exec" => (&mut self.noexec, option == "noexec"),
            "noatime" => (&mut self.noatime, true),
            "atime" | "relatime" | "norelatime" | "strictatime" => (&mut self.noatime, false),
            "nodiratime" | "diratime" => (&mut self.nodiratime, option == "nodiratime"),
            "sync" | "async" => (&mut self.sync, option == "sync"),
            "dirsync" => (&mut self.dirsync, true),
            "allow_other" => (&mut self.allow_other, true),
            "writeback=on" | "writeback=off" => (&mut self.writeback, option == "writeback=on"),
            // What every mount has.
            "defaults" | "default_permissions" => return true,
            _ => return false,
        };
        *flag = value;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_options_win_and_foreign_ones_are_refused() {
        let mut options = MountOptions::default();
        assert!(["ro", "nosuid", "rw", "writeback=off"].into_iter().all(|o| options.set(o)));
        assert!(!options.read_only && options.nosuid && !options.writeback);
        let before = options.clone();
        assert!(!options.set("uid=1000"));
        assert_eq!(options, before);
    }
}
