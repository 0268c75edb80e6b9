//! The directory of a zoned image: names of zone files, the file that describes it, creation and removal.
//!
//! Zone files are those of Linux's zloop driver, which opens them by name and minds nothing else in the directory: `cnv-NNNNNN` of
//! the zone's size, `seq-NNNNNN` whose size is the write pointer; numbers count all zones. The driver takes shape and limits as
//! options; ours are in [`SPEC_NAME`]. It is written last, so a half-made directory is not an image.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::device::{ZoneKind, ZonedSpec};
use crate::types::BLOCK_SIZE;

/// The file that holds shape and limits.
pub const SPEC_NAME: &str = ".gleanfs-zones";
const SPEC_DRAFT: &str = ".gleanfs-zones.new";
const SPEC_HEAD: &str = "# Zoned image: zone files as Linux's zloop driver has them. Sizes in blocks of 4096 bytes.";

/// Name of the file of zone `zone`.
pub fn zone_name(kind: ZoneKind, zone: u32) -> String {
    match kind {
        ZoneKind::Conventional => format!("cnv-{zone:06}"),
        ZoneKind::Sequential => format!("seq-{zone:06}"),
    }
}

fn is_ours(name: &str) -> bool {
    let digits = name.strip_prefix("cnv-").or(name.strip_prefix("seq-"));
    [SPEC_NAME, SPEC_DRAFT].contains(&name)
        || digits.is_some_and(|d| d.len() >= 6 && d.bytes().all(|b| b.is_ascii_digit()))
}

/// Makes the zone files and then the description in `path`, which must not exist or be empty.
pub fn create(path: &Path, spec: &ZonedSpec) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            if fs::read_dir(path)?.next().is_some() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
        }
        other => other?,
    }
    for zone in 0..spec.zones {
        let kind = spec.kind(zone);
        let file = File::create_new(path.join(zone_name(kind, zone)))?;
        if kind == ZoneKind::Conventional {
            file.set_len(u64::from(spec.zone_blocks) * BLOCK_SIZE as u64)?;
            file.sync_all()?;
        }
    }
    let draft = path.join(SPEC_DRAFT);
    let mut file = File::create_new(&draft)?;
    file.write_all(print(spec).as_bytes())?;
    file.sync_all()?;
    fs::rename(draft, path.join(SPEC_NAME))?;
    File::open(path)?.sync_all()?;
    match path.canonicalize()?.parent() {
        Some(above) => File::open(above)?.sync_all(),
        None => Ok(()),
    }
}

/// Adds empty zones from number `from` on, then the description that names them. `directory` is the open image.
pub fn extend(directory: &File, from: u32, spec: &ZonedSpec) -> io::Result<()> {
    let path = &of_open(directory);
    for zone in from..spec.zones {
        // A file from an attempt that was broken off is no zone yet, and whatever is in it is nobody's.
        File::create(path.join(zone_name(ZoneKind::Sequential, zone)))?.sync_all()?;
    }
    directory.sync_all()?;
    let draft = path.join(SPEC_DRAFT);
    let mut file = File::create(&draft)?;
    file.write_all(print(spec).as_bytes())?;
    file.sync_all()?;
    fs::rename(draft, path.join(SPEC_NAME))?;
    directory.sync_all()
}

/// A path to an open directory that holds also where its own path has gone, as under the mount that it serves.
fn of_open(directory: &File) -> PathBuf {
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
}

