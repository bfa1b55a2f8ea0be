//! The durable record of a sequence of steps, each written *before* its effect.
//!
//! A journal is one object. Each entry rewrites it under the condition that nobody else wrote it,
//! so a second writer is refused, also after a takeover. The cutover knows what the entries mean.

use super::{Store, Stored};
use crate::effects::cloud::s3::Etag;
use crate::model::error::{Error, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One entry. It never holds a secret.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Entry {
    pub at: Timestamp,
    pub phase: String,
    pub step: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
struct Record {
    id: String,
    command: String,
    begun_at: Timestamp,
    entries: Vec<Entry>,
}

/// A journal that can be written to as long as nobody else writes to it.
pub struct Journal {
    store: Store,
    record: Record,
    /// The etag of the object when it was last read or written.
    etag: Etag,
}

impl Journal {
    /// Begins a new journal. Its id sorts by time: `20260131T101500Z-1f3a…`.
    pub async fn begin(store: &Store, command: &str) -> Result<Self> {
        let now = Timestamp::now();
        let record = Record {
            id: format!("{}-{}", now.strftime("%Y%m%dT%H%M%SZ"), super::lock_record::random_id()),
            command: command.to_string(),
            begun_at: now,
            entries: Vec::new(),
        };
        let etag = store
            .write(&file(&record.id), &record, None)
            .await?
            .ok_or_else(|| Error::failed(format!("begin the journal {}: there is one of this name", record.id)))?;
        Ok(Journal {
            store: store.clone(),
            record,
            etag,
        })
    }

    /// Returns the journal with this id; `None` if there is none.
    pub async fn open(store: &Store, id: &str) -> Result<Option<Self>> {
        let stored: Option<Stored<Record>> = store.read(&file(id)).await?;
        Ok(stored.map(|stored| Journal {
            store: store.clone(),
            record: stored.value,
            etag: stored.etag,
        }))
    }

    /// Returns the environment's newest journal; `None` if it never had one.
    pub async fn latest(store: &Store) -> Result<Option<Self>> {
        let listed = store.bucket().list(&store.key("journal/")).await?;
        let newest = listed
            .iter()
            .map(|listed| listed.key.as_str())
            .filter(|key| key.ends_with(".json"))
            .max();
        let id = newest
            .and_then(|key| key.rsplit('/').next())
            .and_then(|name| name.strip_suffix(".json"));
        match id {
            Some(id) => Journal::open(store, id).await,
            None => Ok(None),
        }
    }

    /// Writes one entry, durably. After an error it may be written: look before the effect.
    pub async fn append(&mut self, phase: &str, step: &str, detail: Value) -> Result<()> {
        self.append_all(vec![(phase, step, detail)]).await
    }

    /// Writes several entries, each with its phase and step, in one write.
    pub async fn append_all(&mut self, entries: Vec<(&str, &str, Value)>) -> Result<()> {
        let mut record = self.record.clone();
        let steps: Vec<&str> = entries.iter().map(|(_, step, _)| *step).collect();
        let steps = steps.join(", ");
        for (phase, step, detail) in entries {
            record.entries.push(Entry {
                at: Timestamp::now(),
                phase: phase.to_string(),
                step: step.to_string(),
                detail,
            });
        }
        let etag = self
            .store
            .write(&file(&record.id), &record, Some(&self.etag))
            .await?
            .ok_or_else(|| {
                Error::locked(format!(
                    "write {steps:?} to the journal {}: another process has written to it",
                    self.record.id
                ))
                .hint("let the other command finish, then run the same command again")
            })?;
        self.record = record;
        self.etag = etag;
        Ok(())
    }

    pub fn id(&self) -> &str {
        &self.record.id
    }

    pub fn command(&self) -> &str {
        &self.record.command
    }

    pub fn begun_at(&self) -> Timestamp {
        self.record.begun_at
    }

    pub fn entries(&self) -> &[Entry] {
        &self.record.entries
    }

    pub fn last(&self, step: &str) -> Option<&Entry> {
        self.record.entries.iter().rev().find(|entry| entry.step == step)
    }
}

fn file(id: &str) -> String {
    format!("journal/{id}.json")
}
