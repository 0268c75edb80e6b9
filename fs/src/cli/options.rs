//! The `-o` list of mount: ours, mount(8)'s generic ones, and those that only mount(8) itself cares for.
//!
//! Pure: text in, [`MountOptions`] out. A word that nobody knows is refused by name. Later words win, as with
//! mount(8). What is written here is what `gleanfs mount --help` and mount.gleanfs both accept.

use std::path::PathBuf;

use super::failure::{Failure, Result};
use super::size::Size;

/// Deaths of daemons within a minute that a supervisor takes, unless told otherwise.
const DEATHS_MAX: u32 = 5;

/// When the cleaner runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcMode {
    /// In the background, and in the foreground when space is short.
    On,
    /// Only in the foreground, when space is short.
    Off,
    /// Only in the writing thread, at fixed marks: for measurements that must repeat exactly.
    Sync,
}

/// The most that the advisor's model may be trusted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrustMax {
    Fallback,
    Learning,
    Collaboration,
    Recommendation,
    /// Everything, earned or not: for measurements.
    Forced,
}

/// What models are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advise {
    Both,
    Placement,
    Victims,
}

/// What is done with models that are fitted to the mount's own load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learn {
    Off,
    /// Fitted and examined, not used.
    Shadow,
    /// Used when they are better.
    On,
}

/// How access times are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atime {
    Relatime,
    Strictatime,
    Noatime,
}

/// Flags that the kernel keeps for every mount (mount(2)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelFlags {
    pub suid: bool,
    pub dev: bool,
    pub exec: bool,
    pub atime: Atime,
    pub diratime: bool,
    pub lazytime: bool,
    pub sync: bool,
    pub dirsync: bool,
    /// Let users other than the one who mounts in. `None`: only if root mounts.
    pub allow_other: Option<bool>,
    /// The kernel checks permissions. Always on: gleanfs leaves them to the kernel.
    pub default_permissions: bool,
    /// Security labels (`context=` and its family), handed on unchanged.
    pub labels: Vec<String>,
}

/// What a mount was asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    pub read_only: bool,
    /// Bytes of cache for data and metadata.
    pub cache_bytes: u64,
    /// Cleaning policy of the fallback; `None`: the filesystem's best.
    pub policy: Option<String>,
    /// ONNX model for the advisor; `None`: the shipped one.
    pub model: Option<PathBuf>,
    pub gc: GcMode,
    /// Longest time between checkpoints.
    pub checkpoint_secs: u32,
    /// Age past which a recommendation is not used.
    pub deadline_us: u32,
    /// The kernel's writeback cache.
    pub writeback: bool,
    /// FUSE session threads; `None`: by the number of CPUs.
    pub threads: Option<u16>,
    /// Log heads for data; `None`: as many as the policy wants.
    pub heads: Option<u8>,
    pub trust_max: TrustMax,
    /// What models are asked about.
    pub advise: Advise,
    pub learn: Learn,
    /// A model file whose replacement is a request to use it.
    pub watch: Option<PathBuf>,
    /// ONNX Runtime library; `None`: the cached one.
    pub library: Option<PathBuf>,
    /// User whom the daemon becomes once all is open; `None`: it stays who it is.
    pub run_as: Option<String>,
    pub kernel: KernelFlags,
    /// Change the flags of a mount that stands (handed on to mount(8)).
    pub remount: bool,
    /// Another process keeps the mount while daemons come and go, until more than so many die within a minute.
    pub supervise: Option<u32>,
}

impl Default for KernelFlags {
    fn default() -> Self {
        Self {
            suid: true,
            dev: true,
            exec: true,
            atime: Atime::Relatime,
            diratime: true,
            lazytime: false,
            sync: false,
            dirsync: false,
            allow_other: None,
            default_permissions: true,
            labels: Vec::new(),
        }
    }
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            cache_bytes: 256 << 20,
            policy: None,
            model: None,
            gc: GcMode::On,
            checkpoint_secs: 30,
            deadline_us: 20_000,
            writeback: true,
            threads: None,
            heads: None,
            trust_max: TrustMax::Recommendation,
            advise: Advise::Both,
            learn: Learn::Off,
            watch: None,
            library: None,
            run_as: None,
            kernel: KernelFlags::default(),
            remount: false,
            supervise: None,
        }
    }
}

