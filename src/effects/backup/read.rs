//! Reads the catalogue from the bucket: one listing, and the small records beside the data.

use super::catalogue::{Catalogue, Finding, Log, Piece, Wrong};
use crate::effects::cloud::listing::Listed;
use crate::effects::cloud::s3::Bucket;
use crate::model::error::{Doing, Error, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use infra_agent::name::{COMMIT, LOG, Segment, TIMELINE};
use infra_agent::record::{Commit, SCHEMA_VERSION, Timeline};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// Number of records to read at once.
const PARALLEL: usize = 16;

/// Returns everything that an environment's hosts have uploaded.
pub async fn catalogue(bucket: &Bucket, env: &str) -> Result<Catalogue> {
    let listed = bucket.list(&prefix(env)).await?;
    let records: Vec<(String, Record)> = stream::iter(listed.iter().filter_map(|object| record_key(&object.key)))
        .map(|key| async move { Ok::<_, Error>((key.to_string(), read(bucket, key).await?)) })
        .buffered(PARALLEL)
        .try_collect()
        .await?;
    Ok(assemble(&prefix(env), &listed, records))
}

pub fn prefix(env: &str) -> String {
    format!("backups/{env}/")
}

pub fn log_prefix(env: &str) -> String {
    format!("backups/{env}/{LOG}/")
}

enum Record {
    Base(Box<Commit>),
    Timeline(Box<Timeline>),
    /// The record exists, but its content is not understood.
    Unknown(String),
}

fn record_key(key: &str) -> Option<&str> {
    let name = key.rsplit('/').next()?;
    (name == COMMIT || name == TIMELINE).then_some(key)
}

async fn read(bucket: &Bucket, key: &str) -> Result<Record> {
    let Some(object) = bucket.get(key).await? else {
        return Ok(Record::Unknown("it is gone".into()));
    };
    let record = if key.ends_with(COMMIT) {
        parse(&object.body).map(|commit| Record::Base(Box::new(commit)))
    } else {
        parse(&object.body).map(|timeline| Record::Timeline(Box::new(timeline)))
    };
    Ok(record.unwrap_or_else(Record::Unknown))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> std::result::Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// Reads the record of one base.
pub async fn commit(bucket: &Bucket, key: &str) -> Result<Option<Commit>> {
    let Some(object) = bucket.get(key).await? else {
        return Ok(None);
    };
    let commit = serde_json::from_slice(&object.body)
        .doing(|| format!("understand the backup's record {}", bucket.url(key)))
        .map_err(|error| error.hint("`infra backup verify` looks at all of them"))?;
    Ok(Some(commit))
}

fn assemble(prefix: &str, listed: &[Listed], records: Vec<(String, Record)>) -> Catalogue {
    let mut catalogue = Catalogue::default();
    let sizes: BTreeMap<&str, u64> = listed
        .iter()
        .map(|object| (object.key.as_str(), object.bytes))
        .collect();
    let mut committed: BTreeSet<String> = BTreeSet::new();
    let mut finding = |kind, what| catalogue.findings.push(Finding { kind, what });
    let mut bases = Vec::new();
    let mut logs: BTreeMap<String, Log> = BTreeMap::new();
    for (key, record) in records {
        match record {
            Record::Base(commit) => {
                let place = key.trim_end_matches(COMMIT).trim_end_matches('/').to_string();
                committed.insert(place.clone());
                // A record must name its own place.
                if commit.place != place || commit.schema_version > SCHEMA_VERSION {
                    finding(
                        Wrong::Checksum,
                        format!("the record {key} is not the one of this place"),
                    );
                    continue;
                }
                let missing: Vec<&str> = (commit.parts.iter())
                    .filter(|part| sizes.get(format!("{place}/{}", part.name).as_str()) != Some(&part.bytes))
                    .map(|part| part.name.as_str())
                    .collect();
                match missing.first() {
                    Some(first) => finding(
                        Wrong::Gap,
                        format!("the base {place} is not whole: {first} is missing or has another length"),
                    ),
                    None => bases.push(*commit),
                }
            }
            Record::Timeline(timeline) => {
                let id = key.split('/').rev().nth(1).unwrap_or_default().to_string();
                if timeline.id == id {
                    logs.entry(id).or_default().record = Some(*timeline);
                } else {
                    finding(
                        Wrong::Checksum,
                        format!("the record {key} is not the one of this timeline"),
                    );
                }
            }
            Record::Unknown(why) => finding(Wrong::Checksum, format!("the record {key} cannot be read: {why}")),
        }
    }
    let mut uncommitted: BTreeSet<&str> = BTreeSet::new();
    for object in listed {
        let Some(rest) = object.key.strip_prefix(prefix) else {
            continue;
        };
        if record_key(&object.key).is_some() {
            continue;
        }
        match rest.split('/').collect::<Vec<_>>().as_slice() {
            [LOG, timeline, name] => match name.parse::<Segment>() {
                Ok(segment) => logs.entry((*timeline).into()).or_default().pieces.push(Piece {
                    segment,
                    bytes: object.bytes,
                }),
                Err(_) => finding(Wrong::Gap, format!("{} is no segment of a log", object.key)),
            },
            [_, _, _, _] => {
                let place = object.key.rsplit_once('/').map_or("", |(place, _)| place);
                if !committed.contains(place) {
                    uncommitted.insert(place);
                }
            }
            _ => finding(Wrong::Gap, format!("{} is not one of ours", object.key)),
        }
    }
    let newest = bases
        .iter()
        .map(|base| base.generation.clone())
        .max()
        .unwrap_or_default();
    for place in uncommitted {
        // The newest base may still be in upload.
        let generation = place.rsplit('/').next().unwrap_or_default();
        if generation < newest.as_str() {
            finding(
                Wrong::Gap,
                format!("the base {place} has no commit record: it was never finished, or the record is gone"),
            );
        }
    }
    for log in logs.values_mut() {
        log.pieces.sort_by_key(|piece| piece.segment.number);
    }
    bases.sort_by(|a, b| (a.covers_from, &a.generation).cmp(&(b.covers_from, &b.generation)));
    catalogue.bases = bases;
    catalogue.timelines = logs;
    catalogue
}
