//! The record of a stage.

use super::super::super::Phase;
use super::super::super::history::{Entry, History};
use super::super::super::record::Record;
use super::{APP_PASSWORD, SOURCE_PASSWORD};
use crate::effects::redis::Server;
use crate::model::error::{Error, Result};
use ::redis::{Cmd, Value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Entries that outlive a run, like those in a bucket.
pub struct Kept {
    pub(super) entries: Arc<Mutex<Vec<Entry>>>,
    pub(super) ours: Arc<AtomicBool>,
    pub(super) clock_stands: bool,
    pub(super) ends_with: Option<Phase>,
    pub(super) source_gets: Option<(Phase, Vec<Cmd>)>,
    pub(super) source: Server,
}

impl Record for Kept {
    fn history(&self) -> Result<History> {
        Ok(History::of(&self.entries.lock().unwrap()))
    }

    async fn write(&mut self, entries: &[Entry]) -> Result<()> {
        self.still_ours()?;
        for entry in entries {
            let stored = serde_json::to_string(entry).unwrap();
            assert!(
                !stored.contains(SOURCE_PASSWORD) && !stored.contains(APP_PASSWORD),
                "a secret is journaled: {stored}"
            );
            self.entries
                .lock()
                .unwrap()
                .push(serde_json::from_str(&stored).unwrap());
        }
        let begins = |wanted: Option<Phase>| wanted.is_some() && entries.iter().any(|entry| entry.phase() == wanted);
        if begins(self.ends_with) {
            self.ours.store(false, Ordering::SeqCst);
        }
        if let Some((_, commands)) = self.source_gets.as_ref().filter(|(phase, _)| begins(Some(*phase))) {
            let mut connection = self.source.connect(0).await?;
            for command in commands {
                connection.query::<Value>(command).await?;
            }
            // The app's own writes have waited in the pause.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    fn still_ours(&self) -> Result<()> {
        if self.ours.load(Ordering::SeqCst) || self.clock_stands {
            Ok(())
        } else {
            Err(Error::locked("go on: the lock was lost"))
        }
    }

    async fn confirm(&self) -> Result<()> {
        if self.ours.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err(Error::locked("go on: the lock was lost"))
        }
    }
}
