//! Where a cutover's entries are kept: the environment's journal, written only while its lock is ours.

use super::history::{Entry, History};
use crate::effects::state::{Held, Journal};
use crate::model::error::{Doing, Error, Result};
use std::time::Duration;

/// What the lock must have left when something is begun that cannot be taken back.
const LOCK_RESERVE: Duration = Duration::from_secs(20);

/// A durable list of entries that only we may write to.
pub trait Record: Send {
    /// The entries so far.
    fn history(&self) -> Result<History>;
    /// Writes these entries together. Durable when it returns.
    fn write(&mut self, entries: &[Entry]) -> impl Future<Output = Result<()>> + Send;
    /// An error when somebody else may have taken over, by this computer's own clock. Asks nobody.
    fn still_ours(&self) -> Result<()>;
    /// The same by the bucket's own answer, for whatever could erase or open something: this computer's clock may have stood still. One request.
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

/// What a stored journal means; for whoever only wants to look.
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
