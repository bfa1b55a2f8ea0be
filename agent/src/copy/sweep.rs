//! One walk through every key of the source, and through every key of the target.

use super::deletions::{self, Gone};
use super::keys::is_other_format;
use super::left_out;
use super::pace::Pace;
use super::walk::Walked;
use super::watch::Token;
use super::work::{JOURNALED, LOOKED, Sweep};
use crate::record::SweepReport;
use anyhow::{Result, bail};
use std::time::Instant;

/// How many keys a step of SCAN looks at.
const STEP: usize = 512;
impl Sweep<'_> {
    /// Returns what it found; `None` if it was interrupted.
    pub fn run(&mut self, accept: bool, interrupted: &mut dyn FnMut() -> bool) -> Result<Option<SweepReport>> {
        self.source.set_pace(Pace::new(self.rate));
        let mut report = SweepReport {
            source_run_id: self.source.run_id().into(),
            ..SweepReport::default()
        };
        let Some(mut gone) = self.all(&mut report, interrupted)? else {
            return Ok(None);
        };
        if gone.removed > 0 {
            // They are forgotten by now, so reading all keys once more writes them again. Not a third
            // time: a hash whose fields all expire goes by itself, and there may always be another one.
            self.journal.begin_again();
            report = SweepReport {
                source_run_id: report.source_run_id,
                changed: report.changed,
                ..SweepReport::default()
            };
            let Some(again) = self.all(&mut report, interrupted)? else {
                return Ok(None);
            };
            gone = again;
        }
        self.source.is_the_same()?;
        self.delete(gone, accept, &mut report)?;
        report.clock_ms = self.clocks()?;
        self.journal.sweep_ended();
        self.journal.save(self.home)?;
        Ok(Some(report))
    }

    /// Reads all keys, and walks through the target. Returns `None` if it was interrupted.
    fn all(&mut self, report: &mut SweepReport, interrupted: &mut dyn FnMut() -> bool) -> Result<Option<Gone>> {
        let databases = self.source.databases()?;
        self.count(&databases)?;
        let from = self.journal.database.unwrap_or(0);
        for database in databases.into_iter().filter(|database| *database >= from) {
            if self.journal.database != Some(database) {
                (self.journal.database, self.journal.cursor) = (Some(database), 0);
            }
            if !self.database(database, report, interrupted)? {
                return Ok(None);
            }
        }
        if let Some(functions) = self.source.functions()? {
            self.functions(functions, report)?;
        }
        if self.is_watched() {
            let gone = self.find(true, interrupted)?;
            if gone.is_none() || self.is_watched() {
                return Ok(gone);
            }
        }
        self.find(false, interrupted)
    }

    /// Returns true if the watch within which this sweep began still stands.
    fn is_watched(&self) -> bool {
        let stands = |token: &Token| self.watch.is_some_and(|watch| watch.stands(token));
        self.token.is_some_and(stands)
    }

    fn find(&mut self, watched: bool, interrupted: &mut dyn FnMut() -> bool) -> Result<Option<Gone>> {
        deletions::find(
            self.source,
            self.target,
            self.left_out,
            watched,
            self.remembered,
            interrupted,
        )
    }

    pub(super) fn functions(&mut self, functions: Vec<u8>, report: &mut SweepReport) -> Result<()> {
        report.functions = true;
        if self.remembered.functions.as_ref() == Some(&functions) {
            return Ok(());
        }
        let mut refused = self.target.put_functions(&functions)?;
        if refused.as_deref().is_some_and(is_other_format)
            && let Some(libraries) = self.source.libraries()?
        {
            refused = self.target.put_libraries(&libraries)?;
        }
        match refused {
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
        // The first refusal shows that the target does not know the format.
        if self.source.dumps && self.source.says_sizes {
            match self.walk(database, report, interrupted)? {
                Walked::Whole => return Ok(true),
                Walked::Interrupted => return Ok(false),
                Walked::OtherFormat => {}
            }
        }
        self.step_by_step(database, report, interrupted)
    }

    /// Walks through one database with one request under way: by the types of keys.
    fn step_by_step(
        &mut self,
        database: u32,
        report: &mut SweepReport,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<bool> {
        let (mut journaled, mut looked) = (Instant::now(), None::<Instant>);
        loop {
            if looked.is_none_or(|looked| looked.elapsed() >= LOOKED) {
                self.look(report)?;
                looked = Some(Instant::now());
            }
            let (next, mut keys) = self.source.scan(self.journal.cursor, STEP)?;
            report.left_out += left_out::remove(&mut keys, self.left_out);
            self.keys(database, keys, report)?;
            self.journal.cursor = next;
            if next == 0 {
                break;
            }
            if journaled.elapsed() >= JOURNALED {
                // The target has everything before a place, once that place is noted.
                self.written(database, report)?;
                self.journal.save(self.home)?;
                journaled = Instant::now();
            }
            self.marked_between(database, report)?;
            if interrupted() {
                self.written(database, report)?;
                return Ok(false);
            }
        }
        self.written(database, report)?;
        Ok(true)
    }

    /// Copies marked keys of any database, and goes on with this one.
    pub(super) fn marked_between(&mut self, database: u32, report: &mut SweepReport) -> Result<()> {
        // No key of this database may be put off while another one is selected.
        self.written(database, report)?;
        self.marked(report)?;
        if !self.source.select(database)? {
            bail!("go on with the copy: the source has no database {database} any more");
        }
        Ok(())
    }

    /// Fails if the source is another one, or the target is full. The source must have nothing under way.
    pub(super) fn look(&mut self, report: &mut SweepReport) -> Result<()> {
        self.source.is_the_same()?;
        // The answers to writes come before that to a question.
        let refused = self.target.flush()?;
        self.judge(refused, report);
        self.has_room()
    }

    /// Fails if the target is full, or may evict keys: nobody would miss them.
    fn has_room(&mut self) -> Result<()> {
        let look = self.target.look()?;
        if look.limit > 0 {
            bail!(
                "copy more: the master has a `maxmemory` of {} MB and may evict what was copied; it must be 0 meanwhile",
                look.limit >> 20
            );
        }
        match self.memory {
            Some(most) if look.used_memory > most => bail!(
                "copy more: the master uses {} MB of memory and may use {} MB",
                look.used_memory >> 20,
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
