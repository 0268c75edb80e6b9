//! `gleanfs mkfs`: checks what is asked for and what stands there, then makes an empty filesystem.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::assemble;
use super::failure::{About, Failure, Result};
use super::recognize::{HEAD_BYTES, recognize};
use super::size::{Share, Size};

/// Make an empty gleanfs on a device, an image file or a zoned image.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gleanfs mkfs --size 16G disk.img               a sparse image file of 16 GiB
  gleanfs mkfs /dev/sdb                          the whole device; freed segments are discarded
  gleanfs mkfs --zoned --size 8G --zone-size 64M --zone-capacity 60M --max-open 8 zoned/
                                                 a directory in the layout of Linux's zloop driver

Sizes are powers of 1024: 4K, 2M, 16G, 1T. What already stands on PATH is named and kept unless --force is given.")]
pub struct Args {
    /// Device, image file or (with --zoned) directory
    path: PathBuf,
    /// Overwrite whatever is there
    #[arg(short, long)]
    force: bool,
    /// Size of the filesystem [default: that of the device or file]
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,
    /// Unit of logging and cleaning [default: 2M, less on a small image and more on a huge one]
    #[arg(long, value_name = "SIZE", conflicts_with = "zoned")]
    segment_size: Option<Size>,
    /// Share of the device kept from users, so that cleaning stays cheap when it is full
    #[arg(long, value_name = "SHARE", default_value = "6%")]
    overprovision: Share,
    /// Name of the filesystem, at most 63 bytes
    #[arg(short = 'L', long, default_value = "")]
    label: String,
    /// Identity of the filesystem [default: random]
    #[arg(short = 'U', long)]
    uuid: Option<uuid::Uuid>,
    /// Make a zoned image: a directory with one file per zone
    #[arg(long, requires = "size")]
    zoned: bool,
    /// Address step from zone to zone
    #[arg(long, value_name = "SIZE", default_value = "64M", requires = "zoned")]
    zone_size: Size,
    /// Bytes of a zone that can be written [default: the zone size]
    #[arg(long, value_name = "SIZE", requires = "zoned")]
    zone_capacity: Option<Size>,
    /// Most zones that may be open at once [default: no limit]
    #[arg(long, value_name = "N", requires = "zoned")]
    max_open: Option<u32>,
    /// Say nothing on success
    #[arg(short, long)]
    quiet: bool,
}

/// What mkfs was asked to make; the sizes have been checked against each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MkfsOptions {
    /// Bytes; `None`: those of the device or file.
    pub size: Option<u64>,
    /// `None`: fit for the size.
    pub segment_size: Option<u64>,
    pub overprovision: Share,
    pub label: String,
    pub uuid: [u8; 16],
    pub zoned: Option<ZonedOptions>,
    pub force: bool,
}

/// Shape of a zoned image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZonedOptions {
    pub zone_size: u64,
    pub zone_capacity: u64,
    pub max_open: Option<u32>,
}

const BLOCK: u64 = crate::types::BLOCK_SIZE as u64;
const LABEL_BYTES_MAX: usize = 63;
/// A superblock log, the heads and something to clean with.
const OPEN_ZONES_LEAST: u32 = 4;

impl Args {
    fn options(&self) -> Result<MkfsOptions> {
        let zoned = self.zoned.then_some(ZonedOptions {
            zone_size: self.zone_size.0,
            zone_capacity: self.zone_capacity.unwrap_or(self.zone_size).0,
            max_open: self.max_open,
        });
        let options = MkfsOptions {
            size: self.size.map(|size| size.0),
            segment_size: self.segment_size.map(|size| size.0),
            overprovision: self.overprovision,
            label: self.label.clone(),
            uuid: self.uuid.unwrap_or_else(uuid::Uuid::new_v4).into_bytes(),
            zoned,
            force: self.force,
        };
        options.check()?;
        Ok(options)
    }
}

