//! What is done to an image, and on which mount: sizes, options and the order of writes, the same for all sides.

use std::path::PathBuf;

use super::place::Place;
use crate::types::BLOCK_SIZE;

/// The size of everything.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub image_bytes: u64,
    /// How long the first side overwrites.
    pub seconds: u64,
    pub seed: u64,
}

/// Percent of the image that is in use when overwriting begins. It rises a little, since what is written in single blocks takes
/// more metadata.
const FULL_PERCENT: u64 = 85;

impl Scale {
    /// Bytes of real files.
    pub fn tree_bytes(&self) -> u64 {
        (self.image_bytes / 5).min(128 << 20)
    }

    /// Blocks of the large file, so that with `used_bytes` in use already the image is as full as it should be.
    pub fn large_blocks(&self, used_bytes: u64) -> u32 {
        let wanted = (self.image_bytes * FULL_PERCENT / 100).saturating_sub(used_bytes);
        (wanted / BLOCK_SIZE as u64).min(u64::from(u32::MAX)) as u32
    }
}

/// One of those that are compared.
#[derive(Clone, Debug)]
pub struct Side {
    /// Heads its column of the table.
    pub name: &'static str,
    pub image: PathBuf,
    pub mount_point: PathBuf,
    pub mount_options: String,
    /// Swaps the model towards the end, for the one in this file.
    pub swaps: Option<PathBuf>,
}

impl Side {
    fn new(name: &'static str, mount_options: String, place: &Place) -> Self {
        Self { name, image: place.image(name), mount_point: place.mount_point(), mount_options, swaps: None }
    }

    /// The yardstick: the emptiest segment is cleaned, and nothing is kept apart.
    pub fn greedy(place: &Place) -> Self {
        Self::new("greedy", "policy=greedy/none,trust=fallback".into(), place)
    }

    /// The best fixed rules that there are, without a model.
    pub fn rule(place: &Place) -> Self {
        Self::new("rule", "trust=fallback".into(), place)
    }

    /// The models in charge from their first answer on, of heads and of victims.
    pub fn model(place: &Place) -> Self {
        Self { swaps: Some(place.model_file()), ..Self::new("model", "trust=forced".into(), place) }
    }

    /// gleanfs as it is mounted without a word: the model has to earn its trust.
    pub fn earned(place: &Place) -> Self {
        Self::new("gleanfs", String::new(), place)
    }

    /// The model of heads alone in charge; here and below, victims are the fixed rule's.
    pub fn placement(place: &Place) -> Self {
        Self::new("placement", "trust=forced,advise=placement".into(), place)
    }

    /// A model that knows nothing in its stead.
    pub fn shuffled(place: &Place) -> Self {
        Self::new("shuffled", format!("trust=forced,advise=placement,model={}", place.model_file().display()), place)
    }

    /// The same with greedy victims, so that nothing differs from the yardstick but the heads.
    pub fn shuffled_greedy(place: &Place) -> Self {
        let options =
            format!("policy=greedy/ewma,trust=forced,advise=placement,model={}", place.model_file().display());
        Self::new("shuffled-greedy", options, place)
    }

    /// The model with greedy victims, for comparison with that.
    pub fn model_greedy(place: &Place) -> Self {
        Self::new("model-greedy", "policy=greedy/ewma,trust=forced,advise=placement".into(), place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_large_file_fills_the_image_to_its_mark() {
        let scale = Scale { image_bytes: 512 << 20, seconds: 1, seed: 1 };
        let used = 110 << 20;
        let full = used + u64::from(scale.large_blocks(used)) * 4096;
        assert!(full <= scale.image_bytes * 85 / 100 && full > scale.image_bytes * 84 / 100);
        assert_eq!(scale.large_blocks(1 << 40), 0);
    }
}
