//! The state of an environment between commands, as it is in the bucket.

use super::role::Role;
use super::rotation::Rotation;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The form of [`State`] that this program writes.
pub const SCHEMA_VERSION: u32 = 1;

/// The state of an environment between commands.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct State {
    pub schema_version: u32,
    /// The pair number in client tokens; stored before the first RunInstances, new after `down`.
    pub generation: u64,
    /// The address in REDIS_URL of the app, now or later.
    #[serde(default)]
    pub endpoint: Option<String>,
    #[serde(default)]
    pub hosts: BTreeMap<Role, HostRecord>,
    /// The cutover's last phase, in words of `cutover`. Empty until hosts follow the source.
    #[serde(default)]
    pub phase: String,
    /// The id of the journal of the present or last cutover.
    #[serde(default)]
    pub cutover: Option<String>,
    #[serde(default)]
    pub source: SourceRecord,
    /// Restore instances, by instance id.
    #[serde(default)]
    pub restored: BTreeMap<String, HostRecord>,
    /// The password that is being replaced, and how far that is.
    #[serde(default)]
    pub rotation: Option<Rotation>,
}

/// One host of the pair. The instance id identifies it, since addresses move.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct HostRecord {
    pub instance_id: String,
    /// The pinned key, as a line of known_hosts without its host name. Empty before first contact.
    #[serde(default)]
    pub host_key: String,
    /// The next key; both are accepted while one replaces the other.
    #[serde(default)]
    pub next_host_key: Option<String>,
}

impl HostRecord {
    /// Returns the keys that the host may show, as lines of known_hosts without its host name.
    pub fn pinned(&self) -> impl Iterator<Item = &str> {
        let keys = [Some(&self.host_key), self.next_host_key.as_ref()]
            .into_iter()
            .flatten();
        keys.map(String::as_str).filter(|key| !key.is_empty())
    }

    /// Returns true if the first contact has come to its end.
    pub fn is_known(&self) -> bool {
        !self.host_key.is_empty() && self.next_host_key.is_none()
    }
}

/// The source that the pair follows or has left. It never holds the URL.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct SourceRecord {
    /// The platform's name of the add-on.
    #[serde(default)]
    pub addon: Option<String>,
    /// Host and port as last seen.
    #[serde(default)]
    pub address: Option<String>,
    #[serde(default)]
    pub version: Option<String>,
    /// The pinned certificate in PEM; hosts trust it while they may follow.
    #[serde(default)]
    pub certificate: Option<String>,
    /// Settings of redis.conf that the pair takes over from the source, such as `maxmemory-policy`.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

impl State {
    /// Returns a new environment. Its pair number is the time in seconds, and so was never used.
    pub fn begin(now: Timestamp) -> Self {
        State {
            schema_version: SCHEMA_VERSION,
            generation: u64::try_from(now.as_second()).unwrap_or_default(),
            ..State::default()
        }
    }
}
