//! The values that a host depends on.

use super::backup;
use super::engine::Layout;
use super::programs::Binary;
use crate::model::config::Engine;
use crate::model::secret::Secret;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The module that the engine loads.
pub const MODULE_FILE: &str = "/usr/local/lib/infra/infra-module.so";

/// Everything that makes one host differ from another.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What messages call the host: `master` or `replica`.
    pub label: String,
    pub engine: Engine,
    pub position: Position,
    pub app_access: AppAccess,
    /// Bytes.
    pub maxmemory: u64,
    /// Further lines of redis.conf: what the source has (`maxmemory-policy`, `notify-keyspace-events`, `databases`) under what `infra.yml` says.
    pub settings: BTreeMap<String, String>,
    /// The environment's own authority, PEM.
    pub authority: String,
    /// The source's certificate, PEM, where the source speaks TLS; trusted beside the authority for as long as the environment knows a source.
    pub source_certificate: Option<String>,
    /// This host's certificate, PEM, and its key.
    pub certificate: String,
    pub certificate_key: Secret,
    pub passwords: Passwords,
    pub app: AppRights,
    /// Nothing: this host has no agent.
    pub backup: Option<backup::Settings>,
    /// For a host beside the pair, which gets its data by a restore: the agent that builds it. Its engine starts once there is data.
    pub restored_by: Option<Binary>,
    /// The module that asks from where a user logs in.
    pub module: Binary,
    /// Private addresses of the hosts that may replicate from this one.
    pub replicas: Vec<IpAddr>,
}

/// Passwords of the users of Redis on the pair; the same on both hosts.
#[derive(Clone, Debug)]
pub struct Passwords {
    pub app: Password,
    pub replication: Password,
    pub backup: Password,
    pub monitoring: Password,
    pub admin: Password,
}

/// What one user logs in with.
#[derive(Clone, Debug)]
pub struct Password {
    /// The one that the host itself uses.
    pub used: Secret,
    /// Another that is accepted too, while one takes the other's place.
    pub also: Option<Secret>,
}

impl Password {
    pub fn only(secret: Secret) -> Self {
        Password {
            used: secret,
            also: None,
        }
    }

    /// All that are accepted, in an order that does not depend on which is used: the file with them stays the same when that changes.
    pub fn accepted(&self) -> Vec<&Secret> {
        let mut all: Vec<&Secret> = [Some(&self.used), self.also.as_ref()].into_iter().flatten().collect();
        all.sort_unstable_by(|one, other| one.expose().cmp(other.expose()));
        // The one in use is the new one already, where a rotation died between the two places that say so.
        all.dedup();
        all
    }
}

/// What the app may do beyond what every app may, and where.
#[derive(Clone, Debug, Default)]
pub struct AppRights {
    /// Commands beyond the usual ones: `redis.app_commands` of infra.yml.
    pub commands: Vec<String>,
    /// Patterns of the keys that it may use; empty: all. `redis.app_keys`.
    pub keys: Vec<String>,
    /// Patterns of the channels that it may use; empty: all. `redis.app_channels`.
    pub channels: Vec<String>,
}

/// Whom a host replicates from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// Before the cutover: the master follows the hosted Redis.
    FollowsSource(Upstream),
    /// After it: nobody.
    Master,
    /// The replica follows the master, over TLS as the user `replication`.
    FollowsMaster { address: String },
}

/// The source as something to replicate from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub host: String,
    pub port: u16,
    /// Nothing where the source knows only a password.
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub tls: bool,
}

/// What Redis may use of a machine where nobody says otherwise: two fifths, since a fork for a backup may have to copy as much again. Bytes, in steps of
/// 50 MiB where that leaves anything.
pub fn default_maxmemory(machine: u64) -> u64 {
    const STEP: u64 = 50 << 20;
    let share = machine / 5 * 2;
    if share < STEP { share } else { share / STEP * STEP }
}

/// Whether the app may log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppAccess {
    Open,
    Closed,
}

impl Settings {
    pub fn layout(&self) -> Layout {
        Layout::of(self.engine)
    }
}
