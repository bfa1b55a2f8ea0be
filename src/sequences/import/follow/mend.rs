//! Brings places in Redis to what PostgreSQL says now. A place is a key, or a member of a key that rows share.
//!
//! The order is the rule: watch the key, then look at PostgreSQL, then write in a transaction. The app commits in
//! PostgreSQL before it writes in Redis. So if it changes the row after the look, its own write in Redis comes
//! later: before the transaction it makes the transaction fail, after it it overwrites it. An older value never
//! stays over a newer one, and what the app deleted does not come back.

use crate::decide::import::compare::difference;
use crate::decide::import::follow::lookup;
use crate::effects::fault;
use crate::effects::postgres::Session;
use crate::effects::postgres::text::CopyRows;
use crate::effects::redis::entries::{Entries, Mend};
use crate::model::error::{Error, Kind, Result};
use crate::model::import::{Entry, Held, Part, Row, Tolerances};
use crate::sequences::import::setup::{Ground, Ready};
use crate::sequences::import::verify::found::is_due;
use crate::sequences::import::window::refused;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Rows that are compared at once.
const ROWS: usize = 2_000;
/// Places that one transaction brings up to date.
const TOGETHER: usize = 200;
/// How often a place is tried that the app writes at the same time.
const ATTEMPTS: u32 = 20;

/// The texts of the columns that say where a row is in Redis.
pub type Spot = Vec<String>;

/// Counts of what was done; the fields are part of the JSON output and only ever grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Followed {
    /// Changes and rows that were looked at.
    pub looked_at: u64,
    pub written: u64,
    pub removed: u64,
}

impl Followed {
    pub fn add(&mut self, other: Followed) {
        self.looked_at += other.looked_at;
        self.written += other.written;
        self.removed += other.removed;
    }
}

pub struct Mender<'a> {
    pub ground: &'a Ground,
    fresh: Session,
    redis: Entries,
    tolerate: &'a Tolerances,
    /// The columns that say where a row is.
    pub columns: Vec<usize>,
}

impl<'a> Mender<'a> {
    pub async fn connect(ready: &'a Ready, ground: &'a Ground) -> Result<Self> {
        let (fresh, redis) = tokio::try_join!(
            ready.source.connect(),
            Entries::connect(&ready.target, ground.shape.database)
        )?;
        Ok(Mender {
            ground,
            fresh,
            redis,
            tolerate: &ready.mapping.tolerate,
            columns: lookup(&ground.shape),
        })
    }

    /// Returns where a row is; `None` if a member is NULL, so that the row is nowhere.
    pub fn spot(&self, row: &Row) -> Result<Option<Spot>> {
        let values = self.columns.iter().map(|at| row.values.get(*at).cloned().flatten());
        let spot: Option<Spot> = values.collect();
        if spot.is_none() {
            // A key with a NULL is refused; a member with a NULL is left out.
            self.ground.shape.entry(row).map_err(refused)?;
        }
        Ok(spot)
    }

    /// Returns where a row of the log is. It has only the columns that say that; `None` if one is NULL.
    pub fn spot_of_log(&self, row: &Row) -> Option<Spot> {
        let values = self.columns.iter().map(|at| row.values.get(*at).cloned().flatten());
        values.collect()
    }

    /// Returns the rows of a batch that Redis does not hold as they are.
    pub async fn differing(&mut self, rows: &[Row]) -> Result<BTreeSet<Spot>> {
        let shape = &self.ground.shape;
        let mut entries = Vec::with_capacity(rows.len());
        let mut spots = Vec::with_capacity(rows.len());
        let mut differing = BTreeSet::new();
        for row in rows {
            let Some(spot) = self.spot(row)? else {
                continue;
            };
            match shape
                .entry(row)
                .map_err(refused)?
                .filter(|entry| is_due(entry.expires_at))
            {
                Some(entry) => {
                    entries.push(entry);
                    spots.push(spot);
                }
                None => {
                    differing.insert(spot);
                }
            }
        }
        let asked: Vec<&Entry> = entries.iter().collect();
        let held = self.redis.held(&asked, shape.is_shared()).await?;
        for ((entry, held), spot) in entries.iter().zip(&held).zip(spots) {
            if difference(entry, held, self.tolerate).is_some() {
                differing.insert(spot);
            }
        }
        Ok(differing)
    }

    /// Brings rows to their places, many at once, and tells after each time what was done so far.
    /// Returns true if the app left none of them to be tried again.
    pub async fn mend_rows(&mut self, mut rows: CopyRows, told: impl Fn(Followed)) -> Result<(Followed, bool)> {
        let mut followed = Followed::default();
        let mut is_clear = true;
        let mut batch = Vec::new();
        loop {
            let row = rows.next().await?;
            let ended = row.is_none();
            batch.extend(row);
            if batch.len() >= ROWS || ended {
                followed.looked_at += batch.len() as u64;
                let mut spots = self.differing(&batch).await?;
                followed.add(self.mend(&mut spots).await?);
                is_clear &= spots.is_empty();
                batch.clear();
                told(followed);
            }
            if ended {
                return Ok((followed, is_clear));
            }
        }
    }

