//! A filesystem as text: every name with all that stat(2), xattrs and contents show. The bytes of a policy's memory (intervals, clocks)
//! are not in it: they may change their meaning.

use std::collections::BTreeMap;
use std::fmt::Write;

use gleanfs::error::Error;
use gleanfs::format::value::Time;
use gleanfs::namespace::api::{Attr, Namespace, Seek};
use gleanfs::types::Ino;

/// Entries by escaped path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing(BTreeMap<String, String>);

impl Listing {
    /// Walks the whole filesystem.
    pub fn take(fs: &dyn Namespace) -> Self {
        let mut entries = BTreeMap::new();
        entries.insert("/".to_owned(), describe(fs, &fs.getattr(Ino::ROOT).unwrap()));
        directory(fs, Ino::ROOT, "", &mut entries);
        Self(entries)
    }

    /// Reads what [`Listing::text`] has written.
    pub fn parse(text: &str) -> Self {
        let mut entries: Vec<(String, String)> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match (line.strip_prefix("  "), entries.last_mut()) {
                (Some(detail), Some((_, details))) => *details += &format!("{detail}\n"),
                _ => entries.push((line.to_owned(), String::new())),
            }
        }
        Self(entries.into_iter().collect())
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for (path, details) in &self.0 {
            let _ = writeln!(text, "{path}");
            details.lines().for_each(|line| {
                let _ = writeln!(text, "  {line}");
            });
        }
        text
    }

    pub fn remove(&mut self, path: &str) -> Option<String> {
        self.0.remove(path)
    }

    /// The same but for one entry.
    pub fn without(&self, path: &str) -> Self {
        let mut less = self.clone();
        less.0.remove(path);
        less
    }

    /// The same but for how many blocks files hold.
    pub fn without_blocks(&self) -> Self {
        let kept = |details: &String| {
            let lines = details.lines().filter(|line| !line.starts_with("sectors "));
            lines.map(|line| format!("{line}\n")).collect()
        };
        Self(self.0.iter().map(|(path, details)| (path.clone(), kept(details))).collect())
    }

    /// Panics with the first difference.
    pub fn demand(&self, found: &Self, name: &str) {
        for (path, details) in &self.0 {
            match found.0.get(path) {
                None => panic!("{name}: {path} is missing"),
                Some(other) => assert_eq!(details, other, "{name}: {path} (left: as it was written)"),
            }
        }
        let more = found.0.keys().find(|path| !self.0.contains_key(*path));
        assert_eq!(more, None, "{name}: what was never written is there");
    }
}

fn directory(fs: &dyn Namespace, dir: Ino, path: &str, entries: &mut BTreeMap<String, String>) {
    let mut found = Vec::new();
    fs.readdir(dir, 0, true, &mut |entry| {
        found.push((entry.name.to_vec(), entry.ino, entry.dtype));
        true
    })
    .unwrap();
    for (name, ino, dtype) in found.into_iter().filter(|(name, ..)| name != b"." && name != b"..") {
        let attr = fs.lookup(dir, &name).unwrap();
        assert_eq!(attr.ino, ino);
        let path = format!("{path}/{}", name.escape_ascii());
        entries.insert(path.clone(), describe(fs, &attr));
        if dtype == libc::DT_DIR {
            assert_eq!(fs.parent(ino).unwrap(), dir);
            directory(fs, ino, &path, entries);
        }
    }
}

fn describe(fs: &dyn Namespace, attr: &Attr) -> String {
    let mut text = String::new();
    let Attr { ino, generation, mode, nlink, uid, gid, rdev, size, flags, sectors, .. } = *attr;
    let _ = writeln!(text, "inode {ino} generation {generation} mode {mode:o} links {nlink} owner {uid}:{gid}");
    let _ = writeln!(text, "device {rdev:#x} size {size} flags {flags:#x}");
    let _ = writeln!(text, "sectors {sectors}");
    let [atime, mtime, ctime, btime] = [attr.atime, attr.mtime, attr.ctime, attr.btime].map(shown);
    let _ = writeln!(text, "times {atime} {mtime} {ctime} {btime}");
    let names = fs.list_xattr(ino).unwrap();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let value = fs.get_xattr(ino, name).unwrap();
        let (name, crc) = (name.escape_ascii(), crc32fast::hash(&value));
        let _ = writeln!(text, "xattr {name} {} bytes, checksum {crc:08x}", value.len());
    }
    match mode & libc::S_IFMT {
        libc::S_IFLNK => {
            let target = fs.readlink(ino).unwrap();
            let (start, crc) = (target[..target.len().min(60)].escape_ascii(), crc32fast::hash(&target));
            let _ = writeln!(text, "target {start} {} bytes, checksum {crc:08x}", target.len());
        }
        libc::S_IFREG => data(fs, attr, &mut text),
        _ => {}
    }
    text
}

fn shown(time: Time) -> String {
    format!("{}.{:09}", time.secs, time.nanos)
}

/// Ranges between holes, each with the checksum of what is in it.
fn data(fs: &dyn Namespace, attr: &Attr, text: &mut String) {
    let mut at = 0;
    while at < attr.size {
        let start = match fs.seek(attr.ino, at, Seek::Data) {
            Ok(start) => start,
            Err(Error::NoSuchAddress) => break,
            Err(e) => panic!("inode {}: {e}", attr.ino),
        };
        let end = fs.seek(attr.ino, start, Seek::Hole).unwrap();
        let mut bytes = vec![0; (end - start) as usize];
        assert_eq!(fs.read(attr.ino, start, &mut bytes).unwrap(), bytes.len());
        let _ = writeln!(text, "data {start}..{end} checksum {:08x}", crc32fast::hash(&bytes));
        at = end;
    }
}
