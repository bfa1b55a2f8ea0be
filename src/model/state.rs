//! What an environment remembers between commands, as it lies in the bucket.

use super::role::Role;
use super::rotation::Rotation;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The form of [`State`] that this program writes.
pub const SCHEMA_VERSION: u32 = 1;

/// What an environment remembers between commands.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct State {
    pub schema_version: u32,
    /// Part of every client token: stored before the first RunInstances, new after `down`, so that a `down` and an `up` give new machines.
    pub generation: u64,
    /// The address that the app's REDIS_URL names or will name.
    #[serde(default)]
    pub endpoint: Option<String>,
    #[serde(default)]
    pub hosts: BTreeMap<Role, HostRecord>,
    /// The cutover's phase as it was last written; its words are the cutover's business. Empty until hosts follow the source.
    #[serde(default)]
    pub phase: String,
    /// The id of the journal of the cutover that is under way or was the last.
    #[serde(default)]
    pub cutover: Option<String>,
    #[serde(default)]
    pub source: SourceRecord,
    /// Hosts beside the pair that a restore made, by instance id.
    #[serde(default)]
    pub restored: BTreeMap<String, HostRecord>,
    /// The password that is being replaced, and how far that is.
    #[serde(default)]
    pub rotation: Option<Rotation>,
}

/// One host of the pair, pinned by instance id since addresses move.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct HostRecord {
    pub instance_id: String,
    /// The pinned key, as a line of known_hosts without its host name. Empty before first contact.
    #[serde(default)]
    pub host_key: String,
    /// The key that is about to replace it; both are accepted while they are swapped.
    #[serde(default)]
    pub next_host_key: Option<String>,
}

/// The hosted Redis that the pair follows or left. Never its URL.
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
    /// The certificate that was pinned, PEM: hosts trust it for as long as they may follow.
    #[serde(default)]
    pub certificate: Option<String>,
    /// What redis.conf of the pair takes over from the source, such as `maxmemory-policy`.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

impl State {
    /// A new environment. Its generation is the time in seconds: also after the bucket was deleted it is one that was never used.
    pub fn begin(now: Timestamp) -> Self {
        State {
            schema_version: SCHEMA_VERSION,
            generation: u64::try_from(now.as_second()).unwrap_or_default(),
            endpoint: None,
            hosts: BTreeMap::new(),
            phase: String::new(),
            cutover: None,
            source: SourceRecord::default(),
            restored: BTreeMap::new(),
            rotation: None,
        }
    }
}
