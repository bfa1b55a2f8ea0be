//! One walk through every key of the source, and through every key of the target.

use super::deletions::{self, Gone};
use super::journal::Journal;
use super::pace::Pace;
use super::remembered::Remembered;
use super::shared::Shared;
use super::source::{Read, Source};
use super::target::{Refused, Target};
use super::watch::{Token, Watch};
use crate::record::SweepReport;
use anyhow::{Result, bail};
use std::path::Path;
use std::time::{Duration, Instant};

/// Values are read in batches of about this many bytes; a larger value comes alone.
const BATCH: u64 = 4 << 20;
/// A larger value would stop the source, and fill the memory here, for too long.
const LARGEST: u64 = 256 << 20;
/// How often the place is written down.
const JOURNALED: Duration = Duration::from_secs(1);
/// How often identity and memory are looked at.
const LOOKED: Duration = Duration::from_secs(2);

pub struct Sweep<'a> {
    pub source: &'a mut Source,
    pub target: &'a mut Target,
    pub journal: &'a mut Journal,
    pub remembered: &'a mut Remembered,
    pub shared: &'a Shared,
    pub pace: Pace,
    pub home: &'a Path,
    pub memory: Option<u64>,
    /// Marks the keys that are written meanwhile.
    pub watch: Option<&'a Watch>,
    /// Shows that the sweep began within the watch.
    pub token: Option<&'a Token>,
}

