//! A model in this very process: for the simulator and other tools, where a model that takes the process down costs a run and no filesystem.
//!
//! A file is accepted by the same check as on a mount and runs in the same engine. What a worker adds is missing: no sandbox, no deadline, no limit of
//! memory. `gleanfs model check` tries all that.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::check::{ModelCard, Rules, check_file};
use super::engine::{Engine, Trouble};
use super::protocol::{ROWS_MAX, fault};
use super::reserve;
use crate::features::{PlacementRow, VictimRow};
use crate::placement::LifetimeModel;
use crate::victim::WorthModel;

/// Rows of a trial batch, and how many of them are then asked about alone.
const TRIAL_ROWS: usize = 64;
const ALONE: usize = 8;

/// A model that was checked and loaded. A clone shares the session and may run on another thread at the same time.
pub struct LocalModel {
    card: ModelCard,
    engine: Engine,
    faults: Arc<AtomicU64>,
}

impl LocalModel {
    /// Checks and loads a model and tries it on a few rows. Whatever is wrong is one line.
    ///
    /// A process has one ONNX Runtime: all models must name the same library. The first call sets a variable of the environment and belongs before
    /// other threads are started.
    pub fn load(library: &Path, bytes: &[u8], rules: &Rules) -> Result<LocalModel, String> {
        let card = check_file(bytes, rules)?;
        // As in the worker, for libraries that users bring along.
        reserve::set_variable("ORT_DISABLE_TELEMETRY", "1");
        let (Trouble::Machine(line) | Trouble::Model(line)) = match Engine::load(library, bytes) {
            Ok(engine) if engine.features() == card.columns.len() => {
                let mut model = LocalModel { card, engine, faults: Arc::default() };
                return model.try_out().map(|()| model);
            }
            Ok(engine) => Trouble::Model(format!("its input has {} columns", engine.features())),
            Err(trouble) => trouble,
        };
        Err(line)
    }

    /// What is known of the model.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Rows that it and its clones gave no number for: it failed, or answered what is not finite.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// Its answers to rows of all features, in the order of [`Rules::known`]. A row that it has no number for gets NaN, and so does all that is asked with it.
    pub fn ask<const W: usize>(&mut self, rows: &[[f32; W]], answers: &mut Vec<f32>) {
        answers.clear();
        for rows in rows.chunks(ROWS_MAX) {
            let width = self.card.columns.len();
            for (x, row) in self.engine.input().chunks_exact_mut(width).zip(rows) {
                x.iter_mut().zip(&self.card.columns).for_each(|(x, &column)| *x = row[column]);
            }
            match self.engine.run(rows.len()) {
                Ok(values) => answers.extend_from_slice(values),
                Err(_) => {
                    self.faults.fetch_add(rows.len() as u64, Ordering::Relaxed);
                    answers.resize(answers.len() + rows.len(), f32::NAN);
                }
            }
        }
    }

    /// Demands finite answers that do not depend on what else is in the batch: the simulator asks about single rows, a mount about many.
    fn try_out(&mut self) -> Result<(), String> {
        let width = self.card.columns.len();
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut value = |scale: f32| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((seed >> 40) as f32 / (1u32 << 24) as f32 - 0.5) * scale
        };
        for scale in [0.0, 2.0, 24.0, 64.0] {
            let values: Vec<f32> = (0..TRIAL_ROWS * width).map(|_| value(scale)).collect();
            let together = self.run(&values)?;
            for (row, answer) in values.chunks_exact(width).zip(together).take(ALONE) {
                let alone = self.run(row)?[0];
                if (alone - answer).abs() > 1e-3 * (1.0 + answer.abs()) {
                    return Err("its answer to a row depends on the other rows of the batch".into());
                }
            }
        }
        Ok(())
    }

    /// Rows of the columns that it reads.
    fn run(&mut self, values: &[f32]) -> Result<Vec<f32>, String> {
        self.engine.input()[..values.len()].copy_from_slice(values);
        match self.engine.run(values.len() / self.card.columns.len()) {
            Ok(answers) => Ok(answers.to_vec()),
            Err(fault::NOT_FINITE) => Err("its output on trial rows is not finite".into()),
            Err(_) => Err("it fails on trial rows".into()),
        }
    }
}

impl Clone for LocalModel {
    fn clone(&self) -> Self {
        LocalModel { card: self.card.clone(), engine: self.engine.another(), faults: Arc::clone(&self.faults) }
    }
}

impl std::fmt::Debug for LocalModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalModel").field("card", &self.card).finish_non_exhaustive()
    }
}

impl LifetimeModel for LocalModel {
    fn predict(&mut self, row: &PlacementRow) -> f32 {
        let mut answers = Vec::with_capacity(1);
        self.ask(std::slice::from_ref(row), &mut answers);
        answers[0]
    }
}

impl WorthModel for LocalModel {
    fn worth(&mut self, row: &VictimRow) -> f32 {
        let mut answers = Vec::with_capacity(1);
        self.ask(std::slice::from_ref(row), &mut answers);
        answers[0]
    }

    fn worths(&mut self, rows: &[VictimRow], worths: &mut Vec<f32>) {
        self.ask(rows, worths);
    }
}
