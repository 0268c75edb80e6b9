//! What the sides came to, beside each other, and who won.

use std::fmt::Write;
use std::time::Duration;

use super::count;
use super::measure::Measured;
use super::swap::SWAP_AT;
use crate::cli::failure::{Failure, Result};
use crate::control::status::Placements;
use crate::types::BLOCK_SIZE;

/// Share of the load from which on things are taken to be steady; up to where the model is swapped they are compared.
const STEADY_FROM: f64 = 0.4;
const NAME_WIDTH: usize = 28;
/// A row-shuffled copy may keep so much of what the model gains over greedy with the same victims: several heads gain a little however they are
/// filled.
const KEPT_MAX: f64 = 0.35;

/// A table with a column for each side.
pub fn compare(sides: &[Measured]) -> String {
    let mut rows = vec![
        row("", |m| m.name.to_owned(), sides),
        row("fixed policy", |m| m.policy.clone(), sides),
        row("write amplification", |m| ratio(m, 0.0, SWAP_AT), sides),
        row("  when steady", |m| ratio(m, STEADY_FROM, SWAP_AT), sides),
    ];
    if sides.iter().any(|m| m.swapped.is_some()) {
        let swapped = |m: &Measured| m.swapped.map_or_else(|| "-".into(), |swapped| ratio(m, swapped.from, swapped.to));
        rows.push(row("  with the other model in", swapped, sides));
    }
    rows.extend([
        row("log heads chosen by model", |m| chosen_by(m, "model"), sides),
        row("  by fixed rule", |m| chosen_by(m, "fallback"), sides),
        row("  in emergency", |m| chosen_by(m, "emergency"), sides),
        row("segments cleaned", |m| count(victims(m)), sides),
        row("  chosen by model", |m| cleaned_by(m, "model"), sides),
        row("  by fixed rule", |m| cleaned_by(m, "fallback"), sides),
        row("  in emergency", |m| cleaned_by(m, "emergency"), sides),
        row("blocks moved", |m| count(moved(m)), sides),
        row("throughput", throughput, sides),
        row("longest stall", |m| time(m.written.latencies_us.last().copied()), sides),
        row("99.9 % of writes within", |m| time(quantile(&m.written.latencies_us, 0.999)), sides),
        row("half of writes within", |m| time(quantile(&m.written.latencies_us, 0.5)), sides),
    ]);
    rows_as_text(&rows)
}

/// A name and the cells.
struct Row(String, Vec<String>);

fn row(name: &str, cell: impl Fn(&Measured) -> String, sides: &[Measured]) -> Row {
    Row(name.to_owned(), sides.iter().map(cell).collect())
}

