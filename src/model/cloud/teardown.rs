//! The resources of an environment that exist, and their removal, as values.

use super::found::Address;
use super::network_fence::NetworkFence;
use super::show::{Change, Sign};
use super::wanted::LockMode;
use crate::model::size;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::json;
use std::fmt;

/// All existing resources of an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Ids of instances that are not terminated.
    pub instances: Vec<String>,
    pub addresses: Vec<Address>,
    pub fences: Vec<NetworkFence>,
    /// Ids of groups.
    pub groups: Vec<String>,
    pub role: bool,
    pub profile: bool,
    pub key_pair: bool,
    /// Full names.
    pub parameters: Vec<String>,
    pub bucket: bool,
    /// Number of objects under the environment's state, with old versions.
    pub state_versions: usize,
    /// As `state_versions`, without old versions.
    pub state_objects: usize,
    /// Retentions that are in force now.
    pub state_locked: Option<Locked>,
    pub backups_locked: Option<Locked>,
    /// Number of objects under the environment's backups, without old versions.
    pub backups: usize,
    pub backup_bytes: u64,
    /// As `backups`, with old versions.
    pub backup_versions: usize,
}

/// Objects that may not be removed before a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    pub mode: LockMode,
    pub until: Timestamp,
}

/// One removal. Removals are listed in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    Instance {
        id: String,
    },
    Address(Address),
    Fence(NetworkFence),
    Group {
        id: String,
        name: String,
    },
    Profile {
        name: String,
    },
    Role {
        name: String,
    },
    KeyPair {
        name: String,
    },
    Parameters {
        prefix: String,
        names: Vec<String>,
    },
    Backups {
        prefix: String,
        objects: usize,
        bytes: u64,
    },
    State {
        prefix: String,
        /// Until when nobody can remove the objects; they are then only marked as deleted.
        locked: Option<Timestamp>,
    },
    /// Only if nothing is left in it, since other environments may share it.
    EmptyBucket {
        name: String,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TeardownPlan {
    pub removals: Vec<Removal>,
    /// Resources that stay, with the reason.
    pub kept: Vec<String>,
    /// True if a retention in governance mode has to be bypassed.
    pub governed: bool,
}

impl TeardownPlan {
    pub fn is_empty(&self) -> bool {
        self.removals.is_empty()
    }

    pub fn changes(&self) -> Vec<Change> {
        self.removals.iter().map(Removal::change).collect()
    }
}

impl Removal {
    pub fn change(&self) -> Change {
        let line = |resource, name: &str, detail: String| Change {
            sign: Sign::Remove,
            resource,
            name: name.to_string(),
            detail,
        };
        match self {
            Removal::Instance { id } => line("instance", id, "with its disk".into()),
            Removal::Address(address) => line("address", &address.public_ip, address.allocation_id.clone()),
            Removal::Fence(fence) => fence.change(),
            Removal::Group { id, name } => line("security group", name, id.clone()),
            Removal::Profile { name } => line("instance profile", name, String::new()),
            Removal::Role { name } => line("role", name, String::new()),
            Removal::KeyPair { name } => line("key pair", name, String::new()),
            Removal::Parameters { prefix, names } => line("parameters", prefix, format!("{} of them", names.len())),
            Removal::Backups { prefix, objects, bytes } => line(
                "backups",
                prefix,
                format!(
                    "{} objects, {}, with old versions",
                    size::count(*objects as u64),
                    size::bytes(*bytes)
                ),
            ),
            Removal::State { prefix, locked: None } => line("state", prefix, "with old versions and journals".into()),
            Removal::State {
                prefix,
                locked: Some(until),
            } => line(
                "state",
                prefix,
                format!("marked as deleted; its versions are locked until {until}"),
            ),
            Removal::EmptyBucket { name } => line("bucket", name, "if nothing else is in it".into()),
        }
    }
}

impl fmt::Display for TeardownPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in self.changes() {
            writeln!(f, "  {change}")?;
        }
        for kept in &self.kept {
            writeln!(f, "  = {kept}")?;
        }
        match self.removals.len() {
            0 => write!(f, "Nothing to remove."),
            count => write!(f, "Plan: {count} to remove."),
        }
    }
}

impl Serialize for TeardownPlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({ "changes": self.changes(), "kept": self.kept }).serialize(serializer)
    }
}
