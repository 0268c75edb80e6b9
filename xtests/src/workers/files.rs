//! Model files for the trials: good ones, and one for each way to be unusable.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gleanfs::proxy::service::SHIPPED;
use gleanfs_gc::advisor::MODEL_BYTES_MAX;
use gleanfs_gc::features::PLACEMENT;

#[allow(dead_code)]
#[path = "../../../gc/tests/support/onnx.rs"]
mod onnx;

use onnx::ModelWriter;

/// The files of one trial.
pub(crate) struct Files {
    directory: PathBuf,
    pub good: [PathBuf; 2],
    pub bad: Vec<Bad>,
    /// A link that the `watch` option names.
    pub watched: PathBuf,
    /// What the `library` option names in the trial of a bad library.
    pub library: PathBuf,
}

/// A file that must be refused.
pub(crate) struct Bad {
    pub name: &'static str,
    pub path: PathBuf,
    /// Whether it gets as far as the advisor, which counts it; what is no file is turned away before.
    pub is_counted: bool,
}

impl Files {
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        let put = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
            let path = directory.join(name);
            std::fs::write(&path, bytes)?;
            Ok(path)
        };
        let good = [put("one.onnx", &linear(0.05).bytes())?, put("other.onnx", &linear(-0.05).bytes())?];
        let mut bad = Vec::new();
        for (name, bytes) in unusable() {
            bad.push(Bad { name, path: put(name, &bytes)?, is_counted: true });
        }
        let folder = directory.join("a directory");
        std::fs::create_dir(&folder)?;
        bad.push(Bad { name: "a directory", path: folder, is_counted: false });
        bad.push(Bad { name: "nothing", path: directory.join("nothing"), is_counted: false });
        let watched = put("watched.onnx", SHIPPED)?;
        let library = put("library.so", b"not a library at all")?;
        Ok(Self { directory: directory.into(), good, bad, watched, library })
    }

    /// Puts a copy of `source` in the place of `path` by a rename, as a careful program does.
    pub(crate) fn replace(&self, path: &Path, source: &Path) -> Result<()> {
        let new = self.directory.join("new");
        std::fs::copy(source, &new).with_context(|| source.display().to_string())?;
        Ok(std::fs::rename(new, path)?)
    }
}

fn names() -> Vec<&'static str> {
    PLACEMENT.iter().map(|feature| feature.name).collect()
}

/// Every feature weighs the same: no good advice, but advice.
fn linear(weight: f32) -> ModelWriter {
    ModelWriter::linear(&names(), &vec![weight; PLACEMENT.len()], 0.0)
}

/// What is wrong, and a file that has it.
fn unusable() -> Vec<(&'static str, Vec<u8>)> {
    let altered = |change: &dyn Fn(&mut ModelWriter)| {
        let mut model = linear(0.05);
        change(&mut model);
        model.bytes()
    };
    // As many units as a file may hold: it takes longer than any deadline of a mount.
    let hidden = (MODEL_BYTES_MAX - 65_536) / 4 / (PLACEMENT.len() + 1);
    let slow = ModelWriter::mlp(&names(), hidden, &vec![0.01; hidden * PLACEMENT.len()], &vec![0.01; hidden]);
    vec![
        ("empty", Vec::new()),
        ("text", b"this is not a model\n".repeat(100)),
        ("truncated", SHIPPED[..SHIPPED.len() / 2].to_vec()),
        ("too large", vec![0; MODEL_BYTES_MAX + 1]),
        ("foreign features", ModelWriter::linear(&["colour", "smell"], &[1.0, 1.0], 0.0).bytes()),
        ("another schema", altered(&|model| model.schema = "2".into())),
        ("for victims", altered(&|model| model.kind = "victim".into())),
        ("another width", altered(&|model| model.input_width += 1)),
        ("another input", altered(&|model| model.input_name = "z".into())),
        ("not a number", linear(f32::NAN).bytes()),
        ("infinite", linear(f32::INFINITY).bytes()),
        ("no such operator", altered(&|model| model.nodes = vec![onnx::node("Gem", &["x", "w", "b"], "y")])),
        ("too slow", slow.bytes()),
    ]
}

#[cfg(test)]
mod tests {
    use gleanfs::proxy::service::rules;
    use gleanfs_gc::advisor::ModelKind;
    use gleanfs_gc::advisor::check_file;

    use super::*;

    #[test]
    fn good_ones_are_well_formed() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::make(directory.path()).unwrap();
        for path in &files.good {
            check_file(&std::fs::read(path).unwrap(), &rules(ModelKind::Placement)).unwrap();
        }
        assert_ne!(std::fs::read(&files.good[0]).unwrap(), std::fs::read(&files.good[1]).unwrap());
    }

    #[test]
    fn what_only_a_run_can_find_passes_the_look_at_the_file() {
        let found: Vec<&str> = unusable()
            .into_iter()
            .filter(|(_, bytes)| check_file(bytes, &rules(ModelKind::Placement)).is_ok())
            .map(|(name, _)| name)
            .collect();
        assert!(found.contains(&"not a number") && found.contains(&"too slow"), "{found:?}");
        assert!(!found.contains(&"truncated"), "{found:?}");
    }
}
