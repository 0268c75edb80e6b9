//! The ONNX Runtime library: found, or fetched with its progress shown. Without it the demo goes on.

use gleanfs_gc::runtime::{Origin, Progress, Request, Stage, VERSION, locate};

use crate::cli::progress::Bar;

/// Makes the library available to mounts if that is possible, and says in one line what became of it. True if it is there.
pub fn provide(fetch: bool) -> bool {
    let mut bar = None;
    let mut show = |progress: Progress| show(bar.get_or_insert_with(|| Bar::bytes(progress.bytes_total, "")), progress);
    let found = locate(Request { fetch, progress: Some(&mut show), ..Request::default() });
    drop(bar);
    match found {
        Ok(library) => {
            let origin = match library.origin {
                Origin::Option | Origin::Environment => "named by the environment",
                Origin::Cache => "in the cache",
                Origin::Fetched => "fetched, its hash verified",
            };
            println!("ONNX Runtime: {origin}, {}", library.path.display());
            true
        }
        Err(why) => {
            println!("ONNX Runtime: {why}; the fallback policy decides alone");
            false
        }
    }
}

fn show(bar: &Bar, progress: Progress) {
    let doing = match progress.stage {
        Stage::Downloading => "downloading",
        Stage::Verifying => "verifying",
        Stage::Unpacking => "unpacking",
    };
    bar.length(progress.bytes_total);
    bar.at(progress.bytes_done);
    bar.message(format!("{doing} ONNX Runtime {VERSION}"));
}
