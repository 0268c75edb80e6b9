//! `gleanfs demo`: the whole of gleanfs in one command, on a real mount.
//!
//! Everything is done by this very program started again (`mkfs`, `mount`, `ctl`, `model`, `umount`, `fsck`), so what is shown is what
//! users get. The same load runs on fresh images under greedy without separation, under the best fixed rules, with the model in charge, and with the model
//! having to earn its trust. Whatever was set up is
//! taken down by guards on the stack, after an interrupt and after a failure too.

mod blocks;
mod image;
mod library;
mod load;
mod measure;
mod overwrite;
mod place;
mod swap;
mod table;
mod tree;
mod watch;

use std::path::PathBuf;
use std::time::Instant;

use super::bench::process;
use super::failure::{Failure, Result};
use super::size::Size;
use image::Image;
use load::{Scale, Side};
use measure::Measured;
use place::Place;

/// Show gleanfs at work: make an image, mount it, load it, verify everything, compare the model with greedy.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A tree of real files is copied in and compared; a large file then fills the image and is overwritten in blocks of 4 KiB, a few of
them most of the time, which keeps the cleaner busy. The very same writes go to fresh images: under greedy; under the best fixed rules
(trust=fallback); with the model in charge from the start (trust=forced), where towards the end it is swapped for one that knows
nothing, and back; and as mounted without a word, where the model has to earn its trust. Every block is verified after a remount, and fsck has the last
word. Takes root, or FUSE for users; exit status 77 where neither is there.

With --controls the model also runs with greedy victims, and a copy of it whose answers go to the wrong rows runs in its place, with
the rule's victims and with greedy ones: what the model gains over greedy must be lost with the copy. Exit status 1 if it is not.

The images are made in the directory for temporary files (TMPDIR, else /tmp, else /var/tmp) and removed at the end.

Examples:
  gleanfs demo
  gleanfs demo --short                 half a minute, for a first look
  gleanfs demo --keep ~/gleanfs        leaves image and mount to play with
  gleanfs demo --size 4G --seconds 300")]
pub struct Args {
    /// Size of the image [default: 512M, 128M with --short]
    #[arg(long)]
    size: Option<Size>,
    /// Seconds of overwriting under greedy; the others get the very same writes [default: 15, 4 with --short]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// A small image and a short load
    #[arg(long)]
    short: bool,
    /// Work in this directory and leave image and mount there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Seed of the load
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Compare with a row-shuffled copy of the model too, instead of earned trust
    #[arg(long)]
    controls: bool,
    /// Do not fetch the ONNX Runtime library if it is missing
    #[arg(long)]
    offline: bool,
}

/// Smallest image in which the load makes sense.
const SIZE_MIN: u64 = 96 << 20;

pub fn run(arguments: &Args) -> Result<()> {
    process::take_interrupts();
    let scale = scale(arguments)?;
    let began = Instant::now();
    let place = Place::prepare(arguments.keep.as_deref(), scale.image_bytes)?;
    let with_model = library::provide(!arguments.offline);
    let tree = tree::Manifest::choose(&scale, &place)?;
    println!("files: {} ({}, {})", tree.source(), count(tree.files() as u64), Size(tree.bytes()));

    let mut measured: Vec<Measured> = Vec::new();
    let mut last: Option<Image> = None;
    for side in sides(&place, with_model, arguments.controls)? {
        if let Some(image) = last.take() {
            image.remove()?;
        }
        let (came_to, image) = measure::one_side(&side, &scale, &tree, measured.first())?;
        measured.push(came_to);
        last = Some(image);
    }
    print!("\n{}", table::compare(&measured));
    println!("\n{}", table::verdict(&measured, began.elapsed()));
    if let Some(image) = last {
        conclude(&place, image)?;
    }
    if arguments.controls { table::judge_controls(&measured) } else { Ok(()) }
}

/// Those that are compared, the yardstick first. The image of the last may be kept.
fn sides(place: &Place, with_model: bool, controls: bool) -> Result<Vec<Side>> {
    let mut sides = vec![Side::greedy(place), Side::rule(place)];
    if !with_model && controls {
        return Err(Failure::with_status("--controls needs the ONNX Runtime library", place::STATUS_SKIPPED));
    }
    if with_model {
        sides.push(Side::model(place));
    }
    if controls {
        swap::write_control(&place.model_file())?;
        sides.extend([Side::placement(place), Side::shuffled(place)]);
        sides.extend([Side::model_greedy(place), Side::shuffled_greedy(place)]);
    } else {
        sides.push(Side::earned(place));
    }
    Ok(sides)
}

fn scale(arguments: &Args) -> Result<Scale> {
    let (size, seconds) = if arguments.short { (128 << 20, 4) } else { (512 << 20, 15) };
    let image_bytes = arguments.size.map_or(size, |size| size.0);
    if image_bytes < SIZE_MIN {
        let (size, least) = (Size(image_bytes), Size(SIZE_MIN));
        return Err(Failure::new(format_args!("--size {size}: the load needs an image of at least {least}")));
    }
    Ok(Scale { image_bytes, seconds: arguments.seconds.unwrap_or(seconds), seed: arguments.seed })
}

fn conclude(place: &Place, image: Image) -> Result<()> {
    if place.is_kept() {
        let (image, mount_point) = image.keep();
        print!("{}", kept(&image.display().to_string(), &mount_point.display().to_string()));
        return Ok(());
    }
    image.remove()
}

fn kept(image: &str, mount_point: &str) -> String {
    format!(
        "\nThe image is {image}, mounted at {mount_point}. To try:\n  \
         gleanfs ctl {mount_point} status\n  gleanfs model list {mount_point}\n  gleanfs ctl {mount_point} policy greedy/none\n  \
         gleanfs umount {mount_point}\n  gleanfs fsck {image}\n"
    )
}

/// A number as people write it: `1,234,567`.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn commands_to_try_name_image_and_mount() {
        let text = kept("/d/gleanfs.img", "/d/mnt");
        assert!(text.contains("gleanfs umount /d/mnt\n") && text.contains("gleanfs fsck /d/gleanfs.img\n"));
    }
}
