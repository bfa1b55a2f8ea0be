//! Restores that are made to see that they work, and what the bucket holds and costs.

use super::catalogue::Catalogue;
use super::restore::Restored;
use super::sample::Sampled;
use crate::effects::cloud::ec2::{Beside, Purpose};
use crate::effects::cloud::s3::{Bucket, If};
use crate::model::error::{Doing, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest time that a drill may take, seconds.
const LONGEST_S: i64 = 3 * 3600;

/// The newest drill of an environment, as the bucket keeps it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Report {
    pub drilled_at: Timestamp,
    /// The second that was restored; nothing: the latest state.
    pub at: Option<Timestamp>,
    pub base: String,
    pub keys: u64,
    pub expired: u64,
    /// From the first question to the last key.
    pub seconds: f64,
    pub engine: String,
    /// Where: an instance that was made for it, or the operator's computer.
    #[serde(default)]
    pub place: String,
    /// Some keys, held against the live master; nothing where that could not be asked.
    #[serde(default)]
    pub sampled: Option<Sampled>,
}

/// An instance of a drill that must have died: one that lives does not take that long.
pub fn is_left_over(beside: &Beside) -> bool {
    let age = |launched: Timestamp| Timestamp::now().duration_since(launched).as_secs();
    beside.purpose == Purpose::Drill && beside.launched_at.is_none_or(|launched| age(launched) > LONGEST_S)
}

impl Report {
    /// Of a drill here, without what only its end shows.
    pub fn new(restored: &Restored) -> Self {
        let loaded = restored.loaded.as_ref();
        Report {
            drilled_at: Timestamp::now(),
            at: restored.at,
            base: restored.base.clone(),
            keys: loaded.map_or(0, |loaded| loaded.keys),
            expired: loaded.map_or(0, |loaded| loaded.expired),
            seconds: 0.0,
            engine: loaded.map_or_else(String::new, |loaded| loaded.engine.clone()),
            place: "this computer".into(),
            sampled: None,
        }
    }
}

fn key(env: &str) -> String {
    format!("state/{env}/drill.json")
}

pub async fn remember(bucket: &Bucket, env: &str, report: &Report) -> Result<()> {
    let body = serde_json::to_vec(report).doing(|| "write the drill's report".into())?;
    bucket.put(&key(env), &body, &If::Always).await.map(drop)
}

pub async fn newest(bucket: &Bucket, env: &str) -> Result<Option<Report>> {
    let Some(object) = bucket.get(&key(env)).await? else {
        return Ok(None);
    };
    let report = serde_json::from_slice(&object.body).doing(|| format!("understand {}", bucket.url(&key(env))))?;
    Ok(Some(report))
}

/// A second that is covered, any of them alike.
pub fn some_second(catalogue: &Catalogue) -> Option<Timestamp> {
    let ranges = catalogue.covered();
    let length = |range: &super::catalogue::Range| {
        u64::try_from(range.until.as_second() - range.from.as_second()).unwrap_or(0) + 1
    };
    let all: u64 = ranges.iter().map(length).sum();
    if all == 0 {
        return None;
    }
    // The hasher's keys are random, and good enough to pick a second.
    let random = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), all);
    let mut nth = random % all;
    for range in &ranges {
        if nth < length(range) {
            return Timestamp::from_second(range.from.as_second() + i64::try_from(nth).ok()?).ok();
        }
        nth -= length(range);
    }
    None
}

/// What the bucket holds, and about what it costs. Prices: S3 standard storage in us-east-1, 2026: 0.023 $ a GB and month, 0.005 $ for 1,000 puts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Holdings {
    pub objects: u64,
    pub bytes: u64,
    pub storage_usd_month: f64,
    /// At the most that the settings allow: a piece of the log whenever it is due.
    pub puts_usd_month: f64,
}

pub fn holdings(catalogue: &Catalogue, period_s: u64, rpo_s: u64) -> Holdings {
    const MONTH_S: f64 = 30.4 * 86_400.0;
    let (mut objects, mut bytes) = (0_u64, 0_u64);
    for base in &catalogue.bases {
        objects += base.parts.len() as u64 + 1;
        bytes += base.bytes;
    }
    for log in catalogue.timelines.values() {
        objects += log.pieces.len() as u64 + 1;
        bytes += log.pieces.iter().map(|piece| piece.bytes).sum::<u64>();
    }
    let parts = catalogue.bases.last().map_or(1, |base| base.parts.len() as u64 + 1);
    let every = if rpo_s >= 8 { rpo_s - 5 } else { 1 };
    let puts = MONTH_S / every as f64 + MONTH_S / period_s.max(1) as f64 * parts as f64;
    Holdings {
        objects,
        bytes,
        storage_usd_month: bytes as f64 / 1e9 * 0.023,
        puts_usd_month: puts / 1000.0 * 0.005,
    }
}
