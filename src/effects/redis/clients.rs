//! Records who was connected at a moment, for a comparison with who is connected later. Pure.
//!
//! A switch is done when the clients match this baseline. The list is never empty, since a
//! provider's agents stay. Ports and ids change, so clients are counted by address without port,
//! user, name, library.

use super::control::Client;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Holds what clients have in common if only their connections differ.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The address without its port; empty for a client on a Unix socket.
    pub address: String,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub name: String,
    /// The name of the client's library, as it reports it.
    #[serde(default)]
    pub lib: String,
}

impl Group {
    pub fn of(client: &Client) -> Self {
        let address = match client.addr.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &client.addr,
        };
        Group {
            address: address.trim_matches(['[', ']']).into(),
            user: client.user.clone(),
            name: client.name.clone(),
            lib: client.lib.clone(),
        }
    }
}

/// Holds the number of clients in each group.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Baseline {
    groups: Vec<Counted>,
    /// The server does not show its clients, so nobody can be found to be a stranger.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    hidden: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
struct Counted {
    #[serde(flatten)]
    group: Group,
    count: usize,
}

impl Baseline {
    pub fn of<'a>(clients: impl IntoIterator<Item = &'a Client>) -> Self {
        let mut groups: BTreeMap<Group, usize> = BTreeMap::new();
        for client in clients {
            *groups.entry(Group::of(client)).or_default() += 1;
        }
        Baseline::counted(groups)
    }

    /// Returns a baseline with these numbers of clients.
    pub fn counted(groups: impl IntoIterator<Item = (Group, usize)>) -> Self {
        let groups = groups.into_iter().map(|(group, count)| Counted { group, count });
        Baseline {
            groups: groups.collect(),
            hidden: false,
        }
    }

    /// Returns the baseline of a server that does not show its clients.
    pub fn hidden() -> Self {
        Baseline {
            groups: Vec::new(),
            hidden: true,
        }
    }

    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    pub fn len(&self) -> usize {
        self.groups.iter().map(|counted| counted.count).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Returns clients beyond the recorded number of their group: its newest ones.
    pub fn strangers<'a>(&self, now: impl IntoIterator<Item = &'a Client>) -> Vec<&'a Client> {
        let mut left: BTreeMap<&Group, usize> = self
            .groups
            .iter()
            .map(|counted| (&counted.group, counted.count))
            .collect();
        let mut now: Vec<&Client> = now.into_iter().collect();
        now.sort_by_key(|client| client.id);
        now.retain(|client| match left.get_mut(&Group::of(client)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        });
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(id: u64, addr: &str, user: &str, name: &str) -> Client {
        Client::idle(id, addr, user, name)
    }

    #[test]
    fn a_reconnected_client_is_known_and_one_too_many_is_a_stranger() {
        let before = [
            client(1, "192.0.2.1:5000", "agent", "metrics"),
            client(2, "192.0.2.1:5001", "agent", "metrics"),
            client(3, "[2001:db8::1]:7", "default", ""),
        ];
        let baseline = Baseline::of(&before);
        let now = [
            client(9, "192.0.2.1:6000", "agent", "metrics"),
            client(7, "192.0.2.1:6001", "agent", "metrics"),
            client(10, "192.0.2.1:6002", "agent", "metrics"),
            client(11, "[2001:db8::1]:8", "default", ""),
            client(12, "192.0.2.1:6003", "default", ""),
        ];
        let strangers: Vec<u64> = baseline.strangers(&now).iter().map(|client| client.id).collect();
        assert_eq!(strangers, [10, 12]);
        assert_eq!(baseline.len(), 3);
    }

    #[test]
    fn a_baseline_is_read_back_as_it_was_written() {
        let baseline = Baseline::of(&[client(1, "192.0.2.1:5000", "agent", "metrics")]);
        let text = serde_json::to_string(&baseline).unwrap();
        assert_eq!(serde_json::from_str::<Baseline>(&text).unwrap(), baseline);
        assert!(Baseline::of(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn nobody_is_a_stranger_to_their_own_baseline(picks in prop::collection::vec((0u8..3, 0u8..2), 0..12), more in 0usize..4) {
            let all: Vec<Client> = picks.iter().enumerate()
                .map(|(id, (host, user))| client(id as u64, &format!("192.0.2.{host}:{id}"), &format!("u{user}"), ""))
                .collect();
            let baseline = Baseline::of(&all);
            prop_assert!(baseline.strangers(&all).is_empty());
            let late: Vec<Client> = (0..more).map(|n| client(100 + n as u64, "192.0.2.9:1", "u", "")).collect();
            prop_assert_eq!(baseline.strangers(all.iter().chain(&late)).len(), more);
        }
    }
}
