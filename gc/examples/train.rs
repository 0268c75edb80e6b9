//! Writes the feature schema into a directory: `cargo run --release -p gleanfs-gc --example train -- models/`.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: train DIR");
        std::process::exit(2);
    };
    std::fs::write(dir.join("schema.json"), gleanfs_gc::features::schema_json())
}
