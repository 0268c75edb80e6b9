//! Where the ONNX Runtime library comes from.
//!
//! Beside the advisor and independent of it: the answer is a path, the worker loads it. The order
//! is: a path the user names, the variable `GLEANFS_ORT_LIBRARY`, the cache, and last a download of
//! the official Python wheel, pinned by hash, through `pip`. Whatever goes wrong is one line and no
//! reason to stop: the cleaner goes on with its fallback policy.

mod cache;
mod fetch;
mod pins;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use pins::VERSION;

/// Names a library to use instead of the pinned one.
pub const LIBRARY_VARIABLE: &str = "GLEANFS_ORT_LIBRARY";

/// A library that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Library {
    pub path: PathBuf,
    pub origin: Origin,
}

/// How a [`Library`] was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Option,
    Environment,
    Cache,
    Fetched,
}

/// What a fetch is doing; `bytes_done` never exceeds `bytes_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub stage: Stage,
    pub bytes_done: u64,
    pub bytes_total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Downloading,
    Verifying,
    Unpacking,
}

/// Why there is no library, in one line.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("{named_by} names {path}: {why}", path = path.display())]
    Named { named_by: &'static str, path: PathBuf, why: String },
    #[error("ONNX Runtime {VERSION} is not in the cache {cache} and fetching is off; name a library with {LIBRARY_VARIABLE}", cache = cache.display())]
    NotCached { cache: PathBuf },
    #[error("ONNX Runtime {VERSION} has no pinned build for {0}; name a library with {LIBRARY_VARIABLE}")]
    Machine(&'static str),
    #[error("there is no cache folder: neither XDG_CACHE_HOME nor HOME is set to an absolute path")]
    NoCacheFolder,
    #[error("fetching ONNX Runtime {VERSION}: {0}")]
    Fetch(String),
}

/// What the caller allows and wants to see.
#[derive(Default)]
pub struct Request<'a> {
    /// A path given by the user; nothing else is tried then.
    pub explicit: Option<PathBuf>,
    /// Whether to download if nothing else has it.
    pub fetch: bool,
    /// Called now and then during a fetch.
    pub progress: Option<&'a mut dyn FnMut(Progress)>,
}

/// Finds the library, or fetches it if allowed.
pub fn locate(request: Request<'_>) -> Result<Library, RuntimeError> {
    locate_in(request, std::env::var_os(LIBRARY_VARIABLE), cache_root())
}

fn locate_in(request: Request<'_>, variable: Option<OsString>, root: Option<PathBuf>) -> Result<Library, RuntimeError> {
    if let Some(path) = request.explicit {
        return named("the library option", path, Origin::Option);
    }
    if let Some(path) = variable.filter(|v| !v.is_empty()) {
        return named(LIBRARY_VARIABLE, path.into(), Origin::Environment);
    }
    let root = root.ok_or(RuntimeError::NoCacheFolder)?;
    let entry = cache::Entry::new(&root);
    if let Some(path) = entry.verified() {
        return Ok(Library { path, origin: Origin::Cache });
    }
    if !request.fetch {
        return Err(RuntimeError::NotCached { cache: root });
    }
    let pin = pins::for_this_machine().ok_or(RuntimeError::Machine(std::env::consts::ARCH))?;
    let mut silent = |_: Progress| ();
    let progress: &mut dyn FnMut(Progress) = match request.progress {
        Some(progress) => progress,
        None => &mut silent,
    };
    let path = fetch::fetch(pin, &entry, progress).map_err(RuntimeError::Fetch)?;
    Ok(Library { path, origin: Origin::Fetched })
}

fn named(named_by: &'static str, path: PathBuf, origin: Origin) -> Result<Library, RuntimeError> {
    let refuse = |why: String| RuntimeError::Named { named_by, path: path.clone(), why };
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(refuse("not a file".into())),
        Err(e) => return Err(refuse(e.to_string())),
    }
    let path = std::path::absolute(&path).map_err(|e| refuse(e.to_string()))?;
    Ok(Library { path, origin })
}

/// `$XDG_CACHE_HOME` or `~/.cache`, and in it our folder.
fn cache_root() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("gleanfs"))
}

/// SHA-256 of a file, in lower-case hex.
fn sha256_file(path: &Path) -> std::io::Result<String> {
    use sha2::{Digest, Sha256};
    let mut hasher = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(hex(&hasher.finalize()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_library_comes_first_and_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("lib.so");
        std::fs::write(&there, b"x").unwrap();
        let request = |path: &Path| Request { explicit: Some(path.into()), ..Request::default() };
        let found = locate_in(request(&there), Some("/nowhere".into()), None).unwrap();
        assert_eq!((found.path.as_path(), found.origin), (there.as_path(), Origin::Option));
        let found = locate_in(Request::default(), Some(there.clone().into()), None).unwrap();
        assert_eq!(found.origin, Origin::Environment);
        let error = locate_in(request(&dir.path().join("gone")), None, None).unwrap_err().to_string();
        assert!(error.contains("gone") && !error.contains('\n'), "{error}");
        assert!(locate_in(request(dir.path()), None, None).unwrap_err().to_string().contains("not a file"));
    }

    #[test]
    fn without_leave_to_fetch_an_empty_cache_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = locate_in(Request::default(), None, Some(dir.path().into())).unwrap_err();
        assert!(matches!(error, RuntimeError::NotCached { .. }), "{error}");
        assert!(matches!(locate_in(Request::default(), None, None), Err(RuntimeError::NoCacheFolder)));
    }
}
