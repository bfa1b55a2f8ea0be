//! Holds everything in the bucket against what its records and names say.

use super::catalogue::{Catalogue, Finding, Wrong};
use crate::cloud::s3::Bucket;
use crate::error::Result;
use crate::ui::{Step, size};
use futures_util::{StreamExt, stream};
use infra_agent::digest;
use serde::Serialize;

const PARALLEL: usize = 16;

/// What was looked at.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Proof {
    pub objects: u64,
    pub bytes: u64,
    pub findings: Vec<Finding>,
}

/// Reads every object and compares its digest with the one that its record, or its name, has.
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
            .map(move |piece| (format!("{log}{id}/{}", piece.chunk), piece.chunk.sha256.clone()))
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
    match bucket.get(key).await {
        Err(error) => Err(finding(Wrong::Unreachable, error.chain().join(": "))),
        Ok(None) => Err(finding(Wrong::Gap, format!("{key} is gone"))),
        Ok(Some(object)) => {
            let found = digest::of(&object.body);
            if found == sha256 {
                Ok(object.body.len() as u64)
            } else {
                Err(finding(
                    Wrong::Checksum,
                    format!("{key} has the SHA-256 {found}, and not the one that it was put with"),
                ))
            }
        }
    }
}