fn rows_as_text(rows: &[Row]) -> String {
    let columns = rows.first().map_or(0, |row| row.1.len());
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| row.1[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for Row(name, cells) in rows {
        // Writing to a string cannot fail.
        let _ = write!(text, "{name:<NAME_WIDTH$}");
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

fn ratio(measured: &Measured, from: f64, to: f64) -> String {
    measured.timeline.amplification(from, to).map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"))
}

fn moved(measured: &Measured) -> u64 {
    measured.work.iter().map(|work| work.moved_blocks).sum()
}

fn cleaned_by(measured: &Measured, decider: &str) -> String {
    match victims_by(measured, decider) {
        0 => "-".into(),
        segments => count(segments),
    }
}

/// The share of all blocks written and moved of which this decider chose the log head.
fn chosen_by(measured: &Measured, decider: &str) -> String {
    match percent_by(measured, decider) {
        0 => "-".into(),
        percent => format!("{percent} %"),
    }
}

fn victims(measured: &Measured) -> u64 {
    measured.work.iter().map(|work| work.segments).sum()
}

fn victims_by(measured: &Measured, decider: &str) -> u64 {
    measured.work.iter().filter(|work| work.decider == decider).map(|work| work.segments).sum()
}

fn percent_by(measured: &Measured, decider: &str) -> u64 {
    let blocks = |placed: &Placements| placed.user_blocks + placed.moved_blocks;
    let all: u64 = measured.placed.iter().map(blocks).sum();
    let by: u64 = measured.placed.iter().filter(|placed| placed.decider == decider).map(blocks).sum();
    (100 * by + all / 2) / all.max(1)
}

fn throughput(measured: &Measured) -> String {
    let bytes = measured.written.total() as f64 * BLOCK_SIZE as f64;
    format!("{:.1} MiB/s", bytes / measured.written.elapsed.as_secs_f64().max(1e-9) / (1 << 20) as f64)
}

/// The smallest value that `share` of the sorted values do not exceed.
fn quantile(sorted: &[u32], share: f64) -> Option<u32> {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.max(1) - 1).copied()
}

fn time(us: Option<u32>) -> String {
    match us {
        None => "-".into(),
        Some(us @ 0..1000) => format!("{us} us"),
        Some(us @ 1000..1_000_000) => format!("{:.1} ms", f64::from(us) / 1e3),
        Some(us) => format!("{:.2} s", f64::from(us) / 1e6),
    }
}

/// What it comes to; everything has been verified when this is asked.
pub fn verdict(sides: &[Measured], took: Duration) -> String {
    let mut text = String::new();
    if let Some(first) = sides.first() {
        let (files, blocks) = (count(first.files as u64), count(u64::from(first.large_blocks)));
        let (overwrites, seconds) = (count(first.written.total()), took.as_secs_f64());
        let _ = write!(
            text,
            "Verified on every side: {files} files and {blocks} blocks after {overwrites} overwrites; fsck clean. {seconds:.0} s in all."
        );
    }
    let mut claim = |ours: &str, who: &str, other: &str, whom: &str| {
        if let (Some(ours), Some(other)) = (find(sides, ours), find(sides, other)) {
            let (change, placed) = (change(steady(ours), steady(other)), percent_by(ours, "model"));
            let (victims, all) = (count(victims_by(ours, "model")), count(victims(ours)));
            let _ = write!(
                text,
                "\n{who} (heads of {placed} % of all blocks, {victims} of {all} victims): {change} written than {whom}."
            );
        }
    };
    let rule = find(sides, "rule").map_or("the fixed rule", |rule| rule.policy.as_str());
    let rule = format!("under {rule} alone");
    claim("model", "Models in charge", "greedy", "under greedy");
    claim("model", "Models in charge", "rule", &rule);
    claim("placement", "Placement's model in charge", "rule", &rule);
    claim("gleanfs", "gleanfs as mounted by default", "greedy", "under greedy");
    claim("gleanfs", "gleanfs as mounted by default", "rule", &rule);
    claim("shuffled", "Row-shuffled copy in charge", "greedy", "under greedy");
    for (copy, model, victims) in CONTROLS {
        if let Some(kept) = kept(sides, copy, model) {
            let percent = 100.0 * kept;
            let _ = write!(
                text,
                "\nWith {victims} victims the row-shuffled copy keeps {percent:.0} % of what the model gains over greedy."
            );
        }
    }
    text
}

/// A copy, the model that it is compared with, and the victims of both.
const CONTROLS: [(&str, &str, &str); 2] =
    [("shuffled", "placement", "the rule's"), ("shuffled-greedy", "model-greedy", "greedy")];

/// Fails if the model does not win over greedy, or a copy of it that knows nothing keeps the gain.
pub fn judge_controls(sides: &[Measured]) -> Result<()> {
    for (copy, model, victims) in CONTROLS {
        let (Some(greedy), Some(measured)) = (find(sides, "greedy"), find(sides, model)) else { continue };
        if steady(measured) >= steady(greedy) {
            return Err(Failure::new(format_args!("with {victims} victims the model does not win over greedy")));
        }
        if let Some(kept) = kept(sides, copy, model)
            && kept > KEPT_MAX
        {
            let (kept, most) = (100.0 * kept, 100.0 * KEPT_MAX);
            return Err(Failure::new(format_args!(
                "with {victims} victims the row-shuffled copy keeps {kept:.0} % of the gain, more than {most:.0} %"
            )));
        }
    }
    Ok(())
}

/// The part of the model's gain over greedy that the copy has too.
fn kept(sides: &[Measured], copy: &str, model: &str) -> Option<f64> {
    let (greedy, copy, model) = (find(sides, "greedy")?, find(sides, copy)?, find(sides, model)?);
    Some((steady(greedy) - steady(copy)) / (steady(greedy) - steady(model)))
}

fn find<'m>(sides: &'m [Measured], name: &str) -> Option<&'m Measured> {
    sides.iter().find(|measured| measured.name == name)
}

