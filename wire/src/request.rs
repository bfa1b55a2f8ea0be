//! The keys that a request may change, from what MONITOR shows of it. Pure.
//!
//! Requests are no effects: SPOP does not tell what it took, and a list that a client waits for is
//! served within the push of another client. So a key too many is named at times, and never one too
//! few. What scripts and functions run is shown by itself.

use crate::commands::CommandTable;
use crate::monitor::{Origin, Request};
use crate::resp;
use crate::rows::{self, Keys, Rows};
use crate::stream::Argument;
use crate::touched::{Effect, Place, Touched};
use std::collections::{HashMap, HashSet};

/// Clients that wait to move an element. With more of them nothing is known any more.
const MOST_WAITING: usize = 4096;
/// How long a client may wait beyond its own limit, microseconds: servers look at limits now and then.
const SLACK: u64 = 10_000_000;

/// A key of a database.
pub type Key = (u32, Vec<u8>);

/// The change that a request may have made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    Keys(Vec<Key>),
    Functions,
    /// Any key of any database. `flushed`: whole databases may have been emptied on purpose.
    Everything {
        flushed: bool,
    },
}

/// Follows the requests of a server.
#[derive(Debug, Default)]
pub struct Requests {
    rows: Rows,
    table: CommandTable,
    waiting: HashMap<String, Waiting>,
    /// Clients that wait to move an element since before the first request that was seen.
    unseen: HashSet<String>,
}

/// A client that moves an element once there is one: a write to `from` writes `to` too.
#[derive(Debug)]
struct Waiting {
    database: u32,
    from: Vec<u8>,
    to: Vec<u8>,
    /// Microseconds since 1970; `None` for ever.
    until: Option<u64>,
}

impl Requests {
    /// Takes the server's own table for the commands that are not known here.
    pub fn new(rows: Rows, table: CommandTable) -> Self {
        Requests {
            rows,
            table,
            waiting: HashMap::new(),
            unseen: HashSet::new(),
        }
    }

    /// Notes clients, by their addresses, that may wait to move an element from and to unknown lists.
    pub fn wait_unseen(&mut self, clients: HashSet<String>) {
        self.unseen = clients;
    }

    /// Keeps those of them that still wait. Every request up to that moment has to be taken before.
    pub fn still_wait(&mut self, clients: &HashSet<String>) {
        self.unseen.retain(|client| clients.contains(client));
    }

    /// Returns true if a push may be moved on to a list that is not known.
    pub fn has_unseen(&self) -> bool {
        !self.unseen.is_empty()
    }

    /// Returns what a request may have changed. Fails if too many clients wait.
    pub fn change(&mut self, request: &Request) -> Result<Change, String> {
        let name = request.arguments.first().and_then(Argument::bytes).unwrap_or_default();
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        let row = self.rows.find(&name);
        // A client that asks for something waits no more.
        if let Origin::Client(client) = &request.origin
            && !(self.waiting.is_empty() && self.unseen.is_empty())
        {
            self.waiting.remove(client);
            self.unseen.remove(client);
        }
        let mut change = self.written(&name, row, request);
        if let (Some(Keys::Waiting(place)), Change::Keys(keys), Origin::Client(client)) =
            (row, &change, &request.origin)
        {
            self.wait(client, keys.clone(), request, place)?;
        }
        if let Change::Keys(keys) = &mut change {
            if self.has_unseen() && rows::may_fill_a_list(&name, row) {
                return Ok(Change::Everything { flushed: false });
            }
            self.served(keys, request.at);
        }
        Ok(change)
    }

    fn written(&self, name: &str, row: Option<Keys>, request: &Request) -> Change {
        let keys = match row {
            Some(Keys::Functions) => return functions(&request.arguments),
            Some(Keys::Databases) => {
                let flushed = name.starts_with("FLUSH");
                return Change::Everything { flushed };
            }
            Some(row) => rows::keys(row, &request.arguments),
            None => match self.table.effect(name, &request.arguments) {
                Some(Effect::Nothing) => return Change::Nothing,
                Some(Effect::Write(keys)) => Some(keys),
                _ => None,
            },
        };
        let place = |key: Touched| match key.place {
            Place::Selected => (request.database, key.name),
            Place::Database(database) => (database, key.name),
        };
        match keys {
            None => Change::Everything { flushed: false },
            Some(keys) if keys.is_empty() => Change::Nothing,
            Some(keys) => Change::Keys(keys.into_iter().map(place).collect()),
        }
    }

    fn wait(&mut self, client: &str, keys: Vec<Key>, request: &Request, place: usize) -> Result<(), String> {
        if self.waiting.len() >= MOST_WAITING {
            return Err(format!("more than {MOST_WAITING} clients wait for lists"));
        }
        let [(database, from), (_, to)] = <[Key; 2]>::try_from(keys).map_err(|_| "a move without two lists")?;
        let seconds = request
            .arguments
            .get(place)
            .and_then(Argument::bytes)
            .and_then(resp::number::<f64>);
        let until = match seconds {
            Some(seconds) if seconds > 0.0 => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a number above zero; the cast saturates"
                )]
                let micros = (seconds * 1e6) as u64;
                Some(request.at.saturating_add(micros).saturating_add(SLACK))
            }
            _ => None,
        };
        let waiting = Waiting {
            database,
            from,
            to,
            until,
        };
        self.waiting.insert(client.into(), waiting);
        Ok(())
    }

    /// Adds what clients that wait for one of these keys may have moved on, and so forth.
    fn served(&mut self, keys: &mut Vec<Key>, at: u64) {
        if self.waiting.is_empty() {
            return;
        }
        self.waiting
            .retain(|_, waiting| waiting.until.is_none_or(|until| until >= at));
        let mut next = 0;
        while let Some((database, name)) = keys.get(next).cloned() {
            for waiting in self.waiting.values() {
                let moves = waiting.database == database && waiting.from == name;
                if moves && !keys.iter().any(|(other, key)| *other == database && *key == waiting.to) {
                    keys.push((database, waiting.to.clone()));
                }
            }
            next += 1;
        }
    }
}

/// FUNCTION LIST and the like change nothing.
fn functions(arguments: &[Argument]) -> Change {
    let word = arguments.get(1).and_then(Argument::bytes).unwrap_or_default();
    let reads = ["LIST", "DUMP", "STATS", "HELP", "KILL"];
    if reads.iter().any(|read| word.eq_ignore_ascii_case(read.as_bytes())) {
        Change::Nothing
    } else {
        Change::Functions
    }
}

#[cfg(test)]
mod tests;
