//! Compares everything in the bucket with its records and names.

use super::catalogue::{Catalogue, Finding, Wrong, moment};
use crate::effects::cloud::s3::{Bucket, LARGEST_OBJECT};
use crate::model::error::Result;
use crate::model::size;
use crate::ui::Step;
use futures_util::{StreamExt, stream};
use infra_agent::digest;
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;

const PARALLEL: usize = 16;
/// A base older than this many periods is an alarm.
pub const LATE_PERIODS: u64 = 2;
/// How often the log shows life without writes, by the agent's clock, and some time to upload that.
pub const SILENT: Duration = Duration::from_secs(300 + 60);

/// Holds how much was read, and the findings.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Proof {
    pub objects: u64,
    pub bytes: u64,
    pub findings: Vec<Finding>,
}

/// Reads every object and compares its digest with the one in its record or name.
pub async fn everything(bucket: &Bucket, env: &str, catalogue: &Catalogue, step: &Step) -> Result<Proof> {
    let log = super::read::log_prefix(env);
    let parts = catalogue.bases.iter().flat_map(|base| {
        base.parts
            .iter()
            .map(move |part| (format!("{}/{}", base.place, part.name), part.sha256.clone()))
    });
    let pieces = catalogue.timelines.iter().flat_map(|(id, timeline)| {
        let log = &log;
        timeline
            .pieces
            .iter()
            .map(move |piece| (format!("{log}{id}/{}", piece.segment), piece.segment.sha256.clone()))
    });
    let wanted: Vec<(String, String)> = parts.chain(pieces).collect();
    let all = wanted.len();
    let mut proof = Proof::default();
    let mut checks = stream::iter(wanted)
        .map(|(key, sha256)| async move { one(bucket, &key, &sha256).await })
        .buffer_unordered(PARALLEL);
    while let Some(checked) = checks.next().await {
        proof.objects += 1;
        match checked {
            Ok(bytes) => proof.bytes += bytes,
            Err(finding) => proof.findings.push(finding),
        }
        step.update(format!(
            "{} of {} objects, {}",
            size::count(proof.objects),
            size::count(all as u64),
            size::bytes(proof.bytes)
        ));
    }
    proof.findings.sort();
    Ok(proof)
}

async fn one(bucket: &Bucket, key: &str, sha256: &str) -> std::result::Result<u64, Finding> {
    let finding = |kind, what: String| Finding { kind, what };
    match bucket.get_within(key, LARGEST_OBJECT).await {
        Err(error) => Err(finding(Wrong::Unreachable, format!("{error:#}"))),
        Ok(None) => Err(finding(Wrong::Gap, format!("{key} is gone"))),
        Ok(Some(object)) => {
            let found = digest::of(&object.body);
            if found == sha256 {
                Ok(object.body.len() as u64)
            } else {
                Err(finding(
                    Wrong::Checksum,
                    format!("{key} has the SHA-256 {found}, and had another one when it was uploaded"),
                ))
            }
        }
    }
}

/// Returns findings about what is too old.
pub fn stale(catalogue: &Catalogue, now: Timestamp, period_s: u64, rpo_s: u64) -> Vec<Finding> {
    let age = |second: i64| u64::try_from(now.as_second() - second).unwrap_or(0);
    let mut found = Vec::new();
    let mut tell = |what| {
        found.push(Finding {
            kind: Wrong::Stale,
            what,
        });
    };
    match catalogue
        .bases
        .iter()
        .filter_map(|base| base.finished.parse::<Timestamp>().ok())
        .max()
    {
        None => tell("there is no base".into()),
        Some(finished) if age(finished.as_second()) > LATE_PERIODS * period_s => {
            tell(format!("the newest base is of {finished}"));
        }
        Some(_) => {}
    }
    let shipped = catalogue
        .timelines
        .values()
        .flat_map(|log| &log.pieces)
        .map(|piece| piece.segment.until)
        .max();
    match shipped {
        None => tell("there is no log".into()),
        Some(until) if age(until) > SILENT.as_secs() + rpo_s => tell(format!("the log ends at {}", moment(until))),
        Some(_) => {}
    }
    found
}
