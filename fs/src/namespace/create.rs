//! New names: creating inodes of every kind, hard links, and the root directory of a new image.

use crate::error::{Error, Result};
use crate::format::edit::Edit;
use crate::format::key::{Key, Kind};
use crate::format::value::{Dirent, Inode, PART_MAX, Time, Value};
use crate::meta::view::View;
use crate::meta::volume::Plan;
use crate::types::Ino;

use super::acl::Inheritance;
use super::api::{Attr, Caller, NewInode, NewKind};
use super::draft::{Draft, Op};
use super::{flags, items, names};

/// Most hard links of an inode (as on ext4).
pub const LINKS_MAX: u32 = 65000;
/// Longest target of a symbolic link: `PATH_MAX` less the NUL.
pub const TARGET_MAX: usize = 4095;

/// The edits that make the root directory.
pub fn root_edits(uid: u32, gid: u32, time: Time) -> Vec<Edit> {
    let inode = Inode {
        mode: libc::S_IFDIR | 0o755,
        nlink: 2,
        uid,
        gid,
        parent: Ino::ROOT,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        ..Inode::default()
    };
    vec![Edit::Put { key: Key::inode(Ino::ROOT), value: Value::Inode(Box::new(inode)) }]
}

/// Type bits of the mode, device number, and target of what is to be created.
fn describe<'a>(kind: &NewKind<'a>) -> Result<(u32, u32, &'a [u8])> {
    match *kind {
        NewKind::File => Ok((libc::S_IFREG, 0, b"")),
        NewKind::Directory => Ok((libc::S_IFDIR, 0, b"")),
        NewKind::Symlink(b"") => Err(Error::NotFound),
        NewKind::Symlink(target) if target.len() > TARGET_MAX => Err(Error::NameTooLong),
        NewKind::Symlink(target) => Ok((libc::S_IFLNK, 0, target)),
        NewKind::Special { mode, rdev } => match items::file_type(mode) {
            libc::S_IFCHR | libc::S_IFBLK => Ok((items::file_type(mode), rdev, b"")),
            libc::S_IFIFO | libc::S_IFSOCK => Ok((items::file_type(mode), 0, b"")),
            _ => Err(Error::Invalid),
        },
    }
}

/// The new inode as its directory and its creator make it, with the permission bits before umask and ACLs.
fn fresh(op: &Op, who: &Caller, dir: &Inode, parent: Ino, file_type: u32, perm: u32) -> Inode {
    let in_setgid = dir.mode & libc::S_ISGID != 0;
    let is_dir = file_type == libc::S_IFDIR;
    let perm = if file_type == libc::S_IFLNK { 0o777 } else { perm & items::PERM_BITS };
    Inode {
        mode: file_type | perm | if in_setgid && is_dir { libc::S_ISGID } else { 0 },
        nlink: if is_dir { 2 } else { 1 },
        uid: who.uid,
        gid: if in_setgid { dir.gid } else { who.gid },
        flags: flags::inherited(dir.flags, file_type),
        parent: if is_dir { parent } else { Ino(0) },
        atime: op.now,
        mtime: op.now,
        ctime: op.now,
        btime: op.now,
        ..Inode::default()
    }
}

/// Makes inode `ino`, which must be fresh, and its first name.
pub fn plan_create(
    op: &Op,
    view: &dyn View,
    who: &Caller,
    ino: Ino,
    parent: Ino,
    name: &[u8],
    new: &NewInode<'_>,
) -> Result<Plan<Attr>> {
    let dir = items::directory(view, parent)?;
    let slot = names::vacancy(view, &op.names, parent, name)?;
    flags::may_add(&dir)?;
    let (file_type, rdev, target) = describe(&new.kind)?;

    let mut draft = Draft::new(op, view);
    let mut inode = fresh(op, who, &dir, parent, file_type, new.perm);
    inode.rdev = rdev;
    inode.size = target.len() as u64;
    let inherits = file_type != libc::S_IFLNK;
    let acl = if inherits { Inheritance::of(&draft, parent, inode.mode & items::PERM_BITS)? } else { None };
    match &acl {
        Some(acl) => inode.mode = file_type | acl.perm,
        None if inherits => inode.mode &= !(new.umask & 0o777),
        None => {}
    }
    draft.add(ino, inode);
    if let Some(acl) = acl {
        acl.store(&mut draft, ino, file_type == libc::S_IFDIR)?;
    }
    for (part, bytes) in target.chunks(PART_MAX).enumerate() {
        draft.put(Key::new(ino, Kind::Symlink, part as u64), Value::Symlink(bytes.into()));
    }
    let entry = Dirent { name: name.into(), ino, dtype: items::dtype(file_type) };
    draft.put(slot, Value::Dirent(entry));
    draft.change_directory(parent, 1, i64::from(file_type == libc::S_IFDIR))?;
    let attr = items::attr(ino, &draft.inode(ino)?);
    Ok(draft.finish(attr))
}

