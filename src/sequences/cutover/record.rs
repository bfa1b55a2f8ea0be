//! Keeps a cutover's entries in the environment's journal, written only while its lock is ours.

use super::history::{Entry, History};
use crate::effects::state::{Held, Journal};
use crate::model::error::{Doing, Error, Result};
use std::time::Duration;

/// The time that the lock must have left before a step that cannot be taken back.
const LOCK_RESERVE: Duration = Duration::from_secs(20);

/// A durable list of entries that only we may write to.
pub trait Record: Send {
    /// Returns what the entries so far mean.
    fn history(&self) -> Result<History>;
    /// Writes these entries together. They are durable when it returns.
    fn write(&mut self, entries: &[Entry]) -> impl Future<Output = Result<()>> + Send;
    /// Fails if somebody else may have the lock by now, by this computer's clock. Asks nobody.
    fn still_ours(&self) -> Result<()>;
    /// Asks the bucket whether the lock is ours, since our clock may have stood still. One request.
    fn confirm(&self) -> impl Future<Output = Result<()>> + Send;
}

/// The journal in the state bucket, under the environment's lock.
pub struct Ledger<'a> {
    journal: Journal,
    lock: &'a Held,
}

impl<'a> Ledger<'a> {
    pub fn new(journal: Journal, lock: &'a Held) -> Self {
        Ledger { journal, lock }
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }
}

impl Record for Ledger<'_> {
    fn history(&self) -> Result<History> {
        read(&self.journal)
    }

    async fn write(&mut self, entries: &[Entry]) -> Result<()> {
        self.lock.check(Duration::ZERO)?;
        let mut appended = Vec::new();
        for entry in entries {
            let detail = serde_json::to_value(entry).doing(|| "put an entry of the journal into JSON".into())?;
            let phase = match entry.phase() {
                Some(phase) => phase.name(),
                None => self.history()?.phase.map_or("", |phase| phase.name()),
            };
            appended.push((phase, entry.step(), detail));
        }
        self.journal.append_all(appended).await
    }

    fn still_ours(&self) -> Result<()> {
        self.lock.check(LOCK_RESERVE)
    }

    async fn confirm(&self) -> Result<()> {
        self.lock.confirm(LOCK_RESERVE).await
    }
}

/// A journal that is only looked at.
pub struct Reading(pub Option<Journal>);

impl Record for Reading {
    fn history(&self) -> Result<History> {
        self.0.as_ref().map_or_else(|| Ok(History::default()), read)
    }

    async fn write(&mut self, entries: &[Entry]) -> Result<()> {
        let steps: Vec<&str> = entries.iter().map(Entry::step).collect();
        Err(Error::failed(format!(
            "write {} into a journal that is only looked at",
            steps.join(", ")
        )))
    }

    fn still_ours(&self) -> Result<()> {
        Ok(())
    }

    async fn confirm(&self) -> Result<()> {
        Ok(())
    }
}

/// Returns what a stored journal means.
pub fn read(journal: &Journal) -> Result<History> {
    read_entries(journal.entries())
}

pub(super) fn read_entries(entries: &[crate::effects::state::Entry]) -> Result<History> {
    let mut history = History::default();
    for entry in entries {
        let entry: Entry = serde_json::from_value(entry.detail.clone())
            .doing(|| format!("understand the entry {:?} of the journal", entry.step))
            .map_err(|error| error.hint("another version of this program may have written it: use that one"))?;
        history.add(&entry);
    }
    Ok(history)
}
