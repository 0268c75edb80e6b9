//! The models that `learned` stands for. Networks of the trainer's shape are evaluated in place; all others by ONNX Runtime, in this process.

use std::path::{Path, PathBuf};

use gleanfs_gc::advisor::{LocalModel, ModelKind, NamedModel, check_file};
use gleanfs_gc::features::{LikenessMask, PlacementRow, VictimRow};
use gleanfs_gc::placement::{LifetimeModel, Memo};
use gleanfs_gc::train::{LifetimeNet, WorthNet};
use gleanfs_gc::victim::WorthModel;

use super::super::assemble;
use super::super::failure::{About, Failure, Result};
use crate::proxy::service::{self, SHIPPED, SHIPPED_NAME, SHIPPED_VICTIM, SHIPPED_VICTIM_NAME};

/// Files that stand for the shipped models.
#[derive(Clone, Debug, clap::Args)]
pub struct ModelArgs {
    /// Placement model, any that a mount takes [default: the shipped one]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Victim model, any that a mount takes [default: the shipped one]
    #[arg(long, value_name = "FILE")]
    victim_model: Option<PathBuf>,
    /// ONNX Runtime library, for models that need it [the cached one]
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
}

/// The model of each kind. Clones of a model run side by side.
#[derive(Clone, Debug)]
pub struct Models {
    pub placement: Lifetimes,
    pub victim: Worths,
}

/// A placement model.
#[derive(Clone, Debug)]
pub enum Lifetimes {
    Net(LifetimeNet),
    /// Asked once about rows that are alike, as on a mount.
    Local(Box<Memo<LocalModel>>),
}

/// A victim model.
#[derive(Clone, Debug)]
pub enum Worths {
    Net(WorthNet),
    Local(LocalModel),
}

/// What a file turned out to be.
enum Found<N> {
    Net(N),
    Local(LocalModel),
}

impl ModelArgs {
    pub fn load(&self) -> Result<Loaded> {
        let placement = read(self.model.as_deref(), SHIPPED_NAME, SHIPPED)?;
        let victim = read(self.victim_model.as_deref(), SHIPPED_VICTIM_NAME, SHIPPED_VICTIM)?;
        let mut watched = Vec::new();
        let placement = match self.find(&placement, ModelKind::Placement, LifetimeNet::from_onnx)? {
            Found::Net(net) => Lifetimes::Net(net),
            Found::Local(model) => {
                watched.push((placement.name, model.clone()));
                let mask = LikenessMask::reading(model.card().features.iter().map(String::as_str));
                Lifetimes::Local(Box::new(Memo::new(model, mask)))
            }
        };
        let victim = match self.find(&victim, ModelKind::Victim, WorthNet::from_onnx)? {
            Found::Net(net) => Worths::Net(net),
            Found::Local(model) => {
                watched.push((victim.name, model.clone()));
                Worths::Local(model)
            }
        };
        Ok(Loaded { models: Models { placement, victim }, watched })
    }

    /// Checks a file as a mount would. `ours` reads what can be evaluated in place.
    fn find<N, E>(
        &self,
        model: &NamedModel,
        kind: ModelKind,
        ours: impl FnOnce(&[u8]) -> std::result::Result<N, E>,
    ) -> Result<Found<N>> {
        let (name, rules) = (&model.name, service::rules(kind));
        check_file(&model.bytes, &rules).about(name)?;
        if let Ok(net) = ours(&model.bytes) {
            return Ok(Found::Net(net));
        }
        let library = assemble::library(self.library.clone()).map_err(|why| {
            Failure::new(format_args!("{name}: this model needs ONNX Runtime: {why}; gleanfs model fetch gets it"))
        })?;
        LocalModel::load(&library, &model.bytes, &rules).map(Found::Local).about(name)
    }
}

/// A file, under its whole path, or else the shipped model.
fn read(path: Option<&Path>, shipped_name: &str, shipped: &[u8]) -> Result<NamedModel> {
    match path {
        Some(path) => {
            let model = service::read_model(path).about(path.display())?;
            Ok(NamedModel { name: path.display().to_string(), ..model })
        }
        None => Ok(NamedModel { name: shipped_name.into(), bytes: shipped.to_vec() }),
    }
}

/// The models, and those that may fail, by name.
pub struct Loaded {
    pub models: Models,
    watched: Vec<(String, LocalModel)>,
}

impl Loaded {
    /// An error if a model failed to answer: what was simulated then is not what it is worth.
    pub fn demand_answers(&self) -> Result<()> {
        match self.watched.iter().map(|(name, model)| (name, model.faults())).find(|(_, faults)| *faults > 0) {
            Some((name, faults)) => {
                Err(Failure::new(format_args!("{name}: it failed or gave no finite answer for {faults} rows")))
            }
            None => Ok(()),
        }
    }
}

impl Lifetimes {
    /// What it says of one row, for a control that says so of all.
    pub fn constant(&mut self) -> f32 {
        let row = PlacementRow::default();
        match self {
            Self::Net(net) => net.constant().predict(&row),
            Self::Local(model) => model.predict(&row),
        }
    }
}

impl LifetimeModel for Lifetimes {
    fn predict(&mut self, row: &PlacementRow) -> f32 {
        match self {
            Self::Net(net) => net.predict(row),
            Self::Local(model) => model.predict(row),
        }
    }
}

impl WorthModel for Worths {
    fn worth(&mut self, row: &VictimRow) -> f32 {
        match self {
            Self::Net(net) => net.worth(row),
            Self::Local(model) => model.worth(row),
        }
    }

    fn worths(&mut self, rows: &[VictimRow], worths: &mut Vec<f32>) {
        match self {
            Self::Net(net) => net.worths(rows, worths),
            Self::Local(model) => model.worths(rows, worths),
        }
    }
}
