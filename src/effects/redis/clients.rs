//! Who was connected at a moment, to be held against who is connected later. Pure.
//!
//! The end of a switch is that baseline and not an empty list: a provider's own agents never leave. Ports and ids change with every reconnection, so clients are
//! kept as groups (address without port, user, name, library) with a count. Which clients belong into a baseline is for the caller to say.

use super::control::Client;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Clients that nothing tells apart but their connection.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Address without the port; empty for a client of a Unix socket without one.
    pub address: String,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub name: String,
    /// What the client's library calls itself.
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

/// How many of each group there were.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Baseline {
    groups: Vec<Counted>,
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

    /// A baseline of so many clients of each group.
    pub fn counted(groups: impl IntoIterator<Item = (Group, usize)>) -> Self {
        let groups = groups.into_iter().map(|(group, count)| Counted { group, count });
        Baseline {
            groups: groups.collect(),
        }
    }

    pub fn len(&self) -> usize {
        self.groups.iter().map(|counted| counted.count).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Who is there now and was not: the clients of a group beyond its recorded count, the longest connected of it counting as the recorded ones.
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
    fn who_reconnects_is_known_and_who_is_one_too_many_is_not() {
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
    fn it_is_read_back_as_it_was_written() {
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
