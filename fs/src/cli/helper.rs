//! The program under the names of helpers: mkfs(8), mount(8), fsck(8) and umount(8) call these with argument lists of their
//! own tradition, which clap cannot take (`-C0`, options after operands, flags that are to be ignored).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use super::failure::{Failure, Result};
use super::fsck::{self, Manner};
use super::options::MountOptions;
use super::{mkfs, mount, umount};
use crate::repair::Consent;

/// Which helper we have been called as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    Mkfs,
    Mount,
    Fsck,
    Umount,
}

impl Helper {
    /// By the last part of `argv0`; `None` under the program's own name.
    pub fn from_argv0(argv0: &OsString) -> Option<Self> {
        match Path::new(argv0).file_name()?.to_str()? {
            "mkfs.gleanfs" | "mkfs.fuse.gleanfs" => Some(Self::Mkfs),
            "mount.gleanfs" | "mount.fuse.gleanfs" => Some(Self::Mount),
            "fsck.gleanfs" | "fsck.fuse.gleanfs" => Some(Self::Fsck),
            "umount.gleanfs" | "umount.fuse.gleanfs" => Some(Self::Umount),
            _ => None,
        }
    }

    /// Does what the helper's caller expects of these arguments.
    pub fn run(self, arguments: &[OsString]) -> Result<ExitCode> {
        match self {
            Self::Mkfs => run_mkfs(arguments),
            Self::Mount => run_mount(&MountLine::parse(arguments)?).map(|()| ExitCode::SUCCESS),
            Self::Fsck => run_fsck(&FsckLine::parse(arguments)?),
            Self::Umount => run_umount(arguments).map(|()| ExitCode::SUCCESS),
        }
    }
}

#[derive(Debug, Parser)]
#[command(name = "mkfs.gleanfs", version)]
struct MkfsLine {
    #[command(flatten)]
    arguments: mkfs::Args,
}

fn run_mkfs(arguments: &[OsString]) -> Result<ExitCode> {
    let line = std::iter::once(OsString::from("mkfs.gleanfs")).chain(arguments.iter().cloned());
    match MkfsLine::try_parse_from(line) {
        Ok(line) => mkfs::run(&line.arguments).map(|()| ExitCode::SUCCESS),
        Err(told) => Ok(super::tell(&told)),
    }
}

/// `mount.gleanfs SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`, see mount(8), "External helpers".
#[derive(Debug, Default, PartialEq, Eq)]
struct MountLine {
    source: PathBuf,
    target: PathBuf,
    options: Vec<String>,
    /// `-s`: unknown options are no error.
    sloppy: bool,
    /// `-f`: do all but mount.
    fake: bool,
}

impl MountLine {
    fn parse(arguments: &[OsString]) -> Result<Self> {
        let mut line = Self::default();
        let mut operands = Vec::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let text = argument.to_string_lossy();
            let Some(flags) = text.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
                operands.push(PathBuf::from(argument));
                continue;
            };
            for (at, flag) in flags.char_indices() {
                match flag {
                    's' => line.sloppy = true,
                    'f' => line.fake = true,
                    'n' | 'v' | 'w' => {}
                    'r' => line.options.push("ro".into()),
                    'o' | 't' | 'N' => {
                        let attached = &flags[at + 1..];
                        let value = match (attached, rest.as_slice().first()) {
                            ("", Some(next)) => {
                                rest.next();
                                next.to_string_lossy().into_owned()
                            }
                            ("", None) => return Err(usage(format_args!("-{flag} needs a value"))),
                            (attached, _) => attached.to_owned(),
                        };
                        if flag == 'o' {
                            line.options.push(value);
                        }
                        break;
                    }
                    other => return Err(usage(format_args!("unknown flag -{other}"))),
                }
            }
        }
        match <[PathBuf; 2]>::try_from(operands) {
            Ok([source, target]) => Ok(Self { source, target, ..line }),
            Err(_) => Err(usage("usage: mount.gleanfs DEVICE DIRECTORY [-sfnv] [-o OPTIONS]")),
        }
    }
}

fn usage(why: impl std::fmt::Display) -> Failure {
    Failure::with_status(why, mount::STATUS_INVOCATION)
}

fn run_mount(line: &MountLine) -> Result<()> {
    let lists = || line.options.iter().map(String::as_str);
    let options = if line.sloppy { MountOptions::parse_known(lists()) } else { MountOptions::parse(lists()) }
        .map_err(|failure| failure.status(mount::STATUS_INVOCATION))?;
    if line.fake {
        return Ok(());
    }
    mount::mount(&line.source, &line.target, options, &line.options, false)
}

/// `fsck.gleanfs [-a|-p|-y|-n] [-f] [-V|-v] [-T] [-C[FD]] DEVICE`, see fsck(8), "Filesystem specific options".
#[derive(Debug, PartialEq, Eq)]
struct FsckLine {
    path: PathBuf,
    progress: bool,
    json: bool,
    consent: Option<Consent>,
}

