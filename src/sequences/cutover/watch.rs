//! A tap with the clock: when the stream of a server showed its first and last write since a mark, and which, for figures and for people.

use crate::effects::redis::key::{Key, printable};
use crate::effects::redis::tap::{CommandTable, Dialled, DirtyKeys, Effect, Event, Place, Tap, Touched};
use crate::effects::redis::{Info, Server};
use crate::model::error::{Kind, Result};
use jiff::Timestamp;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the stream may take to be read up to where the source is.
pub(super) const READING: Duration = Duration::from_secs(10);

/// So many written keys are listed, each once for a command; more are only counted.
const LISTED: usize = 10_000;
/// More deletions than this are only counted, of keys and of fields.
pub(super) const MOST_DELETED: usize = 100_000;

/// The writes and removals in the stream since the mark. Deletions count apart: the end of an expired key or field looks the same.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub writes: u64,
    pub first_write_at: Option<Timestamp>,
    pub last_write_at: Option<Timestamp>,
    /// What was written to which key, for people.
    pub lines: Vec<String>,
    listed: HashSet<String>,
    /// How many keys were deleted.
    pub deletions: u64,
    /// How many fields of hashes were.
    pub field_deletions: u64,
    /// Keys that were deleted, as far as their database was known; see `unplaced`.
    pub deleted: Vec<Key>,
    /// Keys that were deleted in a database that the stream had not told.
    pub unplaced: Vec<Vec<u8>>,
    pub deleted_fields: Vec<DeletedField>,
}

/// A field of a hash that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedField {
    /// Absent where the stream had not told its database.
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
    /// Continues the stream of a replication id after an offset; nothing where the server cannot continue it from there. `table` is an engine of ours'.
    pub async fn begin(server: &Server, table: Arc<CommandTable>, replid: &str, offset: u64) -> Result<Option<Watch>> {
        let info = Info::read(&mut server.connect(0).await?).await?;
        Watch::begin_with(server, table, info, replid, offset).await
    }

    /// The same for a server that was just asked for its state.
    pub async fn begin_with(
        server: &Server,
        table: Arc<CommandTable>,
        info: Info,
        replid: &str,
        offset: u64,
    ) -> Result<Option<Watch>> {
        Watch::begin_over(None, server, table, info, replid, offset).await
    }

    /// The same over a connection that was dialled before, while nobody waited.
    pub async fn begin_over(
        open: Option<Dialled>,
        server: &Server,
        table: Arc<CommandTable>,
        info: Info,
        replid: &str,
        offset: u64,
    ) -> Result<Option<Watch>> {
        let knows = info.replid == replid || info.previous_replid.as_deref() == Some(replid);
        // A server that cannot continue would begin a full copy: it is not even asked.
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

    /// Waits until the stream was read up to an offset. An error when it broke.
    pub async fn reach(&self, offset: u64, deadline: Duration) -> Result<()> {
        self.tap.reach(offset, deadline).await
    }

    /// How far it was read.
    pub fn position(&self) -> u64 {
        self.tap.position()
    }

    /// The keys that were written after an offset. An error when the stream broke.
    pub fn dirty_since(&self, offset: u64) -> Result<DirtyKeys> {
        self.tap.dirty_since(offset)
    }

    /// Keys written up to an offset are known to be equal.
    pub fn forget(&self, offset: u64) {
        self.tap.forget(offset);
    }

    /// An error when the stream broke.
    pub fn unbroken(&self) -> Result<()> {
        self.tap.dirty_since(self.tap.position()).map(drop)
    }

    /// How long ago the last write was seen; nothing where none was since the mark.
    pub fn quiet_for(&self) -> Option<Duration> {
        let last = lock(&self.seen).last_write_at?;
        Some(Timestamp::now().duration_since(last).unsigned_abs())
    }

    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Counts anew from here on.
    pub fn mark(&self) {
        *lock(&self.seen) = Seen::default();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The commands as our master knows them: it has to apply whatever stands in the source's stream.
pub async fn command_table(master: &Server) -> Result<Arc<CommandTable>> {
    Ok(Arc::new(CommandTable::of(&mut master.connect(0).await?).await))
}
