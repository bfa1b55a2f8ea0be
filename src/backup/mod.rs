//! The operator's side of backups: which bases stand in the bucket, and whether one reads back as what its record says.
//!
//! Making bases is the hosts' work (`host::backup`); restoring one is not here yet.

use crate::cloud::s3::Bucket;
use crate::error::{Doing, Error, Result};
use crate::host::backup::BackupReport;
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The last object of a base: it says that the base is whole, and what is in it.
const COMMIT: &str = "/commit.json";

/// A base as its record in the bucket tells it.
#[derive(Clone, Debug, Serialize)]
pub struct BackupSummary {
    pub key: String,
    pub class: String,
    pub host: String,
    /// Of the compressed object.
    pub bytes: u64,
    pub keys: u64,
    pub sha256: String,
    pub finished_at: Timestamp,
}

/// The newest base that was committed, if there is one of this generation of the pair (seconds since 1970): what an earlier pair left says nothing of this one.
pub async fn newest(bucket: &Bucket, env: &str, generation: u64) -> Result<Option<BackupSummary>> {
    let listed = bucket.list(&format!("backups/{env}/")).await?;
    let newest = listed
        .iter()
        .filter(|listed| listed.key.ends_with(COMMIT))
        .max_by_key(|listed| listed.written_at);
    let Some(newest) = newest else { return Ok(None) };
    let Some(object) = bucket.get(&newest.key).await? else {
        return Ok(None);
    };
    let report: BackupReport = serde_json::from_slice(&object.body)
        .doing(|| format!("understand the backup's record {}", bucket.url(&newest.key)))?;
    let born = i64::try_from(generation).unwrap_or(i64::MAX);
    Ok(Some(summary(report)?).filter(|summary| summary.finished_at.as_second() >= born))
}

/// Reads a base back from the bucket, whole, and holds it against its record.
pub async fn read_back(bucket: &Bucket, report: &BackupReport) -> Result<BackupSummary> {
    let place = bucket.url(&report.key);
    let unproven = |found: String| {
        Err(Error::unproven(format!("prove the backup {place}: {found}"))
            .hint("run `infra up` again; `journalctl -u infra-backup` on the host says more"))
    };
    let Some(object) = bucket.get(&report.key).await? else {
        return unproven("there is no such object".into());
    };
    if object.body.len() as u64 != report.bytes {
        return unproven(format!(
            "it has {} bytes, its record says {}",
            object.body.len(),
            report.bytes
        ));
    }
    let digest = Sha256::digest(&object.body)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
    if digest != report.sha256 {
        return unproven(format!("its SHA-256 is {digest}, its record says {}", report.sha256));
    }
    summary(report.clone())
}

fn summary(report: BackupReport) -> Result<BackupSummary> {
    let finished_at = report
        .finished
        .parse()
        .doing(|| format!("read when the backup {} was finished", report.key))?;
    Ok(BackupSummary {
        key: report.key,
        class: report.class,
        host: report.host,
        bytes: report.bytes,
        keys: report.keys,
        sha256: report.sha256,
        finished_at,
    })
}
