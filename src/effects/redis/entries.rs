//! Writes imported entries only where nothing is yet, reads them back, and takes away what was just
//! written.
//!
//! No function here but [`Entries::replace`] and [`Entries::mend`] changes a value that somebody else wrote.

use super::{Connection, Server};
use crate::model::error::Result;
use crate::model::import::{Entry, Part};
use ::redis::{Pipeline, Value};
use wire::info::ServerRole;

mod mend;
mod read;
mod watch;

pub use mend::Mend;

/// Keys that one SCAN goes through; it takes the server about a millisecond.
const AT_ONCE: u32 = 2_000;

/// The connections by which one worker writes: one for pipelines, one for transactions with WATCH.
pub struct Entries {
    pipeline: Connection,
    watching: Connection,
    /// The server says when a key ends (Redis 7); else only how long that is from now on.
    says_when: bool,
}

/// The part that a write made; tells if anything was there before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// The part that is new, such as two members of three.
    pub made: Option<Part>,
    /// The rest was there already, and was left.
    pub was_there: bool,
}

impl Entries {
    pub async fn connect(server: &Server, database: u32) -> Result<Entries> {
        let mut pipeline = server.connect(database).await?;
        let watching = server.connect(database).await?;
        let says_when = pipeline.info().await?.version.major >= 7;
        Ok(Entries {
            pipeline,
            watching,
            says_when,
        })
    }

    /// Writes what is not there yet. A hash, set or sorted set is completed; any other value is
    /// written as a whole or left.
    pub async fn write_new(&mut self, entries: &[&Entry]) -> Result<Vec<Written>> {
        let mut written = vec![Written::default(); entries.len()];
        let mut commands = Pipeline::with_capacity(entries.len());
        let mut watched = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            if needs_watch(entry) {
                watched.push(at);
            } else {
                add_new(&mut commands, entry);
            }
        }
        let mut answers = self.pipeline.ask_all(&commands).await?.into_iter();
        for (at, entry) in entries.iter().enumerate() {
            if !needs_watch(entry) {
                written[at] = self.written(entry, &mut answers)?;
            }
        }
        for batch in watched.chunks(200) {
            let wanted: Vec<&Entry> = batch.iter().map(|at| entries[*at]).collect();
            for (at, made) in batch.iter().zip(self.create(&wanted).await?) {
                written[*at] = if made {
                    Written {
                        made: Some(entries[*at].part.clone()),
                        was_there: false,
                    }
                } else {
                    Written {
                        made: None,
                        was_there: true,
                    }
                };
            }
        }
        Ok(written)
    }

    /// Reads the answers to the commands of one entry.
    fn written(&self, entry: &Entry, answers: &mut impl Iterator<Item = Value>) -> Result<Written> {
        let results = match parts(&entry.part) {
            1 => vec![self.accepted(answers.next().unwrap_or(Value::Nil))?],
            several => {
                // MULTI and the queued commands answer first.
                for _ in 0..=several {
                    self.accepted(answers.next().unwrap_or(Value::Nil))?;
                }
                match self.accepted(answers.next().unwrap_or(Value::Nil))? {
                    Value::Array(results) => results,
                    _ => Vec::new(),
                }
            }
        };
        let is_new = |at: usize| matches!(results.get(at), Some(Value::Okay | Value::Int(1)));
        let made = kept(&entry.part, is_new);
        Ok(Written {
            was_there: made.as_ref().is_none_or(|made| parts(made) < parts(&entry.part)),
            made,
        })
    }

    /// Returns an answer that is no error, or one that says that the key has another type.
    fn accepted(&self, answer: Value) -> Result<Value> {
        match answer {
            Value::ServerError(error) if error.code() != "WRONGTYPE" => {
                Err(self.pipeline.explain("a write", error.into()))
            }
            answer => Ok(answer),
        }
    }

    /// Replaces what is there. A shared key gets the member, and keeps its others.
    pub async fn replace(&mut self, entries: &[&Entry], shared: bool) -> Result<()> {
        let mut commands = Pipeline::new();
        for entry in entries {
            commands.cmd("MULTI");
            if !shared {
                commands.cmd("DEL").arg(&entry.key);
            }
            add_whole(&mut commands, entry);
            commands.cmd("EXEC");
        }
        for answer in self.pipeline.ask_all(&commands).await? {
            self.accepted(answer)?;
        }
        Ok(())
    }

    /// Returns the keys of a pattern, one batch after the other; the cursor is 0 at the beginning
    /// and the end.
    pub async fn scan(&mut self, cursor: u64, pattern: &str) -> Result<(u64, Vec<Vec<u8>>)> {
        let mut command = ::redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(AT_ONCE);
        self.pipeline.query(&command).await
    }

    /// Returns those of the keys that are there.
    pub async fn present(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        let mut commands = Pipeline::with_capacity(keys.len());
        for key in keys {
            commands.cmd("EXISTS").arg(key);
        }
        let mut present = Vec::new();
        for (key, answer) in keys.iter().zip(self.pipeline.ask_all(&commands).await?) {
            if self.accepted(answer)? == Value::Int(1) {
                present.push(key.clone());
            }
        }
        Ok(present)
    }

    /// Returns true if the server says that it follows another one, and so takes no writes.
    pub async fn is_replica(&mut self) -> bool {
        self.pipeline
            .info()
            .await
            .is_ok_and(|info| info.role == ServerRole::Replica)
    }

    /// Returns memory in use and its limit; `None` for a server without one.
    pub async fn memory(&mut self) -> Result<(u64, Option<u64>)> {
        let info = self.pipeline.info().await?;
        Ok((info.used_memory, Some(info.maxmemory).filter(|most| *most > 0)))
    }
}

