//! What the two sides came to, beside each other.

use std::fmt::Write;
use std::time::Duration;

use super::count;
use super::measure::Measured;
use crate::control::status::Placements;
use crate::types::BLOCK_SIZE;

/// Share of the load from which on things are taken to be steady.
const STEADY_FROM: f64 = 0.5;
const NAME_WIDTH: usize = 30;

/// A table of two columns.
pub fn compare(model: &Measured, greedy: &Measured) -> String {
    let mut rows = vec![
        row("", |m| m.name.to_owned(), model, greedy),
        row("fallback policy", |m| m.policy.clone(), model, greedy),
        row("write amplification", |m| ratio(m, 0.0, 1.0), model, greedy),
        row("  over the second half", |m| ratio(m, STEADY_FROM, 1.0), model, greedy),
    ];
    if let Some(swapped) = model.swapped {
        rows.push(row("  while the other model was in", |m| ratio(m, swapped.from, swapped.to), model, greedy));
    }
    rows.extend([
        row("segments cleaned", |m| count(m.work.iter().map(|work| work.segments).sum()), model, greedy),
        row("  decided by", deciders, model, greedy),
        row("blocks moved", |m| count(moved(m)), model, greedy),
        row("log heads chosen by", placers, model, greedy),
        row("throughput", throughput, model, greedy),
        row("longest stall", |m| time(m.written.latencies_us.last().copied()), model, greedy),
        row("99.9 % of writes within", |m| time(quantile(&m.written.latencies_us, 0.999)), model, greedy),
        row("half of writes within", |m| time(quantile(&m.written.latencies_us, 0.5)), model, greedy),
    ]);
    rows_as_text(&rows)
}

type Row = [String; 3];

fn row(name: &str, cell: impl Fn(&Measured) -> String, model: &Measured, greedy: &Measured) -> Row {
    [name.to_owned(), cell(model), cell(greedy)]
}

fn rows_as_text(rows: &[Row]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (second, third) = (width(1), width(2));
    let mut text = String::new();
    for [name, a, b] in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<NAME_WIDTH$}  {a:>second$}  {b:>third$}");
    }
    text
}

fn ratio(measured: &Measured, from: f64, to: f64) -> String {
    measured.timeline.amplification(from, to).map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"))
}

fn moved(measured: &Measured) -> u64 {
    measured.work.iter().map(|work| work.moved_blocks).sum()
}

fn deciders(measured: &Measured) -> String {
    let parts = measured.work.iter().filter(|work| work.segments > 0);
    let parts: Vec<String> = parts.map(|work| format!("{} {}", work.decider, count(work.segments))).collect();
    if parts.is_empty() { "-".into() } else { parts.join(", ") }
}

/// Who chose log heads, in percent of all blocks that were written and moved.
fn placers(measured: &Measured) -> String {
    let blocks = |placed: &Placements| placed.user_blocks + placed.moved_blocks;
    let all: u64 = measured.placed.iter().map(blocks).sum();
    let parts = measured.placed.iter().filter(|placed| blocks(placed) > 0);
    let parts: Vec<String> = parts.map(|p| format!("{} {} %", p.decider, (100 * blocks(p) + all / 2) / all)).collect();
    if parts.is_empty() { "-".into() } else { parts.join(", ") }
}

/// The model's share of all decisions on placement, in percent.
fn model_percent(measured: &Measured) -> u64 {
    let blocks = |placed: &Placements| placed.user_blocks + placed.moved_blocks;
    let all: u64 = measured.placed.iter().map(blocks).sum();
    let by_model: u64 = measured.placed.iter().filter(|placed| placed.decider == "model").map(blocks).sum();
    100 * by_model / all.max(1)
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

/// What it comes to, in two sentences; everything has been verified when this is asked.
pub fn verdict(model: &Measured, greedy: &Measured, took: Duration) -> String {
    let blocks = count(u64::from(model.large_blocks));
    let overwrites = count(model.written.total());
    let verified = format!(
        "Verified on both sides: {} files and {blocks} blocks after {overwrites} overwrites; fsck clean. {:.0} s in all.",
        count(model.files as u64),
        took.as_secs_f64()
    );
    let amplification = |measured: &Measured| measured.timeline.amplification(STEADY_FROM, 1.0).unwrap_or(f64::NAN);
    let (ours, theirs) = (amplification(model), amplification(greedy));
    let less = 100.0 * (1.0 - ours / theirs);
    let change = if less >= 0.0 { format!("{less:.0} % less") } else { format!("{:.0} % more", -less) };
    format!("{verified}\n{}, gleanfs wrote {change} to the device than under greedy.", decided(model))
}

fn decided(model: &Measured) -> String {
    match model_percent(model) {
        0 => format!("Over the second half, {} deciding without a model", model.policy),
        percent => format!("Over the second half, the model having placed {percent} % of all blocks"),
    }
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
    fn both_sides_stand_beside_each_other() {
        let text = compare(&measured("gleanfs", 150, 12), &measured("greedy", 300, 0));
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
        assert!(
            line("write amplification").contains("1.50") && line("write amplification").ends_with("3.00"),
            "{text}"
        );
        assert!(line("decided by").contains("model 12, fallback 4 "), "{text}");
        assert!(line("blocks moved").ends_with("40") && line("longest stall").ends_with("100 us"), "{text}");
        assert!(!text.contains("other model"));
    }

    #[test]
    fn the_verdict_says_who_decided_and_what_it_gained() {
        let text = verdict(&measured("gleanfs", 150, 12), &measured("greedy", 300, 0), Duration::from_secs(90));
        assert!(text.contains("placed 75 % of all blocks, gleanfs wrote 50 % less"), "{text}");
        assert!(text.contains("1,234 blocks after 100 overwrites; fsck clean. 90 s"), "{text}");
        let text = verdict(&measured("gleanfs", 330, 0), &measured("greedy", 300, 0), Duration::ZERO);
        assert!(text.contains("without a model, gleanfs wrote 10 % more"), "{text}");
    }

    #[test]
    fn quantiles_are_of_the_values() {
        let sorted: Vec<u32> = (1..=1000).collect();
        assert_eq!((quantile(&sorted, 0.5), quantile(&sorted, 0.999)), (Some(500), Some(999)));
        assert_eq!((quantile(&[7], 0.999), quantile(&[], 0.5)), (Some(7), None));
        assert_eq!([Some(12), Some(3400), Some(2_500_000)].map(time), ["12 us", "3.4 ms", "2.50 s"]);
    }
}
