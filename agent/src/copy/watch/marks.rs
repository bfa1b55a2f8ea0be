//! The keys that were written and not yet copied again, and what is known of all that was read.

use super::members::Members;
use crate::record::{RecordedKey, WatchKind, WatchReport};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::{HashMap, HashSet};
use wire::members;
use wire::monitor::Request;
use wire::request::{Change, Key, Requests};
use wire::stream::Argument;

/// Beyond so many keys, or bytes of their names, a new sweep is shorter than a list.
const MOST_KEYS: usize = 200_000;
const MOST_BYTES: usize = 16 << 20;
/// Large keys that are followed by their members, and members of one that are marked before the whole key is.
const MOST_FOLLOWED: usize = 1000;
const MOST_MEMBERS: usize = 10_000;
/// Names of commands that are counted apart; servers have some hundreds.
const MOST_NAMES: usize = 4096;

/// Keys by database and name, up to a bound.
#[derive(Debug, Default)]
struct Keys {
    keys: HashSet<Key>,
    bytes: usize,
}

impl Keys {
    /// Adds a key. Returns false if there are too many.
    fn add(&mut self, key: Key) -> bool {
        let length = key.1.len();
        if self.keys.insert(key) {
            self.bytes += length;
        }
        self.keys.len() <= MOST_KEYS && self.bytes <= MOST_BYTES
    }

    fn clear(&mut self) {
        *self = Keys::default();
    }
}

/// Keys written since somebody asked for them to be noted down.
#[derive(Debug)]
enum Recorded {
    Keys(Keys),
    /// There were too many, or a command did not say which.
    Any,
}

/// Where a barrier stands in what was read.
#[derive(Clone, Debug)]
pub struct Echo {
    /// Requests before it, by the names of their commands.
    pub counts: HashMap<String, u64>,
    /// Requests before it that may have changed something.
    pub writes: u64,
}

/// Shows that a sweep began within a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    /// Databases were emptied on purpose before the sweep, so that many deletions are explained.
    pub flushed: bool,
}

/// The knowledge of one watch. Another watch begins with another value.
#[derive(Debug, Default)]
pub struct Marks {
    /// Empty while there is none.
    id: String,
    requests: Requests,
    marked: Keys,
    /// Large keys of which the target has every member that is not marked.
    followed: HashMap<Key, Members>,
    /// Bytes of their marked members.
    member_bytes: usize,
    functions: bool,
    /// Any key may have been written since the newest sweep began.
    everything: bool,
    flushed: bool,
    /// A sweep that began within this watch ended, and nothing was missed since.
    whole: bool,
    /// It was compared with the source's own count.
    validated: bool,
    writes: u64,
    last_write: Option<u64>,
    counts: HashMap<String, u64>,
    nonce: Vec<u8>,
    echo: Option<Echo>,
    recorded: Option<Recorded>,
    pub barrier_us: Option<u64>,
    pub bytes: u64,
    lines: u64,
    /// The reason why there is no watch.
    broken: Option<String>,
    breaks: u64,
}

impl Marks {
    /// Begins a watch. Nothing of an earlier one is kept but how often it broke.
    pub fn open(&mut self, id: String, requests: Requests) {
        *self = Marks {
            id,
            requests,
            breaks: self.breaks,
            ..Marks::default()
        };
    }

    /// Ends the watch, if it is still this one.
    pub fn close(&mut self, why: &str) {
        let breaks = self.breaks + u64::from(self.is_open());
        *self = Marks {
            breaks,
            broken: Some(why.into()),
            ..Marks::default()
        };
    }