impl Sweep<'_> {
    /// Returns what it found; `None` if it was interrupted.
    pub fn run(&mut self, accept: bool, interrupted: &mut dyn FnMut() -> bool) -> Result<Option<SweepReport>> {
        let mut report = SweepReport {
            source_run_id: self.source.run_id().into(),
            ..SweepReport::default()
        };
        let databases = self.source.databases()?;
        self.count(&databases)?;
        let from = self.journal.database.unwrap_or(0);
        for database in databases.into_iter().filter(|database| *database >= from) {
            if self.journal.database != Some(database) {
                (self.journal.database, self.journal.cursor) = (Some(database), 0);
            }
            if !self.database(database, &mut report, interrupted)? {
                return Ok(None);
            }
        }
        if let Some(functions) = self.source.functions()? {
            self.functions(functions, &mut report)?;
        }
        let gone = match deletions::find(self.source, self.target, interrupted)? {
            Some(gone) => gone,
            None => return Ok(None),
        };
        self.source.is_the_same()?;
        self.delete(gone, accept, &mut report)?;
        report.clock_ms = self.clocks()?;
        self.journal.sweep_ended();
        self.journal.save(self.home)?;
        Ok(Some(report))
    }

    pub(super) fn functions(&mut self, functions: Vec<u8>, report: &mut SweepReport) -> Result<()> {
        report.functions = true;
        if self.remembered.functions.as_ref() == Some(&functions) {
            return Ok(());
        }
        match self.target.put_functions(&functions)? {
            None => self.remembered.functions = Some(functions),
            Some(why) => {
                report.refused += 1;
                report.first_refused.get_or_insert_with(|| format!("functions: {why}"));
            }
        }
        Ok(())
    }

    /// Notes how many keys there are to read.
    fn count(&mut self, databases: &[u32]) -> Result<()> {
        let mut keys = 0;
        for database in databases {
            if self.source.select(*database)? {
                keys += self.source.keys()?;
            }
        }
        let mut status = self.shared.lock();
        (status.keys_read, status.keys) = (0, keys);
        Ok(())
    }

    /// Walks through one database. Returns false if it was interrupted.
    fn database(
        &mut self,
        database: u32,
        report: &mut SweepReport,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<bool> {
        if !self.source.select(database)? {
            return Ok(true);
        }
        let (mut journaled, mut looked) = (Instant::now(), None::<Instant>);
        loop {
            if looked.is_none_or(|looked| looked.elapsed() >= LOOKED) {
                self.source.is_the_same()?;
                self.has_room()?;
                looked = Some(Instant::now());
            }
            let (next, keys) = self.source.scan(self.journal.cursor)?;
            self.keys(database, &keys, report)?;
            self.journal.cursor = next;
            if next == 0 {
                break;
            }
            if journaled.elapsed() >= JOURNALED {
                // The target has everything before a place, once that place is noted.
                self.written(report)?;
                self.journal.save(self.home)?;
                journaled = Instant::now();
            }
            self.marked(report)?;
            if !self.source.select(database)? {
                bail!("go on with the copy: the source has no database {database} any more");
            }
            if interrupted() {
                self.written(report)?;
                return Ok(false);
            }
        }
        self.written(report)?;
        Ok(true)
    }

    /// Copies the keys of one step of the scan.
    pub(super) fn keys(&mut self, database: u32, keys: &[Vec<u8>], report: &mut SweepReport) -> Result<()> {
        let sizes = self.source.sizes(keys)?;
        let mut rest = keys.iter().cloned().zip(sizes).peekable();
        while rest.peek().is_some() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some((key, size)) = rest.next_if(|(_, size)| batch.is_empty() || bytes + size <= BATCH) {
                bytes += size;
                report.largest = report.largest.max(size);
                if size > LARGEST {
                    bail!(
                        "copy the key {:?} of database {database}: it takes {} MB, and at most {} MB are read at once",
                        String::from_utf8_lossy(&key),
                        size >> 20,
                        LARGEST >> 20
                    );
                }
                batch.push(key);
            }
            let latency = if self.pace.is_gentle() {
                self.source.latency()?
            } else {
                Duration::ZERO
            };
            let read = self.batch(database, &batch, report)?;
            std::thread::sleep(self.pace.after(read, latency));
        }
        Ok(())
    }

    /// Reads one batch and writes what is other than it was. Returns the bytes that were read.
    fn batch(&mut self, database: u32, keys: &[Vec<u8>], report: &mut SweepReport) -> Result<u64> {
        let (target, remembered, shared) = (&mut *self.target, &mut *self.remembered, self.shared);
        let (mut bytes, mut found) = (0, 0);
        let mut refused: Vec<Refused> = Vec::new();
        self.source.read(keys, &mut |key, read| {
            match read {
                Read::Found { payload, expires } => {
                    bytes += payload.len() as u64;
                    found += 1;
                    if !remembered.has(database, key, &payload, expires) {
                        report.changed += 1;
                        remembered.wrote(database, key, &payload, expires);
                        refused.extend(target.write(database, key, &payload, expires)?);
                    }
                }
                // The walk through the target removes it there.
                Read::Gone => {}
                Read::Refused(why) => refused.push(Refused {
                    database,
                    key: key.to_vec(),
                    why,
                }),
            }
            Ok(())
        })?;
        report.keys += found;
        self.note_refused(refused, report);
        let mut status = shared.lock();
        status.keys_read += keys.len() as u64;
        status.bytes += bytes;
        Ok(bytes)
    }

    /// Waits until all that was sent is in the target.
    pub(super) fn written(&mut self, report: &mut SweepReport) -> Result<()> {
        let refused = self.target.flush()?;
        self.note_refused(refused, report);
        Ok(())
    }

    fn note_refused(&mut self, refused: Vec<Refused>, report: &mut SweepReport) {
        for refusal in refused {
            self.remembered.forget(refusal.database, &refusal.key);
            report.refused += 1;
            report.first_refused.get_or_insert_with(|| {
                format!(
                    "database {} key {}: {}",
                    refusal.database,
                    String::from_utf8_lossy(&refusal.key),
                    refusal.why
                )
            });
        }
    }

    /// Fails if the target is full. It has no limit of its own meanwhile, since it would evict keys.
    fn has_room(&mut self) -> Result<()> {
        let used = self.target.look()?.used_memory;
        match self.memory {
            Some(most) if used > most => bail!(
                "copy more: the master uses {} MB of memory and may use {} MB",
                used >> 20,
                most >> 20
            ),
            _ => Ok(()),
        }
    }

    fn delete(&mut self, gone: Gone, accept: bool, report: &mut SweepReport) -> Result<()> {
        let explains = |token: &Token| self.watch.is_some_and(|watch| watch.explains_deletions(token));
        if gone.is_too_much() && !accept && !self.token.is_some_and(explains) {
            report.held = gone.count();
            return Ok(());
        }
        report.deleted = deletions::apply(self.source, self.target, gone, self.remembered)?;
        Ok(())
    }

    /// Returns by how many milliseconds the two clocks differ.
    pub(super) fn clocks(&mut self) -> Result<Option<i64>> {
        let (before, ours, after) = (self.source.clock()?, self.target.clock()?, self.source.clock()?);
        Ok(match (before, ours, after) {
            (Some(before), Some(ours), Some(after)) => Some(ours - before.midpoint(after)),
            _ => None,
        })
    }
}
