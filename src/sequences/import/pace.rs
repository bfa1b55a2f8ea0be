//! Holds the reading of rows to a limit, so that the database serves its app first.

use crate::model::clock::Instant;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Holds all workers together to so many rows a second.
pub struct Pace {
    begun: Instant,
    /// Rows that were done before this run.
    before: Mutex<Option<u64>>,
    per_second: Option<u32>,
}

impl Pace {
    pub fn new(per_second: Option<u32>) -> Self {
        Pace {
            begun: Instant::now(),
            before: Mutex::new(None),
            per_second,
        }
    }

    /// Waits until so many rows in all are due.
    pub async fn wait(&self, rows: u64) {
        let Some(per_second) = self.per_second else {
            return;
        };
        let before = *self
            .before
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(rows);
        let due = Duration::from_secs_f64(rows.saturating_sub(before) as f64 / f64::from(per_second));
        tokio::time::sleep(due.saturating_sub(self.begun.elapsed())).await;
    }
}