impl MountOptions {
    /// Reads any number of comma-separated lists, in order.
    pub fn parse<'a>(lists: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        Self::read(lists, |name| {
            let see = "see gleanfs mount --help for those that exist";
            Err(Failure::new(format_args!("unknown mount option '{name}'; {see}")))
        })
    }

    /// The same, passing over what nobody knows (`-s` of mount(8)).
    pub fn parse_known<'a>(lists: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        Self::read(lists, |_| Ok(()))
    }

    fn read<'a>(lists: impl IntoIterator<Item = &'a str>, unknown: impl Fn(&str) -> Result<()>) -> Result<Self> {
        let mut options = Self::default();
        for word in lists.into_iter().flat_map(split_words) {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            let known = options.take_ours(name, value)?
                || options.take_generic(name, value)?
                || options.take_label(name, word)
                || is_for_others(name)
                || is_the_kernels(name);
            if !known {
                unknown(name)?;
            }
        }
        Ok(options)
    }

    fn take_ours(&mut self, name: &str, value: Option<&str>) -> Result<bool> {
        match name {
            "cache" => self.cache_bytes = size(name, value, 4 << 20)?,
            "policy" => self.policy = Some(needed(name, value)?.to_owned()),
            "model" => self.model = Some(needed(name, value)?.into()),
            "watch" => self.watch = Some(needed(name, value)?.into()),
            "library" => self.library = Some(needed(name, value)?.into()),
            "setuid" => self.run_as = Some(needed(name, value)?.to_owned()),
            "gc" => {
                self.gc = choice(name, value, &[("on", GcMode::On), ("off", GcMode::Off), ("sync", GcMode::Sync)])?;
            }
            "checkpoint" => self.checkpoint_secs = number(name, value, 1, 86_400)?,
            "deadline" => self.deadline_us = number(name, value, 1, 60_000_000)?,
            "supervise" => {
                self.supervise = match value {
                    Some("off") => None,
                    None => Some(DEATHS_MAX),
                    Some(_) => Some(number(name, value, 1, 1_000_000)?),
                }
            }
            "writeback" => self.writeback = choice(name, value, &[("on", true), ("off", false)])?,
            "threads" => self.threads = Some(number(name, value, 1, 256)? as u16),
            "heads" => self.heads = Some(number(name, value, 1, 15)? as u8),
            "advise" => {
                let choices = [("both", Advise::Both), ("placement", Advise::Placement), ("victims", Advise::Victims)];
                self.advise = choice(name, value, &choices)?;
            }
            "learn" => {
                let choices = [("off", Learn::Off), ("shadow", Learn::Shadow), ("on", Learn::On)];
                self.learn = choice(name, value, &choices)?;
            }
            "trust" => {
                self.trust_max = choice(
                    name,
                    value,
                    &[
                        ("fallback", TrustMax::Fallback),
                        ("learning", TrustMax::Learning),
                        ("collaboration", TrustMax::Collaboration),
                        ("recommendation", TrustMax::Recommendation),
                        ("forced", TrustMax::Forced),
                    ],
                )?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_generic(&mut self, name: &str, value: Option<&str>) -> Result<bool> {
        let kernel = &mut self.kernel;
        match name {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "remount" => self.remount = true,
            "suid" => kernel.suid = true,
            "nosuid" => kernel.suid = false,
            "dev" => kernel.dev = true,
            "nodev" => kernel.dev = false,
            "exec" => kernel.exec = true,
            "noexec" => kernel.exec = false,
            "sync" => kernel.sync = true,
            "async" => kernel.sync = false,
            "dirsync" => kernel.dirsync = true,
            "atime" | "relatime" | "nostrictatime" => kernel.atime = Atime::Relatime,
            "strictatime" | "norelatime" => kernel.atime = Atime::Strictatime,
            "noatime" => kernel.atime = Atime::Noatime,
            "diratime" => kernel.diratime = true,
            "nodiratime" => kernel.diratime = false,
            "lazytime" => kernel.lazytime = true,
            "nolazytime" => kernel.lazytime = false,
            "allow_other" => kernel.allow_other = Some(true),
            "default_permissions" => kernel.default_permissions = true,
            "defaults" => {
                *kernel = KernelFlags { labels: std::mem::take(&mut kernel.labels), ..KernelFlags::default() }
            }
            // mount(8): these imply the three restrictions, which later words may lift again.
            "user" | "users" | "owner" | "group" => {
                (kernel.suid, kernel.dev, kernel.exec) = (false, false, false);
                return Ok(true);
            }
            _ => return Ok(false),
        }
        match value {
            None => Ok(true),
            Some(_) => Err(Failure::new(format_args!("mount option '{name}' takes no value; write just {name}"))),
        }
    }

    fn take_label(&mut self, name: &str, word: &str) -> bool {
        let label = matches!(name, "context" | "fscontext" | "defcontext" | "rootcontext");
        if label {
            self.kernel.labels.push(word.to_owned());
        }
        label
    }
}

/// Splits at commas that stand outside double quotes (SELinux labels contain commas).
fn split_words(list: &str) -> Vec<&str> {
    let mut quoted = false;
    list.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .map(str::trim)
    .filter(|word| !word.is_empty())
    .collect()
}

/// What fstab, systemd and mount(8) write for themselves, and what older FUSE helpers took that is always so here.
fn is_for_others(name: &str) -> bool {
    const IGNORED: [&str; 18] = [
        "_netdev",
        "nofail",
        "auto",
        "noauto",
        "nouser",
        "nousers",
        "noowner",
        "nogroup",
        "comment",
        "loop",
        "silent",
        "loud",
        "mand",
        "nomand",
        "iversion",
        "noiversion",
        "_rnetdev",
        "uhelper",
    ];
    name.starts_with("x-") || name.starts_with("X-") || IGNORED.contains(&name)
}

/// What the kernel adds to the options of a FUSE mount. mount(8) reads them from the mount table and hands them back on a remount.
fn is_the_kernels(name: &str) -> bool {
    matches!(
        name,
        "fd" | "rootmode" | "user_id" | "group_id" | "max_read" | "blksize" | "fsname" | "subtype" | "seclabel"
    )
}

fn needed<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str> {
    match value {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(Failure::new(format_args!("mount option '{name}' needs a value: {name}=..."))),
    }
}

fn size(name: &str, value: Option<&str>, least: u64) -> Result<u64> {
    let Size(bytes) =
        needed(name, value)?.parse().map_err(|why| Failure::new(format_args!("mount option '{name}': {why}")))?;
    if bytes < least {
        return Err(Failure::new(format_args!("mount option '{name}': at least {} is needed", Size(least))));
    }
    Ok(bytes)
}

fn number(name: &str, value: Option<&str>, least: u32, most: u32) -> Result<u32> {
    let text = needed(name, value)?;
    text.parse::<u32>().ok().filter(|number| (least..=most).contains(number)).ok_or_else(|| {
        Failure::new(format_args!("mount option '{name}': '{text}' is not a whole number from {least} to {most}"))
    })
}

fn choice<T: Copy>(name: &str, value: Option<&str>, choices: &[(&str, T)]) -> Result<T> {
    let text = needed(name, value)?;
    choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice).ok_or_else(|| {
        let words = choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        Failure::new(format_args!("mount option '{name}': '{text}' is none of {words}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> MountOptions {
        MountOptions::parse([list]).unwrap()
    }

    fn refused(list: &str) -> String {
        MountOptions::parse([list]).unwrap_err().message
    }

    #[test]
    fn nothing_given_is_the_default() {
        assert_eq!(MountOptions::parse([]).unwrap(), MountOptions::default());
        assert_eq!(parse("defaults"), MountOptions::default());
        assert_eq!(parse(",,rw,"), MountOptions::default());
    }

    #[test]
    fn what_the_mount_table_shows_is_taken_back_on_a_remount() {
        let shown = "rw,relatime,user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576,remount,ro";
        let options = parse(shown);
        assert!(options.remount && options.read_only);
    }

    #[test]
    fn our_options_are_read() {
        let options = parse("cache=64M,policy=greedy,model=/m.onnx,gc=sync,checkpoint=5,deadline=500");
        assert_eq!(options.cache_bytes, 64 << 20);
        assert_eq!(options.policy.as_deref(), Some("greedy"));
        assert_eq!(options.model, Some(PathBuf::from("/m.onnx")));
        assert_eq!((options.gc, options.checkpoint_secs, options.deadline_us), (GcMode::Sync, 5, 500));
        let options = parse("writeback=off,threads=3,heads=6,trust=learning,watch=/w,library=/l.so,ro");
        assert_eq!((options.writeback, options.threads, options.heads), (false, Some(3), Some(6)));
        assert_eq!(options.trust_max, TrustMax::Learning);
        assert_eq!((options.watch, options.library), (Some("/w".into()), Some("/l.so".into())));
        assert!(options.read_only);
        assert_eq!((parse("noatime").learn, parse("learn=on").learn), (Learn::Off, Learn::On));
        assert_eq!(parse("setuid=someone").run_as.as_deref(), Some("someone"));
        let supervise = |list| parse(list).supervise;
        assert_eq!((supervise("supervise"), supervise("supervise=7,ro")), (Some(DEATHS_MAX), Some(7)));
        assert_eq!(supervise("supervise,supervise=off"), None);
        let options = parse("trust=forced,advise=victims");
        assert_eq!((options.trust_max, options.advise), (TrustMax::Forced, Advise::Victims));
    }

    #[test]
    fn generic_flags_are_kept_and_the_last_word_wins() {
        let options =
            parse("ro,nosuid,nodev,noexec,noatime,nodiratime,sync,dirsync,lazytime,allow_other,rw,suid,remount");
        let kernel = &options.kernel;
        assert!(!options.read_only && options.remount && kernel.suid && !kernel.dev && !kernel.exec);
        assert!(kernel.sync && kernel.dirsync && kernel.lazytime && !kernel.diratime);
        assert_eq!((kernel.atime, kernel.allow_other), (Atime::Noatime, Some(true)));
        assert!(!parse("user").kernel.exec);
        assert!(parse("user,exec").kernel.exec);
    }

    #[test]
    fn what_is_for_mount_itself_is_passed_over() {
        let for_others = "_netdev,nofail,noauto,x-systemd.automount,x-gvfs-show,X-mount.mkdir=0755,comment=hi,loop";
        assert_eq!(parse(for_others), MountOptions::default());
    }

    #[test]
    fn a_label_with_a_comma_in_quotes_is_one_word() {
        let options = parse("context=\"system_u:object_r:tmp_t:s0:c127,c456\",noexec");
        assert_eq!(options.kernel.labels, ["context=\"system_u:object_r:tmp_t:s0:c127,c456\""]);
        assert!(!options.kernel.exec);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(refused("ro,frob"), "unknown mount option 'frob'; see gleanfs mount --help for those that exist");
        assert_eq!(refused("gc=maybe"), "mount option 'gc': 'maybe' is none of on, off, sync");
        assert_eq!(refused("cache=12"), "mount option 'cache': at least 4M is needed");
        assert_eq!(refused("model="), "mount option 'model' needs a value: model=...");
        assert_eq!(refused("setuid"), "mount option 'setuid' needs a value: setuid=...");
        assert_eq!(refused("threads=0"), "mount option 'threads': '0' is not a whole number from 1 to 256");
        assert_eq!(refused("ro=1"), "mount option 'ro' takes no value; write just ro");
        assert!(refused("cache=lots").contains("'lots' is not a size"));
    }
}
