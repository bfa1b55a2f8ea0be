//! Every key of the templates against its row.
//!
//! The columns in a key lead to its row by an index. Where they cannot be read from the key, or no
//! index has them, the keys of all rows are remembered: 16 bytes a row.

use super::super::pace::Pace;
use super::super::setup::{Ground, Ready};
use super::found::Found;
use super::judge::judge;
use super::made::Made;
use crate::effects::redis::entries::Entries;
use crate::model::error::{Error, Result};
use crate::model::size;
use crate::sequences::context::Context;
use crate::ui::Step;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Returns true if a pattern says which keys are those of this table.
pub(super) fn has_pattern(ground: &Ground) -> bool {
    ground.shape.pattern() != "*"
}

/// Looks at all keys of the patterns, by several workers.
pub(super) async fn look(context: &Context, ready: &Ready, made: &[Made], step: &Step) -> Result<Found> {
    let mut found = Found::default();
    let databases: BTreeSet<u32> = ready.tables.iter().map(|ground| ground.shape.database).collect();
    let (seen, differing) = (AtomicU64::new(0), AtomicU64::new(0));
    let pace = Pace::new(ready.mapping.limits.rows_per_s.0);
    for database in databases {
        let here = ready.tables.iter().filter(|ground| ground.shape.database == database);
        let patterns: BTreeSet<String> = here.map(|ground| ground.shape.pattern()).collect();
        for pattern in patterns.iter().filter(|pattern| *pattern != "*") {
            let looks = Looks {
                context,
                ready,
                made,
                step,
                database,
                pattern,
                scan: Mutex::new(Scan::begin(ready, database).await?),
                seen: &seen,
                differing: &differing,
                pace: &pace,
            };
            let workers = (0..ready.mapping.limits.parallel).map(|_| looks.worker());
            for part in futures_util::future::try_join_all(workers).await? {
                found.append(part);
            }
        }
    }
    Ok(found)
}

/// Goes through the keys of a database, for several workers.
struct Scan {
    redis: Entries,
    /// `None` at the end.
    cursor: Option<u64>,
}

impl Scan {
    async fn begin(ready: &Ready, database: u32) -> Result<Self> {
        Ok(Scan {
            redis: Entries::connect(&ready.target, database).await?,
            cursor: Some(0),
        })
    }

    /// Returns the next keys; `None` if there are no more.
    async fn next(&mut self, pattern: &str) -> Result<Option<Vec<Vec<u8>>>> {
        let Some(cursor) = self.cursor else {
            return Ok(None);
        };
        let (next, keys) = self.redis.scan(cursor, pattern).await?;
        self.cursor = Some(next).filter(|next| *next != 0);
        Ok(Some(keys))
    }
}

/// The look at the keys of one pattern, which its workers share.
struct Looks<'a> {
    context: &'a Context,
    ready: &'a Ready,
    made: &'a [Made],
    step: &'a Step,
    database: u32,
    pattern: &'a str,
    scan: Mutex<Scan>,
    seen: &'a AtomicU64,
    differing: &'a AtomicU64,
    pace: &'a Pace,
}

impl Looks<'_> {
    async fn worker(&self) -> Result<Found> {
        let (session, redis) = tokio::try_join!(
            self.ready.source.connect(),
            Entries::connect(&self.ready.target, self.database)
        )?;
        let (mut redis, mut found) = (redis, Found::default());
        loop {
            let Some(keys) = self.scan.lock().await.next(self.pattern).await? else {
                return Ok(found);
            };
            let part = judge(
                self.ready,
                &session,
                &mut redis,
                self.database,
                self.pattern,
                &keys,
                self.made,
            )
            .await?;
            let count = keys.len() as u64;
            let seen = self.seen.fetch_add(count, Ordering::Relaxed) + count;
            let differing = self.differing.fetch_add(part.count, Ordering::Relaxed) + part.count;
            found.append(part);
            self.step
                .update(format!("{} keys, {} differ", size::count(seen), size::count(differing)));
            if self.context.interrupt.requested() {
                return Err(Error::interrupted("finish the comparison: it was asked to stop"));
            }
            self.pace.wait(seen).await;
        }
    }
}
