//! A load to record at the size of a test: a small workspace, edited and built a few times; the program `recordings` runs the real ones.

use std::path::Path;

use xtests::recordings;
use xtests::small::{cannot_mount, options};

/// Two crates, of which one uses the other, without dependencies to fetch.
fn write_workspace(directory: &Path) -> std::io::Result<()> {
    let write = |path: &str, text: &str| {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().expect("below the directory"))?;
        std::fs::write(path, text)
    };
    let package = |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
    write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"words\", \"speaker\"]\n")?;
    write("words/Cargo.toml", &package("words"))?;
    write("words/src/lib.rs", "pub fn words() -> &'static str {\n    \"as recorded\"\n}\n")?;
    write("speaker/Cargo.toml", &(package("speaker") + "[dependencies]\nwords = { path = \"../words\" }\n"))?;
    write("speaker/src/main.rs", "fn main() {\n    println!(\"{}\", words::words());\n}\n")
}

#[test]
fn a_workspace_is_edited_and_built_again_until_enough_is_written() {
    if cannot_mount() {
        return;
    }
    let workspace = tempfile::tempdir().expect("a directory for a workspace");
    write_workspace(workspace.path()).expect("a workspace");
    let mut small: recordings::Options =
        options("--only cargo --size-mib 64 --segment-kib 256 --fill 0 --times 2 --secs-max 20");
    small.workspace = Some(workspace.path().into());
    recordings::run(&small).unwrap_or_else(|why| panic!("{why:#}"));
}
