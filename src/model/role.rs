//! The roles of hosts.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The role of a host in the pair.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Master,
    Replica,
}

impl Role {
    pub const ALL: [Role; 2] = [Role::Master, Role::Replica];

    /// Returns the word in tags, names of parameters and files.
    pub fn name(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Replica => "replica",
        }
    }

    pub fn other(self) -> Role {
        match self {
            Role::Master => Role::Replica,
            Role::Replica => Role::Master,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Role::ALL.into_iter().find(|role| role.name() == text).ok_or(())
    }
}