/// link(2).
pub fn plan_link(op: &Op, view: &dyn View, ino: Ino, parent: Ino, name: &[u8]) -> Result<Plan<Attr>> {
    let mut draft = Draft::new(op, view);
    let dir = items::directory(view, parent)?;
    let slot = names::vacancy(view, &op.names, parent, name)?;
    flags::may_add(&dir)?;
    let inode = draft.change(ino)?;
    if items::is_dir(inode.mode) {
        return Err(Error::NotPermitted);
    }
    flags::may_change(inode)?;
    match inode.nlink {
        0 => return Err(Error::NotFound),
        LINKS_MAX.. => return Err(Error::TooManyLinks),
        _ => inode.nlink += 1,
    }
    inode.ctime = op.now;
    let attr = items::attr(ino, inode);
    draft.put(slot, Value::Dirent(Dirent { name: name.into(), ino, dtype: items::dtype(attr.mode) }));
    draft.change_directory(parent, 1, 0)?;
    Ok(draft.finish(attr))
}

/// readlink(2).
pub fn read_target(view: &dyn View, ino: Ino) -> Result<Vec<u8>> {
    let inode = items::get(view, ino)?;
    if !items::is_symlink(inode.mode) {
        return Err(Error::Invalid);
    }
    let mut target = Vec::with_capacity(inode.size.min(TARGET_MAX as u64) as usize);
    let (from, to) = (Key::new(ino, Kind::Symlink, 0), Key::new(ino, Kind::Symlink, u64::MAX));
    view.scan(&from, &to, &mut |_, value| {
        if let Value::Symlink(part) = value {
            target.extend_from_slice(part);
        }
        std::ops::ControlFlow::Continue(())
    })?;
    if target.len() as u64 != inode.size {
        return Err(items::misfit("symbolic link", ino));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::acl;
    use crate::namespace::api::XattrMode;
    use crate::namespace::testing::{Tree, USER, op, op_at};
    use crate::namespace::xattr;

    fn new(kind: NewKind<'_>, perm: u32) -> NewInode<'_> {
        NewInode { kind, perm, umask: 0o027 }
    }

    #[test]
    fn a_directory_counts_in_its_parent_and_knows_it() {
        let mut tree = Tree::with_root();
        let attr = tree.create(Ino::ROOT, b"d", new(NewKind::Directory, 0o777)).unwrap();
        assert_eq!((attr.mode, attr.nlink, attr.uid), (libc::S_IFDIR | 0o750, 2, USER.uid));
        assert_eq!((tree.inode(Ino::ROOT).nlink, tree.inode(Ino::ROOT).size), (3, 1));
        assert_eq!(tree.inode(attr.ino).parent, Ino::ROOT);
        assert!(matches!(tree.create(Ino::ROOT, b"d", new(NewKind::File, 0)), Err(Error::Exists)));
        let file = tree.create(attr.ino, b"f", new(NewKind::File, 0o666)).unwrap();
        assert!(matches!(tree.create(file.ino, b"g", new(NewKind::File, 0)), Err(Error::NotADirectory)));
        assert_eq!(tree.inode(Ino::ROOT).nlink, 3);
    }

    #[test]
    fn times_of_the_parent_and_the_new_inode_are_those_of_the_operation() {
        let mut tree = Tree::with_root();
        let later = op_at(500);
        let plan = plan_create(&later, &tree, &USER, Ino(40), Ino::ROOT, b"f", &new(NewKind::File, 0o644)).unwrap();
        tree.apply_all(&plan.edits);
        let (root, file) = (tree.inode(Ino::ROOT), tree.inode(Ino(40)));
        assert_eq!((root.mtime, root.ctime), (later.now, later.now));
        assert!(root.atime < later.now);
        assert_eq!([file.atime, file.mtime, file.ctime, file.btime], [later.now; 4]);
    }

    #[test]
    fn a_setgid_directory_hands_on_its_group() {
        let mut tree = Tree::with_root();
        tree.edit_inode(Ino::ROOT, |inode| {
            inode.mode |= libc::S_ISGID;
            inode.gid = 77;
        });
        let dir = tree.create(Ino::ROOT, b"d", new(NewKind::Directory, 0o755)).unwrap();
        let file = tree.create(Ino::ROOT, b"f", new(NewKind::File, 0o644)).unwrap();
        assert_eq!((dir.gid, dir.mode & libc::S_ISGID), (77, libc::S_ISGID));
        assert_eq!((file.gid, file.mode & libc::S_ISGID), (77, 0));
    }

    #[test]
    fn a_symlink_of_any_length_comes_back() {
        let mut tree = Tree::with_root();
        for len in [1, PART_MAX, PART_MAX + 1, TARGET_MAX] {
            let target = vec![b't'; len];
            let name = len.to_string();
            let attr = tree.create(Ino::ROOT, name.as_bytes(), new(NewKind::Symlink(&target), 0)).unwrap();
            assert_eq!((attr.size, attr.mode), (len as u64, libc::S_IFLNK | 0o777));
            assert_eq!(read_target(&tree, attr.ino).unwrap(), target);
        }
        let long = vec![b't'; TARGET_MAX + 1];
        assert!(matches!(tree.create(Ino::ROOT, b"l", new(NewKind::Symlink(&long), 0)), Err(Error::NameTooLong)));
        assert!(matches!(read_target(&tree, Ino::ROOT), Err(Error::Invalid)));
    }

    #[test]
    fn special_files_keep_their_device_and_regular_ones_are_not_special() {
        let mut tree = Tree::with_root();
        let device = NewKind::Special { mode: libc::S_IFBLK, rdev: 0x701 };
        let attr = tree.create(Ino::ROOT, b"b", new(device, 0o660)).unwrap();
        assert_eq!((attr.mode, attr.rdev), (libc::S_IFBLK | 0o640, 0x701));
        let odd = NewKind::Special { mode: libc::S_IFREG, rdev: 0 };
        assert!(matches!(tree.create(Ino::ROOT, b"r", new(odd, 0o660)), Err(Error::Invalid)));
    }

    #[test]
    fn a_default_acl_replaces_the_umask_and_goes_down() {
        let mut tree = Tree::with_root();
        let acl = acl::tests::sample(7, 5);
        tree.commit(|view| xattr::plan_set(&op(), view, Ino::ROOT, acl::DEFAULT, &acl, XattrMode::Set)).unwrap();
        let dir = tree.create(Ino::ROOT, b"d", new(NewKind::Directory, 0o777)).unwrap();
        assert_eq!(dir.mode, libc::S_IFDIR | 0o775);
        assert_eq!(xattr::get(&tree, &op().names, dir.ino, acl::DEFAULT).unwrap(), acl);
        let file = tree.create(dir.ino, b"f", new(NewKind::File, 0o740)).unwrap();
        assert_eq!(file.mode, libc::S_IFREG | 0o740);
        assert_eq!(xattr::get(&tree, &op().names, file.ino, acl::ACCESS).unwrap(), acl::tests::sample(4, 0));
        assert_eq!(tree.inode(file.ino).xattrs, 1);
        let link = tree.create(dir.ino, b"l", new(NewKind::Symlink(b"x"), 0)).unwrap();
        assert_eq!(tree.inode(link.ino).xattrs, 0);
    }

    #[test]
    fn directories_that_are_immutable_or_gone_take_no_names() {
        let mut tree = Tree::with_root();
        let dir = tree.create(Ino::ROOT, b"d", new(NewKind::Directory, 0o777)).unwrap().ino;
        tree.edit_inode(dir, |inode| inode.flags = flags::APPEND);
        tree.create(dir, b"f", new(NewKind::File, 0o777)).unwrap();
        tree.edit_inode(dir, |inode| inode.flags = flags::IMMUTABLE);
        assert!(matches!(tree.create(dir, b"g", new(NewKind::File, 0o777)), Err(Error::NotPermitted)));
        tree.edit_inode(dir, |inode| (inode.flags, inode.nlink) = (0, 0));
        assert!(matches!(tree.create(dir, b"g", new(NewKind::File, 0o777)), Err(Error::NotFound)));
    }

    #[test]
    fn links_are_counted_and_end_at_the_limit() {
        let mut tree = Tree::with_root();
        let file = tree.create(Ino::ROOT, b"f", new(NewKind::File, 0o644)).unwrap().ino;
        let link = |tree: &mut Tree, ino, name: &[u8]| tree.commit(|view| plan_link(&op(), view, ino, Ino::ROOT, name));
        assert_eq!(link(&mut tree, file, b"g").unwrap().nlink, 2);
        assert!(matches!(link(&mut tree, file, b"g"), Err(Error::Exists)));
        assert!(matches!(link(&mut tree, Ino::ROOT, b"h"), Err(Error::NotPermitted)));
        tree.edit_inode(file, |inode| inode.nlink = LINKS_MAX);
        assert!(matches!(link(&mut tree, file, b"h"), Err(Error::TooManyLinks)));
        tree.edit_inode(file, |inode| inode.nlink = 0);
        assert!(matches!(link(&mut tree, file, b"h"), Err(Error::NotFound)));
        tree.edit_inode(file, |inode| (inode.nlink, inode.flags) = (1, flags::IMMUTABLE));
        assert!(matches!(link(&mut tree, file, b"h"), Err(Error::NotPermitted)));
    }

    #[test]
    fn the_largest_creation_fits_a_record() {
        let mut tree = Tree::with_root();
        let huge = acl::tests::huge(xattr::ACL_MAX);
        tree.commit(|view| xattr::plan_set(&op(), view, Ino::ROOT, acl::DEFAULT, &huge, XattrMode::Set)).unwrap();
        let request = new(NewKind::Directory, 0o777);
        let plan = plan_create(&op(), &tree, &USER, Ino(50), Ino::ROOT, &[b'n'; 255], &request).unwrap();
        assert!(Tree::encoded_len(&plan.edits) < 16 * 1024);
    }
}
