//! Compares keys of a restored engine with the live master: a restore may be another app's data.

use crate::effects::redis::compare;
use crate::effects::redis::compare::{Key, Options};
use crate::effects::redis::{Server, sample};
use crate::model::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

/// Number of keys to compare.
pub const KEYS: usize = 100;

/// Says how restored keys compare with the live master.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Sampled {
    pub keys: u64,
    /// Keys with the same value and expiry.
    pub same: u64,
    /// Keys that were written to since.
    pub different: u64,
    /// Keys that the master no longer has.
    pub missing: u64,
}

/// Compares some keys of `restored`, from each database by its share of all keys.
pub async fn against(restored: &Server, live: &Server) -> Result<Sampled> {
    let info = restored.connect(0).await?.info().await?;
    let all = info.keys().max(1);
    let mut keys = BTreeSet::new();
    // A different start each time.
    let start = RandomState::new().hash_one(all);
    for (database, counts) in &info.keyspace {
        let mut connection = restored.connect(*database).await?;
        let share = usize::try_from((KEYS as u64).saturating_mul(counts.keys).div_ceil(all)).unwrap_or(KEYS);
        let names = sample::keys(&mut connection, share, start).await?;
        keys.extend(names.into_iter().map(|name| Key {
            database: *database,
            name,
        }));
    }
    let keys: Vec<Key> = keys.into_iter().collect();
    let options = Options {
        rounds: 1,
        ..Options::default()
    };
    let found = compare::compare_keys(restored, live, &keys, &options).await?;
    let keys = keys.len() as u64;
    Ok(Sampled {
        keys,
        same: keys.saturating_sub(found.missing + found.different + found.uncomparable + found.expired),
        different: found.different + found.uncomparable,
        missing: found.missing + found.expired,
    })
}
