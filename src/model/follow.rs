//! How the pair gets the source's data.

use serde::{Deserialize, Serialize};
use strum::Display;

/// The value of `source.follow`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Follow {
    /// By replication if the source lets a replica follow, else by copy.
    #[default]
    Auto,
    Replication,
    Copy,
}

/// How a source is followed, once that is decided.
#[derive(Clone, Copy, Debug, Default, Deserialize, Display, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Follower {
    /// The master replicates from the source.
    #[default]
    Replication,
    /// A unit of the master host reads the source's keys again and again, and writes them to the master.
    Copy,
}

impl Follower {
    /// Returns true for what older programs knew.
    pub fn is_replication(&self) -> bool {
        *self == Follower::Replication
    }
}
