//! The content of a lock: who holds it, from where, and since when.

use super::ProcessIdentity;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How long a lock holds without a renewal.
pub const LOCK_TERM: Duration = Duration::from_secs(60);

/// Names the holder of a lock, for the person who has to wait.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct LockRecord {
    /// Random; it proves that a lock is ours.
    pub id: String,
    pub who: String,
    pub host: String,
    pub process: u32,
    pub command: String,
    pub since: Timestamp,
    /// The end by the holder's clock. It is only shown, and never compared.
    pub until: Timestamp,
    pub renewals: u64,
    /// Grows with each taking of the lock; 0 in old versions and before it is claimed.
    #[serde(default)]
    pub epoch: u64,
    /// Identifies the holder for its own computer; some systems and old versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<ProcessIdentity>,
}

impl fmt::Display for LockRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on {} (process {}) runs `{}` since {}, lock {}",
            self.who,
            self.host,
            self.process,
            self.command,
            self.since.strftime("%H:%M:%S UTC"),
            self.id
        )
    }
}

impl LockRecord {
    pub(super) fn new(command: &str, now: Timestamp) -> Self {
        LockRecord {
            id: random_id(),
            who: user_name(),
            host: host_name(),
            process: std::process::id(),
            command: command.to_string(),
            since: now,
            until: until(now),
            renewals: 0,
            epoch: 0,
            identity: ProcessIdentity::own(),
        }
    }

    /// Returns true if the holder ran on this computer and is certainly dead. The host name is
    /// compared too, since a copy of a running virtual machine has the boot id of its original.
    pub(super) fn is_of_the_dead(&self) -> bool {
        self.host == host_name() && self.identity.as_ref().is_some_and(ProcessIdentity::is_dead)
    }
}

pub(super) fn until(now: Timestamp) -> Timestamp {
    now.checked_add((LOCK_TERM.as_secs() as i64).seconds()).unwrap_or(now)
}

/// Returns sixteen hexadecimal digits.
pub(super) fn random_id() -> String {
    use ssh_key::rand_core::{OsRng, RngCore};
    format!("{:016x}", OsRng.next_u64())
}

fn user_name() -> String {
    let by_id = nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map(|user| user.name);
    by_id
        .or_else(|| std::env::var("USER").ok())
        .unwrap_or_else(|| "somebody".into())
}

fn host_name() -> String {
    match nix::unistd::gethostname() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => "an unnamed host".into(),
    }
}