impl MkfsOptions {
    /// Refuses what no device could satisfy. What depends on the device is for the format to refuse.
    fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(Failure::new(why));
        if self.label.len() > LABEL_BYTES_MAX {
            return refuse(format!("--label: at most {LABEL_BYTES_MAX} bytes, this one has {}", self.label.len()));
        }
        if let Some(zoned) = &self.zoned {
            return self.check_zones(zoned);
        }
        let Some(segment) = self.segment_size else { return Ok(()) };
        if !segment.is_multiple_of(BLOCK) || !(128 << 10..=1 << 30).contains(&segment) {
            let size = Size(segment);
            return refuse(format!("--segment-size {size}: must be a multiple of 4K from 128K to 1G, such as 2M"));
        }
        match self.size {
            Some(size) if size < 4 * segment => {
                let (size, segment) = (Size(size), Size(segment));
                refuse(format!(
                    "--size {size}: too small for segments of {segment}; use a larger size or smaller segments"
                ))
            }
            _ => Ok(()),
        }
    }

    fn check_zones(&self, zoned: &ZonedOptions) -> Result<()> {
        let refuse = |why: String| Err(Failure::new(why));
        let (size, capacity) = (Size(zoned.zone_size), Size(zoned.zone_capacity));
        if !zoned.zone_size.is_power_of_two() || !(1 << 20..=8 << 30).contains(&zoned.zone_size) {
            return refuse(format!("--zone-size {size}: zloop images have zones of a power of two from 1M to 8G"));
        }
        if zoned.zone_capacity > zoned.zone_size {
            return refuse(format!("--zone-capacity {capacity}: larger than a zone ({size})"));
        }
        if !zoned.zone_capacity.is_multiple_of(BLOCK) || zoned.zone_capacity < 256 << 10 {
            return refuse(format!("--zone-capacity {capacity}: must be a multiple of 4K and at least 256K"));
        }
        if zoned.max_open.is_some_and(|zones| zones < OPEN_ZONES_LEAST) {
            return refuse(format!("--max-open: at least {OPEN_ZONES_LEAST} zones must be writable at once"));
        }
        match self.size {
            Some(bytes) if bytes < 8 * zoned.zone_size => {
                refuse(format!("--size {}: too small for zones of {size}; at least 8 zones are needed", Size(bytes)))
            }
            _ => Ok(()),
        }
    }
}

pub fn run(arguments: &Args) -> Result<()> {
    let options = arguments.options()?;
    inspect(&arguments.path, &options)?;
    let made = assemble::format(&arguments.path, &options)?;
    if !arguments.quiet {
        println!("{}: {made}", arguments.path.display());
    }
    Ok(())
}

