//! Learning and applying in one place: what the simulator shows of learning on a volume's own load.

use super::pupil::Pupil;
use crate::features::PlacementRow;
use crate::placement::{DiscardFacts, Ewma, FileClasses, LIFETIME_CLASSES, MoveFacts, Opinions, Placement, WriteFacts};
use crate::train::{TreeOptions, Trees, fit_trees};

use super::{CLASS_WIDTH, COLDEST, SAMPLES_MIN};

/// Placement by trees that are fitted while it works; by the interval rule until there are any.
#[derive(Debug)]
pub struct Online {
    pupil: Pupil,
    trees: Option<Trees>,
    files: FileClasses,
    options: TreeOptions,
}

impl Online {
    pub fn new(seed: u64) -> Self {
        Self { pupil: Pupil::new(seed), trees: None, files: FileClasses::default(), options: TreeOptions::default() }
    }

    fn fit_if_due(&mut self, now: u64) {
        if !self.pupil.is_due(now) {
            return;
        }
        let lessons = self.pupil.lessons(now);
        if lessons.len() >= SAMPLES_MIN {
            let samples: Vec<_> = lessons.iter().map(|lesson| lesson.sample).collect();
            self.trees = Some(fit_trees(&samples, &self.options));
        }
    }

    /// The class by what the trees expect, or by what the rule does.
    fn class(&self, row: &PlacementRow, rule: f32) -> u8 {
        let expected = self.trees.as_ref().map_or(rule, |trees| trees.predict(row));
        class(expected)
    }
}

fn class(expected_log2: f32) -> u8 {
    let coldest = f32::from(LIFETIME_CLASSES - 1);
    ((expected_log2 - COLDEST) / CLASS_WIDTH + coldest).floor().clamp(0.0, coldest) as u8
}

impl Placement for Online {
    fn name(&self) -> &'static str {
        "online"
    }

    fn classes(&self) -> u8 {
        LIFETIME_CLASSES
    }

    fn user_write(&mut self, w: &WriteFacts) -> u8 {
        let row = self.pupil.user_write(w, Opinions::default());
        self.fit_if_due(w.now);
        let class = self.class(&row, Ewma::expects_written(w));
        self.files.class(w, class)
    }

    fn cleaning_write(&mut self, m: &MoveFacts) -> u8 {
        let row = self.pupil.cleaning_write(m, Opinions::default());
        self.class(&row, Ewma::expects_moved(m))
    }

    fn discarded(&mut self, d: &DiscardFacts) {
        self.pupil.discarded(d);
    }

    /// Mostly samples. Of a mount they are the trainer's, not the daemon's.
    fn bytes(&self) -> usize {
        size_of_val(self) + self.pupil.bytes() + self.files.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair;
    use crate::sim::{Geometry, NamedSource, run};
    use crate::victim::CostAgeClass;

    const BLOCKS: u32 = 16_384;

    /// Blocks moved, by a placement of that name or by the one that is given.
    fn moved(load: &str, rule: Result<&str, &mut dyn Placement>) -> u64 {
        let source = load.parse::<NamedSource>().map(|s| s.of(BLOCKS)).unwrap_or_else(|e| panic!("{e}"));
        let geometry = Geometry::garbage(source.live_blocks(BLOCKS), 64, 0.15, 6);
        // What it learns needs some volume writes to be learnt.
        let (mut load, warm, n) = (source.load(BLOCKS, 11), u64::from(BLOCKS) * 12, u64::from(BLOCKS) * 6);
        match rule {
            Ok(name) => {
                let pair::Pair { mut victim, placement } = pair::by_name(name).unwrap_or_else(|e| panic!("{e}"));
                let mut placement = placement.expect("both are named");
                run(geometry, load.as_mut(), placement.as_mut(), victim.as_mut(), warm, n).moved
            }
            Err(placement) => run(geometry, load.as_mut(), placement, &mut CostAgeClass, warm, n).moved,
        }
    }

    #[test]
    fn what_it_learns_beats_every_fixed_rule_where_rules_know_too_little() {
        for (load, share) in [("files", 0.8), ("shifting:0.9/0.1/1.5", 0.97), ("zipf:1", 1.02)] {
            let rules = ["cost-age/sepbit", "cost-age-class/ewma", "cost-age/dac"];
            let best = rules.map(|name| moved(load, Ok(name))).into_iter().min().unwrap_or(0);
            let online = moved(load, Err(&mut Online::new(5)));
            assert!((online as f64) < share * best as f64, "{load}: {online} of {best}");
        }
    }

    #[test]
    fn the_same_load_teaches_the_same() {
        let once = || moved("zipf:1", Err(&mut Online::new(5)));
        assert_eq!(once(), once());
    }

    #[test]
    fn classes_are_steps_of_the_expected_lifetime() {
        assert_eq!([-20.0, -5.9, -5.7, -1.4, 0.1, 0.3, 9.0].map(class), [0, 0, 1, 3, 4, 5, 5]);
        assert_eq!(class(f32::NAN), 0);
    }
}
