//! The corruption trial: blocks of small images are damaged, one after the other and several at once, and what fsck, mounts, reads, the cleaner and
//! checkpoints make of it is held against the reference.
//!
//! Demanded of every case: fsck ends and names damage to what is needed; a mount refuses with one error or shows, byte for byte, a state that was,
//! but for what answers EIO; what does not depend on the damaged block is there; the filesystem can be written, cleaned and checkpointed, and is
//! no worse afterwards. Never a panic.
//!
//! **The limit of a log.** A chunk behind all that is known to have been flushed may be torn by a crash, and damage to it looks just so: the log
//! ends there. What is *known* are the flushed marks in the chunks that can be read. So the state shown may be an earlier one, but none from before
//! the highest mark that the other chunks hold. In the same way damage to the newest superblock slot looks like its torn write; then the slot before it
//! counts, and any state since is taken. Such cases are counted apart.
//!
//! - `image`: what is damaged, with the states and versions that were. - `uses`: what each block is needed for. - `damage`: the kinds of damage.
//! - `shown`: what a mount shows. - `case`: one damage through all demands. - `tally`: what came of them.

pub mod case;
pub mod damage;
pub mod image;
pub mod shown;
pub mod tally;
pub mod uses;

use damage::{Damage, Kind};
use image::{Image, Shape};
use tally::Tally;

use super::random::Random;
use super::{Failure, guarded};

/// What is tried on one image.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub shape: Shape,
    pub seed: u64,
    /// Operations of the workload.
    pub operations: usize,
    /// Of the cases of single blocks one in so many is run.
    pub one_in: u64,
    /// Cases of several blocks at once.
    pub several: u64,
    /// Only the case of this number.
    pub only: Option<u64>,
}

/// Runs the cases of a plan; `progress` hears how many are done of how many. The first failure ends it, with the number of its case.
pub fn run(plan: &Plan, tally: &mut Tally, progress: &mut dyn FnMut(u64, u64)) -> Result<(), String> {
    let image = guarded(|| Image::build(plan).map_err(|why| Failure::new(0, why)))
        .map_err(|failure| format!("{:?}, seed {}: making the image: {}", plan.shape, plan.seed, failure.what))?;
    let cases = cases(&image, plan);
    tally.images += 1;
    tally.blocks += image.versions.len() as u64;
    for (done, (number, kinds)) in cases.iter().enumerate() {
        let mut random = Random::new(plan.seed.wrapping_mul(1_000_003).wrapping_add(*number));
        let damage = Damage::draw(&image, kinds, &mut random);
        let outcome = guarded(|| case::run(&image, &damage).map_err(|why| Failure::new(0, why)));
        match outcome {
            Ok(outcome) => tally.count(&damage, &outcome),
            Err(failure) => {
                let Plan { shape, seed, operations, .. } = plan;
                return Err(format!(
                    "{shape:?}, seed {seed}, {operations} operations, case {number}: {damage}: {}",
                    failure.what
                ));
            }
        }
        progress(done as u64 + 1, cases.len() as u64);
    }
    Ok(())
}

/// Numbered cases: each kind of damage to each block that was ever written, and the damage of several.
fn cases(image: &Image, plan: &Plan) -> Vec<(u64, Vec<(u64, Kind)>)> {
    let single = image.versions.iter().flat_map(|(addr, versions)| {
        let older = versions.len().saturating_sub(1);
        Kind::of_one().into_iter().chain((0..older).map(Kind::Older)).map(|kind| vec![(*addr, kind)])
    });
    let mut random = Random::new(plan.seed);
    let addresses: Vec<u64> = image.versions.keys().copied().collect();
    let several: Vec<_> = (0..plan.several)
        .map(|_| {
            let count = 2 << random.within(0..6);
            (0..count).map(|_| (*random.pick(&addresses), *random.pick(&Kind::of_one()))).collect()
        })
        .collect();
    let numbered = (0..).zip(single.chain(several));
    let wanted = |(number, kinds): &(u64, Vec<(u64, Kind)>)| match plan.only {
        Some(only) => *number == only,
        None => {
            kinds.len() > 1 || (number ^ plan.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 < (1 << 32) / plan.one_in
        }
    };
    numbered.filter(wanted).collect()
}