/// Refuses a target that is in use, that cannot take a filesystem, or (without `force`) that holds something.
fn inspect(path: &Path, options: &MkfsOptions) -> Result<()> {
    let shown = path.display();
    let refuse = |why: String| Err(Failure::new(format_args!("{shown}: {why}")));
    let source = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = crate::control::mounts::of(&source).about(&shown)?;
    if let Some(mount) = mounts.first() {
        return refuse(format!("mounted at {}; unmount it first", mount.target.display()));
    }
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return if options.size.is_some() {
                Ok(())
            } else {
                refuse("does not exist; give --size to create it".into())
            };
        }
        Err(error) => return Err(error).about(&shown),
    };
    if metadata.is_dir() {
        return if options.zoned.is_none() {
            refuse("is a directory; a zoned image is one, and needs --zoned".into())
        } else if !options.force && std::fs::read_dir(path).about(&shown)?.next().is_some() {
            refuse("directory is not empty; use --force to replace the zoned image in it".into())
        } else {
            Ok(())
        };
    }
    if options.zoned.is_some() {
        return refuse("is not a directory; a zoned image is one".into());
    }
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head)).about(&shown)?;
    match recognize(&head) {
        Some(seen) if !options.force => refuse(format!("holds {seen}; use --force to overwrite it")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Args,
    }

    fn options(words: &[&str]) -> std::result::Result<MkfsOptions, String> {
        let line = Line::try_parse_from([&["mkfs"], words].concat()).map_err(|told| told.to_string())?;
        line.arguments.options().map_err(|failure| failure.message)
    }

    #[test]
    fn sizes_shares_and_names_arrive() {
        let id = "6f1c1f6e-2a1b-4f0e-9d3c-000102030405";
        let made =
            options(&["-L", "data", "-U", id, "--size", "1G", "--segment-size", "4M", "--overprovision", "7%", "x"]);
        let made = made.unwrap();
        assert_eq!((made.size, made.segment_size, made.label.as_str()), (Some(1 << 30), Some(4 << 20), "data"));
        assert_eq!(made.overprovision.hundredths(), 700);
        assert_eq!(made.uuid[10..], [0, 1, 2, 3, 4, 5]);
        assert_eq!(made.zoned, None);
    }

    #[test]
    fn two_images_do_not_share_an_identity() {
        assert_ne!(options(&["x"]).unwrap().uuid, options(&["x"]).unwrap().uuid);
    }

    #[test]
    fn a_segment_of_a_zoned_image_is_a_zone() {
        let zoned = ["--zoned", "--size", "1G", "--zone-size", "16M", "--zone-capacity", "12M", "--max-open", "6", "x"];
        let made = options(&zoned).unwrap();
        assert_eq!(made.segment_size, None);
        let expected = ZonedOptions { zone_size: 16 << 20, zone_capacity: 12 << 20, max_open: Some(6) };
        assert_eq!(made.zoned, Some(expected));
    }

    #[test]
    fn impossible_shapes_are_refused_with_the_reason() {
        for (words, reason) in [
            (&["--segment-size", "5000", "x"][..], "multiple of 4K"),
            (&["--segment-size", "64K", "x"], "from 128K"),
            (&["--size", "4M", "--segment-size", "2M", "x"], "too small"),
            (&["--zone-size", "16M", "x"], "--zoned"),
            (&["--zoned", "x"], "--size"),
            (&["--zoned", "--size", "1G", "--zone-size", "24M", "x"], "power of two"),
            (&["--zoned", "--size", "1G", "--zone-size", "16M", "--zone-capacity", "17M", "x"], "larger than a zone"),
            (&["--zoned", "--size", "1G", "--zone-size", "16M", "--max-open", "3", "x"], "at least 4"),
            (&["--zoned", "--size", "64M", "--zone-size", "16M", "x"], "at least 8 zones"),
        ] {
            let refused = options(words).unwrap_err();
            assert!(refused.contains(reason), "{words:?}: {refused}");
        }
    }

    #[test]
    fn what_stands_there_is_named_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        let mut bytes = vec![0u8; 1 << 20];
        bytes[..4].copy_from_slice(b"XFSB");
        std::fs::write(&image, &bytes).unwrap();
        let mut asked = options(&["x"]).unwrap();
        assert!(inspect(&image, &asked).unwrap_err().message.ends_with("holds xfs; use --force to overwrite it"));
        asked.force = true;
        inspect(&image, &asked).unwrap();
        assert_eq!(std::fs::read(&image).unwrap(), bytes);
    }

    #[test]
    fn targets_that_cannot_be_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let plain = options(&["x"]).unwrap();
        let zoned = options(&["--zoned", "--size", "1G", "x"]).unwrap();
        let message = |path: &Path, asked| inspect(path, asked).unwrap_err().message;
        assert!(message(directory.path(), &plain).contains("needs --zoned"));
        assert!(message(&directory.path().join("none"), &plain).contains("give --size"));
        assert_eq!(inspect(directory.path(), &zoned), Ok(()));
        let file = directory.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(message(&file, &zoned).contains("not a directory"));
        assert!(message(directory.path(), &zoned).contains("not empty"));
    }
}
