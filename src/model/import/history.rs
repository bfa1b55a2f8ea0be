//! The history of `infra import verify --watch`, as it is stored: its fields only ever grow.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// All watches of an environment, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct History {
    pub watches: Vec<Watch>,
}

/// Looks at the same two sides, one after the other.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Watch {
    pub begun_at: Timestamp,
    /// A digest of the mapping, its tables, and both servers.
    pub of: String,
    /// True once its time was over and its result was reported.
    #[serde(default)]
    pub finished: bool,
    #[serde(default)]
    pub looks: Vec<Look>,
}

/// One comparison of both sides.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Look {
    pub at: Timestamp,
    pub rows: u64,
    pub keys: u64,
    /// Differences that were left after the last round.
    pub differing: u64,
    pub rounds: u64,
    pub seconds: f64,
    /// Why the comparison could not be made; `None` if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Look {
    /// Returns true if both sides were compared and were the same.
    pub fn is_identical(&self) -> bool {
        self.failure.is_none() && self.differing == 0
    }
}
