//! One side of the comparison, from mkfs to the last verified byte.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::count;
use super::image::Image;
use super::load::{Scale, Side};
use super::overwrite::{LargeFile, Until, Written};
use super::swap::{Swapped, swap};
use super::tree::{Copied, Manifest};
use super::watch::{End, Timeline, steps, watch};
use crate::cli::failure::{Failure, Result};
use crate::cli::progress::Bar;
use crate::cli::size::Size;
use crate::control::status::{DeciderWork, Placements};

/// What one side came to.
#[derive(Clone, Debug)]
pub struct Measured {
    pub name: &'static str,
    /// The policy that decides when no model does.
    pub policy: String,
    pub large_blocks: u32,
    pub files: usize,
    pub written: Written,
    pub timeline: Timeline,
    /// Cleaning during the load, by who decided it.
    pub work: Vec<DeciderWork>,
    pub swapped: Option<Swapped>,
    /// Blocks given to log heads during the load, by who chose the head.
    pub placed: Vec<Placements>,
}

/// Runs `side` from nothing. With a `baseline` it gets the very writes that the baseline got. The image stays mounted.
pub fn one_side(side: &Side, scale: &Scale, tree: &Manifest, baseline: Option<&Measured>) -> Result<(Measured, Image)> {
    let options = if side.mount_options.is_empty() { "" } else { " -o " };
    println!("\n{}: mount{options}{}", side.name, side.mount_options);
    let (mut image, made) =
        Image::make(side.image.clone(), side.mount_point.clone(), &side.mount_options, scale.image_bytes)?;
    println!("  mkfs: {made}");
    image.mount()?;
    let copied = copy_tree(&image, tree)?;
    let mut large = fill(&image, scale, baseline)?;
    let until = match baseline {
        Some(baseline) => Until::Writes(baseline.written.writes.clone()),
        None => Until::After(Duration::from_secs(scale.seconds)),
    };
    let measured = overwrite(side, &image, &mut large, &until, tree.files())?;
    verify(&mut image, tree, &copied, &large)?;
    Ok((measured, image))
}

fn copy_tree(image: &Image, tree: &Manifest) -> Result<Copied> {
    let began = Instant::now();
    let to = image.mount_point().join("tree");
    let copied = tree.copy(&to)?;
    tree.verify(&to, &copied)?;
    let (files, seconds) = (count(tree.files() as u64), began.elapsed().as_secs_f64());
    println!("  {files} files copied in and compared, {seconds:.1} s");
    Ok(copied)
}

fn fill(image: &Image, scale: &Scale, baseline: Option<&Measured>) -> Result<LargeFile> {
    let began = Instant::now();
    image.sync()?;
    let used = image.status()?.space.used_bytes;
    let blocks = baseline.map_or_else(|| scale.large_blocks(used), |baseline| baseline.large_blocks);
    if blocks < 1024 {
        let (used, size) = (Size(used), Size(scale.image_bytes));
        return Err(Failure::new(format_args!("{used} of {size} used by the files: no room left for the load")));
    }
    let large = LargeFile::create(&image.mount_point().join("large"), blocks, scale.seed)?;
    image.sync()?;
    let (used, seconds) = (image.status()?.space.used_bytes, began.elapsed().as_secs_f64());
    let percent = 100.0 * used as f64 / scale.image_bytes as f64;
    println!("  a large file of {} brings it to {percent:.0} % full, {seconds:.1} s", Size(u64::from(blocks) * 4096));
    Ok(large)
}

fn overwrite(side: &Side, image: &Image, large: &mut LargeFile, until: &Until, files: usize) -> Result<Measured> {
    let before = image.status()?;
    let mut timeline = Timeline::starting_at(&before);
    let (written, swapped) = under_watch(side, image, large, until, &mut timeline)?;
    image.sync()?;
    let status = image.status()?;
    if let Some(why) = &status.latched {
        return Err(Failure::new(format_args!("the mount turned itself read-only: {why}")));
    }
    timeline.finish(&written, &status);
    let (writes, seconds) = (count(written.total()), written.elapsed.as_secs_f64());
    println!("  {writes} blocks of it overwritten at random, {seconds:.1} s");
    if side.mount_options.is_empty() {
        let ratio = status.advisor.efficiency.map_or_else(|| "not judged".into(), |ratio| format!("{ratio:.3}"));
        println!("  trust: {}; cost of the model's choices over the rule's: {ratio}", timeline.trust_levels());
    }
    Ok(Measured {
        name: side.name,
        policy: status.cleaner.policy.clone(),
        large_blocks: large.blocks(),
        files,
        written,
        timeline,
        work: difference(&before.cleaner.deciders, &status.cleaner.deciders),
        swapped,
        placed: placed_between(&before.advisor.placements, &status.advisor.placements),
    })
}

fn under_watch(
    side: &Side,
    image: &Image,
    large: &mut LargeFile,
    until: &Until,
    timeline: &mut Timeline,
) -> Result<(Written, Option<Swapped>)> {
    let (progress, end) = (AtomicU64::new(0), End::default());
    let total = steps(until);
    let bar = Bar::live(total, "overwriting");
    std::thread::scope(|scope| {
        scope.spawn(|| watch(image, timeline, until, &progress, &bar, &end));
        let swapping = side.swaps.as_ref().map(|file| scope.spawn(|| swap(image, file, &progress, total, &bar, &end)));
        let written = large.overwrite(until, &progress);
        end.announce();
        let swapped = swapping.and_then(|swapping| swapping.join().expect("the swap does not panic"));
        written.map(|written| (written, swapped))
    })
}

fn difference(before: &[DeciderWork], after: &[DeciderWork]) -> Vec<DeciderWork> {
    let work = |now: &DeciderWork| {
        let then = before.iter().find(|then| then.decider == now.decider).cloned().unwrap_or_default();
        DeciderWork {
            decider: now.decider.clone(),
            segments: now.segments - then.segments,
            moved_blocks: now.moved_blocks - then.moved_blocks,
            freed_blocks: now.freed_blocks - then.freed_blocks,
        }
    };
    after.iter().map(work).collect()
}

fn placed_between(before: &[Placements], after: &[Placements]) -> Vec<Placements> {
    let blocks = |now: &Placements| {
        let then = before.iter().find(|then| then.decider == now.decider).cloned().unwrap_or_default();
        Placements {
            decider: now.decider.clone(),
            user_blocks: now.user_blocks - then.user_blocks,
            moved_blocks: now.moved_blocks - then.moved_blocks,
        }
    };
    after.iter().map(blocks).collect()
}

/// Unmounts, checks, mounts again and compares everything with what was written.
fn verify(image: &mut Image, tree: &Manifest, copied: &Copied, large: &LargeFile) -> Result<()> {
    let began = Instant::now();
    image.unmount()?;
    let found = image.fsck()?;
    println!("  unmounted; fsck: {found}");
    image.mount()?;
    tree.verify(&image.mount_point().join("tree"), copied)?;
    large.verify()?;
    println!("  mounted again, every file and block verified, {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_work_of_the_load_counts() {
        let work =
            |decider: &str, segments| DeciderWork { decider: decider.into(), segments, ..DeciderWork::default() };
        let found = difference(&[work("fallback", 3)], &[work("model", 2), work("fallback", 10)]);
        assert_eq!(found, [work("model", 2), work("fallback", 7)]);
    }
}
