//! A mount's status as text for people.

use std::fmt::Write;

use crate::cli::size::Size;
use crate::control::status::{Advisor, Cleaner, Learning, Regret, Segments, Stall, Status, Supervision, Tap, Traffic};
use crate::scrub::{State, Summary};

/// Sections of `name  value` lines; what is not known is a dash.
pub fn text(status: &Status) -> String {
    let mut out = String::new();
    head(&mut out, status);
    traffic(&mut out, &status.traffic);
    segments(&mut out, &status.segments);
    cleaner(&mut out, &status.cleaner);
    advisor(&mut out, "placement", &status.advisor);
    advisor(&mut out, "victims", &status.victim_advisor);
    learning(&mut out, &status.learning);
    for Tap { id, events, dropped } in &status.telemetry {
        line(&mut out, "telemetry", format_args!("ring {id}: {events} events, {dropped} dropped"));
    }
    scrub(&mut out, &status.scrub);
    stalls(&mut out, &status.stalls);
    protection(&mut out, status);
    if let Some(Supervision { watched, deaths, upgrades }) = status.supervision {
        let gone = if watched { "" } else { "; the supervisor is gone" };
        line(&mut out, "supervised", format_args!("{upgrades} upgrades, {deaths} daemons died{gone}"));
    }
    out
}

fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{name:<22}{value}");
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.2}"))
}

fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn head(out: &mut String, status: &Status) {
    line(out, "mount", format_args!("{} on {}", status.source, status.mount_point));
    let label = if status.label.is_empty() { String::new() } else { format!(", label {}", status.label) };
    line(out, "identity", format_args!("{}{label}", status.uuid));
    let mode = if status.read_only { "read-only" } else { "read-write" };
    line(
        out,
        "daemon",
        format_args!("{mode}, pid {}, version {}, up {} s", status.pid, status.version, status.uptime_secs),
    );
    if let Some(why) = &status.latched {
        line(out, "LATCHED READ-ONLY", why);
    }
    let space = &status.space;
    let percent = 100.0 * space.used_bytes as f64 / space.capacity_bytes.max(1) as f64;
    line(
        out,
        "space",
        format_args!("{} of {} used ({percent:.1} %)", Size(space.used_bytes), Size(space.capacity_bytes)),
    );
}

fn traffic(out: &mut String, traffic: &Traffic) {
    line(out, "written by users", Size(traffic.user_bytes));
    let data = Size(traffic.device_data_bytes);
    line(out, "written to device", format_args!("{} (data {data})", Size(traffic.device_bytes)));
    line(out, "read from device", Size(traffic.device_read_bytes));
    let (total, minute) = (ratio(traffic.write_amplification), ratio(traffic.write_amplification_last_minute));
    line(out, "write amplification", format_args!("{total}, last minute {minute}"));
    let Traffic { device_flushes, checkpoints, log_extensions, .. } = traffic;
    line(out, "flushes", device_flushes);
    line(out, "checkpoints", format_args!("{checkpoints}, and {log_extensions} extensions of the log between them"));
}

fn segments(out: &mut String, segments: &Segments) {
    let Segments { total, free, open, sealed, prefree, unusable, .. } = segments;
    let each = Size(segments.segment_bytes);
    line(
        out,
        "segments",
        format_args!(
            "{total} of {each}: {free} free, {open} open, {sealed} sealed, {prefree} prefree, {unusable} unusable"
        ),
    );
    let classes = segments.utilization.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    line(out, "utilization 0..100 %", classes);
}

fn cleaner(out: &mut String, cleaner: &Cleaner) {
    line(out, "cleaner", format_args!("{}, fallback policy {}", cleaner.mode, cleaner.policy));
    let (background, foreground) = (cleaner.background_segments, cleaner.foreground_segments);
    line(out, "segments cleaned", format_args!("{background} in the background, {foreground} in the foreground"));
    line(out, "writers throttled", micros(cleaner.throttled_us));
    for work in &cleaner.deciders {
        let (segments, moved, freed) = (work.segments, work.moved_blocks, work.freed_blocks);
        let name = format!("  by {}", work.decider);
        line(out, &name, format_args!("{segments} segments, {moved} blocks moved, {freed} freed"));
    }
}

fn advisor(out: &mut String, of: &str, advisor: &Advisor) {
    line(out, of, format_args!("trust {}, pressure {}", advisor.trust, advisor.pressure));
    let sha = advisor.model_sha256.as_deref().and_then(|sha| sha.get(..12)).unwrap_or("-");
    line(out, "  model", format_args!("{} ({sha})", advisor.model.as_deref().unwrap_or("none")));
    let pid = advisor.worker_pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
    line(out, "  worker", format_args!("{}{pid}, {} restarts", advisor.worker, advisor.worker_restarts));
    let (p50, p99) = (micros(advisor.latency_p50_us), micros(advisor.latency_p99_us));
    let (made, missed) = (advisor.recommendations, advisor.deadlines_missed);
    let batches = advisor.batches;
    line(
        out,
        "  recommendations",
        format_args!("{made} in {batches} batches, {missed} deadlines missed, p50 {p50}, p99 {p99}"),
    );
    line(out, "  model over fallback", format_args!("{} (cost of its choices)", ratio(advisor.efficiency)));
    if let (Some(cost), Some(fallback)) = (advisor.regret.cost, advisor.regret.fallback_cost) {
        regret(out, &advisor.regret, cost, fallback);
    }
    for placed in &advisor.placements {
        let (user, moved) = (placed.user_blocks, placed.moved_blocks);
        let name = format!("  placed by {}", placed.decider);
        line(out, &name, format_args!("{user} blocks written, {moved} moved"));
    }
}