    /// Brings these places up to date. What the app kept writing meanwhile stays in `spots`, to be tried again.
    pub async fn mend(&mut self, spots: &mut BTreeSet<Spot>) -> Result<Followed> {
        let all: Vec<Spot> = std::mem::take(spots).into_iter().collect();
        let mut done = Followed::default();
        for batch in all.chunks(TOGETHER) {
            if let Some(followed) = self.attempt(batch).await? {
                done.add(followed);
                continue;
            }
            // Another client writes one of the keys, so each key is tried alone.
            for spot in batch {
                let mut followed = None;
                for _ in 0..ATTEMPTS {
                    followed = self.attempt(std::slice::from_ref(spot)).await?;
                    if followed.is_some() {
                        break;
                    }
                }
                match followed {
                    Some(followed) => done.add(followed),
                    None => {
                        spots.insert(spot.clone());
                    }
                }
            }
        }
        Ok(done)
    }

    /// Returns `None` if one of the keys was changed meanwhile, and nothing was done.
    async fn attempt(&mut self, spots: &[Spot]) -> Result<Option<Followed>> {
        let shape = &self.ground.shape;
        let shared = shape.is_shared();
        let keys: Vec<Vec<u8>> = spots.iter().map(|spot| self.key(spot)).collect::<Result<_>>()?;
        self.redis.watch(keys.iter().map(Vec::as_slice)).await?;
        fault::point(format_args!("between watch and look of {}", shape.label));
        let entries = self.entries(spots).await?;
        let asked: Vec<&Entry> = entries.values().collect();
        let held = self.redis.held(&asked, shared).await?;
        let mut followed = Followed::default();
        let mut changes = Vec::new();
        for (entry, held) in asked.iter().zip(&held) {
            if difference(entry, held, self.tolerate).is_none() {
                continue;
            }
            if shared && matches!(held, Held::OtherType(_)) {
                return Err(Error::failed(format!(
                    "write the member of {}: the key holds a value of another type",
                    crate::effects::redis::key::printable(&entry.key)
                ))
                .hint("remove that key, or correct the mapping, and run the same command again"));
            }
            followed.written += 1;
            changes.push(if shared { Mend::Add(entry) } else { Mend::Write(entry) });
        }
        let gone: Vec<(Vec<u8>, Option<Part>)> = spots
            .iter()
            .zip(&keys)
            .filter(|(spot, _)| !entries.contains_key(*spot))
            .map(|(spot, key)| (key.clone(), self.member(spot)))
            .collect();
        let asked: Vec<Vec<u8>> = gone.iter().map(|(key, _)| key.clone()).collect();
        let present: BTreeSet<Vec<u8>> = self.redis.present(&asked).await?.into_iter().collect();
        for (key, member) in gone.iter().filter(|(key, _)| present.contains(key)) {
            followed.removed += 1;
            changes.push(match member {
                Some(member) => Mend::Take(key, member),
                None => Mend::Remove(key),
            });
        }
        if changes.is_empty() {
            return Ok(Some(followed));
        }
        // The rows were read by the old types if the schema changed before.
        self.ground.check_schema(&self.fresh).await?;
        fault::point(format_args!("between look and write of {}", shape.label));
        let done = self.redis.mend(&changes).await?;
        Ok(done.then_some(followed))
    }

    /// Returns what the rows at these places say now.
    async fn entries(&self, spots: &[Spot]) -> Result<BTreeMap<Spot, Entry>> {
        let casts = self.ground.casts(self.columns.iter().copied());
        let rows = match self.ground.reader.matching(&self.fresh, &casts, spots).await {
            Ok(rows) => rows,
            Err(error) if error.kind() == Kind::Usage && spots.len() > 1 => {
                // A text that is no value of its column any more fails the whole statement.
                let mut rows = Vec::new();
                for spot in spots {
                    match self
                        .ground
                        .reader
                        .matching(&self.fresh, &casts, std::slice::from_ref(spot))
                        .await
                    {
                        Ok(found) => rows.extend(found),
                        Err(error) if error.kind() == Kind::Usage => {}
                        Err(error) => return Err(error),
                    }
                }
                rows
            }
            Err(error) => return Err(error),
        };
        let mut entries = BTreeMap::new();
        for row in rows {
            let entry = self.ground.shape.entry(&row).map_err(refused)?;
            if let (Some(spot), Some(entry)) = (self.spot(&row)?, entry.filter(|entry| is_due(entry.expires_at))) {
                entries.insert(spot, entry);
            }
        }
        Ok(entries)
    }

    fn row(&self, spot: &Spot) -> Row {
        let mut row = Row {
            values: vec![None; self.ground.shape.columns.len()],
        };
        for (at, value) in self.columns.iter().zip(spot) {
            row.values[*at] = Some(value.clone());
        }
        row
    }

    fn key(&self, spot: &Spot) -> Result<Vec<u8>> {
        let key = self.ground.shape.key(&self.row(spot));
        key.map_err(|why| Error::failed("find the key of a row").because(why))
    }

    /// Returns the member of a place whose key other rows share.
    fn member(&self, spot: &Spot) -> Option<Part> {
        if !self.ground.shape.is_shared() {
            return None;
        }
        self.ground.shape.member(&self.row(spot))
    }
}
