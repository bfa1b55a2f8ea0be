//! Writes some rows and settles them: nothing that the app wrote is overwritten, nothing that it
//! deleted stays.
//!
//! The app commits in PostgreSQL before it writes in Redis. So when a row is gone after its key was
//! written, the app's own deletion in Redis may have come before that write: the key is taken away
//! again, if it still holds what was written. When the row is still there, a later deletion reaches
//! Redis later too. The last look at PostgreSQL always comes after the last change in Redis.

use super::progress::Counts;
use super::setup::Ground;
use crate::decide::import::compare::difference;
use crate::effects::fault;
use crate::effects::postgres::{Bounds, Postgres, Range, Session};
use crate::effects::redis::Server;
use crate::effects::redis::entries::{Entries, Written, kept};
use crate::model::error::{Error, Result};
use crate::model::import::{Entry, Part, Row, Tolerances};
use jiff::Timestamp;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Rows and bytes that are written at once, and looked at again.
const ROWS: usize = 2_000;
const BYTES: usize = 1 << 20;
/// How often rows that come and go are looked at.
const LOOKS: u32 = 20;

/// The connections of one worker, by which it writes and looks at rows again.
pub struct Hand<'a> {
    pub ground: &'a Ground,
    /// Sees rows as they are now, not as the run's snapshot has them.
    pub fresh: Session,
    pub redis: Entries,
    pub tolerate: &'a Tolerances,
    pub replaces: bool,
}

/// Rows that follow each other in the order of their keys.
pub struct Window {
    after: Option<Bounds>,
    last: Option<Bounds>,
    entries: Vec<Entry>,
    rows: usize,
    bytes: usize,
    counts: Counts,
}

impl<'a> Hand<'a> {
    pub async fn connect(
        ground: &'a Ground,
        source: &Postgres,
        target: &Server,
        tolerate: &'a Tolerances,
        replaces: bool,
    ) -> Result<Self> {
        let (fresh, redis) = tokio::try_join!(source.connect(), Entries::connect(target, ground.shape.database))?;
        Ok(Hand {
            ground,
            fresh,
            redis,
            tolerate,
            replaces,
        })
    }

    /// Writes the rows of a window and settles them. `up_to` is the end of the range if no row is
    /// left in it.
    pub async fn write(&mut self, window: &mut Window, up_to: Option<Bounds>, is_last: bool) -> Result<Counts> {
        let shape = &self.ground.shape;
        let up_to = if is_last { up_to } else { window.last.clone() };
        let range = Range {
            after: window.after.take(),
            up_to: up_to.clone(),
        };
        let entries = std::mem::take(&mut window.entries);
        let mut counts = std::mem::take(&mut window.counts);
        window.after = up_to;
        (window.rows, window.bytes) = (0, 0);
        fault::point(format_args!("between read and write of {}", shape.label));
        let wanted: Vec<&Entry> = entries.iter().collect();
        let written = self.redis.write_new(&wanted).await?;
        let differing = self.judge(&wanted, &written, &mut counts).await?;
        fault::point(format_args!("between write and look of {}", shape.label));
        self.settle(&range, &entries, written, differing, &mut counts).await?;
        Ok(counts)
    }

    /// Compares what was there with the rows. Returns the keys that hold another value.
    async fn judge(&mut self, entries: &[&Entry], written: &[Written], counts: &mut Counts) -> Result<HashSet<u64>> {
        let there: Vec<&Entry> = entries
            .iter()
            .zip(written)
            .filter(|(_, written)| written.was_there)
            .map(|(entry, _)| *entry)
            .collect();
        counts.written += (entries.len() - there.len()) as u64;
        let mut differing = HashSet::new();
        if there.is_empty() {
            return Ok(differing);
        }
        let held = self.redis.held(&there, self.ground.shape.is_shared()).await?;
        for (entry, held) in there.iter().zip(&held) {
            if difference(entry, held, self.tolerate).is_none() {
                counts.same += 1;
            } else {
                counts.left += 1;
                differing.insert(identity(&entry.key, b""));
            }
        }
        Ok(differing)
    }

    /// Looks at the rows again until the last look finds them as they were written.
    async fn settle(
        &mut self,
        range: &Range,
        entries: &[Entry],
        written: Vec<Written>,
        mut differing: HashSet<u64>,
        counts: &mut Counts,
    ) -> Result<()> {
        let mut made: Vec<(Vec<u8>, Part)> = Vec::new();
        for (entry, written) in entries.iter().zip(written) {
            if let Some(part) = written.made {
                made.push((entry.key.clone(), part));
            }
        }
        let mut taken: HashSet<u64> = HashSet::new();
        if !self.replaces {
            differing.clear();
        }
        for _ in 0..LOOKS {
            if made.is_empty() && taken.is_empty() && differing.is_empty() {
                return Ok(());
            }
            let now = self.look(range, &taken, &differing).await?;
            let mut acted = false;
            if !differing.is_empty() {
                // Values that replace others are those of this look, so they are not older than the
                // app's last commit.
                let wanted: Vec<&Entry> = now
                    .again
                    .iter()
                    .filter(|entry| differing.contains(&identity(&entry.key, b"")))
                    .collect();
                self.redis.replace(&wanted, self.ground.shape.is_shared()).await?;
                counts.left = counts.left.saturating_sub(wanted.len() as u64);
                counts.replaced += wanted.len() as u64;
                made.extend(wanted.into_iter().map(|entry| (entry.key.clone(), entry.part.clone())));
                differing.clear();
                acted = true;
            }
            acted |= self.take_back(&mut made, &mut taken, &now.there, counts).await?;
            let back: Vec<&Entry> = now.again.iter().filter(|entry| is_in(&taken, entry)).collect();
            if !back.is_empty() {
                let written = self.redis.write_new(&back).await?;
                for (entry, written) in back.into_iter().zip(written) {
                    for part in identities(&entry.key, &entry.part) {
                        taken.remove(&part);
                    }
                    made.extend(written.made.map(|part| (entry.key.clone(), part)));
                }
                acted = true;
            }
            if !acted {
                return Ok(());
            }
        }
        counts.unsettled += taken.len() as u64;
        Ok(())
    }

