//! Every row of a table against its key.

use super::super::pace::Pace;
use super::super::ranges::Walk;
use super::super::setup::{Ground, Ready};
use super::super::window::{identity, refused};
use super::found::{Difference, Found, is_due, key_values};
use super::made::{Made, are_looked_up};
use crate::decide::import::compare::difference;
use crate::effects::fault;
use crate::effects::postgres::Session;
use crate::effects::redis::entries::Entries;
use crate::model::error::{Error, Result};
use crate::model::import::{Entry, Row, Tolerances};
use crate::model::size;
use crate::sequences::context::Context;
use crate::ui::Step;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Rows and bytes that are compared at once.
const ROWS: usize = 2_000;
const BYTES: usize = 1 << 20;

/// Compares all rows. Also returns the keys they have, if those cannot be looked up later.
pub(in super::super) async fn look(
    context: &Context,
    ready: &Ready,
    at: usize,
    ground: &Ground,
    step: &Step,
) -> Result<(Found, Made)> {
    let walking = ready.source.connect().await?;
    ground.check_keys(&walking).await?;
    let rows_per_s = ready.mapping.limits.rows_per_s.0;
    let looks = Looks {
        context,
        ready,
        at,
        ground,
        step,
        walk: Mutex::new(Walk::begin(ground, None, rows_per_s)),
        walking,
        rows: AtomicU64::new(0),
        pace: Pace::new(rows_per_s),
        collects: !are_looked_up(ground),
    };
    let workers = if ground.has_ranges {
        ready.mapping.limits.parallel
    } else {
        1
    };
    let parts = futures_util::future::try_join_all((0..workers).map(|_| looks.worker())).await?;
    ground.check_schema(&looks.walking).await?;
    let (mut found, mut made) = (Found::default(), Made::default());
    for (part, keys) in parts {
        found.append(part);
        made.append(keys);
    }
    found
        .rows
        .insert(ground.shape.label.clone(), looks.rows.load(Ordering::Relaxed));
    Ok((found, made))
}

struct Looks<'a> {
    context: &'a Context,
    ready: &'a Ready,
    at: usize,
    ground: &'a Ground,
    step: &'a Step,
    walk: Mutex<Walk<'a>>,
    walking: Session,
    rows: AtomicU64,
    pace: Pace,
    collects: bool,
}

impl Looks<'_> {
    async fn worker(&self) -> Result<(Found, Made)> {
        let (session, redis) = tokio::try_join!(
            self.ready.source.connect(),
            Entries::connect(&self.ready.target, self.ground.shape.database)
        )?;
        let mut redis = redis;
        let (mut found, mut made) = (Found::default(), Made::default());
        loop {
            let Some(range) = self.walk.lock().await.next(&self.walking).await? else {
                return Ok((found, made));
            };
            let mut rows = self.ground.reader.range(&session, &range).await?;
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next().await? {
                self.rows.fetch_add(1, Ordering::Relaxed);
                let Some(entry) = self.ground.shape.entry(&row).map_err(refused)? else {
                    continue;
                };
                if !is_due(entry.expires_at) {
                    continue;
                }
                if self.collects {
                    made.add(identity(&entry.key, b""));
                }
                bytes += entry.key.len() + entry.part.bytes();
                batch.push((row, entry));
                if batch.len() >= ROWS || bytes >= BYTES {
                    self.compare(&mut redis, &mut batch, &mut found).await?;
                    bytes = 0;
                }
            }
            self.compare(&mut redis, &mut batch, &mut found).await?;
        }
    }

    async fn compare(&self, redis: &mut Entries, batch: &mut Vec<(Row, Entry)>, found: &mut Found) -> Result<()> {
        fault::point(format_args!(
            "between read and comparison of {}",
            self.ground.shape.label
        ));
        for difference in differences(self.at, self.ground, redis, batch, &self.ready.mapping.tolerate).await? {
            found.add(difference);
        }
        batch.clear();
        let rows = self.rows.load(Ordering::Relaxed);
        self.step.update(format!(
            "{}: {} rows, {} differ",
            self.ground.shape.label,
            size::count(rows),
            size::count(found.count)
        ));
        if self.context.interrupt.requested() {
            return Err(Error::interrupted("finish the comparison: it was asked to stop"));
        }
        self.pace.wait(rows).await;
        Ok(())
    }
}

/// Compares some rows with their keys.
pub(super) async fn differences(
    at: usize,
    ground: &Ground,
    redis: &mut Entries,
    batch: &[(Row, Entry)],
    tolerate: &Tolerances,
) -> Result<Vec<Difference>> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let entries: Vec<&Entry> = batch.iter().map(|(_, entry)| entry).collect();
    let held = redis.held(&entries, ground.shape.is_shared()).await?;
    let mut differences = Vec::new();
    for ((row, entry), held) in batch.iter().zip(&held) {
        // A key may have ended since the row was read.
        if let Some(why) = difference(entry, held, tolerate).filter(|_| is_due(entry.expires_at)) {
            differences.push(Difference {
                table: at,
                key: entry.key.clone(),
                row: key_values(ground, row),
                why,
            });
        }
    }
    Ok(differences)
}
