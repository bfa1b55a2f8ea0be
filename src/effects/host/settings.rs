//! The values that a host depends on.

use super::backup;
use super::engine::Layout;
use super::programs::Binary;
use crate::model::config::Engine;
use crate::model::secret::Secret;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use trust::Policy;

pub const MODULE_FILE: &str = "/usr/local/lib/infra/infra-module.so";

/// Holds everything that makes one host differ from another.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The host's name in messages: `master` or `replica`.
    pub label: String,
    pub engine: Engine,
    pub position: Position,
    pub app_access: AppAccess,
    /// The address in the app's REDIS_URL; `None` for a host that no app uses.
    pub endpoint: Option<String>,
    /// In bytes.
    pub maxmemory: u64,
    /// Further lines of redis.conf: those of `infra.yml`, else those of the source.
    pub settings: BTreeMap<String, String>,
    /// The environment's own authority, in PEM.
    pub authority: String,
    /// In PEM, the certificate of a source that the engine itself followed by TLS before there was
    /// a tunnel. A master that was promoted then needs it on the way back.
    pub source_certificate: Option<String>,
    /// This host's certificate and its key, in PEM.
    pub certificate: String,
    pub certificate_key: Secret,
    pub passwords: Passwords,
    pub app: AppRights,
    /// `None`: this host has no agent.
    pub backup: Option<backup::Settings>,
    /// For a restore instance: the agent that builds its data before the engine starts.
    pub restored_by: Option<Binary>,
    /// The module that decides from where a user may log in.
    pub module: Binary,
    /// The exporters for Prometheus; `None` if none are wanted.
    pub exporters: Option<Exporters>,
    /// Private addresses of the hosts that may replicate from this one.
    pub replicas: Vec<IpAddr>,
}

/// The exporters of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exporters {
    /// This host's private address, which its certificate names.
    pub private: IpAddr,
    /// True if somebody may ask them over the network.
    pub scraped: bool,
}

impl Exporters {
    pub fn listens(&self) -> IpAddr {
        if self.scraped {
            self.private
        } else {
            Ipv4Addr::LOCALHOST.into()
        }
    }
}

/// Passwords of the pair's Redis users; the same on both hosts.
#[derive(Clone, Debug)]
pub struct Passwords {
    pub app: Password,
    pub replication: Password,
    pub backup: Password,
    pub monitoring: Password,
    pub admin: Password,
}

#[derive(Clone, Debug)]
pub struct Password {
    /// The password that the host itself uses.
    pub used: Secret,
    /// A second accepted password, while one replaces the other.
    pub also: Option<Secret>,
}

impl Password {
    pub fn only(secret: Secret) -> Self {
        Password {
            used: secret,
            also: None,
        }
    }

    /// Returns accepted passwords, in an order that keeps the file when the used one changes.
    pub fn accepted(&self) -> Vec<&Secret> {
        let mut all: Vec<&Secret> = [Some(&self.used), self.also.as_ref()].into_iter().flatten().collect();
        all.sort_unstable_by(|one, other| one.expose().cmp(other.expose()));
        // Both are the same if a rotation died between its two writes.
        all.dedup();
        all
    }
}

impl Passwords {
    /// Returns the password of the user `copy`. It is made from the administrator's, so that nobody
    /// has to keep it, and it changes with that.
    pub fn copy(&self) -> Password {
        let made = |from: &Secret| {
            let text = format!("copy {}", from.expose());
            Secret::new(infra_agent::digest::of(text.as_bytes()))
        };
        Password {
            used: made(&self.admin.used),
            also: self.admin.also.as_ref().map(made),
        }
    }
}

/// Rights of the app beyond those of every app, and their limits.
#[derive(Clone, Debug, Default)]
pub struct AppRights {
    /// Commands beyond the usual ones: `redis.app_commands` of infra.yml.
    pub commands: Vec<String>,
    /// Patterns of the keys that it may use; empty: all. `redis.app_keys`.
    pub keys: Vec<String>,
    /// Patterns of the channels that it may use; empty: all. `redis.app_channels`.
    pub channels: Vec<String>,
}

/// Says from where a host gets its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// Before the cutover: the master follows the source.
    FollowsSource(Upstream),
    /// Before the cutover, if the source lets nobody replicate: the master is one of its own, and a
    /// unit of the host copies the source's keys to it.
    CopiesSource(Copied),
    /// After the cutover: the master follows nobody.
    Master,
    /// The replica follows the master, over TLS as the user `replication`.
    FollowsMaster { address: String },
}

/// The source, as an address to copy from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub upstream: Upstream,
    /// Bytes of values that are read from the source in a second.
    pub rate: u64,
    /// Beginnings of names of keys that are not copied.
    pub leave_out: Vec<String>,
}

/// The source, as an address to replicate from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub host: String,
    pub port: u16,
    /// `None` if the source knows only a password.
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// The certificate that the source must show; `None` if it speaks no TLS.
    pub trust: Option<Policy>,
    /// The address of the master that the source sees, if it is known: for hints.
    pub seen_as: Option<String>,
}

impl Upstream {
    /// Returns the master of the pair, as its replica reaches it.
    pub fn master(address: &str, password: &Secret) -> Upstream {
        Upstream {
            host: address.into(),
            port: 6379,
            user: Some("replication".into()),
            password: Some(password.clone()),
            trust: None,
            seen_as: None,
        }
    }
}

/// Returns the default limit of Redis in bytes: two fifths of the machine, since a fork for a
/// backup may copy as much again, rounded down to 50 MiB.
pub fn default_maxmemory(machine: u64) -> u64 {
    const STEP: u64 = 50 << 20;
    let share = machine / 5 * 2;
    if share < STEP { share } else { share / STEP * STEP }
}

/// Says if the copy may log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyAccess {
    Open,
    Closed,
}

/// Says if the app may log in.
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
