//! The section `[state]`: its file form, its check and its validated form.
//!
//! Invariant: the path is absolute, and two writes of learnt state are at least [`SAVE_MIN_MS`] apart.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::key_path::KeyPath;
use super::validate::{Surroundings, absolute, milliseconds};

/// More often only costs time: a file may have 64 MiB.
const SAVE_MIN_MS: i64 = 100;

/// The file form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(rename = "State")]
pub(super) struct StateForm {
    pub(super) keep: bool,
    pub(super) dir: Option<PathBuf>,
    pub(super) save_every_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether runtime changes and learnt state are kept over a restart.
    pub keep: bool,
    pub dir: PathBuf,
    /// The time between two writes of learnt state while lb runs. `None`: it is written at the end only.
    pub save_every: Option<Duration>,
}

// === impl StateForm ===

impl Default for StateForm {
    fn default() -> Self {
        Self { keep: true, dir: None, save_every_ms: 60_000 }
    }
}

impl StateForm {
    pub(super) fn check(&self, around: &Surroundings) -> Result<State, Fault> {
        let Self { keep, dir, save_every_ms } = self;
        let section = KeyPath::of(&["state"]);
        let dir = match dir {
            Some(dir) => absolute(dir, section.key("dir"), around)?,
            None => around.state_dir.clone(),
        };
        let save_every = match *save_every_ms {
            0 => None,
            every => Some(milliseconds(section.key("save_every_ms"), every, SAVE_MIN_MS)?),
        };
        Ok(State { keep: *keep, dir, save_every })
    }
}
