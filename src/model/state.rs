//! The state of an environment between commands, as it is in the bucket.

use super::error::{Error, Result};
use super::failover::{Failover, Stage};
use super::follow::Follower;
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
    /// The failover that is under way, and how far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,
    /// The instance that a forced failover replaced, until it follows the new master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demoted: Option<String>,
    /// From how many seconds before its end on that instance may have writes that nobody else has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demoted_s: Option<u64>,
    /// The instance that is to be removed, since another one takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacing: Option<String>,
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
    /// How it is followed.
    #[serde(default, skip_serializing_if = "Follower::is_replication")]
    pub follower: Follower,
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

    /// Returns the role of an instance: the one stored here, since a failover changes both roles in
    /// one write; else the one of its tag.
    pub fn role_of(&self, instance: &str, tagged: Role) -> Role {
        let mut known = self.hosts.iter().filter(|(_, host)| !host.instance_id.is_empty());
        match known.find(|(_, host)| host.instance_id == instance) {
            Some((role, _)) => *role,
            None => tagged,
        }
    }

    /// Fails while the roles are moving, for commands that rely on them.
    pub fn refuse_failover(&self) -> Result<()> {
        match &self.failover {
            Some(failover) if failover.stage < Stage::Settling => Err(Error::failed(format!(
                "begin: a failover is under way since {}, and {}",
                failover.begun_at, failover.stage
            ))
            .hint(if failover.forced {
                "run `infra promote --force` to bring it to its end"
            } else {
                "run `infra promote` to bring it to its end; with `--force` if the old master is gone for good"
            })),
            Some(_) | None => Ok(()),
        }
    }

    /// Exchanges the hosts' roles.
    pub fn swap_roles(&mut self) {
        let (master, replica) = (self.hosts.remove(&Role::Master), self.hosts.remove(&Role::Replica));
        self.hosts.extend(master.map(|host| (Role::Replica, host)));
        self.hosts.extend(replica.map(|host| (Role::Master, host)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state = State::begin(Timestamp::UNIX_EPOCH);
        for (role, id) in [(Role::Master, "i-1"), (Role::Replica, "i-2")] {
            state.hosts.entry(role).or_default().instance_id = id.into();
        }
        state
    }

    #[test]
    fn the_stored_role_of_an_instance_counts_more_than_its_tag() {
        let mut state = state();
        state.swap_roles();
        assert_eq!(state.hosts[&Role::Master].instance_id, "i-2");
        assert_eq!(state.role_of("i-1", Role::Master), Role::Replica);
        assert_eq!(state.role_of("i-2", Role::Replica), Role::Master);
        // It was made since, or nothing is known yet.
        assert_eq!(state.role_of("i-3", Role::Replica), Role::Replica);
        assert_eq!(State::default().role_of("", Role::Master), Role::Master);
    }

    #[test]
    fn a_state_of_before_failovers_can_be_read_and_says_nothing_of_them() {
        let text = serde_json::to_string(&state()).unwrap();
        assert!(!text.contains("failover"), "{text}");
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state());
        assert!(state().refuse_failover().is_ok());
    }
}
