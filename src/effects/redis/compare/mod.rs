//! Holds two servers against each other: every database that either has, every key, both ways.
//!
//! The first round looks at everything; later ones only at the keys that differed, since a target that follows is always a little behind. Keys that
//! expired or were deleted meanwhile are no differences when they are looked at again. Memory does not grow with the data: keys come in batches,
//! large values in windows, and of the differing keys a bounded number is kept (when that bound is passed, the next round is full again).
//!
//! `sweep` walks through a database, `quick` sorts out what is plainly equal, `batch` decides about some keys, `collections`, `fields`, `windows` and `streams` look into values, `expiry` knows the clocks.
//! Deliberately not here: any statement about writes *after* a key was looked at; that is the tap's.

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
    /// How often to look at most. The first round is full.
    pub rounds: u32,
    /// Between two rounds.
    pub pause: Duration,
    /// How many differing keys the result shows.
    pub first: usize,
    /// How many differing keys are kept for the next round, before it must be full again.
    pub keep: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            rounds: 5,
            pause: Duration::from_secs(1),
            first: 20,
            keep: 100_000,
        }
    }
}

/// How far a comparison is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Counted from 1.
    pub round: u32,
    pub database: u32,
    /// Keys looked at in this round, over all databases.
    pub done: u64,
    /// Keys to look at in this round, as far as known.
    pub total: u64,
    /// Found differing in this round.
    pub differing: u64,
}

/// What came of a comparison. Its fields are part of the JSON output and only ever grow.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// By database number.
    pub databases: BTreeMap<u32, DatabaseCounts>,
    /// Keys looked at in the first, full round. A key that a server shows twice while its tables grow counts twice.
    pub compared: u64,
    /// On the source and not on the target, after the last round; so the next three.
    pub missing: u64,
    /// On the target and not on the source.
    pub extra: u64,
    pub different: u64,
    /// Of a type that cannot be looked into, such as a module's.
    pub uncomparable: u64,
    /// Left out of the last round because they had expired on one side and not yet on the other.
    pub expired: u64,
    /// More keys differed than are kept: the four counts may count a key twice.
    pub counts_are_approximate: bool,
    /// Some of the differing keys.
    pub first: Vec<DifferingKey>,
    pub rounds: Vec<Round>,
    /// How much two expiry times may differ: 0 where both servers tell the absolute time.
    pub expiry_tolerance_ms: u64,
    /// Keys that expire later on the target than on the source, which is no difference: a source before Redis 7 sends relative times, and what waits
    /// on its way expires later by as long.
    pub expire_later: u64,
    /// By how much at most.
    pub expire_later_by_ms: u64,
    /// What of a key or a server was not looked at.
    pub not_compared: Vec<&'static str>,
    pub seconds: f64,
}

/// Key counts by the servers' own account, before the first round. Expired keys that were not yet removed are in them, so they may differ with nothing wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DatabaseCounts {
    pub source_keys: u64,
    pub target_keys: u64,
    /// Keys looked at in the first round.
    pub compared: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DifferingKey {
    pub database: u32,
    /// Bytes that are not printable are escaped; long names are cut.
    pub key: String,
    pub kind: DifferenceKind,
    pub reason: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// Looked at everything, not only at what had differed.
    pub full: bool,
    pub compared: u64,
    pub differing: u64,
    pub seconds: f64,
}

impl Comparison {
    /// What there is to say of keys that expire later on the target, if any do.
    pub fn later_said(&self) -> Option<String> {
        (self.expire_later > 0).then(|| {
            format!(
                "{} keys expire later on the master than on the source, by {} ms at most: Redis before 7 sends the time that is left, and what waits on its way expires later",
                self.expire_later, self.expire_later_by_ms
            )
        })
    }

    /// Whether, after the last round, no key was known to differ.
    pub fn identical(&self) -> bool {
        self.missing + self.extra + self.different + self.uncomparable == 0
    }
}

/// Compares everything.
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

/// Compares these keys only. Whoever needs it fast keeps a [`Comparator`], which keeps its connections.
pub async fn compare_keys(source: &Server, target: &Server, keys: &[Key], options: &Options) -> Result<Comparison> {
    Comparator::connect(source, target).await?.keys(keys, options).await
}

/// The same of a source before Redis 7 and a newer target.
const DEAD_IDS: &str = "pending ids whose entry was deleted, which servers drop from Redis 7 on";

/// What is said of every comparison, so that nobody takes it for more than it is.
const NOT_COMPARED: [&str; 7] = [
    "consumers of a stream's group that have nothing pending",
    "how often a pending entry was delivered",
    "idle times of stream consumers and pending entries",
    "how many entries a consumer group has read",
    "data of modules",
    "functions and cached scripts",
    "access times and encodings",
];
