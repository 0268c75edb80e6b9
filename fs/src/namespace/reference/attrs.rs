//! Attributes and extended attributes of the reference.

use super::SIZE_MAX;
use super::acl::{self, Acl};
use super::node::{APPEND_ONLY, Body, IMMUTABLE, NOATIME, Node, SETGID, SETTABLE, TYPE_MASK};
use crate::error::{Error, Result};
use crate::format::value::{NAME_MAX, Time};
use crate::namespace::api::{AttrChange, Caller, SetTime, XattrMode};

/// Linux: `XATTR_SIZE_MAX`.
const XATTR_VALUE_MAX: usize = 65536;
const DAY_SECS: i64 = 24 * 60 * 60;

impl Node {
    pub(super) fn change(&mut self, now: Time, who: &Caller, change: &AttrChange) -> Result<()> {
        self.check_change(who, change)?;
        // As `notify_change`: only once the flags have nothing against it.
        if change.mode.is_some() && matches!(self.body, Body::Symlink(_)) {
            return Err(Error::NotSupported);
        }
        if *change == AttrChange::default() {
            return Ok(());
        }
        self.change_owner(change);
        if let Some(bits) = change.mode {
            self.change_mode(who, bits)?;
        }
        if let Some(size) = change.size {
            self.file_mut()?.truncate(size);
            self.drop_privileges();
            self.mtime = now;
        }
        let time = |set| match set {
            SetTime::Now => now,
            SetTime::At(time) => time,
        };
        self.atime = change.atime.map_or(self.atime, time);
        self.mtime = change.mtime.map_or(self.mtime, time);
        self.flags = change.flags.unwrap_or(self.flags);
        self.ctime = change.ctime.unwrap_or(now);
        Ok(())
    }

    /// As `may_setattr` and `vfs_truncate` of Linux.
    fn check_change(&self, who: &Caller, change: &AttrChange) -> Result<()> {
        if let Some(size) = change.size {
            self.file()?;
            if size > SIZE_MAX {
                return Err(Error::FileTooBig);
            }
            self.refuse(IMMUTABLE | APPEND_ONLY)?;
        }
        if let Some(flags) = change.flags {
            if flags & !SETTABLE != 0 {
                return Err(Error::NotSupported);
            }
            if (flags ^ self.flags) & (IMMUTABLE | APPEND_ONLY) != 0 && who.uid != 0 {
                return Err(Error::NotPermitted);
            }
        }
        // A ctime comes from the kernel alone, with the times of data that it took before the flags were set.
        if change.ctime.is_some() && change.size.is_none() {
            return Ok(());
        }
        let sets_time = |set: Option<SetTime>| matches!(set, Some(SetTime::At(_)));
        if change.mode.is_some()
            || change.uid.is_some()
            || change.gid.is_some()
            || sets_time(change.atime)
            || sets_time(change.mtime)
        {
            self.refuse(IMMUTABLE | APPEND_ONLY)?;
        }
        if change.atime.is_some() || change.mtime.is_some() { self.refuse(IMMUTABLE) } else { Ok(()) }
    }

    fn change_owner(&mut self, change: &AttrChange) {
        if (change.uid.is_some() || change.gid.is_some()) && change.mode.is_none() {
            self.drop_privileges();
        }
        self.uid = change.uid.unwrap_or(self.uid);
        self.gid = change.gid.unwrap_or(self.gid);
    }

    fn change_mode(&mut self, who: &Caller, bits: u32) -> Result<()> {
        let regular = self.mode & TYPE_MASK == libc::S_IFREG;
        let stranger = who.uid != 0 && who.gid != self.gid;
        self.set_mode(if regular && stranger { bits & !SETGID } else { bits })
    }

    /// relatime.
    pub(super) fn accessed(&mut self, now: Time) {
        let stale = self.atime <= self.mtime || self.atime <= self.ctime || now.secs - self.atime.secs >= DAY_SECS;
        if stale && self.flags & NOATIME == 0 {
            self.atime = now;
        }
    }

    pub(super) fn set_xattr(&mut self, now: Time, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(Error::Range);
        }
        if value.len() > XATTR_VALUE_MAX {
            return Err(Error::TooLong);
        }
        self.refuse(IMMUTABLE | APPEND_ONLY)?;
        match (mode, self.xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return Err(Error::Exists),
            (XattrMode::Replace, false) => return Err(Error::NoAttribute),
            _ => {}
        }
        let list = self.list_from(name, value)?;
        self.xattrs.insert(name.to_vec(), value.to_vec());
        if let (acl::ACCESS, Some(mut list)) = (name, list) {
            self.mode = self.mode & !0o777 | list.mode_bits();
            if list.is_minimal() {
                self.xattrs.remove(name);
            }
        }
        self.ctime = now;
        Ok(())
    }

    /// The list that `value` is, if `name` is one of a list.
    fn list_from(&self, name: &[u8], value: &[u8]) -> Result<Option<Acl>> {
        if name != acl::ACCESS && name != acl::DEFAULT {
            return Ok(None);
        }
        match &self.body {
            Body::Symlink(_) => return Err(Error::NotSupported),
            Body::Directory(_) => {}
            _ if name == acl::DEFAULT => return Err(Error::NotPermitted),
            _ => {}
        }
        Acl::decode(value).map(Some)
    }

    pub(super) fn remove_xattr(&mut self, now: Time, name: &[u8]) -> Result<()> {
        self.refuse(IMMUTABLE | APPEND_ONLY)?;
        self.xattrs.remove(name).ok_or(Error::NoAttribute)?;
        self.ctime = now;
        Ok(())
    }
}
