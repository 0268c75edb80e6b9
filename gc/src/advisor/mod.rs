//! The advisor: a model in a process of its own, and the daemon's side of it, the model proxy.
//!
//! The cleaner sees [`Advisor`]: it posts a dataset, goes on, and later polls for the recommendation.
//! Neither call waits, for the worker or for a lock. Everything slow (starting, probing, swapping and
//! killing workers, watching a file) happens on the supervisor's thread. A worker can be killed,
//! stopped, hung, lying or slow: that costs a counter, never an operation.
//!
//! One advisor serves one kind of model; a daemon that wants placement and victims from models has
//! two. Batches always hold all features of the schema and each model is handed its own columns, so
//! models with different features can replace each other without the cleaner noticing.
//!
//! | file | duty |
//! |---|---|
//! | `protocol`, `region`, `ring` | the shared memory and what is said through it |
//! | `worker`, `engine`, `reserve`, `sandbox` | the worker process |
//! | `protobuf`, `model`, `check`, `probe` | whether a file may become the model |
//! | `local` | a model in this process, for tools |
//! | `process`, `channel`, `pulse`, `proxy`, `supervisor`, `swap`, `shadow`, `watch` | the daemon's side |
//! | `lies` | a worker that lies, for fuzzing and tests |
//! | `trust` | how much the recommendations may decide |
//! | `regret` | how much that may cost |

mod channel;
mod check;
mod engine;
mod host;
pub mod lies;
mod local;
mod model;
mod probe;
pub(crate) mod process;
mod protobuf;
pub(crate) mod protocol;
mod proxy;
mod pulse;
#[cfg(test)]
mod races;
mod region;
mod regret;
pub(crate) mod reserve;
mod ring;
pub(crate) mod sandbox;
mod shadow;
mod status;
mod supervisor;
mod swap;
mod trust;
mod watch;
mod worker;

pub use check::{MODEL_BYTES_MAX, ModelCard, Rules, check_file, declared_kind};
pub(crate) use host::Model;
pub use host::{AdvisorConfig, Host, NamedModel};
pub use local::LocalModel;
pub use probe::{ProbeReport, check_model};
pub use protocol::{Answer, Batch, FEATURES_MAX, ModelKind, ROWS_MAX, SLOTS};
pub use proxy::Advisor;
pub use region::Region;
pub use regret::{Period, Regret, RegretConfig, RegretStatus};
pub use status::{AdvisorState, AdvisorStatus, ModelInfo, ModelRole};
pub use trust::{Costs, Decider, Trust, TrustConfig, TrustLevel, TrustStatus};
pub use worker::{Hooks, Plain, worker_main};

#[cfg(test)]
mod testing {
    use std::sync::Arc;

    use super::check::onnx::ModelWriter;
    use super::{Model, Rules};

    /// A linear model over `features`, all weights 1, for a caller that knows `known`.
    pub(crate) fn model(features: &[&str], known: &[&str]) -> Arc<Model> {
        let bytes = ModelWriter::linear(features, &vec![1.0; features.len()], 0.0).bytes();
        Arc::new(Model::new("test", &bytes, &Rules::new(known, "1", None), 1).unwrap())
    }
}
