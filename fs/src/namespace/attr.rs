//! setattr: chmod, chown, utimensat, chattr, and the part of truncate that is in the inode; relatime.
//!
//! The rules are those of Linux's `notify_change` and `setattr_prepare` (fs/attr.c).

use crate::error::{Error, Result};
use crate::format::value::{Inode, Time};
use crate::meta::view::View;
use crate::meta::volume::Plan;
use crate::types::Ino;

use super::api::{Attr, AttrChange, SetTime};
use super::draft::{Draft, Op};
use super::members::Member;
use super::{acl, flags, items, xattr};

/// relatime renews an atime that is older than this.
const ATIME_AGE_SECS: i64 = 24 * 60 * 60;

/// Whether the inode's flags allow the change.
fn check_flags(inode: &Inode, member: &Member, change: &AttrChange) -> Result<()> {
    if let Some(new) = change.flags {
        if new & !flags::SETTABLE != 0 {
            return Err(Error::NotSupported);
        }
        if (new ^ inode.flags) & (flags::IMMUTABLE | flags::APPEND) != 0 && !member.is_root() {
            return Err(Error::NotPermitted);
        }
    }
    // Only the kernel sends ctime: it writes back the times of data that it accepted before the flags were set.
    if change.ctime.is_some() && change.size.is_none() {
        return Ok(());
    }
    let set_at = |time| matches!(time, Some(SetTime::At(_)));
    let times = change.atime.is_some() || change.mtime.is_some();
    let owned = change.mode.is_some() || change.uid.is_some() || change.gid.is_some() || change.size.is_some();
    if owned || set_at(change.atime) || set_at(change.mtime) {
        flags::may_change(inode)?;
    }
    if times { flags::may_touch(inode) } else { Ok(()) }
}

/// The mode without setuid, and without setgid where the group may execute.
pub fn unprivileged(mode: u32) -> u32 {
    let setgid_means_privilege = mode & libc::S_IXGRP != 0;
    mode & !(libc::S_ISUID | if setgid_means_privilege { libc::S_ISGID } else { 0 })
}

/// Takes setuid, setgid and file capabilities from anything but a directory.
pub fn drop_privileges(draft: &mut Draft<'_>, ino: Ino) -> Result<()> {
    let inode = draft.inode(ino)?;
    if items::is_dir(inode.mode) {
        return Ok(());
    }
    if unprivileged(inode.mode) != inode.mode {
        draft.change(ino)?.mode = unprivileged(inode.mode);
    }
    xattr::take(draft, ino, xattr::CAPABILITY).map(drop)
}

fn resolve(time: SetTime, now: Time) -> Time {
    match time {
        SetTime::Now => now,
        SetTime::At(time) => time,
    }
}

fn set_mode(draft: &mut Draft<'_>, ino: Ino, member: &Member, mode: u32) -> Result<()> {
    let inode = draft.change(ino)?;
    if items::is_symlink(inode.mode) {
        return Err(Error::NotSupported);
    }
    let mut perm = mode & items::PERM_BITS;
    if items::is_regular(inode.mode) && !member.is_in(inode.gid) {
        perm &= !libc::S_ISGID;
    }
    inode.mode = items::file_type(inode.mode) | perm;
    acl::follow_chmod(draft, ino)
}

/// Makes the change in a draft; of `size` only what concerns the inode.
pub fn apply(draft: &mut Draft<'_>, ino: Ino, member: &Member, change: &AttrChange) -> Result<()> {
    let now = draft.op.now;
    check_flags(&draft.inode(ino)?, member, change)?;
    let touches_owner_or_data = change.uid.is_some() || change.gid.is_some() || change.size.is_some();
    if touches_owner_or_data && change.mode.is_none() {
        drop_privileges(draft, ino)?;
    }
    let inode = draft.change(ino)?;
    inode.uid = change.uid.unwrap_or(inode.uid);
    inode.gid = change.gid.unwrap_or(inode.gid);
    inode.flags = change.flags.unwrap_or(inode.flags);
    if let Some(size) = change.size {
        inode.size = size;
        inode.mtime = now;
    }
    inode.atime = change.atime.map_or(inode.atime, |time| resolve(time, now));
    inode.mtime = change.mtime.map_or(inode.mtime, |time| resolve(time, now));
    inode.ctime = change.ctime.unwrap_or(now);
    match change.mode {
        Some(mode) => set_mode(draft, ino, member, mode),
        None => Ok(()),
    }
}

