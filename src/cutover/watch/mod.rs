//! A server's stream of writes, watched in the background: which keys it touched, when, and whether it touched any.
//!
//! We ask for the stream as a replica would, but only where it can be *continued*: a server that would begin a full copy is not asked. We acknowledge nothing
//! but our being alive, so that no WAIT of the app counts us. A break in the stream is remembered and proves nothing.
//!
//! `stream` reads commands from bytes, `command` says what one means; both are pure.

mod command;
mod stream;

use crate::error::{Doing, Error, Result};
use crate::redis::compare::Key;
use crate::redis::stream::Stream;
use crate::redis::{Info, Server};
use crate::wait::Instant;
use command::{Effect, Touched};
use jiff::Timestamp;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How long the handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often we say that we are alive; a server drops a silent replica after a minute.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// So many written keys are listed for people.
const LISTED: usize = 20;
/// More dirty keys than this are not kept one by one.
const MOST_DIRTY: usize = 1_000_000;

/// What was written since the last time it was asked for.
#[derive(Debug)]
pub enum Dirty {
    Keys(Vec<Key>),
    /// A command that touches more than can be listed; which.
    Everything(String),
}

impl Dirty {
    pub fn is_nothing(&self) -> bool {
        matches!(self, Dirty::Keys(keys) if keys.is_empty())
    }
}

/// What the stream showed since the mark. Deletions count apart: the end of an expired key looks the same.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub writes: u64,
    pub first_write_at: Option<Timestamp>,
    pub last_write_at: Option<Timestamp>,
    /// The first keys that were written, for people.
    pub keys: Vec<String>,
    pub deletions: u64,
    pub deleted: Vec<Key>,
}

pub struct Watch {
    shared: Arc<Shared>,
    reading: JoinHandle<()>,
    place: String,
}