    /// Takes away what no row says any more.
    async fn take_back(
        &mut self,
        made: &mut Vec<(Vec<u8>, Part)>,
        taken: &mut HashSet<u64>,
        there: &HashSet<u64>,
        counts: &mut Counts,
    ) -> Result<bool> {
        let mut acted = false;
        let mut staying = Vec::with_capacity(made.len());
        for (key, part) in made.drain(..) {
            let all = identities(&key, &part);
            if all.iter().all(|part| there.contains(part)) {
                staying.push((key, part));
                continue;
            }
            let gone = kept(&part, |at| all.get(at).is_some_and(|part| !there.contains(part)));
            let stays = kept(&part, |at| all.get(at).is_some_and(|part| there.contains(part)));
            if let Some(gone) = gone {
                self.redis.remove(&key, &gone).await?;
                taken.extend(identities(&key, &gone));
                counts.taken_back += 1;
                acted = true;
            }
            staying.extend(stays.map(|part| (key, part)));
        }
        *made = staying;
        Ok(acted)
    }

    /// Reads the rows of a range as they are now.
    async fn look(&self, range: &Range, taken: &HashSet<u64>, differing: &HashSet<u64>) -> Result<Look> {
        let shape = &self.ground.shape;
        let mut rows = self.ground.reader.range(&self.fresh, range).await?;
        let mut look = Look::default();
        while let Some(row) = rows.next().await? {
            let Some(entry) = shape.entry(&row).map_err(refused)? else {
                continue;
            };
            look.there.extend(identities(&entry.key, &entry.part));
            if is_in(taken, &entry) || differing.contains(&identity(&entry.key, b"")) {
                look.again.push(entry);
            }
        }
        Ok(look)
    }
}

/// The rows of a window as they are now.
#[derive(Default)]
struct Look {
    /// The identities of all of them.
    there: HashSet<u64>,
    /// Those that may have to be written again.
    again: Vec<Entry>,
}

impl Window {
    pub fn begin(after: Option<Bounds>) -> Self {
        Window {
            after,
            last: None,
            entries: Vec::new(),
            rows: 0,
            bytes: 0,
            counts: Counts::default(),
        }
    }

    /// Adds a row. Returns true if the window is to be written.
    pub fn add(&mut self, ground: &Ground, row: &Row, now: Timestamp) -> Result<bool> {
        let shape = &ground.shape;
        self.rows += 1;
        self.counts.rows += 1;
        if shape
            .key_columns
            .iter()
            .any(|at| row.values.get(*at).is_none_or(Option::is_none))
        {
            return Err(Error::failed(format!(
                "tell the row {} from the others: a key column is NULL",
                shape.row_name(row)
            ))
            .hint("name columns in `key_columns` that are never NULL"));
        }
        match shape.entry(row).map_err(refused)? {
            None => self.counts.without_value += 1,
            Some(entry) if entry.expires_at.is_some_and(|at| at <= now.as_millisecond()) => self.counts.expired += 1,
            Some(entry) => {
                self.bytes += entry.key.len() + entry.part.bytes();
                self.entries.push(entry);
            }
        }
        let is_full = self.rows >= ROWS || self.bytes >= BYTES;
        if is_full {
            let keys = shape
                .key_columns
                .iter()
                .map(|at| row.values.get(*at).cloned().flatten());
            self.last = Some(keys.collect());
        }
        Ok(is_full)
    }
}

/// Explains a row that has no place in Redis.
pub fn refused(refusal: crate::decide::import::mapping::Refusal) -> Error {
    Error::failed("turn a row into a key")
        .because(refusal)
        .hint("correct the row or the mapping; a `query` with WHERE leaves rows out")
}

fn is_in(taken: &HashSet<u64>, entry: &Entry) -> bool {
    !taken.is_empty()
        && identities(&entry.key, &entry.part)
            .iter()
            .any(|part| taken.contains(part))
}

/// Returns what stands for each element of a part: the key alone, or with the field or member.
fn identities(key: &[u8], part: &Part) -> Vec<u64> {
    match part {
        Part::String(_) | Part::List(_) => vec![identity(key, b"")],
        Part::Hash(fields) => fields.iter().map(|(field, _)| identity(key, field)).collect(),
        Part::Set(members) => members.iter().map(|member| identity(key, member)).collect(),
        Part::SortedSet(members) => members.iter().map(|(member, _)| identity(key, member)).collect(),
    }
}

/// Two identities that are equal by chance leave a key that a row may no longer have, for `verify`
/// to find.
pub fn identity(key: &[u8], element: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, element).hash(&mut hasher);
    hasher.finish()
}
