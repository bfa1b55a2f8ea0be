//! Copies the keys that the watch has marked, and the members of large ones.

use super::left_out;
use super::work::Sweep;
use crate::record::SweepReport;
use anyhow::Result;
use std::time::{Duration, Instant};

/// Keys whose marks are taken at once.
const STEP: usize = 500;
/// How long marked keys are copied before the sweep that they interrupt goes on.
const TURN: Duration = Duration::from_millis(250);

impl Sweep<'_> {
    /// Copies the keys that are marked now, for a moment. A key that is written faster than it is
    /// copied stays marked.
    pub(super) fn marked(&mut self, report: &mut SweepReport) -> Result<()> {
        let Some(watch) = self.watch else { return Ok(()) };
        if watch.functions()
            && let Some(functions) = self.source.functions()?
        {
            self.functions(functions, report)?;
        }
        let refused = report.refused;
        let (begun, mut left) = (Instant::now(), watch.marked());
        while left > 0 && begun.elapsed() < TURN {
            // The marks are gone before the keys are read: a write in between marks them again.
            let Some((database, mut keys)) = watch.some(STEP.min(left)) else {
                break;
            };
            left -= keys.len();
            left_out::remove(&mut keys, self.left_out);
            if let Err(error) = self.again(database, &keys, report) {
                watch.again(database, keys);
                return Err(error);
            }
        }
        let begun = Instant::now();
        for key in watch.with_members() {
            if begun.elapsed() >= TURN {
                break;
            }
            let members = watch.members(&key);
            let (database, name) = key;
            let copied = self.members(database, &name, &members, report);
            if !matches!(copied, Ok(true)) {
                watch.again(database, vec![name]);
                copied?;
            }
        }
        if report.refused > refused {
            // The mark of such a key is gone. Sweeps go on and name it.
            watch.everything();
        }
        Ok(())
    }

    /// Copies keys anew, and deletes those that are gone. Each was written, so each may be gone.
    fn again(&mut self, database: u32, keys: &[Vec<u8>], report: &mut SweepReport) -> Result<()> {
        let selectable = self.source.select(database)?;
        if selectable {
            self.keys(database, keys.to_vec(), report)?;
        }
        self.written(database, report)?;
        let mut gone = Vec::new();
        let there = if selectable {
            self.source.has(keys)?
        } else {
            vec![false; keys.len()]
        };
        for (key, _) in keys.iter().zip(there).filter(|(_, there)| !there) {
            self.remembered.forget(database, key);
            gone.push(key.clone());
        }
        self.target.select(database)?;
        report.deleted += self.target.delete(&gone)?;
        Ok(())
    }
}