/// Reads the description of an open image.
pub fn read_spec_in(directory: &File) -> io::Result<ZonedSpec> {
    read_spec(&of_open(directory))?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Removes the files of a zoned image, and nothing else; the directory stays.
pub fn wipe(path: &Path) -> io::Result<()> {
    let entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    let ours = |e: &&fs::DirEntry| e.file_name().to_str().is_some_and(is_ours);
    // The description first: what is left is no image, whatever happens.
    for entry in entries.iter().filter(ours).filter(|e| e.file_name() == SPEC_NAME) {
        fs::remove_file(entry.path())?;
    }
    for entry in entries.iter().filter(ours).filter(|e| e.file_name() != SPEC_NAME) {
        fs::remove_file(entry.path())?;
    }
    Ok(())
}

/// Reads the description; `None` if there is none.
pub fn read_spec(path: &Path) -> io::Result<Option<ZonedSpec>> {
    match fs::read_to_string(path.join(SPEC_NAME)) {
        Ok(text) => parse(&text).map(Some).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn print(spec: &ZonedSpec) -> String {
    let limit = |n: Option<u32>| n.map_or("none".to_owned(), |n| n.to_string());
    format!(
        "{SPEC_HEAD}\nversion=1\nzones={}\nzone_blocks={}\ncapacity_blocks={}\nconventional={}\nopen_max={}\nactive_max={}\n",
        spec.zones,
        spec.zone_blocks,
        spec.capacity_blocks,
        spec.conventional,
        limit(spec.open_max),
        limit(spec.active_max)
    )
}

fn parse(text: &str) -> Result<ZonedSpec, String> {
    let lines = || text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let field = |name: &str| {
        lines()
            .filter_map(|l| l.split_once('='))
            .find_map(|(key, value)| (key.trim() == name).then_some(value.trim()))
            .ok_or_else(|| format!("{SPEC_NAME} has no line {name}=..."))
    };
    let number = |name: &str| {
        field(name)?.parse::<u32>().map_err(|_| format!("{SPEC_NAME}: the value of {name} is not a number"))
    };
    let limit = |name: &str| if field(name)? == "none" { Ok(None) } else { number(name).map(Some) };
    if number("version")? != 1 {
        return Err(format!("{SPEC_NAME}: version {} is not supported", number("version")?));
    }
    let spec = ZonedSpec {
        zones: number("zones")?,
        zone_blocks: number("zone_blocks")?,
        capacity_blocks: number("capacity_blocks")?,
        conventional: number("conventional")?,
        open_max: limit("open_max")?,
        active_max: limit("active_max")?,
    };
    spec.validate().map_err(|why| format!("{SPEC_NAME}: {why}"))?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: ZonedSpec = ZonedSpec {
        zones: 5,
        zone_blocks: 8,
        capacity_blocks: 6,
        conventional: 2,
        open_max: Some(3),
        active_max: None,
    };

    #[test]
    fn the_description_survives_a_round_trip() {
        assert_eq!(parse(&print(&SPEC)), Ok(SPEC));
        assert!(parse("version=1\nzones=3\n").unwrap_err().contains("zone_blocks"));
        assert!(parse(&print(&SPEC).replace("version=1", "version=2")).unwrap_err().contains("version 2"));
        assert!(parse(&print(&SPEC).replace("zones=5", "zones=many")).unwrap_err().contains("zones"));
        assert!(parse(&print(&ZonedSpec { conventional: 9, ..SPEC })).is_err());
    }

    #[test]
    fn the_directory_is_laid_out_as_zloop_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zones");
        create(&path, &SPEC).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, [SPEC_NAME, "cnv-000000", "cnv-000001", "seq-000002", "seq-000003", "seq-000004"]);
        assert_eq!(fs::metadata(path.join("cnv-000001")).unwrap().len(), 8 * 4096);
        assert_eq!(fs::metadata(path.join("seq-000002")).unwrap().len(), 0);
        assert_eq!(read_spec(&path).unwrap(), Some(SPEC));
        assert_eq!(create(&path, &SPEC).unwrap_err().kind(), io::ErrorKind::DirectoryNotEmpty);
    }

    #[test]
    fn wiping_removes_only_what_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), &SPEC).unwrap();
        fs::write(dir.path().join("seq-notes"), "mine").unwrap();
        wipe(dir.path()).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["seq-notes"]);
        assert_eq!(read_spec(dir.path()).unwrap(), None);
    }
}
