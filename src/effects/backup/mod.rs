//! The operator's side of backups: what the bucket holds, whether it is complete, and restores.
//!
//! The agent on the hosts makes bases and ships the log. `infra_agent` defines names and records.
//! `catalogue` decides without effects; `read`, `prove` and `restore` use the bucket.

pub mod catalogue;
pub mod drill;
pub mod load;
pub mod prove;
pub mod read;
pub mod restore;
pub mod sample;

use crate::effects::cloud::listing::Listed;
use crate::effects::cloud::s3::{Bucket, LARGEST_OBJECT};
use crate::model::error::{Doing, Error, Result};
use infra_agent::digest;
use infra_agent::name::{COMMIT, Class, Segment, TIMELINE};
use infra_agent::record::{Commit, Timeline};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// How far before the newest base a look back goes.
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A base by its record in the bucket.
#[derive(Clone, Debug, Serialize)]
pub struct BackupSummary {
    /// Key of the folder that holds it.
    pub key: String,
    pub class: String,
    pub host: String,
    /// Size of all parts, compressed.
    pub bytes: u64,
    pub keys: u64,
    /// Digest of the base, uncompressed.
    pub sha256: String,
    pub finished_at: Timestamp,
    /// Keys in the base before, if this one has less than a tenth of them.
    pub fell_from: Option<u64>,
}

/// The newest base, and one from which growth can be told.
#[derive(Clone, Debug)]
pub struct Recent {
    pub newest: BackupSummary,
    /// The oldest base of the week before the newest one; `None` if the newest one is the only one.
    pub earlier: Option<BackupSummary>,
}

/// Returns the newest committed base of this pair number (seconds since 1970); `None` if there is
/// none. Bases of an earlier pair say nothing of this one.
pub async fn newest(bucket: &Bucket, env: &str, generation: u64) -> Result<Option<BackupSummary>> {
    let committed = committed(bucket, env).await?;
    of_pair(bucket, committed.last(), generation).await
}

/// As `newest`, with an earlier base.
pub async fn recent(bucket: &Bucket, env: &str, generation: u64) -> Result<Option<Recent>> {
    let committed = committed(bucket, env).await?;
    let Some(newest) = of_pair(bucket, committed.last(), generation).await? else {
        return Ok(None);
    };
    let week_before = newest.finished_at - WEEK;
    let is_recent = |listed: &&Listed| listed.written_at.is_some_and(|at| at >= week_before);
    let earlier = committed
        .iter()
        .find(is_recent)
        .filter(|listed| !listed.key.starts_with(&newest.key));
    let earlier = of_pair(bucket, earlier, generation).await?;
    Ok(Some(Recent { newest, earlier }))
}

/// Lists the records of all committed bases, oldest first.
async fn committed(bucket: &Bucket, env: &str) -> Result<Vec<Listed>> {
    let mut committed = Vec::new();
    // The log is not listed, since it has thousands of objects.
    for class in [Class::Hourly, Class::Daily, Class::Monthly] {
        let listed = bucket.list(&format!("{}{}/", read::prefix(env), class.name())).await?;
        committed.extend(listed.into_iter().filter(|listed| listed.key.ends_with(COMMIT)));
    }
    committed.sort_by_cached_key(|listed| (listed.written_at, made_at(&listed.key).to_string()));
    Ok(committed)
}

/// Reads a record; `None` if there is none, or if it is of an earlier pair.
async fn of_pair(bucket: &Bucket, listed: Option<&Listed>, generation: u64) -> Result<Option<BackupSummary>> {
    let Some(listed) = listed else { return Ok(None) };
    let Some(commit) = read::commit(bucket, &listed.key).await? else {
        return Ok(None);
    };
    let born = i64::try_from(generation).unwrap_or(i64::MAX);
    Ok(Some(summary(&commit)?).filter(|summary| summary.finished_at.as_second() >= born))
}

/// Returns the time in a record's key, since S3 reports whole seconds only.
fn made_at(key: &str) -> &str {
    key.rsplit('/').nth(1).unwrap_or_default()
}

/// The result of a short look at the log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The second up to which the newest segment covers; `None` if there is no segment.
    pub until: Option<Timestamp>,
    /// Gaps that the agent declared, as far back as the log reaches.
    pub gaps: Vec<String>,
}

/// Returns the end of the log and its gaps without listing its segments; `None` if there is no log.
pub async fn log(bucket: &Bucket, env: &str) -> Result<Option<Log>> {
    let timelines = bucket.folders(&read::log_prefix(env)).await?;
    if timelines.is_empty() {
        return Ok(None);
    }
    let mut log = Log::default();
    for timeline in timelines.iter().rev() {
        let last = bucket.last_numbered(timeline).await?;
        let segment = last.and_then(|key| key.rsplit('/').next()?.parse::<Segment>().ok());
        if let Some(segment) = segment {
            log.until = Timestamp::from_second(segment.until).ok();
            break;
        }
    }
    for timeline in &timelines {
        if let Some(object) = bucket.get(&format!("{timeline}{TIMELINE}")).await?
            && let Ok(record) = serde_json::from_slice::<Timeline>(&object.body)
            && let Some(gap) = record.gap
        {
            log.gaps.push(format!(
                "after {}, before {}: {}",
                catalogue::moment(gap.after),
                record.started_at,
                gap.why
            ));
        }
    }
    Ok(Some(log))
}

/// Reads a whole base back from the bucket and compares it with its record.
pub async fn read_back(bucket: &Bucket, commit: &Commit) -> Result<BackupSummary> {
    let place = bucket.url(&commit.place);
    let unproven = |found: String| {
        Err(Error::unproven(format!("prove the backup {place}: {found}"))
            .hint("run `infra up` again; `journalctl -u infra-agent` on the host says more"))
    };
    for part in &commit.parts {
        let Some(object) = bucket
            .get_within(&format!("{}/{}", commit.place, part.name), LARGEST_OBJECT)
            .await?
        else {
            return unproven(format!("{} is not there", part.name));
        };
        let digest = digest::of(&object.body);
        if digest != part.sha256 {
            return unproven(format!(
                "the SHA-256 of {} is {digest}, its record says {}",
                part.name, part.sha256
            ));
        }
    }
    summary(commit)
}

fn summary(commit: &Commit) -> Result<BackupSummary> {
    let finished_at = commit
        .finished
        .parse()
        .doing(|| format!("read when the backup {} was finished", commit.place))?;
    Ok(BackupSummary {
        key: commit.place.clone(),
        class: commit.class.clone(),
        host: commit.host.clone(),
        bytes: commit.bytes,
        keys: commit.keys,
        sha256: commit.plain_sha256.clone(),
        finished_at,
        fell_from: commit.fell_from,
    })
}
