//! What a comparison comes to: one row for each volume and pair, averaged over seeds, as a table and as JSON.

use std::fmt::Write;

use gleanfs_gc::sim::Measured;
use serde::Serialize;

use super::policy::Kind;

/// Everything that was simulated.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub tables: Vec<Table>,
}

/// One volume in one geometry, and how each pair did.
#[derive(Debug, Serialize)]
pub struct Table {
    pub volume: String,
    pub blocks: u32,
    pub live_blocks: u32,
    pub segment_blocks: u32,
    pub fullness: String,
    pub heads: u8,
    pub warm_blocks: u64,
    pub scored_blocks: u64,
    pub rows: Vec<Row>,
}

/// One pair.
#[derive(Debug, Serialize)]
pub struct Row {
    pub policy: String,
    pub kind: Kind,
    /// Write amplification of data, mean over the seeds, and largest less smallest.
    pub wa: f64,
    pub wa_spread: f64,
    /// Blocks moved, victims: means over the seeds.
    pub moved_blocks: f64,
    pub victims: f64,
    /// Blocks moved over those of the best fixed rule of the table.
    pub of_best_rule: Option<f64>,
    /// Write amplification less that of the best oracle of the table.
    pub over_oracle: Option<f64>,
    pub decision_ns: f64,
    pub placement_ns: f64,
    /// What the policies remember.
    pub policy_bytes: usize,
    pub bytes_per_block: f64,
    pub user_blocks_per_sec: f64,
    pub runs: Vec<Run>,
}

/// One seed.
#[derive(Debug, Serialize)]
pub struct Run {
    pub seed: u64,
    pub wa: f64,
    pub moved_blocks: u64,
    pub victims: u64,
    #[serde(skip)]
    pub measured: Measured,
}

impl Row {
    /// # Panics
    /// Without a run.
    pub fn new(policy: String, kind: Kind, live_blocks: u32, policy_bytes: usize, runs: Vec<Run>) -> Self {
        let mean = |of: &dyn Fn(&Run) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
        let was = || runs.iter().map(|run| run.wa);
        Self {
            wa: mean(&|run| run.wa),
            wa_spread: was().fold(f64::MIN, f64::max) - was().fold(f64::MAX, f64::min),
            moved_blocks: mean(&|run| run.moved_blocks as f64),
            victims: mean(&|run| run.victims as f64),
            of_best_rule: None,
            over_oracle: None,
            decision_ns: mean(&|run| run.measured.decision_ns),
            placement_ns: mean(&|run| run.measured.placement_ns),
            policy_bytes,
            bytes_per_block: policy_bytes as f64 / f64::from(live_blocks.max(1)),
            user_blocks_per_sec: mean(&|run| run.measured.user_blocks_per_sec),
            policy,
            kind,
            runs,
        }
    }
}

impl Run {
    pub fn new(seed: u64, measured: Measured) -> Self {
        let outcome = measured.outcome;
        Self { seed, wa: outcome.wa(), moved_blocks: outcome.moved, victims: outcome.victims, measured }
    }
}

/// Column heads; the first column is the pair.
const HEADS: [&str; 10] =
    ["WA", "spread", "moved", "of rule", "over oracle", "ns/victim", "ns/block", "KiB", "B/block", "Mwrites/s"];
const NAME_WIDTH: usize = 26;

impl Table {
    /// Sets each row beside the best fixed rule and the best oracle.
    pub fn conclude(&mut self) {
        let least =
            |kind, of: fn(&Row) -> f64| self.rows.iter().filter(|row| row.kind == kind).map(of).min_by(f64::total_cmp);
        let (rule, oracle) = (least(Kind::Rule, |row| row.moved_blocks), least(Kind::Oracle, |row| row.wa));
        for row in &mut self.rows {
            row.of_best_rule = rule.filter(|moved| *moved > 0.0).map(|moved| row.moved_blocks / moved);
            row.over_oracle = oracle.map(|wa| row.wa - wa);
        }
    }