    pub fn is_open(&self) -> bool {
        !self.id.is_empty()
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn is_whole(&self) -> bool {
        self.is_open() && self.validated && self.whole
    }

    pub fn why(&self) -> String {
        self.broken.clone().unwrap_or_else(|| "it has not begun yet".into())
    }

    pub fn validate(&mut self) {
        self.validated = true;
    }

    /// Notes clients that wait to move an element since before the watch.
    pub fn wait_unseen(&mut self, clients: HashSet<String>) {
        self.requests.wait_unseen(clients);
    }

    /// Keeps those of them that waited when the barrier that was read last was asked for.
    pub fn still_wait(&mut self, clients: &HashSet<String>) {
        self.requests.still_wait(clients);
    }

    pub fn has_unseen(&self) -> bool {
        self.requests.has_unseen()
    }

    /// Waits for this nonce in what is read.
    pub fn expect(&mut self, nonce: &[u8]) {
        self.nonce = nonce.to_vec();
        self.echo = None;
    }

    pub fn echo(&mut self) -> Option<Echo> {
        self.echo.take()
    }

    /// Takes a request. Returns true if it is the barrier that is waited for.
    pub fn take(&mut self, request: &Request) -> Result<bool, String> {
        self.lines += 1;
        let name = request.arguments.first().and_then(Argument::bytes).unwrap_or_default();
        self.count(name);
        match self.requests.change(request)? {
            Change::Nothing => {}
            Change::Keys(keys) => {
                self.wrote(request.at);
                self.mark_all(keys, request);
            }
            Change::Functions => {
                self.wrote(request.at);
                self.functions = true;
            }
            Change::Everything { flushed } => {
                self.wrote(request.at);
                // Only a watch that knew every key knows that nothing else went.
                self.flushed |= flushed && self.whole;
                self.everything();
            }
        }
        let second = request.arguments.get(1).and_then(Argument::bytes);
        let is_echo = name.eq_ignore_ascii_case(b"echo") && !self.nonce.is_empty();
        if !is_echo || second != Some(&self.nonce) {
            return Ok(false);
        }
        self.echo = Some(Echo {
            counts: self.counts.clone(),
            writes: self.writes,
        });
        Ok(true)
    }

    fn count(&mut self, name: &[u8]) {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if let Some(count) = self.counts.get_mut(&name) {
            *count += 1;
        } else if self.counts.len() < MOST_NAMES {
            self.counts.insert(name, 1);
        }
    }

    fn wrote(&mut self, at: u64) {
        self.writes += 1;
        self.last_write = Some(at);
    }

    /// Marks the keys of a request, or only members of one that is followed by them.
    fn mark_all(&mut self, keys: Vec<Key>, request: &Request) {
        let members = if self.followed.is_empty() {
            None
        } else {
            members::of(&request.arguments)
        };
        for key in keys {
            self.note(&key);
            match &members {
                Some((names, members)) if has(names, &key.1) && self.mark_members(&key, members) => {}
                _ => self.mark_whole(key),
            }
        }
    }

    fn mark(&mut self, key: Key) {
        self.note(&key);
        self.mark_whole(key);
    }

    /// Notes down a written key if somebody asked for that.
    fn note(&mut self, key: &Key) {
        if let Some(Recorded::Keys(keys)) = &mut self.recorded
            && !keys.add(key.clone())
        {
            self.recorded = Some(Recorded::Any);
        }
    }

    fn mark_whole(&mut self, key: Key) {
        self.forget(&key);
        if !self.marked.add(key) {
            self.everything();
        }
    }

    /// Returns false if the whole key has to be marked.
    fn mark_members(&mut self, key: &Key, members: &members::Members) -> bool {
        let Some(followed) = self.followed.get_mut(key) else {
            return false;
        };
        self.member_bytes += followed.add(members);
        followed.len() <= MOST_MEMBERS && self.member_bytes <= MOST_BYTES
    }

    /// Follows a key by its members from now on. Returns false if there are too many such keys. A mark
    /// of the whole key stays.
    pub fn follow(&mut self, database: u32, key: &[u8]) -> bool {
        let key = (database, key.to_vec());
        self.forget(&key);
        let fits = self.is_open() && self.followed.len() < MOST_FOLLOWED;
        if fits {
            self.followed.insert(key, Members::default());
        }
        fits
    }

    /// Marks the whole key at its next write.
    pub fn unfollow(&mut self, database: u32, key: &[u8]) {
        self.forget(&(database, key.to_vec()));
    }

    fn forget(&mut self, key: &Key) {
        if let Some(members) = self.followed.remove(key) {
            self.member_bytes -= members.bytes();
        }
    }

    /// Returns the keys that have marked members.
    pub fn with_members(&self) -> Vec<Key> {
        let written = self.followed.iter().filter(|(_, members)| !members.is_empty());
        written.map(|(key, _)| key.clone()).collect()
    }

    /// Takes the marked members of a key. Their marks are gone before they are read.
    pub fn members(&mut self, key: &Key) -> Members {
        let members = self.followed.get_mut(key).map(std::mem::take).unwrap_or_default();
        self.member_bytes -= members.bytes();
        members
    }

    /// Any key may have been written: a new sweep is needed.
    pub fn everything(&mut self) {
        self.marked.clear();
        self.followed.clear();
        self.member_bytes = 0;
        self.everything = true;
        self.whole = false;
        if self.recorded.is_some() {
            self.recorded = Some(Recorded::Any);
        }
    }

    pub fn marked(&self) -> usize {
        let written = self.followed.values().filter(|members| !members.is_empty());
        self.marked.keys.len() + written.count() + usize::from(self.functions)
    }

    /// Takes some marked keys of one database. Their marks are gone before the keys are read, so that
    /// a write in between marks them again.
    pub fn some(&mut self, most: usize) -> Option<(u32, Vec<Vec<u8>>)> {
        let database = self.marked.keys.iter().next()?.0;
        let of_it = self.marked.keys.iter().filter(|key| key.0 == database);
        let some: Vec<Key> = of_it.take(most).cloned().collect();
        for key in &some {
            self.marked.keys.remove(key);
            self.marked.bytes -= key.1.len();
        }
        Some((database, some.into_iter().map(|(_, name)| name).collect()))
    }

    /// Takes the mark off one key. Returns true if it had one.
    pub fn unmark(&mut self, database: u32, key: &[u8]) -> bool {
        let had = self.marked.keys.remove(&(database, key.to_vec()));
        if had {
            self.marked.bytes -= key.len();
        }
        had
    }

    /// Returns whether functions may have changed, once.
    pub fn functions(&mut self) -> bool {
        std::mem::take(&mut self.functions)
    }

    /// Marks keys again that could not be copied.
    pub fn again(&mut self, database: u32, keys: Vec<Vec<u8>>) {
        for key in keys {
            self.mark((database, key));
        }
    }

    /// Notes that a sweep begins. Returns `None` without a watch.
    pub fn sweep_begins(&mut self) -> Option<Token> {
        if !self.is_open() || !self.validated {
            return None;
        }
        self.everything = false;
        Some(Token {
            id: self.id.clone(),
            flushed: self.flushed,
        })
    }

    /// Returns true if this is the watch of the token, and no key may differ that is not marked.
    pub fn stands(&self, token: &Token) -> bool {
        token.id == self.id && !self.everything
    }

    /// Notes that the sweep ended that began with this token.
    pub fn sweep_ended(&mut self, token: &Token) {
        if token.id == self.id && !self.everything {
            self.whole = true;
            self.flushed = false;
        }
    }

    /// Notes down from now on which keys are written, and those that are marked now.
    pub fn record(&mut self) {
        let mut keys = Keys::default();
        let by_members = self.followed.iter().filter(|(_, members)| !members.is_empty());
        let mut marked = self.marked.keys.iter().chain(by_members.map(|(key, _)| key));
        let all = marked.all(|key| keys.add(key.clone()));
        self.recorded = Some(if all { Recorded::Keys(keys) } else { Recorded::Any });
    }

    pub fn report(&self, writes: u64) -> WatchReport {
        let is_watch = self.is_open() && self.validated;
        WatchReport {
            kind: if is_watch { WatchKind::Monitor } else { WatchKind::None },
            why: (!is_watch).then(|| self.why()),
            id: self.id.clone(),
            whole: self.is_whole(),
            marked: self.marked() as u64,
            writes,
            last_write_us: self.last_write,
            barrier_us: self.barrier_us,
            lines: self.lines,
            bytes: self.bytes,
            breaks: self.breaks,
            recorded: None,
        }
    }

    /// Returns the report with the number of writes up to now, for the status.
    pub fn now(&self) -> WatchReport {
        self.report(self.writes)
    }

    /// Returns the keys that were noted down; `None` if they may be any.
    pub fn recorded(&self) -> Option<Vec<RecordedKey>> {
        let Some(Recorded::Keys(keys)) = &self.recorded else {
            return None;
        };
        let key = |(database, name): &Key| RecordedKey {
            database: *database,
            name: STANDARD.encode(name),
        };
        Some(keys.keys.iter().map(key).collect())
    }
}

/// Returns true if one of the arguments is the name of this key.
fn has(arguments: &[Argument], key: &[u8]) -> bool {
    arguments.iter().any(|argument| argument.bytes() == Some(key))
}

#[cfg(test)]
mod tests;
