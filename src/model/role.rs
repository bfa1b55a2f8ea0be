//! The roles of hosts.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

/// The role of a host in the pair.
#[derive(
    Clone, Copy, Debug, Deserialize, Display, EnumString, IntoStaticStr, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Role {
    Master,
    Replica,
}

impl Role {
    pub const ALL: [Role; 2] = [Role::Master, Role::Replica];

    /// Returns the word in tags, names of parameters and files.
    pub fn name(self) -> &'static str {
        self.into()
    }

    pub fn other(self) -> Role {
        match self {
            Role::Master => Role::Replica,
            Role::Replica => Role::Master,
        }
    }
}
