//! What supervisor and daemon say to each other. They may be of different versions: fields that one does not know are passed over.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::fuse::Terms;

/// Supervisor to daemon, once, with the memory of the witness, that of chunks and, if there is a mount already, its connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// What the kernel and the first daemon of this mount agreed on; `None`: mount first.
    pub terms: Option<Terms>,
    /// Daemons of this mount that died.
    #[serde(default)]
    pub deaths: u32,
    /// Daemons that made way for another.
    #[serde(default)]
    pub upgrades: u32,
}

/// Daemon to supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Requests are answered. With a descriptor: over a new connection.
    Serving { terms: Terms, version: String },
    /// The connection before is to end: what clients know of is not there any more.
    Cut,
    /// Everything is durable and no request is being answered: let this program go on. With the descriptor of the client who asked for it.
    Replace { executable: PathBuf },
    /// Nothing is served, and this is why.
    Failed { line: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_another_version_are_understood_as_far_as_they_go() {
        let newer = r#"{"terms":null,"deaths":2,"colour":"blue"}"#;
        assert_eq!(serde_json::from_str::<Begin>(newer).unwrap(), Begin { terms: None, deaths: 2, upgrades: 0 });
        let newer = r#"{"failed":{"line":"why","code":7}}"#;
        assert_eq!(serde_json::from_str::<Word>(newer).unwrap(), Word::Failed { line: "why".into() });
    }
}
