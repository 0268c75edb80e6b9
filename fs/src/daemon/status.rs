//! A snapshot of a mount for `ctl status`.

use std::sync::atomic::Ordering::Relaxed;

use gleanfs_gc::advisor::ModelKind;

use crate::cleaner::{Pressure, Work};
use crate::control::Status;
use crate::control::status::{
    Advisor, Cleaner, DeciderWork, Memory, Placements, Protection, Regret, Segments, Space, Tap, Traffic,
};
use crate::meta::volume::PlacedBlocks;
use crate::types::BLOCK_SIZE;

use super::protect::process_bytes;
use super::{Cleaning, Core};

/// Takes the snapshot. Costs time in the number of used segments once, for the utilization classes.
pub(super) fn take(core: &Core) -> Status {
    let identity = core.volume.identity();
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        source: core.options.source.display().to_string(),
        mount_point: core.options.target.display().to_string(),
        uuid: uuid::Uuid::from_bytes(identity.uuid).to_string(),
        label: identity.label.clone(),
        read_only: core.volume.is_read_only(),
        latched: core.volume.log().failure().err().map(|e| e.to_string()),
        uptime_secs: core.namespace.uptime().as_secs(),
        traffic: traffic(core),
        space: space(core),
        segments: segments(core),
        cleaner: cleaner(core),
        advisor: advisor(core),
        victim_advisor: Advisor { pressure: pressure(core), ..core.advice.status(ModelKind::Victim) },
        learning: core.advice.learning(),
        telemetry: telemetry(core),
        scrub: core.scrubber.summary(),
        stalls: core.namespace.longest(),
        memory: memory(core),
        protection: Protection {
            io_flusher: core.protection.io_flusher,
            memory_locked: core.protection.memory_locked,
            oom_score_adj: core.protection.oom_score_adj,
        },
        supervision: core.handover.status(),
    }
}

fn telemetry(core: &Core) -> Vec<Tap> {
    let tap = |tap: gleanfs_gc::telemetry::Tap| Tap { id: tap.id, events: tap.written, dropped: tap.dropped };
    core.volume.taps.taps().into_iter().map(tap).collect()
}

fn traffic(core: &Core) -> Traffic {
    let device = core.volume.device().traffic();
    let user_bytes = core.volume.user_bytes_since_mount();
    let amplification = |user: u64, device: u64| (user > 0).then(|| device as f64 / user as f64);
    let minute = core.namespace.minute_ago();
    Traffic {
        user_bytes,
        device_bytes: device.written_bytes,
        device_data_bytes: user_bytes + core.cleaner.moved_blocks() * BLOCK_SIZE as u64,
        device_read_bytes: device.read_bytes,
        device_flushes: device.flushes,
        write_amplification: amplification(user_bytes, device.written_bytes),
        write_amplification_last_minute: amplification(user_bytes - minute.user, device.written_bytes - minute.device),
        checkpoints: core.volume.checkpoints_done(),
        log_extensions: core.volume.extensions_done(),
    }
}

fn space(core: &Core) -> Space {
    let usage = core.volume.usage();
    Space { capacity_bytes: usage.capacity * BLOCK_SIZE as u64, used_bytes: usage.used * BLOCK_SIZE as u64 }
}

fn segments(core: &Core) -> Segments {
    let inner = core.volume.log().lock();
    let counts = inner.segments.counts();
    let mut utilization = [0; 10];
    for facts in inner.segments.index.iter() {
        utilization[((facts.utilization() * 10.0) as usize).min(9)] += 1;
    }
    Segments {
        segment_bytes: core.volume.segment_bytes(),
        total: core.volume.identity().segments,
        free: counts.free,
        open: counts.open,
        sealed: counts.sealed,
        prefree: counts.prefree,
        unusable: counts.bad,
        utilization,
    }
}

fn works(core: &Core) -> [(&'static str, &Work); 3] {
    let counters = &core.cleaner.counters;
    [("model", &counters.model), ("fallback", &counters.fallback), ("emergency", &counters.emergency)]
}

fn cleaner(core: &Core) -> Cleaner {
    let counters = &core.cleaner.counters;
    let work = |(decider, work): (&str, &Work)| DeciderWork {
        decider: decider.into(),
        segments: work.segments.load(Relaxed),
        moved_blocks: work.moved_blocks.load(Relaxed),
        freed_blocks: work.freed_blocks.load(Relaxed),
    };
    let mode = match core.options.cleaning {
        Cleaning::Inline => "sync",
        _ if core.cleaner.is_enabled() => "on",
        _ => "off",
    };
    Cleaner {
        mode: mode.into(),
        policy: format!("{}/{}", core.cleaner.policy_name(), core.volume.placement_name()),
        foreground_segments: counters.emergency.segments.load(Relaxed),
        background_segments: counters.model.segments.load(Relaxed) + counters.fallback.segments.load(Relaxed),
        throttled_us: counters.throttled_us.load(Relaxed),
        deciders: works(core).into_iter().map(work).collect(),
    }
}

fn advisor(core: &Core) -> Advisor {
    let regret = core.advice.regret().map(|r| Regret {
        cost: r.cost,
        fallback_cost: r.ghost_cost,
        blocks: r.regret_blocks,
        percent: r.regret_percent,
        debt_blocks: r.debt_blocks,
        stops: r.stops,
    });
    Advisor {
        pressure: pressure(core),
        placements: placements(core),
        regret: regret.unwrap_or_default(),
        ..core.advice.status(ModelKind::Placement)
    }
}

fn pressure(core: &Core) -> String {
    match core.cleaner.pressure() {
        Pressure::Normal => "normal".into(),
        Pressure::Emergency => "emergency".into(),
    }
}

fn placements(core: &Core) -> Vec<Placements> {
    let placed = &core.volume.placed;
    let by = |(decider, blocks): (&str, &PlacedBlocks)| Placements {
        decider: decider.into(),
        user_blocks: blocks.user.load(Relaxed),
        moved_blocks: blocks.moved.load(Relaxed),
    };
    [("model", &placed.model), ("fallback", &placed.fallback), ("emergency", &placed.emergency)].map(by).into()
}

fn memory(core: &Core) -> Memory {
    Memory {
        cache_bytes: core.volume.cached_bytes() as u64,
        cache_bytes_max: core.options.cache_bytes as u64,
        resident_bytes: process_bytes("VmRSS"),
        locked_bytes: process_bytes("VmLck"),
    }
}
