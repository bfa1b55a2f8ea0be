//! The progress of a planned failover, stored before each effect for the next run to continue.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A failover from one instance to the other. Roles in the state change with its last stage.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Failover {
    /// The instance that is the master when it begins.
    pub from: String,
    /// The instance that is to be the master.
    pub to: String,
    pub stage: Stage,
    pub begun_at: Timestamp,
    /// The old master is fenced, since it is gone or no longer works.
    #[serde(default)]
    pub forced: bool,
    /// The pause of writes, in milliseconds; `None` until it is over.
    #[serde(default)]
    pub pause_ms: Option<u64>,
    /// How many connections of the app were closed.
    #[serde(default)]
    pub closed: Option<u64>,
    /// Why a network ACL of ours is a fence, once that is proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
}

/// The stages of a failover. From `Yielding` on the role may have moved.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The replica keeps the app out and has a master's settings; the master works as before.
    Preparing,
    /// The master may have given its role away, and the address may have moved.
    Yielding,
    /// The roles in the state are the new ones; hosts and tags get what belongs to them.
    Settling,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Preparing => "the replica is made ready to take over",
            Stage::Yielding => "the role of master moves to the replica",
            Stage::Settling => "the roles have changed, and the hosts get what belongs to them",
        })
    }
}
