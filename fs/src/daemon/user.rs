//! The user whom a daemon becomes once it holds the image, the kernel's connection and the control socket (`-o setuid=USER`).
//!
//! What it needs afterwards is his: the files of a zoned image, the model and the library. Unmounting itself goes by `fusermount3`, since the
//! mount is made in his name.

use std::ffi::{CStr, CString};
use std::io;

use anyhow::{Context, Result, bail, ensure};

/// An entry of the user database.
pub(super) struct User {
    name: CString,
    uid: libc::uid_t,
    gid: libc::gid_t,
}

/// Room for an entry's strings; no real one takes as much.
const ENTRY_BYTES: usize = 64 << 10;

impl User {
    /// By name or by number.
    pub fn find(user: &str) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "setuid={user}: only root can become somebody else");
        let name = CString::new(user).context("a user's name holds a NUL byte")?;
        let mut strings = vec![0; ENTRY_BYTES];
        let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
        let mut found = std::ptr::null_mut();
        let (into, buf, len) = (entry.as_mut_ptr(), strings.as_mut_ptr(), strings.len());
        // SAFETY: all pointers are to memory of ours that outlives the call, `len` is the length of `buf`.
        let status = unsafe {
            match user.parse() {
                Ok(uid) => libc::getpwuid_r(uid, into, buf, len, &raw mut found),
                Err(_) => libc::getpwnam_r(name.as_ptr(), into, buf, len, &raw mut found),
            }
        };
        if found.is_null() {
            let why = if status == 0 { String::new() } else { format!(": {}", io::Error::from_raw_os_error(status)) };
            bail!("setuid={user}: there is no such user{why}");
        }
        // SAFETY: the entry was filled in, as `found` says; its name is a string in `strings`.
        let (entry, name) = unsafe { (entry.assume_init(), CStr::from_ptr((*found).pw_name).to_owned()) };
        ensure!(entry.pw_uid != 0, "setuid={user}: that is root, who the daemon is already");
        Ok(Self { name, uid: entry.pw_uid, gid: entry.pw_gid })
    }

    /// User and group.
    pub fn ids(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// Takes user, groups and with them all privileges off every thread of this process, so that nothing brings them back.
    pub fn become_for_good(&self) -> Result<()> {
        let (uid, gid) = (self.uid, self.gid);
        // SAFETY: a string that ends with NUL, and integers. These functions of libc change every thread, unlike the bare system calls.
        unsafe {
            done(libc::initgroups(self.name.as_ptr(), gid)).context("taking the user's groups")?;
            done(libc::setresgid(gid, gid, gid)).context("taking the user's group")?;
            done(libc::setresuid(uid, uid, uid)).context("becoming the user")?;
            // A check, not a change: it must be too late.
            ensure!(libc::setresuid(0, 0, 0) != 0, "the daemon could become root again");
        }
        tracing::info!("from now on as user {}", self.name.to_string_lossy());
        Ok(())
    }
}

fn done(returned: i32) -> io::Result<()> {
    if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_known_by_name_and_by_number() {
        if !rustix::process::geteuid().is_root() {
            assert!(User::find("root").is_err());
            return;
        }
        let ids = |user: &str| User::find(user).map(|user| user.ids()).map_err(|e| e.to_string());
        let nobody = ids("nobody").unwrap();
        assert_eq!(ids(&nobody.0.to_string()), Ok(nobody));
        assert!(ids("root").unwrap_err().contains("is root"));
        assert!(ids("no such person").unwrap_err().contains("no such user"));
    }
}
