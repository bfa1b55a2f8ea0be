//! Finds clients of the source that only look, such as a provider's agents. Nobody waits for them.
//!
//! The last command proves little: client libraries send INFO as a ready check, and an idle client
//! shows it for ever. An onlooker was there before the comparison, and only looked during it.

use super::clients::{does_nothing, is_strange, only_looks};
use crate::effects::redis::clients::{Baseline, Group};
use crate::effects::redis::connection::Connection;
use crate::effects::redis::control::{self, Client};
use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use crate::ui::Step;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often the clients are listed.
const PERIOD: Duration = Duration::from_millis(250);

/// Lists the source's clients until it is asked which of them only look.
pub(super) struct Onlookers {
    seen: Arc<Mutex<Sightings>>,
    listing: JoinHandle<()>,
    /// The source does not show its clients.
    hidden: bool,
}

impl Onlookers {
    /// Stands for a source that does not show its clients.
    pub(super) fn hidden() -> Self {
        Onlookers {
            seen: Arc::default(),
            listing: tokio::spawn(async {}),
            hidden: true,
        }
    }

    /// Begins to list the clients, over an open connection.
    pub(super) fn watch(mut source: Connection) -> Self {
        let seen = Arc::new(Mutex::new(Sightings::default()));
        let shared = seen.clone();
        let listing = tokio::spawn(async move {
            loop {
                let listed = list(&mut source).await;
                let failed = listed.is_err();
                lock(&shared).add(listed);
                if failed {
                    return;
                }
                tokio::time::sleep(PERIOD).await;
            }
        });
        Onlookers {
            seen,
            listing,
            hidden: false,
        }
    }

    /// Returns the clients that only look, and ends the lists. Watches idle ones for `patience` longer.
    pub(super) async fn known(&mut self, patience: Duration, step: &Step) -> Result<Baseline> {
        if self.hidden {
            return Ok(Baseline::hidden());
        }
        let end = Instant::now().after(patience);
        loop {
            let undecided = lock(&self.seen).undecided()?;
            match undecided {
                Some(0) => break,
                Some(_) if end.has_passed() => break,
                Some(clients) => step.update(format!(
                    "{clients} clients are idle and only looked before; watching them"
                )),
                None => step.update("listing the source's clients"),
            }
            tokio::time::sleep(PERIOD / 5).await;
        }
        self.listing.abort();
        let seen = lock(&self.seen);
        Ok(seen.onlookers())
    }
}

impl Drop for Onlookers {
    fn drop(&mut self) {
        self.listing.abort();
    }
}

fn lock(seen: &Mutex<Sightings>) -> MutexGuard<'_, Sightings> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn list(source: &mut Connection) -> Result<Vec<Client>> {
    let own = control::own_id(source).await?;
    let clients = control::clients(source).await?;
    Ok(clients.into_iter().filter(|client| is_strange(client, own)).collect())
}

/// The clients in the lists, by group, since ports and ids change with every connection. Pure.
#[derive(Default)]
struct Sightings {
    lists: usize,
    /// The time of the first list.
    begun: Option<Instant>,
    groups: BTreeMap<Group, Sighting>,
    failed: Option<String>,
}

#[derive(Default)]
struct Sighting {
    /// The ids of the first list; empty for a group that came later.
    at_first: BTreeSet<u64>,
    /// The last command of one of them was a look, however long ago.
    may_look: bool,
    /// One of them looked after the first list.
    looked: bool,
    did_else: bool,
}

impl Sightings {
    fn add(&mut self, listed: Result<Vec<Client>>) {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        match listed {
            Ok(clients) => self.add_list(&clients, begun.elapsed()),
            Err(error) => self.failed = Some(error.chain().join(": ")),
        }
    }

    /// `since_begun` is the time since the first list; a client idle for longer did nothing since.
    fn add_list(&mut self, clients: &[Client], since_begun: Duration) {
        let first = self.lists == 0;
        self.lists += 1;
        for client in clients {
            let sighting = self.groups.entry(Group::of(client)).or_default();
            if first {
                sighting.at_first.insert(client.id);
            }
            if only_looks(client) {
                sighting.may_look = true;
                // Idle seconds are rounded down.
                sighting.looked |= !first && Duration::from_secs(client.idle_seconds + 1) <= since_begun;
            } else if !does_nothing(client) {
                sighting.did_else = true;
            }
        }
    }

    /// Returns how many clients may yet turn out to be onlookers; `None` before the first list.
    fn undecided(&self) -> Result<Option<usize>> {
        if let Some(failed) = &self.failed {
            return Err(Error::failed("list the source's clients").because(failed.clone()));
        }
        let undecided = self
            .groups
            .values()
            .filter(|group| group.may_look && !group.looked && !group.did_else)
            .map(|group| group.at_first.len())
            .sum();
        Ok((self.lists > 0).then_some(undecided))
    }

    fn onlookers(&self) -> Baseline {
        let counted = self
            .groups
            .iter()
            .filter(|(_, seen)| seen.looked && !seen.did_else && !seen.at_first.is_empty())
            .map(|(group, seen)| (group.clone(), seen.at_first.len()));
        Baseline::counted(counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u64, name: &str, cmd: &str, idle_seconds: u64) -> Client {
        Client {
            cmd: cmd.into(),
            idle_seconds,
            ..Client::idle(id, "192.0.2.1:7", "default", name)
        }
    }

    fn lists(lists: &[&[Client]]) -> Sightings {
        let mut seen = Sightings::default();
        for (at, clients) in lists.iter().enumerate() {
            seen.add_list(clients, Duration::from_secs(at as u64));
        }
        seen
    }

    #[test]
    fn an_agent_that_looks_again_and_again_is_an_onlooker() {
        let seen = lists(&[
            &[client(1, "metrics", "info", 9)],
            &[client(1, "metrics", "info", 10)],
            &[client(1, "metrics", "info", 0)],
        ]);
        assert_eq!(seen.onlookers().len(), 1);
        assert_eq!(seen.undecided().unwrap(), Some(0));
    }

    #[test]
    fn an_idle_connection_after_its_ready_check_is_no_onlooker() {
        let seen = lists(&[&[client(1, "", "info", 100)], &[client(1, "", "info", 101)]]);
        assert!(seen.onlookers().is_empty());
        assert_eq!(seen.undecided().unwrap(), Some(1));
    }

    #[test]
    fn a_client_that_writes_once_is_no_onlooker() {
        let seen = lists(&[
            &[client(1, "", "info", 0)],
            &[client(1, "", "set", 0)],
            &[client(1, "", "info", 0)],
        ]);
        assert!(seen.onlookers().is_empty());
        assert_eq!(seen.undecided().unwrap(), Some(0));
    }

    #[test]
    fn a_client_that_came_after_the_comparison_began_is_no_onlooker() {
        let seen = lists(&[&[], &[client(1, "", "info", 0)], &[client(1, "", "info", 0)]]);
        assert!(seen.onlookers().is_empty());
        assert_eq!(seen.undecided().unwrap(), Some(0));
    }

    #[test]
    fn an_onlooker_may_log_in_anew() {
        let seen = lists(&[
            &[client(1, "metrics", "info", 0)],
            &[client(2, "metrics", "auth", 0)],
            &[client(2, "metrics", "info", 0)],
        ]);
        assert_eq!(seen.onlookers().len(), 1);
    }
}
