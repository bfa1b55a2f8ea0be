//! Looks once more at what differed in the round before.

use super::super::setup::Ready;
use super::super::window::refused;
use super::found::{Difference, Found, is_due};
use super::judge::judge;
use super::made::{Made, are_looked_up};
use super::rows::differences;
use crate::effects::redis::entries::Entries;
use crate::model::error::Result;
use std::collections::BTreeSet;

/// Differences that are looked at together.
const BATCH: usize = 500;

pub(super) async fn look(ready: &Ready, before: &[Difference]) -> Result<Found> {
    let mut found = Found::default();
    let session = ready.source.connect().await?;
    for (at, ground) in ready.tables.iter().enumerate() {
        let own: Vec<&Difference> = before.iter().filter(|difference| difference.table == at).collect();
        if own.is_empty() {
            continue;
        }
        let mut redis = Entries::connect(&ready.target, ground.shape.database).await?;
        let casts = ground.casts(ground.shape.key_columns.iter().copied());
        for batch in own.chunks(BATCH) {
            let wanted: Vec<Vec<String>> = batch.iter().filter_map(|difference| difference.row.clone()).collect();
            let mut there = Vec::new();
            for row in ground.reader.matching(&session, &casts, &wanted).await? {
                if let Some(entry) = ground.shape.entry(&row).map_err(refused)?
                    && is_due(entry.expires_at)
                {
                    there.push((row, entry));
                }
            }
            let still = differences(at, ground, &mut redis, &there, &ready.mapping.tolerate).await?;
            // A key whose row is gone or has another key now is to be gone too.
            let named: BTreeSet<Vec<u8>> = there.iter().map(|(_, entry)| entry.key.clone()).collect();
            let differing: BTreeSet<Vec<u8>> = still.iter().map(|difference| difference.key.clone()).collect();
            still.into_iter().for_each(|difference| found.add(difference));
            let alone: Vec<Vec<u8>> = batch
                .iter()
                .map(|difference| difference.key.clone())
                .filter(|key| !named.contains(key) || (ground.shape.is_shared() && !differing.contains(key)))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
            let present = redis.present(&alone).await?;
            let pattern = ground.shape.pattern();
            if are_looked_up(ground) {
                let database = ground.shape.database;
                found.append(judge(ready, &session, &mut redis, database, &pattern, &present, &[]).await?);
            } else {
                found.append(remembered(ready, at, present).await?);
            }
        }
    }
    Ok(Found {
        rows: Default::default(),
        keys: Default::default(),
        ..found
    })
}

/// Holds keys against all rows of a table whose keys cannot be looked up.
async fn remembered(ready: &Ready, at: usize, present: Vec<Vec<u8>>) -> Result<Found> {
    let mut found = Found::default();
    if present.is_empty() {
        return Ok(found);
    }
    let ground = &ready.tables[at];
    let session = ready.source.connect().await?;
    let mut made = vec![Made::default(); ready.tables.len()];
    let mut rows = ground.reader.all(&session).await?;
    while let Some(row) = rows.next().await? {
        if let Some(entry) = ground.shape.entry(&row).map_err(refused)?
            && is_due(entry.expires_at)
        {
            made[at].add(super::super::window::identity(&entry.key, b""));
        }
    }
    drop(rows);
    let mut redis = Entries::connect(&ready.target, ground.shape.database).await?;
    let pattern = ground.shape.pattern();
    found.append(
        judge(
            ready,
            &session,
            &mut redis,
            ground.shape.database,
            &pattern,
            &present,
            &made,
        )
        .await?,
    );
    Ok(found)
}
