//! Whether a caller belongs to a group: asked by chmod alone, and there only by an ordinary user who sets setgid.

use super::api::{AttrChange, Caller};

/// A caller with what is known of the groups.
#[derive(Clone, Debug)]
pub struct Member {
    uid: u32,
    gid: u32,
    supplementary: Vec<u32>,
}

impl Member {
    /// Looks up the caller's supplementary groups (in `/proc`, as FUSE does not send them) if the change turns on them.
    pub fn of(who: &Caller, change: &AttrChange) -> Self {
        let asked = who.uid != 0 && who.pid != 0 && change.mode.is_some_and(|mode| mode & libc::S_ISGID != 0);
        let supplementary = match asked {
            true => {
                std::fs::read_to_string(format!("/proc/{}/status", who.pid)).map_or(Vec::new(), |text| groups(&text))
            }
            false => Vec::new(),
        };
        Self { uid: who.uid, gid: who.gid, supplementary }
    }

    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Root counts as a member of every group.
    pub fn is_in(&self, gid: u32) -> bool {
        self.is_root() || self.gid == gid || self.supplementary.contains(&gid)
    }
}

/// The `Groups:` line of proc_pid_status(5).
fn groups(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    line.map_or(Vec::new(), |line| line.split_whitespace().filter_map(|gid| gid.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_the_status_file() {
        assert_eq!(groups("Name:\tx\nGid:\t1\t1\t1\t1\nGroups:\t4 24 1000 \nNStgid:\t7\n"), [4, 24, 1000]);
        assert_eq!(groups("Groups:\t\n"), [0u32; 0]);
        let change = AttrChange { mode: Some(0o2755), ..AttrChange::default() };
        let member = Member::of(&Caller { uid: 5, gid: 6, pid: 0 }, &change);
        assert!(member.is_in(6) && !member.is_in(7));
        assert!(Member::of(&Caller::default(), &change).is_in(7));
    }
}
