//! Restores for practice, and the size and cost of the bucket's content.

use super::catalogue::Catalogue;
use super::restore::Restored;
use super::sample::Sampled;
use crate::effects::cloud::ec2::{Purpose, RestoreInstance};
use crate::effects::cloud::s3::{Bucket, If};
use crate::model::error::{Doing, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest time of a drill, in seconds.
const LONGEST_S: i64 = 3 * 3600;

/// The newest drill of an environment, as the bucket keeps it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Report {
    pub drilled_at: Timestamp,
    /// The second that was restored; `None`: the latest state.
    pub at: Option<Timestamp>,
    pub base: String,
    pub keys: u64,
    pub expired: u64,
    /// Time from the first request to the last key.
    pub seconds: f64,
    pub engine: String,
    /// The place of the restore: an instance of its own, or the operator's computer.
    #[serde(default)]
    pub place: String,
    /// The comparison with the live master; `None` if the master could not be asked.
    #[serde(default)]
    pub sampled: Option<Sampled>,
}

/// Returns true if the drill of an instance must have died, since no drill takes that long.
pub fn is_left_over(temporary: &RestoreInstance) -> bool {
    let age = |launched: Timestamp| Timestamp::now().duration_since(launched).as_secs();
    temporary.purpose == Purpose::Drill && temporary.launched_at.is_none_or(|launched| age(launched) > LONGEST_S)
}

impl Report {
    /// Returns the report of a drill on this computer, without the fields that its end adds.
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

/// Returns a random covered second, each as likely as any other.
pub fn some_second(catalogue: &Catalogue) -> Option<Timestamp> {
    let ranges = catalogue.covered();
    let length = |range: &super::catalogue::Range| {
        u64::try_from(range.until.as_second() - range.from.as_second()).unwrap_or(0) + 1
    };
    let all: u64 = ranges.iter().map(length).sum();
    if all == 0 {
        return None;
    }
    // The hasher's keys are random enough to choose a second.
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

/// Size and rough cost, by us-east-1 in 2026: 0.023 $ per GB and month, 0.005 $ per 1,000 puts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Holdings {
    pub objects: u64,
    pub bytes: u64,
    pub storage_usd_month: f64,
    /// The maximum by the settings, with a segment of the log whenever one is due.
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
