//! The table of unsafe code in `fs/DESIGN.md` says where all of it is, and how much.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Unsafe blocks, functions and implementations in a text.
fn count(text: &str) -> usize {
    ["{", "fn", "impl"].into_iter().map(|what| text.matches(&format!("unsafe {what}")).count()).sum()
}

/// What there is, by file. Tests make system calls of their own and are not the program.
fn found() -> BTreeMap<String, usize> {
    let mut files = Vec::new();
    for room in ["fs/src", "gc/src", "gc/examples", "xtests/src"] {
        sources(&top().join(room), &mut files);
    }
    let counted = files.into_iter().map(|path| (path.clone(), count(&std::fs::read_to_string(path).unwrap())));
    let name = |path: PathBuf| path.strip_prefix(top()).unwrap().display().to_string();
    counted.filter(|(_, count)| *count > 0).map(|(path, count)| (name(path), count)).collect()
}

/// What the table says: rows of a file in backquotes, a count, and a reason.
fn listed() -> BTreeMap<String, usize> {
    let design = std::fs::read_to_string(top().join("fs/DESIGN.md")).unwrap();
    let rows = design.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, file, count, why, _] = cells[..] else { return None };
        let file = file.strip_prefix('`')?.strip_suffix(".rs`")?;
        assert!(!why.is_empty(), "{file}.rs has unsafe code without a reason");
        Some((format!("{file}.rs"), count.parse().ok()?))
    });
    rows.collect()
}

#[test]
fn the_table_of_unsafe_code_is_true() {
    assert_eq!(listed(), found(), "on the left what fs/DESIGN.md lists, on the right what there is");
}

#[test]
fn unsafe_code_is_seen() {
    let text = ["uns", "afe { a } uns", "afe fn b() uns", "afe impl C"].concat();
    assert_eq!(count(&text), 3);
    assert!(found().len() > 10);
}