/// What the model has cost while it was in charge.
fn regret(out: &mut String, regret: &Regret, cost: f64, fallback: f64) {
    line(out, "  moved per written", format_args!("{cost:.3} in charge, {fallback:.3} by the fallback's miniature"));
    let Regret { blocks, percent, debt_blocks, stops, .. } = regret;
    line(
        out,
        "  regret",
        format_args!("{blocks:.0} blocks ({percent:+.2} % of writes), debt {debt_blocks:.0}, stopped {stops} times"),
    );
}

fn learning(out: &mut String, learning: &Learning) {
    let pid = learning.trainer_pid.map_or_else(String::new, |pid| format!(", trainer pid {pid}"));
    line(out, "learning", format_args!("{}{pid}, {} restarts", learning.mode, learning.trainer_restarts));
    if learning.mode == "off" {
        return;
    }
    let Learning { events, events_lost, fits, fit_cpu_ms, samples, .. } = learning;
    line(
        out,
        "  fits",
        format_args!("{fits}, the last to {samples} writes in {fit_cpu_ms} ms; {events} events, {events_lost} lost"),
    );
    let (rule, model) = (ratio(learning.candidate_of_rule), ratio(learning.candidate_of_model));
    let in_charge = ratio(learning.in_charge_of_rule);
    line(
        out,
        "  examined",
        format_args!(
            "candidate {rule} of the rule, {model} of the model, on {} later writes; in charge {in_charge} of the rule",
            learning.examples
        ),
    );
    let Learning { offered, taken, refused, withdrawn, .. } = learning;
    line(out, "  offers", format_args!("{offered}, {taken} taken, {refused} refused, {withdrawn} withdrawn"));
    if let Some(why) = &learning.last_error {
        line(out, "  last error", why);
    }
}

/// What a scrub saw: its state, counts, and the findings that were kept.
pub(super) fn scrub(out: &mut String, scrub: &Summary) {
    let state = match scrub.state {
        State::Never => return line(out, "scrub", "none since the mount"),
        State::Running => format!("running, at {}", scrub.stage),
        State::Stopped => format!("stopped, at {}", scrub.stage),
        State::Done => "done".into(),
        State::Failed => "failed".into(),
    };
    line(out, "scrub", format_args!("{state}: {} read of {} live", Size(scrub.read_bytes), Size(scrub.live_bytes)));
    let Summary { slots, pages, nodes, data_blocks, moved_blocks, .. } = scrub;
    let read =
        format_args!("{data_blocks} data, {nodes} nodes, {pages} table pages, {slots} slots; {moved_blocks} moved");
    line(out, "  blocks", read);
    let Summary { bad_blocks, renewed_blocks, lost_blocks, .. } = scrub;
    line(
        out,
        "  damaged",
        format_args!("{bad_blocks} ({renewed_blocks} renewed from memory), {lost_blocks} lost before"),
    );
    for found in &scrub.findings {
        line(out, "  found", &found.message);
    }
    if scrub.findings_dropped > 0 {
        line(out, "  found", format_args!("and {} more", scrub.findings_dropped));
    }
    if let Some(why) = &scrub.failure {
        line(out, "  failed", why);
    }
}

fn stalls(out: &mut String, stalls: &[Stall]) {
    for (number, stall) in stalls.iter().enumerate() {
        let name = if number == 0 { "longest stalls" } else { "" };
        line(out, name, format_args!("{} {} (at {} s)", micros(stall.duration_us), stall.operation, stall.at_secs));
    }
}

fn protection(out: &mut String, status: &Status) {
    let memory = &status.memory;
    let (cache, most) = (Size(memory.cache_bytes), Size(memory.cache_bytes_max));
    let (resident, locked) = (Size(memory.resident_bytes), Size(memory.locked_bytes));
    line(out, "memory", format_args!("cache {cache} of {most}, resident {resident}, locked {locked}"));
    let protection = &status.protection;
    let (flusher, all) = (yes(protection.io_flusher), yes(protection.memory_locked));
    let score = protection.oom_score_adj;
    line(out, "protection", format_args!("io_flusher {flusher}, memory locked {all}, oom_score_adj {score}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::DeciderWork;

    #[test]
    fn every_section_is_shown() {
        let mut status = Status { source: "disk.img".into(), mount_point: "/mnt".into(), ..Status::default() };
        status.traffic.user_bytes = 3 << 20;
        status.traffic.write_amplification = Some(1.256);
        status.segments.utilization[9] = 42;
        status.cleaner.deciders.push(DeciderWork { decider: "model".into(), segments: 17, ..DeciderWork::default() });
        status.stalls.push(Stall { operation: "write".into(), duration_us: 12_500, at_secs: 9 });
        status.advisor.regret =
            Regret { cost: Some(0.5), fallback_cost: Some(0.475), blocks: 1234.4, ..Regret::default() };
        status.latched = Some("flush failed".into());
        status.scrub = Summary { state: State::Running, bad_blocks: 3, ..Summary::default() };
        let text = text(&status);
        for part in
            ["disk.img on /mnt", "3M", "1.26, last minute -", "0 42\n", "by model", "17 segments", "12.5 ms write"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(text.contains("0.500 in charge, 0.475 by") && text.contains("1234 blocks (+0.00 %"), "{text}");
        assert!(text.contains("flush failed") && text.contains("3 (0 renewed") && text.contains("io_flusher no"));
    }
}
