//! The number that grows with each taking of an environment's lock.
//!
//! It is kept apart from the lock, which is removed at each release. Each number is the content of one conditional write over the one before it, so that no two
//! takings have the same one, and a crash at any point leaves it as it was or higher.

use super::Store;
use crate::model::error::{Error, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// In the environment's folder.
const FILE: &str = "lock-epoch.json";

#[derive(Deserialize, Serialize)]
struct Record {
    epoch: u64,
}

/// Claims a number above every earlier one.
pub async fn claim(store: &Store) -> Result<u64> {
    // Only the lock's holder claims one: a few refusals mean that holders change all the time.
    for _ in 0..5 {
        let last = store.read::<Record>(FILE).await?;
        // The first one is the time in seconds: above those of an environment of the same name whose folder was removed.
        let epoch = match &last {
            Some(last) => last.value.epoch.saturating_add(1),
            None => u64::try_from(Timestamp::now().as_second()).unwrap_or(1).max(1),
        };
        let over = last.map(|last| last.etag);
        if store.write(FILE, &Record { epoch }, over.as_ref()).await?.is_some() {
            return Ok(epoch);
        }
    }
    Err(
        Error::locked("number this taking of the lock: others take and leave it all the time")
            .hint("run the same command again"),
    )
}
