//! `/proc/self/mountinfo` (proc_pid_mountinfo(5)): what is mounted where, without touching the mounts themselves.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Major and minor number of the filesystem, as `MAJ:MIN`.
    pub(super) device: String,
    pub(super) mountpoint: PathBuf,
    /// Type with subtype, as `fuse.gleanfs`.
    pub(super) fstype: String,
}

/// The mount on top at `mountpoint` (an absolute path without symbolic links), if it is a mount point.
pub(super) fn find(mountpoint: &Path) -> io::Result<Option<Mount>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let mut from_the_top = table.rsplit(|b| *b == b'\n').filter_map(parse);
    Ok(from_the_top.find(|mount| mount.mountpoint == mountpoint))
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let device = String::from_utf8(fields.nth(2)?.to_vec()).ok()?;
    let mountpoint = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    // Optional fields end with a lone dash.
    fields.find(|field| *field == b"-")?;
    let fstype = String::from_utf8(fields.next()?.to_vec()).ok()?;
    Some(Mount { device, mountpoint, fstype })
}

/// Blanks, newlines and backslashes stand there as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match code {
            Some(code) if *first == b'\\' => {
                out.push(code);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_escapes_is_understood() {
        let line = b"36 35 0:45 / /mnt/a\\040b\\134c rw,noatime shared:1 master:2 - fuse.gleanfs /dev/x rw,user_id=0";
        let mount = parse(line).unwrap();
        assert_eq!(mount.device, "0:45");
        assert_eq!(mount.mountpoint, Path::new("/mnt/a b\\c"));
        assert_eq!(mount.fstype, "fuse.gleanfs");
    }

    #[test]
    fn the_proc_filesystem_is_found_and_a_plain_directory_is_not() {
        assert_eq!(find(Path::new("/proc")).unwrap().unwrap().fstype, "proc");
        assert_eq!(find(Path::new("/proc/self")).unwrap(), None);
    }
}
