//! Transactions that change a key only if it is as it was seen.

use super::{Entries, add_whole};
use crate::effects::fault;
use crate::model::error::Result;
use crate::model::import::{Entry, Part};
use ::redis::{Pipeline, Value};

/// How often a key may be changed by somebody else while it is watched.
const ATTEMPTS: u32 = 20;

impl Entries {
    /// Makes each key that is not there, as a whole. Returns which were made.
    pub(super) async fn create(&mut self, entries: &[&Entry]) -> Result<Vec<bool>> {
        if let Some(made) = self.try_create(entries).await? {
            return Ok(made);
        }
        // Another client writes one of the keys, so each key is tried alone.
        let mut made = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut created = None;
            for _ in 0..ATTEMPTS {
                created = self.try_create(&[entry]).await?;
                if created.is_some() {
                    break;
                }
            }
            made.push(created.is_some_and(|made| made.first() == Some(&true)));
        }
        Ok(made)
    }

    /// Returns `None` if one of the keys was changed meanwhile, and nothing was made.
    async fn try_create(&mut self, entries: &[&Entry]) -> Result<Option<Vec<bool>>> {
        let mut looking = Pipeline::new();
        let watch = looking.cmd("WATCH");
        for entry in entries {
            watch.arg(&entry.key);
        }
        for entry in entries {
            looking.cmd("EXISTS").arg(&entry.key);
        }
        let mut missing = Vec::with_capacity(entries.len());
        for answer in self.watching.ask_all(&looking).await?.into_iter().skip(1) {
            missing.push(matches!(self.accepted(answer)?, Value::Int(0)));
        }
        fault::point(format_args!("between look and making of keys"));
        let mut making = Pipeline::new();
        making.cmd("MULTI");
        let wanted = entries.iter().zip(&missing).filter(|(_, missing)| **missing);
        for (entry, _) in wanted {
            add_whole(&mut making, entry);
        }
        making.cmd("EXEC");
        let done = self.transaction(&making).await?;
        Ok(done.then_some(missing))
    }

    /// Takes away what was written, if it is still the same. Returns true if anything was taken
    /// away.
    pub async fn remove(&mut self, key: &[u8], made: &Part) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let mut looking = Pipeline::new();
            looking.cmd("WATCH").arg(key);
            add_look(&mut looking, key, made);
            let mut answers = self.watching.ask_all(&looking).await?.into_iter();
            answers.next();
            let mut removing = Pipeline::new();
            removing.cmd("MULTI");
            let removes = add_removal(&mut removing, key, made, answers);
            removing.cmd("EXEC");
            if self.transaction(&removing).await? {
                return Ok(removes);
            }
        }
        Ok(false)
    }

    /// Runs a transaction. Returns false if a watched key was changed, and nothing was done.
    pub(super) async fn transaction(&mut self, commands: &Pipeline) -> Result<bool> {
        let mut last = Value::Nil;
        for answer in self.watching.ask_all(commands).await? {
            last = self.accepted(answer)?;
        }
        match last {
            Value::Nil => Ok(false),
            Value::Array(results) => {
                for result in results {
                    self.accepted(result)?;
                }
                Ok(true)
            }
            _ => Ok(true),
        }
    }
}

fn add_look(commands: &mut Pipeline, key: &[u8], made: &Part) {
    match made {
        Part::String(_) => {
            commands.cmd("GET").arg(key);
        }
        Part::List(_) => {
            commands.cmd("LRANGE").arg(key).arg(0).arg(-1);
        }
        Part::Hash(fields) => {
            for (field, _) in fields {
                commands.cmd("HGET").arg(key).arg(field);
            }
        }
        // A member has no value of its own that somebody could have changed, but for a score.
        Part::Set(_) => {}
        Part::SortedSet(members) => {
            for (member, _) in members {
                commands.cmd("ZSCORE").arg(key).arg(member);
            }
        }
    }
}

fn add_removal(commands: &mut Pipeline, key: &[u8], made: &Part, mut found: impl Iterator<Item = Value>) -> bool {
    let is = |found: Option<Value>, value: &[u8]| matches!(found, Some(Value::BulkString(found)) if found == value);
    let mut removes = false;
    match made {
        Part::String(value) => {
            if is(found.next(), value) {
                commands.cmd("DEL").arg(key);
                removes = true;
            }
        }
        Part::List(items) => {
            let same = match found.next() {
                Some(Value::Array(found)) => {
                    found.len() == items.len()
                        && found.into_iter().zip(items).all(|(found, item)| is(Some(found), item))
                }
                _ => false,
            };
            if same {
                commands.cmd("DEL").arg(key);
                removes = true;
            }
        }
        Part::Hash(fields) => {
            for (field, value) in fields {
                if is(found.next(), value) {
                    commands.cmd("HDEL").arg(key).arg(field);
                    removes = true;
                }
            }
        }
        Part::Set(members) => {
            for member in members {
                commands.cmd("SREM").arg(key).arg(member);
                removes = true;
            }
        }
        Part::SortedSet(members) => {
            for (member, score) in members {
                let there = match found.next() {
                    Some(Value::BulkString(text)) => super::read::score(&text),
                    _ => None,
                };
                if there == Some(*score) {
                    commands.cmd("ZREM").arg(key).arg(member);
                    removes = true;
                }
            }
        }
    }
    removes
}
