//! The number that grows with each taking of an environment's lock.
//!
//! It is apart from the lock, which each release removes. Each number is one conditional write over
//! the one before it. So no two takings share a number, and a crash leaves it unchanged or higher.

use super::Store;
use crate::model::error::{Error, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The name of the object in the environment's folder.
const FILE: &str = "lock-epoch.json";

#[derive(Deserialize, Serialize)]
struct Record {
    epoch: u64,
}

/// Claims a number above every earlier one.
pub async fn claim(store: &Store) -> Result<u64> {
    // Only holders claim numbers, so a few refusals mean that holders change all the time.
    for _ in 0..5 {
        let last = store.read::<Record>(FILE).await?;
        // The first number is the time in seconds, above those of an old environment of its name.
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
        Error::locked("claim an epoch of the lock: other commands keep taking and releasing it")
            .hint("run the same command again"),
    )
}