/// setattr without a change of size.
pub fn plan_setattr(op: &Op, view: &dyn View, ino: Ino, member: &Member, change: &AttrChange) -> Result<Plan<Attr>> {
    debug_assert!(change.size.is_none());
    let mut draft = Draft::new(op, view);
    apply(&mut draft, ino, member, change)?;
    let attr = items::attr(ino, &draft.inode(ino)?);
    Ok(draft.finish(attr))
}

/// Whether relatime wants the atime renewed at `now`.
pub fn atime_is_stale(inode: &Inode, now: Time) -> bool {
    inode.flags & flags::NOATIME == 0
        && (inode.atime <= inode.mtime
            || inode.atime <= inode.ctime
            || now.secs.saturating_sub(inode.atime.secs) >= ATIME_AGE_SECS)
}

/// relatime after a read.
pub fn plan_touch(op: &Op, view: &dyn View, ino: Ino) -> Result<Plan<()>> {
    let mut draft = Draft::new(op, view);
    if atime_is_stale(&draft.inode(ino)?, op.now) {
        draft.change(ino)?.atime = op.now;
    }
    Ok(draft.finish(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::api::{Caller, XattrMode};
    use crate::namespace::testing::{Tree, USER, op, op_at};

    const ROOT_USER: Caller = Caller { uid: 0, gid: 0, pid: 0 };

    fn set(tree: &mut Tree, who: &Caller, ino: Ino, change: AttrChange) -> Result<Attr> {
        tree.commit(|view| plan_setattr(&op_at(600), view, ino, &Member::of(who, &change), &change))
    }

    fn with_mode(mode: u32) -> AttrChange {
        AttrChange { mode: Some(mode), ..AttrChange::default() }
    }

    #[test]
    fn chmod_keeps_the_type_and_sets_ctime_alone() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        let before = tree.inode(file);
        let attr = set(&mut tree, &ROOT_USER, file, with_mode(libc::S_IFDIR | 0o4711)).unwrap();
        assert_eq!((attr.mode, attr.ctime), (libc::S_IFREG | 0o4711, op_at(600).now));
        assert_eq!((attr.mtime, attr.atime), (before.mtime, before.atime));
    }

    #[test]
    fn setgid_needs_membership_on_files_but_not_on_directories() {
        let mut tree = Tree::with_root();
        let (file, dir) = (tree.file(Ino::ROOT, b"f"), tree.dir(Ino::ROOT, b"d"));
        for ino in [file, dir] {
            tree.edit_inode(ino, |inode| inode.gid = 4242);
        }
        assert_eq!(set(&mut tree, &USER, file, with_mode(0o2755)).unwrap().mode & 0o7777, 0o755);
        assert_eq!(set(&mut tree, &USER, dir, with_mode(0o2755)).unwrap().mode & 0o7777, 0o2755);
        assert_eq!(set(&mut tree, &ROOT_USER, file, with_mode(0o2755)).unwrap().mode & 0o7777, 0o2755);
        tree.edit_inode(file, |inode| inode.gid = USER.gid);
        assert_eq!(set(&mut tree, &USER, file, with_mode(0o2755)).unwrap().mode & 0o7777, 0o2755);
    }

    #[test]
    fn chown_drops_privileges_unless_it_sets_the_mode() {
        let mut tree = Tree::with_root();
        let (file, dir) = (tree.file(Ino::ROOT, b"f"), tree.dir(Ino::ROOT, b"d"));
        let chown = AttrChange { uid: Some(9), ..AttrChange::default() };
        for (mode, after) in [(0o6755, 0o755), (0o6745, 0o2745), (0o1755, 0o1755)] {
            tree.edit_inode(file, |inode| inode.mode = libc::S_IFREG | mode);
            assert_eq!(set(&mut tree, &ROOT_USER, file, chown).unwrap().mode & 0o7777, after);
        }
        tree.edit_inode(dir, |inode| inode.mode = libc::S_IFDIR | 0o6755);
        assert_eq!(set(&mut tree, &ROOT_USER, dir, chown).unwrap().mode & 0o7777, 0o6755);
        let both = AttrChange { mode: Some(0o4755), ..chown };
        assert_eq!(set(&mut tree, &ROOT_USER, file, both).unwrap().mode & 0o7777, 0o4755);
    }

    #[test]
    fn chown_takes_file_capabilities() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        tree.commit(|view| xattr::plan_set(&op(), view, file, xattr::CAPABILITY, b"cap", XattrMode::Set)).unwrap();
        set(&mut tree, &ROOT_USER, file, AttrChange { gid: Some(3), ..AttrChange::default() }).unwrap();
        assert_eq!(tree.inode(file).xattrs, 0);
    }

    #[test]
    fn chmod_moves_the_mask_of_an_acl() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        let acl = acl::tests::sample(7, 4);
        tree.commit(|view| xattr::plan_set(&op(), view, file, acl::ACCESS, &acl, XattrMode::Set)).unwrap();
        set(&mut tree, &ROOT_USER, file, with_mode(0o720)).unwrap();
        assert_eq!(xattr::get(&tree, &op().names, file, acl::ACCESS).unwrap(), acl::tests::sample(2, 0));
    }

    #[test]
    fn an_immutable_inode_changes_only_its_flags_and_only_for_root() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        let flag = |flags| AttrChange { flags: Some(flags), ..AttrChange::default() };
        assert!(matches!(set(&mut tree, &USER, file, flag(flags::IMMUTABLE)), Err(Error::NotPermitted)));
        assert!(matches!(set(&mut tree, &ROOT_USER, file, flag(0x8_0000)), Err(Error::NotSupported)));
        set(&mut tree, &ROOT_USER, file, flag(flags::IMMUTABLE)).unwrap();
        let touch = AttrChange { mtime: Some(SetTime::Now), ..AttrChange::default() };
        for change in [with_mode(0o600), touch, AttrChange { uid: Some(0), ..AttrChange::default() }] {
            assert!(matches!(set(&mut tree, &ROOT_USER, file, change), Err(Error::NotPermitted)));
        }
        set(&mut tree, &ROOT_USER, file, flag(flags::APPEND)).unwrap();
        assert!(matches!(set(&mut tree, &ROOT_USER, file, with_mode(0o600)), Err(Error::NotPermitted)));
        set(&mut tree, &ROOT_USER, file, touch).unwrap();
    }

    #[test]
    fn times_are_set_as_given() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        let old = Time { secs: -5, nanos: 999_999_999 };
        let (atime, mtime) = (Some(SetTime::At(old)), Some(SetTime::Now));
        let attr = set(&mut tree, &USER, file, AttrChange { atime, mtime, ..AttrChange::default() }).unwrap();
        assert_eq!((attr.atime, attr.mtime, attr.ctime), (old, op_at(600).now, op_at(600).now));
        let kernel = AttrChange { mtime, ctime: Some(old), ..AttrChange::default() };
        assert_eq!(set(&mut tree, &USER, file, kernel).unwrap().ctime, old);
    }

    #[test]
    fn relatime_renews_what_is_older_than_a_change_or_a_day() {
        let at = |secs| Time { secs, nanos: 0 };
        let inode =
            |atime, change| Inode { atime: at(atime), mtime: at(change), ctime: at(change), ..Inode::default() };
        assert!(atime_is_stale(&inode(10, 10), at(20)));
        assert!(!atime_is_stale(&inode(11, 10), at(20)));
        assert!(atime_is_stale(&inode(11, 10), at(11 + ATIME_AGE_SECS)));
        let noatime = Inode { flags: flags::NOATIME, ..inode(10, 10) };
        assert!(!atime_is_stale(&noatime, at(20)));
    }
}