    /// For people. The best fixed rule and the best model carry a star.
    pub fn text(&self) -> String {
        let Self { volume, live_blocks, segment_blocks, fullness, heads, warm_blocks, scored_blocks, .. } = self;
        let mut text = format!(
            "{volume}: {live_blocks} live blocks, segments of {segment_blocks}, {fullness}, {heads} heads; \
             {scored_blocks} writes scored after {warm_blocks}\n{:<NAME_WIDTH$}",
            "victim/placement"
        );
        HEADS.iter().for_each(|head| text += &format!(" {head:>11}"));
        for row in &self.rows {
            let star = if self.is_best(row) { "*" } else { "" };
            let _ = write!(text, "\n{:<NAME_WIDTH$}", format!("{}{star}", row.policy));
            row.cells().iter().for_each(|cell| text += &format!(" {cell:>11}"));
        }
        text
    }

    fn is_best(&self, row: &Row) -> bool {
        let same = self.rows.iter().filter(|other| other.kind == row.kind);
        matches!(row.kind, Kind::Rule | Kind::Model) && same.map(|other| other.wa).fold(f64::MAX, f64::min) >= row.wa
    }
}

impl Row {
    fn cells(&self) -> [String; HEADS.len()] {
        let known = |value: Option<f64>, digits: usize| value.map_or("-".into(), |v| format!("{v:.digits$}"));
        [
            format!("{:.3}", self.wa),
            format!("{:.3}", self.wa_spread),
            format!("{:.0}", self.moved_blocks),
            known(self.of_best_rule, 3),
            known(self.over_oracle, 3),
            format!("{:.0}", self.decision_ns),
            format!("{:.0}", self.placement_ns),
            format!("{:.1}", self.policy_bytes as f64 / 1024.0),
            format!("{:.2}", self.bytes_per_block),
            format!("{:.2}", self.user_blocks_per_sec / 1e6),
        ]
    }
}

#[cfg(test)]
mod tests {
    use gleanfs_gc::sim::{Outcome, Tally};

    use super::*;

    fn row(policy: &str, kind: Kind, moved: &[u64]) -> Row {
        let measured = |moved| Measured {
            outcome: Outcome { user: 1000, moved, victims: 1 },
            tally: Tally::default(),
            over_time: Vec::new(),
            decision_ns: 0.0,
            placement_ns: 0.0,
            user_blocks_per_sec: 0.0,
        };
        Row::new(
            policy.into(),
            kind,
            4096,
            8192,
            moved.iter().zip(1..).map(|(m, s)| Run::new(s, measured(*m))).collect(),
        )
    }

    #[test]
    fn rows_are_set_beside_the_best_rule_and_the_best_oracle() {
        let rows = vec![
            row("greedy/none", Kind::Rule, &[3000, 3200]),
            row("cost-age/ewma", Kind::Rule, &[1000, 1200]),
            row("learned/learned", Kind::Model, &[880]),
            row("cost-age/geometric", Kind::Oracle, &[100]),
        ];
        let mut table = Table {
            volume: "zipf:1".into(),
            blocks: 4096,
            live_blocks: 4096,
            segment_blocks: 64,
            fullness: "garbage 15 %".into(),
            heads: 6,
            warm_blocks: 0,
            scored_blocks: 1000,
            rows,
        };
        table.conclude();
        let [greedy, ewma, learned, _] = &table.rows[..] else { panic!("four rows") };
        assert_eq!((learned.of_best_rule, ewma.of_best_rule), (Some(0.8), Some(1.0)));
        assert!((greedy.wa - 4.1).abs() < 1e-9 && (greedy.wa_spread - 0.2).abs() < 1e-9);
        assert!((ewma.over_oracle.unwrap_or_default() - 1.0).abs() < 1e-9);
        let text = table.text();
        assert!(text.contains("cost-age/ewma*") && text.contains("learned/learned*") && !text.contains("greedy/none*"));
    }
}
