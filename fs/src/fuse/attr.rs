//! Attributes and times between our words and `fuser`'s.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::format::value::Time;
use crate::namespace::api::{Attr, SetTime};
use crate::types::{BLOCK_SIZE, Ino};

/// How long the kernel may keep names (also missing ones) and attributes. Nobody changes them behind its back.
pub(super) const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// `attr` as a reply carries it.
pub(super) fn reply_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.sectors,
        atime: to_system(attr.atime),
        mtime: to_system(attr.mtime),
        ctime: to_system(attr.ctime),
        crtime: to_system(attr.btime),
        kind: kind_of_mode(attr.mode),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK_SIZE as u32,
        flags: 0,
    }
}

/// A directory of which only the number is known: `.` and `..` in a listing, of which the kernel takes no more. With number 0 it
/// says that a name is missing.
pub(super) fn bare_directory(ino: Ino) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino.0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::Directory,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_SIZE as u32,
        flags: 0,
    }
}

fn kind_of_mode(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

/// The kind that a `DT_*` names.
pub(super) fn kind_of_dtype(dtype: u8) -> FileType {
    // `DT_*` are the type bits of `st_mode`, shifted.
    kind_of_mode(u32::from(dtype) << 12)
}

fn to_system(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let second = if time.secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    second.and_then(|t| t.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

/// A time from a request. `fuser` 0.18 takes the nanoseconds of a time before 1970 for a part of the way back (its
/// `system_time_from_time`); they count forward, so the two parts are taken apart again as they came.
pub(super) fn from_request(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Time { secs: since.as_secs() as i64, nanos: since.subsec_nanos() },
        Err(before) => {
            let back = before.duration();
            Time { secs: (back.as_secs() as i64).wrapping_neg(), nanos: back.subsec_nanos() }
        }
    }
}

/// A time to set, from a request.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(from_request(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `fuser` makes of the parts in a request.
    fn as_fuser_reads(time: Time) -> SystemTime {
        if time.secs >= 0 {
            UNIX_EPOCH + Duration::new(time.secs as u64, time.nanos)
        } else {
            UNIX_EPOCH - Duration::new(time.secs.unsigned_abs(), time.nanos)
        }
    }

    #[test]
    fn times_before_1970_keep_their_fractions() {
        for time in [
            Time { secs: -2, nanos: 800_000_000 },
            Time { secs: -1, nanos: 1 },
            Time { secs: -1, nanos: 0 },
            Time { secs: 0, nanos: 5 },
            Time { secs: i64::MIN, nanos: 0 },
            Time { secs: 1 << 40, nanos: 999_999_999 },
        ] {
            assert_eq!(from_request(as_fuser_reads(time)), time);
        }
    }

    #[test]
    fn times_before_1970_count_their_nanoseconds_forward_in_replies() {
        let shown = to_system(Time { secs: -2, nanos: 800_000_000 });
        assert_eq!(UNIX_EPOCH.duration_since(shown).unwrap(), Duration::from_millis(1200));
    }

    #[test]
    fn directory_entry_types_map_to_their_kinds() {
        assert_eq!(kind_of_dtype(libc::DT_DIR), FileType::Directory);
        assert_eq!(kind_of_dtype(libc::DT_LNK), FileType::Symlink);
        assert_eq!(kind_of_dtype(libc::DT_SOCK), FileType::Socket);
        assert_eq!(kind_of_dtype(libc::DT_REG), FileType::RegularFile);
    }
}
