//! The swap towards the end of the load: from the shipped model to one that knows nothing, and back.
//!
//! The other model is the shipped one with the answers dealt to the wrong rows: as fast, as plausible, and worthless. What it costs is what
//! the shipped one earns. A refusal is a line and no reason to stop.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use gleanfs_gc::train::{ModelInfo, shuffled_rows_onnx};

use super::image::Image;
use super::watch::End;
use crate::cli::failure::{About, Failure, Result};
use crate::cli::progress::Bar;
use crate::proxy::service::SHIPPED;

/// Shares of the load at which the models are changed; what is compared lies before ([`super::table`]).
pub const SWAP_AT: f64 = 0.85;
const BACK_AT: f64 = 0.97;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The part of the load, in shares, during which the other model was in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Swapped {
    pub from: f64,
    pub to: f64,
}

/// Swaps and rolls back as the load goes on; `None` if the mount refused, or the load ended before.
pub fn swap(image: &Image, file: &Path, progress: &AtomicU64, total: u64, bar: &Bar, end: &End) -> Option<Swapped> {
    let share = || progress.load(Relaxed) as f64 / total.max(1) as f64;
    let await_share = |wanted: f64| {
        while share() < wanted {
            if end.wait(LOOK_EVERY) {
                return None;
            }
        }
        Some(share())
    };
    await_share(SWAP_AT)?;
    told(bar, "model use", write_control(file).and_then(|()| image.use_model(file)))?;
    let from = share();
    let to = await_share(from + BACK_AT - SWAP_AT)?;
    told(bar, "model rollback", image.roll_back())?;
    Some(Swapped { from, to })
}

fn told(bar: &Bar, what: &str, outcome: Result<String>) -> Option<()> {
    match outcome {
        Ok(line) => bar.line(&format!("  {what}: {line}")),
        Err(why) => {
            bar.line(&format!("  {why}"));
            return None;
        }
    }
    Some(())
}

/// Writes the model that knows nothing to `file`.
pub fn write_control(file: &Path) -> Result<()> {
    std::fs::write(file, control()?).about(file.display())
}

fn control() -> Result<Vec<u8>> {
    let (mlp, info) = gleanfs_gc::train::Mlp::from_onnx(SHIPPED).map_err(Failure::new)?;
    Ok(shuffled_rows_onnx(&mlp, &ModelInfo { name: "shuffled-rows".into(), ..info }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_is_another_model() {
        let control = control().unwrap();
        assert!(control.len() > SHIPPED.len() / 2 && control != SHIPPED);
    }
}
