//! A tap with a clock: the first and last write in a server's stream since a mark, and which.

use crate::effects::redis::Server;
use crate::effects::redis::key::{Key, printable};
use crate::effects::redis::tap::{self, Dialled, DirtyKeys, Event, Tap};
use crate::model::error::{Kind, Result};
use jiff::Timestamp;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wire::commands::CommandTable;
use wire::info::Info;
use wire::touched::{Effect, Place, Touched};

/// How long it may take to read the stream up to where the source is.
pub(super) const READING: Duration = Duration::from_secs(10);

/// Number of written keys that are listed, each once for a command; further ones are only counted.
const LISTED: usize = 10_000;
/// More deletions than this are only counted, of keys and of fields.
pub(super) const MOST_DELETED: usize = 100_000;
/// Number of writes whose offsets are remembered.
const PLACED: usize = 10_000;

/// Writes and removals since the mark. Deletions count apart, because expiry looks the same.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub writes: u64,
    pub first_write_at: Option<Timestamp>,
    pub last_write_at: Option<Timestamp>,
    /// One line for each written key, for people: the key and the command.
    pub lines: Vec<String>,
    listed: HashSet<String>,
    /// The offset of each of the first writes, and the number of lines after it.
    placed: Vec<(u64, usize)>,
    pub deletions: u64,
    pub field_deletions: u64,
    /// Keys that were deleted in a known database; see `unplaced`.
    pub deleted: Vec<Key>,
    /// Keys that were deleted in a database that the stream did not name.
    pub unplaced: Vec<Vec<u8>>,
    pub deleted_fields: Vec<DeletedField>,
}

/// Writes that the source took after the fence.
#[derive(Default)]
pub struct Late {
    pub writes: u64,
    /// The written keys, each once for a command.
    pub lines: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedField {
    /// `None` if the stream did not name its database.
    pub database: Option<u32>,
    pub key: Vec<u8>,
    pub field: Vec<u8>,
}

impl Seen {
    fn add(&mut self, event: &Event) {
        match &event.effect {
            Effect::Nothing | Effect::Select(_) | Effect::Message => {}
            Effect::Removal(keys) => {
                self.deletions += keys.len() as u64;
                let listed = self.deleted.len() + self.unplaced.len();
                for key in keys.iter().take(MOST_DELETED.saturating_sub(listed)) {
                    match database(event, key) {
                        Some(database) => self.deleted.push(Key {
                            database,
                            name: key.name.clone(),
                        }),
                        None => self.unplaced.push(key.name.clone()),
                    }
                }
            }
            Effect::FieldRemoval(key, fields) => {
                self.field_deletions += fields.len() as u64;
                let listed = self.deleted_fields.len();
                for field in fields.iter().take(MOST_DELETED.saturating_sub(listed)) {
                    self.deleted_fields.push(DeletedField {
                        database: database(event, key),
                        key: key.name.clone(),
                        field: field.clone(),
                    });
                }
            }
            Effect::Write(keys) => self.count(event, keys),
            Effect::Everything => self.count(event, &[]),
        }
    }

    fn count(&mut self, event: &Event, keys: &[Touched]) {
        let now = Timestamp::now();
        self.writes += 1;
        self.first_write_at.get_or_insert(now);
        self.last_write_at = Some(now);
        for key in keys {
            if self.lines.len() < LISTED {
                let database = database(event, key).map_or("?".into(), |number| number.to_string());
                let line = format!("{} {} in database {database}", event.command, printable(&key.name));
                if self.listed.insert(line.clone()) {
                    self.lines.push(line);
                }
            }
        }
        if self.placed.len() < PLACED {
            self.placed.push((event.offset, self.lines.len()));
        }
    }

    /// Returns the writes up to an offset, without removals.
    pub fn writes_up_to(&self, offset: u64) -> Seen {
        let placed = self.placed.iter().take_while(|(at, _)| *at <= offset);
        let lines = placed.clone().last().map_or(0, |(_, lines)| *lines);
        Seen {
            writes: placed.count() as u64,
            lines: self.lines[..lines].to_vec(),
            ..Seen::default()
        }
    }
}

fn database(event: &Event, key: &Touched) -> Option<u32> {
    match key.place {
        Place::Selected => event.database,
        Place::Database(number) => Some(number),
    }
}

pub struct Watch {
    tap: Tap,
    seen: Arc<Mutex<Seen>>,
    table: Arc<CommandTable>,
}

impl Watch {
    /// Continues the stream of a replication id after an offset; `None` if the server cannot.
    pub async fn begin(server: &Server, table: Arc<CommandTable>, replid: &str, offset: u64) -> Result<Option<Watch>> {
        let info = server.connect(0).await?.info().await?;
        Watch::begin_over(None, server, table, info, replid, offset).await
    }

    /// Like [`Watch::begin`], over a connection that was opened in advance, and with the INFO that
    /// the server has just answered.
    pub async fn begin_over(
        open: Option<Dialled>,
        server: &Server,
        table: Arc<CommandTable>,
        info: Info,
        replid: &str,
        offset: u64,
    ) -> Result<Option<Watch>> {
        let knows = info.replid == replid || info.previous_replid.as_deref() == Some(replid);
        // A server that cannot continue would begin a full copy, so it is not asked.
        if !knows || info.master_repl_offset < offset {
            return Ok(None);
        }
        let from = Info {
            replid: replid.into(),
            master_repl_offset: offset,
            ..info
        };
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shown = seen.clone();
        let observer = move |event: &Event| lock(&shown).add(event);
        match Tap::over(open, server, &from, table.clone(), observer).await {
            Ok(tap) => Ok(Some(Watch { tap, seen, table })),
            Err(error) if error.kind() == Kind::Unproven => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns our engine's table of commands, for another watch.
    pub fn table(&self) -> Arc<CommandTable> {
        self.table.clone()
    }

    /// Waits until the stream was read up to an offset. Fails if it broke.
    pub async fn reach(&self, offset: u64, deadline: Duration) -> Result<()> {
        self.tap.reach(offset, deadline).await
    }

    /// Returns how far the stream was read.
    pub fn position(&self) -> u64 {
        self.tap.position()
    }

    /// Returns the keys that were written after an offset. Fails if the stream broke.
    pub fn dirty_since(&self, offset: u64) -> Result<DirtyKeys> {
        self.tap.dirty_since(offset)
    }

    /// Forgets keys that were written up to an offset, because they are known to be equal.
    pub fn forget(&self, offset: u64) {
        self.tap.forget(offset);
    }

    /// Fails if the stream broke.
    pub fn unbroken(&self) -> Result<()> {
        self.tap.dirty_since(self.tap.position()).map(drop)
    }

    /// Returns how long ago the last write was seen; `None` without a write since the mark.
    pub fn quiet_for(&self) -> Option<Duration> {
        let last = lock(&self.seen).last_write_at?;
        Some(Timestamp::now().duration_since(last).unsigned_abs())
    }

    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Begins to count again.
    pub fn mark(&self) {
        *lock(&self.seen) = Seen::default();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the commands that our master knows, since it has to apply the source's stream.
pub async fn command_table(master: &Server) -> Result<Arc<CommandTable>> {
    Ok(Arc::new(tap::command_table(&mut master.connect(0).await?).await))
}