struct Shared {
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Default)]
struct State {
    offset: u64,
    broken: Option<String>,
    /// Unknown until the stream selects one.
    database: Option<u32>,
    /// Databases that a key of an unknown one may be in.
    databases: BTreeSet<u32>,
    dirty: HashSet<(u32, Vec<u8>)>,
    everything: Option<String>,
    seen: Seen,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Continues the stream after `offset` of the replication id; nothing where the server cannot continue it from there.
    pub async fn begin(server: &Server, replid: &str, offset: u64) -> Result<Option<Watch>> {
        let info = Info::read(&mut server.connect(0).await?).await?;
        let knows = info.replid == replid || info.previous_replid.as_deref() == Some(replid);
        if !knows
            || !info.backlog_active
            || info.backlog_first_byte_offset > offset + 1
            || info.master_repl_offset < offset
        {
            return Ok(None);
        }
        let stream = server.dial().await?;
        let continued = tokio::time::timeout(HANDSHAKE, handshake(server, stream, replid, offset)).await;
        let Some((reader, writer)) = continued.doing(|| format!("watch the stream of writes of {server}"))?? else {
            return Ok(None);
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                offset,
                databases: info.keyspace.keys().copied().chain([0]).collect(),
                ..State::default()
            }),
            moved: Notify::new(),
        });
        Ok(Some(Watch {
            reading: tokio::spawn(read(reader, writer, shared.clone())),
            shared,
            place: server.to_string(),
        }))
    }

    /// Waits until the stream was read up to an offset.
    pub async fn reach(&self, offset: u64, deadline: Duration) -> Result<()> {
        let end = Instant::now().after(deadline);
        loop {
            let moved = self.shared.moved.notified();
            self.unbroken()?;
            let at = self.shared.state().offset;
            if at >= offset {
                return Ok(());
            }
            if tokio::time::timeout(end.remaining(), moved).await.is_err() {
                return Err(Error::unproven(format!(
                    "watch the stream of writes of {}: it is at offset {at} and should be at {offset}",
                    self.place
                ))
                .hint("run the same command again"));
            }
        }
    }

    pub fn unbroken(&self) -> Result<()> {
        match &self.shared.state().broken {
            None => Ok(()),
            Some(why) => Err(
                Error::unproven(format!("watch the stream of writes of {}: it broke", self.place))
                    .because(why.clone())
                    .hint("run the same command again"),
            ),
        }
    }

    /// What was written since this was called last.
    pub fn take_dirty(&self) -> Dirty {
        let mut state = self.shared.state();
        let dirty = std::mem::take(&mut state.dirty);
        match state.everything.take() {
            Some(command) => Dirty::Everything(command),
            None => Dirty::Keys(
                dirty
                    .into_iter()
                    .map(|(database, name)| Key { database, name })
                    .collect(),
            ),
        }
    }

    /// Gives back what could not be dealt with.
    pub fn put_back(&self, dirty: Dirty) {
        let mut state = self.shared.state();
        match dirty {
            Dirty::Everything(command) => state.everything = Some(command),
            Dirty::Keys(keys) => state.dirty.extend(keys.into_iter().map(|key| (key.database, key.name))),
        }
    }

    pub fn seen(&self) -> Seen {
        self.shared.state().seen.clone()
    }

    /// Counts anew from here on.
    pub fn mark(&self) {
        self.shared.state().seen = Seen::default();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

type Halves = (BufReader<ReadHalf<Stream>>, WriteHalf<Stream>);

/// Logs in and asks for the stream; nothing when it is not continued.
async fn handshake(server: &Server, stream: Stream, replid: &str, offset: u64) -> Result<Option<Halves>> {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let mut ask = async |words: &[&str]| -> Result<String> {
        let doing = || format!("ask {server} for its stream of writes");
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        writer.write_all(request.as_bytes()).await.doing(doing)?;
        writer.flush().await.doing(doing)?;
        let mut reply = String::new();
        // Empty lines keep the connection alive while the server prepares.
        while reply.trim().is_empty() {
            reply.clear();
            if reader.read_line(&mut reply).await.doing(doing)? == 0 {
                return Err(Error::failed(doing()).because("it closed the connection"));
            }
        }
        Ok(reply.trim().to_string())
    };
    if let Some(password) = &server.password {
        let reply = match &server.user {
            Some(user) => ask(&["AUTH", user, password.expose()]).await?,
            None => ask(&["AUTH", password.expose()]).await?,
        };
        if reply != "+OK" {
            return Err(Error::failed(format!("log in to {server} for its stream of writes")).because(reply));
        }
    }
    let next = (offset + 1).to_string();
    let reply = ask(&["PSYNC", replid, &next]).await?;
    match reply.starts_with("+CONTINUE") {
        true => Ok(Some((reader, writer))),
        // What follows is a copy that nobody wants; closing the connection ends it.
        false => Ok(None),
    }
}

async fn read(mut reader: BufReader<ReadHalf<Stream>>, mut writer: WriteHalf<Stream>, shared: Arc<Shared>) {
    let reading = async {
        loop {
            match stream::next(&mut reader).await {
                Ok(command) => {
                    shared.state().take_in(&command);
                    shared.moved.notify_waiters();
                }
                Err(error) => return error,
            }
        }
    };
    let living = async {
        loop {
            if let Err(error) = writer
                .write_all(b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n0\r\n")
                .await
            {
                return error;
            }
            let _ = writer.flush().await;
            tokio::time::sleep(SIGN_OF_LIFE).await;
        }
    };
    let error = tokio::select! {
        error = reading => error,
        error = living => error,
    };
    shared.state().broken = Some(error.to_string());
    shared.moved.notify_waiters();
}

impl State {
    fn take_in(&mut self, command: &stream::Command) {
        match command::effect(&command.name, &command.arguments) {
            Effect::Nothing => {}
            Effect::Select(database) => {
                self.database = Some(database);
                self.databases.insert(database);
            }
            Effect::Deleted(touched) => {
                self.seen.deletions += 1;
                let keys = self.keys(&touched);
                if self.seen.deleted.len() < MOST_DIRTY {
                    self.seen.deleted.extend(keys.iter().map(|(database, name)| Key {
                        database: *database,
                        name: name.clone(),
                    }));
                }
                self.soil(keys);
            }
            Effect::Wrote(touched) => {
                self.count(&command.name, &touched);
                let keys = self.keys(&touched);
                self.soil(keys);
            }
            Effect::Everything(name) => {
                self.count(&name, &[]);
                self.everything = Some(name);
            }
        }
        self.offset += command.bytes;
    }

    fn count(&mut self, name: &str, touched: &[Touched]) {
        let now = Timestamp::now();
        self.seen.writes += 1;
        self.seen.first_write_at.get_or_insert(now);
        self.seen.last_write_at = Some(now);
        for key in touched {
            if self.seen.keys.len() < LISTED {
                let database = key.database.or(self.database);
                let database = database.map_or("?".into(), |number| number.to_string());
                let shown = crate::redis::key::printable(&key.name);
                self.seen.keys.push(format!("{name} {shown} in database {database}"));
            }
        }
    }

    /// In which databases these keys may be.
    fn keys(&self, touched: &[Touched]) -> Vec<(u32, Vec<u8>)> {
        let mut keys = Vec::new();
        for key in touched {
            match key.database.or(self.database) {
                Some(database) => keys.push((database, key.name.clone())),
                None => keys.extend(self.databases.iter().map(|database| (*database, key.name.clone()))),
            }
        }
        keys
    }

    fn soil(&mut self, keys: Vec<(u32, Vec<u8>)>) {
        self.dirty.extend(keys);
        if self.dirty.len() > MOST_DIRTY {
            self.dirty.clear();
            self.everything = Some(format!("more than {MOST_DIRTY} keys were written"));
        }
    }
}

#[cfg(test)]
mod tests;