/// Lists, and collections that expire, are made as a whole: only a transaction does that where
/// nothing is.
fn needs_watch(entry: &Entry) -> bool {
    match entry.part {
        Part::String(_) => false,
        Part::List(_) => true,
        Part::Hash(_) | Part::Set(_) | Part::SortedSet(_) => entry.expires_at.is_some(),
    }
}

/// Returns how many commands write this part, one for each element.
fn parts(part: &Part) -> usize {
    match part {
        Part::String(_) | Part::List(_) => 1,
        Part::Hash(fields) => fields.len(),
        Part::Set(members) => members.len(),
        Part::SortedSet(members) => members.len(),
    }
}

/// Returns the elements that fit; `None` if no element does.
pub fn kept(part: &Part, fits: impl Fn(usize) -> bool) -> Option<Part> {
    fn chosen<T: Clone>(all: &[T], fits: impl Fn(usize) -> bool) -> Vec<T> {
        let numbered = all.iter().enumerate();
        numbered
            .filter(|(at, _)| fits(*at))
            .map(|(_, one)| one.clone())
            .collect()
    }
    let kept = match part {
        Part::String(_) | Part::List(_) => return fits(0).then(|| part.clone()),
        Part::Hash(fields) => Part::Hash(chosen(fields, fits)),
        Part::Set(members) => Part::Set(chosen(members, fits)),
        Part::SortedSet(members) => Part::SortedSet(chosen(members, fits)),
    };
    (!kept.is_empty()).then_some(kept)
}

fn add_new(commands: &mut Pipeline, entry: &Entry) {
    let several = parts(&entry.part) > 1;
    if several {
        commands.cmd("MULTI");
    }
    match &entry.part {
        Part::String(value) => {
            let command = commands.cmd("SET").arg(&entry.key).arg(value).arg("NX");
            if let Some(at) = entry.expires_at {
                command.arg("PXAT").arg(at);
            }
        }
        Part::Hash(fields) => {
            for (field, value) in fields {
                commands.cmd("HSETNX").arg(&entry.key).arg(field).arg(value);
            }
        }
        Part::Set(members) => {
            for member in members {
                commands.cmd("SADD").arg(&entry.key).arg(member);
            }
        }
        Part::SortedSet(members) => {
            for (member, score) in members {
                commands
                    .cmd("ZADD")
                    .arg(&entry.key)
                    .arg("NX")
                    .arg(score_text(*score))
                    .arg(member);
            }
        }
        Part::List(_) => {}
    }
    if several {
        commands.cmd("EXEC");
    }
}

fn add_whole(commands: &mut Pipeline, entry: &Entry) {
    match &entry.part {
        Part::String(value) => {
            commands.cmd("SET").arg(&entry.key).arg(value);
        }
        Part::List(items) => {
            commands.cmd("RPUSH").arg(&entry.key).arg(items);
        }
        Part::Hash(fields) => {
            let command = commands.cmd("HSET").arg(&entry.key);
            for (field, value) in fields {
                command.arg(field).arg(value);
            }
        }
        Part::Set(members) => {
            commands.cmd("SADD").arg(&entry.key).arg(members);
        }
        Part::SortedSet(members) => {
            let command = commands.cmd("ZADD").arg(&entry.key);
            for (member, score) in members {
                command.arg(score_text(*score)).arg(member);
            }
        }
    }
    if let Some(at) = entry.expires_at {
        commands.cmd("PEXPIREAT").arg(&entry.key).arg(at);
    }
}

/// Returns a score as Redis reads it back to the same number.
fn score_text(score: f64) -> String {
    match score {
        f64::INFINITY => "+inf".into(),
        f64::NEG_INFINITY => "-inf".into(),
        score => format!("{score:?}"),
    }
}

#[cfg(test)]
mod tests;