/// Write amplification of the part that is compared.
fn steady(measured: &Measured) -> f64 {
    measured.timeline.amplification(STEADY_FROM, SWAP_AT).unwrap_or(f64::NAN)
}

fn change(ours: f64, theirs: f64) -> String {
    let less = 100.0 * (1.0 - ours / theirs);
    if less >= 0.0 { format!("{less:.1} % less") } else { format!("{:.1} % more", -less) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::overwrite::Written;
    use crate::cli::demo::watch::Timeline;
    use crate::control::Status;
    use crate::control::status::DeciderWork;

    fn measured(name: &'static str, device_blocks: u64, by_model: u64) -> Measured {
        let mut status = Status::default();
        let mut timeline = Timeline::starting_at(&status);
        let written =
            Written { writes: vec![60, 40], latencies_us: (1..=100).collect(), elapsed: Duration::from_secs(1) };
        status.traffic.device_bytes = device_blocks * BLOCK_SIZE as u64;
        timeline.finish(&written, &status);
        let work = |decider: &str, segments| DeciderWork {
            decider: decider.into(),
            segments,
            moved_blocks: 10 * segments,
            ..DeciderWork::default()
        };
        let placed = |decider: &str, user_blocks| Placements { decider: decider.into(), user_blocks, moved_blocks: 0 };
        Measured {
            name,
            policy: "cost-age/sepbit".into(),
            large_blocks: 1234,
            files: 5,
            written,
            timeline,
            work: vec![work("model", by_model), work("fallback", 4), work("emergency", 0)],
            swapped: None,
            placed: vec![placed("model", 3 * by_model), placed("fallback", 12)],
        }
    }

    #[test]
    fn sides_stand_beside_each_other() {
        let text = compare(&[measured("greedy", 300, 0), measured("model", 150, 12)]);
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
        assert!(
            line("write amplification").contains("3.00") && line("write amplification").ends_with("1.50"),
            "{text}"
        );
        assert!(line("chosen by model").ends_with("75 %"), "{text}");
        assert!(line("blocks moved").ends_with("160") && line("longest stall").ends_with("100 us"), "{text}");
        assert!(!text.contains("other model"));
    }

    #[test]
    fn the_verdict_says_who_decided_and_what_it_gained() {
        let sides = [measured("greedy", 300, 0), measured("rule", 140, 0), measured("model", 150, 12)];
        let text = verdict(&sides, Duration::from_secs(90));
        assert!(
            text.contains("heads of 75 % of all blocks, 12 of 16 victims): 50.0 % less written than under greedy"),
            "{text}"
        );
        assert!(text.contains("7.1 % more written than under cost-age/sepbit alone"), "{text}");
        assert!(text.contains("1,234 blocks after 100 overwrites; fsck clean. 90 s"), "{text}");
    }

    #[test]
    fn a_copy_that_keeps_the_gain_is_a_failure() {
        let sides =
            |shuffled| [measured("greedy", 300, 0), measured("placement", 150, 9), measured("shuffled", shuffled, 9)];
        assert!(judge_controls(&sides(290)).is_ok());
        assert!(judge_controls(&sides(200)).unwrap_err().message.contains("keeps 67 % of the gain"));
        let loses = [measured("greedy", 300, 0), measured("placement", 310, 9)];
        assert!(judge_controls(&loses).unwrap_err().message.contains("does not win"));
    }

    #[test]
    fn quantiles_are_of_the_values() {
        let sorted: Vec<u32> = (1..=1000).collect();
        assert_eq!((quantile(&sorted, 0.5), quantile(&sorted, 0.999)), (Some(500), Some(999)));
        assert_eq!((quantile(&[7], 0.999), quantile(&[], 0.5)), (Some(7), None));
        assert_eq!([Some(12), Some(3400), Some(2_500_000)].map(time), ["12 us", "3.4 ms", "2.50 s"]);
    }
}
