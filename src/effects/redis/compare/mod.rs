//! Compares two servers: every database that either has, every key, in both directions.
//!
//! The first round looks at everything, later ones only at keys that differed, since a target that
//! follows is always a little behind. A key that expired or was deleted since is then no
//! difference. Memory does not grow with the data: keys come in batches, large values in windows,
//! and a limited number of differing keys is kept. Beyond that limit the next round is full again.
//! `sweep` walks through a database, `quick` finds equal keys, `batch` compares the others.
//! `collections`, `fields`, `windows` and `streams` compare values; `expiry` compares times; `turns`
//! spreads requests. Writes *after* a key was looked at are deliberately not here: the tap follows
//! those.

mod batch;
mod collections;
mod difference;
#[cfg(test)]
mod engine_tests;
mod expiry;
mod fields;
mod kind;
mod pair;
mod quick;
mod replies;
mod rounds;
mod streams;
mod sweep;
#[cfg(test)]
mod tests;
mod turns;
#[cfg(test)]
mod uneven_tests;
mod verdicts;
mod windows;

pub use super::key::Key;
pub use difference::{DifferenceKind, Reason};
pub use pair::Comparator;

use super::Server;
use crate::model::error::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Options {
    /// Maximum number of rounds. The first one is full.
    pub rounds: u32,
    /// Time between two rounds.
    pub pause: Duration,
    /// Maximum number of differing keys in the result.
    pub first: usize,
    /// Maximum number of differing keys to keep for the next round; beyond it, that round is full.
    pub keep: usize,
    /// Beginnings of names of keys that are not looked at.
    pub leave_out: Vec<String>,
    /// The source is watched by MONITOR, so that bursts of requests are kept from it.
    pub spread: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            rounds: 5,
            pause: Duration::from_secs(1),
            first: 20,
            keep: 100_000,
            leave_out: Vec::new(),
            spread: false,
        }
    }
}

/// Says how far a comparison is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Counted from 1.
    pub round: u32,
    pub database: u32,
    /// Keys compared in this round, over all databases.
    pub done: u64,
    /// Keys to compare in this round, as far as known.
    pub total: u64,
    /// Keys that differ in this round.
    pub differing: u64,
}

/// The result of a comparison. Its fields are part of the JSON output and only ever grow.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Counts by database number.
    pub databases: BTreeMap<u32, DatabaseCounts>,
    /// Keys in the first, full round. A key that SCAN returns twice counts twice.
    pub compared: u64,
    /// Keys on the source and not on the target, after the last round, as the next three counts.
    pub missing: u64,
    /// Keys on the target and not on the source.
    pub extra: u64,
    pub different: u64,
    /// Keys of a type that cannot be compared, such as a module's.
    pub uncomparable: u64,
    /// Keys left out of the last round, since they had expired on one side only.
    pub expired: u64,
    /// More keys differed than are kept, so the four counts may count a key twice.
    pub counts_are_approximate: bool,
    pub first: Vec<DifferingKey>,
    pub rounds: Vec<Round>,
    /// How much two expiry times may differ: 0 if both servers report absolute times.
    pub expiry_tolerance_ms: u64,
    /// Keys that expire later on the target, which is no difference: Redis before 7 replicates
    /// relative times, so a key expires later by the time its command waited.
    pub expire_later: u64,
    /// The largest of these delays.
    pub expire_later_by_ms: u64,
    /// Parts of keys and servers that were not compared.
    pub not_compared: Vec<&'static str>,
    pub seconds: f64,
}

/// Key counts that the servers report before the first round; they include expired keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DatabaseCounts {
    pub source_keys: u64,
    pub target_keys: u64,
    pub compared: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DifferingKey {
    pub database: u32,
    /// Unprintable bytes are escaped, and long names shortened.
    pub key: String,
    pub kind: DifferenceKind,
    pub reason: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// True if the round looked at everything, not only at keys that had differed.
    pub full: bool,
    pub compared: u64,
    pub differing: u64,
    pub seconds: f64,
}

impl Comparison {
    /// Returns a sentence about keys that expire later on the target; `None` if there are none.
    pub fn later_said(&self) -> Option<String> {
        (self.expire_later > 0).then(|| {
            format!(
                "{} keys expire later on the master than on the source, by {} ms at most: Redis before 7 sends the time that is left, and what waits on its way expires later",
                self.expire_later, self.expire_later_by_ms
            )
        })
    }

    /// Returns true if no key differed after the last round.
    pub fn identical(&self) -> bool {
        self.missing + self.extra + self.different + self.uncomparable == 0
    }
}

pub async fn compare(
    source: &Server,
    target: &Server,
    options: &Options,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Comparison> {
    Comparator::connect(source, target)
        .await?
        .everything(options, &progress)
        .await
}

/// Compares these keys only. A [`Comparator`] keeps its connections, for callers in a hurry.
pub async fn compare_keys(source: &Server, target: &Server, keys: &[Key], options: &Options) -> Result<Comparison> {
    Comparator::connect(source, target).await?.keys(keys, options).await
}

/// A server that takes at most so many clients is on a small plan, where each connection counts.
pub const SMALL_PLAN: u64 = 64;

/// This is not compared if the source is older than Redis 7 and the target is not.
const DEAD_IDS: &str = "pending ids whose entry was deleted, which servers drop from Redis 7 on";

/// Said of every comparison, so that nobody takes it for more than it is.
const NOT_COMPARED: [&str; 7] = [
    "consumers of a stream's group that have nothing pending",
    "how often a pending entry was delivered",
    "idle times of stream consumers and pending entries",
    "how many entries a consumer group has read",
    "data of modules",
    "functions and cached scripts",
    "access times and encodings",
];
