//! What a mount tells of itself: a snapshot of counters and states, for people and for programs.
//!
//! Counters start at zero with the mount unless they say otherwise. Plain data: the daemon fills it,
//! `gleanfs ctl MNT status` prints it.

use serde::{Deserialize, Serialize};

use crate::scrub::Summary;

/// The state of a mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program that serves the mount.
    pub version: String,
    pub pid: u32,
    pub source: String,
    pub mount_point: String,
    pub uuid: String,
    pub label: String,
    pub read_only: bool,
    /// Why the mount turned itself read-only, if it did.
    pub latched: Option<String>,
    pub uptime_secs: u64,
    pub traffic: Traffic,
    pub space: Space,
    pub segments: Segments,
    pub cleaner: Cleaner,
    /// Of the model that chooses log heads.
    pub advisor: Advisor,
    /// Of the model that chooses victims; its `placements` are empty.
    #[serde(default)]
    pub victim_advisor: Advisor,
    /// Of models that are fitted to this mount's own load.
    #[serde(default)]
    pub learning: Learning,
    /// Recordings and the trainer: whoever is told of writes, moves, discards and victims.
    #[serde(default)]
    pub telemetry: Vec<Tap>,
    /// What the last scrub saw, or the one under way.
    #[serde(default)]
    pub scrub: Summary,
    /// The longest stalls of requests, longest first.
    pub stalls: Vec<Stall>,
    pub memory: Memory,
    pub protection: Protection,
    /// `None`: the mount ends with its daemon.
    #[serde(default)]
    pub supervision: Option<Supervision>,
}

/// What became of a supervised mount's daemons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervision {
    /// The supervisor is there.
    pub watched: bool,
    /// Daemons before this one that died.
    pub deaths: u32,
    /// Daemons before this one that made way.
    pub upgrades: u32,
}

/// Bytes written, by whom and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// File data that users wrote.
    pub user_bytes: u64,
    /// Everything that went to the device.
    pub device_bytes: u64,
    /// File data blocks that went to the device, copies by the cleaner included.
    pub device_data_bytes: u64,
    pub device_read_bytes: u64,
    pub device_flushes: u64,
    /// Device bytes over user bytes since the mount; `None` before anything was written.
    pub write_amplification: Option<f64>,
    /// The same over the last minute.
    pub write_amplification_last_minute: Option<f64>,
    pub checkpoints: u64,
    /// Times that segments were given back between checkpoints.
    pub log_extensions: u64,
}

/// Room for users.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Space {
    pub capacity_bytes: u64,
    pub used_bytes: u64,
}

/// Segments by state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Segments {
    pub segment_bytes: u64,
    pub total: u32,
    pub free: u32,
    pub open: u32,
    pub sealed: u32,
    pub prefree: u32,
    /// Read-only or offline zones, not usable.
    pub unusable: u32,
    /// Sealed segments by utilization, ten equal classes from empty to full.
    pub utilization: [u32; 10],
}

/// What the cleaner did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cleaner {
    /// `on`, `off` or `sync`.
    pub mode: String,
    /// The fallback policy.
    pub policy: String,
    pub foreground_segments: u64,
    pub background_segments: u64,
    /// Time that writers were held back, all together.
    pub throttled_us: u64,
    /// Work by who decided it.
    pub deciders: Vec<DeciderWork>,
}

/// Cleaning that one decider chose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeciderWork {
    /// `model`, `fallback` or `emergency`.
    pub decider: String,
    pub segments: u64,
    pub moved_blocks: u64,
    pub freed_blocks: u64,
}

/// The advisor, its worker and its model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Advisor {
    /// `fallback`, `learning`, `collaboration` or `recommendation`.
    pub trust: String,
    /// `normal` or `emergency`.
    pub pressure: String,
    pub model: Option<String>,
    pub model_sha256: Option<String>,
    /// `absent`, `starting`, `ready`, `hung`, `dead`: with the reason where there is one.
    pub worker: String,
    pub worker_pid: Option<u32>,
    pub worker_restarts: u64,
    /// Predictions taken into memory, from which placement is looked up; victims posted.
    pub recommendations: u64,
    /// Batches of questions answered.
    pub batches: u64,
    pub deadlines_missed: u64,
    pub latency_p50_us: u64,
    pub latency_p99_us: u64,
    pub swaps: u64,
    pub swaps_refused: u64,
    /// The last judged ratio of blocks moved per block written, the model's over the fallback's: below 1 the model is better.
    pub efficiency: Option<f64>,
    /// The last thing that went wrong, in one line.
    pub last_error: Option<String>,
    /// Blocks by who chose the log head that they went to.
    pub placements: Vec<Placements>,
    /// What the model has cost while it was in charge, against what the fallback alone would have.
    #[serde(default)]
    pub regret: Regret,
}

/// The account of what a model may cost. Costs are blocks moved per block written by users, while the model was in charge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Regret {
    /// `None` before a model was in charge.
    pub cost: Option<f64>,
    /// Of the fallback alone, in a miniature of the log.
    pub fallback_cost: Option<f64>,
    /// Blocks moved too many since the mount; negative if the model has saved some.
    pub blocks: f64,
    /// The same in per cent of what users wrote meanwhile.
    pub percent: f64,
    /// What is not paid back yet: with too much of it the model may not decide.
    pub debt_blocks: f64,
    /// How often the model was stopped for it.
    pub stops: u64,
}

/// Learning on the mount's own load. Ratios are costs of choices on writes that came after the fit: below 1 the model is better.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Learning {
    /// `off`, `shadow` or `on`.
    pub mode: String,
    pub trainer_pid: Option<u32>,
    pub trainer_restarts: u64,
    /// Events that the trainer has seen, and that were lost because it was too slow.
    pub events: u64,
    pub events_lost: u64,
    pub fits: u64,
    /// Milliseconds of processor that the last fit took.
    pub fit_cpu_ms: u64,
    /// Writes that the last fit was made from, and that the last candidate was examined on.
    pub samples: u64,
    pub examples: u64,
    pub candidate_of_rule: Option<f64>,
    pub candidate_of_model: Option<f64>,
    /// The learned model in charge, over the rule.
    pub in_charge_of_rule: Option<f64>,
    pub offered: u64,
    pub taken: u64,
    pub refused: u64,
    pub withdrawn: u64,
    /// The last thing that went wrong, in one line.
    pub last_error: Option<String>,
}

/// A ring of telemetry that is being filled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tap {
    pub id: u64,
    pub events: u64,
    pub dropped: u64,
}

/// Blocks whose log head one decider chose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Placements {
    /// `model`, `fallback` or `emergency`.
    pub decider: String,
    /// Written by users.
    pub user_blocks: u64,
    /// Moved by the cleaner.
    pub moved_blocks: u64,
}

/// A request that took long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    pub operation: String,
    pub duration_us: u64,
    /// When it ended, in seconds after the mount.
    pub at_secs: u64,
}

/// Memory of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    pub cache_bytes: u64,
    pub cache_bytes_max: u64,
    pub resident_bytes: u64,
    pub locked_bytes: u64,
}

/// What the system granted against deadlock; best effort, see `fs/DESIGN.md`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Protection {
    /// `PR_SET_IO_FLUSHER` is in force.
    pub io_flusher: bool,
    /// All memory is locked.
    pub memory_locked: bool,
    pub oom_score_adj: i32,
}
