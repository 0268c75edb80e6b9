//! Mounts as `/proc/self/mountinfo` shows them (proc(5)).
//!
//! Looking here instead of calling stat(2) matters: stat of a mount whose daemon hangs or is gone hangs or fails.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Device number of a mounted filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    pub device: DeviceNumber,
    pub target: PathBuf,
    /// `ext4`, `fuse.gleanfs`, ...
    pub fs_type: String,
    /// What df(1) shows in its first column.
    pub source: OsString,
    pub read_only: bool,
}

impl MountEntry {
    /// True for a mount of gleanfs, whether of type `fuse.gleanfs` or `fuseblk.gleanfs`.
    pub fn is_gleanfs(&self) -> bool {
        self.fs_type.split_once('.').is_some_and(|(kind, name)| kind.starts_with("fuse") && name == "gleanfs")
    }
}

/// All mounts that this process sees, in the order in which they were made.
pub fn all() -> io::Result<Vec<MountEntry>> {
    Ok(std::fs::read("/proc/self/mountinfo")?.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// The mount that is seen at exactly `path` (the topmost of several), or `None`.
pub fn at(path: &Path) -> io::Result<Option<MountEntry>> {
    let target = resolve(path)?;
    Ok(all()?.into_iter().rev().find(|mount| mount.target == target))
}

/// Every mount whose source is `source`.
pub fn of(source: &Path) -> io::Result<Vec<MountEntry>> {
    Ok(all()?.into_iter().filter(|mount| mount.source == source.as_os_str()).collect())
}

/// `path` made absolute and free of symlinks without touching its last component, which may be a dead mount.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let known = all()?;
    if known.iter().any(|mount| mount.target == path) {
        return Ok(path);
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let joined = parent.canonicalize()?.join(name);
            if known.iter().any(|mount| mount.target == joined) { Ok(joined) } else { path.canonicalize() }
        }
        _ => path.canonicalize(),
    }
}

/// Fields: id, parent, major:minor, root, mount point, options, optional fields, `-`, type, source, super options.
fn parse(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (major, minor) = text(fields.nth(2)?)?.split_once(':')?;
    let target = unescape(fields.nth(1)?);
    let options = text(fields.next()?)?;
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    Some(MountEntry {
        device: DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? },
        target: OsString::from_vec(target).into(),
        fs_type: text(fields.next()?)?.to_owned(),
        source: OsString::from_vec(unescape(fields.next()?)),
        read_only: options.split(',').any(|word| word == "ro"),
    })
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

/// Undoes the kernel's `\040` for space, tab, line break and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, others)) = rest.split_first() {
        let octal = others.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        match octal {
            Some(digits) => {
                plain.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &others[3..];
            }
            None => {
                plain.push(first);
                rest = others;
            }
        }
    }
    plain
}

/// True if `path` lies on the filesystem mounted at `target`, judged by name alone.
pub fn lies_under(path: &Path, target: &Path) -> bool {
    path.as_os_str().as_bytes() != target.as_os_str().as_bytes() && path.starts_with(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_read() {
        let line =
            br"36 35 98:0 /sub /mnt/with\040space ro,noatime shared:1 master:2 - fuse.gleanfs /dev/a\134b rw,user_id=0";
        let mount = parse(line).unwrap();
        assert_eq!(mount.device.to_string(), "98:0");
        assert_eq!(mount.target, Path::new("/mnt/with space"));
        assert_eq!(mount.source, r"/dev/a\b");
        assert!(mount.read_only && mount.is_gleanfs());
    }

    #[test]
    fn lines_without_sense_are_left_out() {
        for line in [&b""[..], b"36 35", b"36 35 x:y / / rw - ext4 a rw", b"36 35 1:2 / / rw shared:1"] {
            assert_eq!(parse(line), None);
        }
    }

    #[test]
    fn proc_is_mounted_and_found() {
        let proc = at(Path::new("/proc")).unwrap().unwrap();
        assert_eq!(proc.fs_type, "proc");
        assert!(!proc.is_gleanfs());
        assert_eq!(at(Path::new("/proc/self")).unwrap(), None);
    }

    #[test]
    fn what_lies_under_a_mount_is_not_the_mount() {
        assert!(lies_under(Path::new("/m/a"), Path::new("/m")));
        assert!(!lies_under(Path::new("/m"), Path::new("/m")));
        assert!(!lies_under(Path::new("/mm/a"), Path::new("/m")));
    }
}