impl FsckLine {
    fn parse(arguments: &[OsString]) -> Result<Self> {
        let (mut progress, mut json, mut consent) = (false, false, None);
        let mut operands = Vec::new();
        let usage = |why: String| Failure::with_status(why, fsck::STATUS_USAGE);
        for argument in arguments {
            match argument.to_string_lossy().as_ref() {
                "-a" | "-p" => consent = Some(Consent::Safe),
                "-y" => consent = Some(Consent::All),
                // fsck(8) passes on what it was given; the last one counts.
                "-n" => consent = None,
                // A full check is the only kind; fsck(8) adds the others of its own accord.
                "-f" | "-V" | "-v" | "-T" | "-r" | "-s" | "-l" => {}
                "--json" => json = true,
                flag if flag.starts_with("-C") => progress = true,
                flag if flag.starts_with('-') => return Err(usage(format!("unknown flag {flag}"))),
                _ => operands.push(PathBuf::from(argument)),
            }
        }
        match <[PathBuf; 1]>::try_from(operands) {
            Ok([path]) => Ok(Self { path, progress, json, consent }),
            Err(_) => Err(usage("usage: fsck.gleanfs [-a|-p|-y|-n] [-f] [-C] [--json] DEVICE".into())),
        }
    }
}

fn run_fsck(line: &FsckLine) -> Result<ExitCode> {
    let FsckLine { path, progress, json, consent } = line;
    let (progress, json, consent) = (*progress, *json, *consent);
    fsck::check(path, Manner { metadata_only: false, json, progress, consent, segment_bytes: None })
}

/// `umount.fuse.gleanfs TARGET [-flnrv] [-N NAMESPACE] [-t TYPE]`, see umount(8), "External helpers".
fn run_umount(arguments: &[OsString]) -> Result<()> {
    let mut lazy = false;
    let mut operands = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.to_string_lossy().as_ref() {
            "-N" | "-t" => {
                rest.next();
            }
            flags if flags.starts_with('-') => lazy |= flags.contains('l'),
            _ => operands.push(PathBuf::from(argument)),
        }
    }
    match operands.as_slice() {
        [target] => umount::end(target, lazy),
        _ => Err(Failure::new("usage: umount.fuse.gleanfs TARGET [-flnrv]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn names_decide_what_we_are() {
        let by_name = |name: &str| Helper::from_argv0(&name.into());
        assert_eq!(by_name("/sbin/mount.gleanfs"), Some(Helper::Mount));
        assert_eq!(by_name("mount.fuse.gleanfs"), Some(Helper::Mount));
        assert_eq!(by_name("mkfs.fuse.gleanfs"), Some(Helper::Mkfs));
        assert_eq!(by_name("/usr/sbin/fsck.gleanfs"), Some(Helper::Fsck));
        assert_eq!(by_name("umount.fuse.gleanfs"), Some(Helper::Umount));
        assert_eq!(by_name("target/debug/gleanfs"), None);
    }

    #[test]
    fn mount_lines_of_mount_8() {
        let line = MountLine::parse(&words("/dev/sdb /mnt -n -o rw,noatime -sv")).unwrap();
        assert_eq!((line.source.to_str(), line.target.to_str()), (Some("/dev/sdb"), Some("/mnt")));
        assert_eq!(line.options, ["rw,noatime"]);
        assert!(line.sloppy && !line.fake);
        let line = MountLine::parse(&words("-fro cache=8M img dir -t gleanfs -N 17 -onoexec")).unwrap();
        assert_eq!(line.options, ["ro", "cache=8M", "noexec"]);
        assert!(line.fake && !line.sloppy);
    }

    #[test]
    fn mount_lines_without_sense_are_status_1() {
        for text in ["img", "a b c", "a b -o", "a b -q"] {
            assert_eq!(MountLine::parse(&words(text)).unwrap_err().status, 1, "{text}");
        }
    }

    #[test]
    fn sloppy_mounts_pass_over_what_nobody_knows() {
        let line = |text| MountLine::parse(&words(text)).unwrap();
        assert_eq!(run_mount(&line("a b -f -s -o frob")), Ok(()));
        assert_eq!(run_mount(&line("a b -f -o frob")).unwrap_err().status, 1);
        assert_eq!(run_mount(&line("a b -f -s -o gc=maybe")).unwrap_err().status, 1);
    }

    #[test]
    fn fsck_lines_of_fsck_8() {
        let line = FsckLine::parse(&words("-a -T -C0 -f /dev/sdb")).unwrap();
        assert_eq!((line.progress, line.consent), (true, Some(Consent::Safe)));
        assert_eq!(FsckLine::parse(&words("-y img")).unwrap().consent, Some(Consent::All));
        assert_eq!(FsckLine::parse(&words("-y -n img")).unwrap().consent, None);
        for text in ["", "-x img", "a b"] {
            assert_eq!(FsckLine::parse(&words(text)).unwrap_err().status, 16, "{text}");
        }
    }
}
