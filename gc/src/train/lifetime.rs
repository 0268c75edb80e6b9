//! A placement model of the trainer's shape, whatever features it reads.

use super::mlp::Mlp;
use super::onnx::{ModelError, ModelKind};
use crate::features::{CONTRACT, PlacementRow};
use crate::placement::LifetimeModel;

/// A network and the columns of a row that it reads, in its own order.
#[derive(Clone, Debug, PartialEq)]
pub struct LifetimeNet {
    mlp: Mlp,
    columns: Vec<usize>,
}

impl LifetimeNet {
    /// Reads a model of the kind `placement`.
    pub fn from_onnx(bytes: &[u8]) -> Result<Self, ModelError> {
        let (mlp, info) = Mlp::from_onnx(bytes)?;
        if info.kind != ModelKind::Placement {
            return Err(ModelError::Unsupported("it is not for placement"));
        }
        let columns = info.columns(&CONTRACT.placement)?;
        Ok(Self { mlp, columns })
    }

    /// A copy that answers the same for every row.
    pub fn constant(&self) -> Self {
        Self { mlp: self.mlp.constant(), columns: self.columns.clone() }
    }
}

impl LifetimeModel for LifetimeNet {
    fn predict(&mut self, row: &PlacementRow) -> f32 {
        let mut seen = PlacementRow::default();
        seen.iter_mut().zip(&self.columns).for_each(|(x, &column)| *x = row[column]);
        self.mlp.predict(&seen[..self.columns.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::super::ModelInfo;
    use super::*;
    use crate::features::PlacementFeature::{Age, Position};
    use crate::sim::rng::Rng;

    #[test]
    fn it_reads_its_columns_in_its_order() {
        let mlp = Mlp::random(&[2, 4, 1], &mut Rng::new(1));
        let features = vec!["position".to_owned(), "age".to_owned()];
        let info = ModelInfo { kind: ModelKind::Placement, features, name: "two".to_owned() };
        let mut net = LifetimeNet::from_onnx(&mlp.to_onnx(&info)).expect("it is one of ours");
        let mut row = PlacementRow::default();
        (row[Age as usize], row[Position as usize]) = (-3.0, 0.75);
        assert_eq!(net.predict(&row), mlp.predict(&[0.75, -3.0]));
        assert_eq!(net.constant().predict(&row), net.constant().predict(&PlacementRow::default()));
        let victim = ModelInfo { kind: ModelKind::Victim, ..info };
        assert!(LifetimeNet::from_onnx(&mlp.to_onnx(&victim)).is_err(), "it is for victims");
    }
}
