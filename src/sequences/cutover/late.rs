//! Late writes on a copied source, which has no stream that could be read: told by the watch of the
//! copy, or found by a second comparison.

use super::gate::watched;
use super::pair::Pair;
use super::record::Record;
use super::state::Cutover;
use super::watch::{Late, READING, Watch, command_table};
use crate::effects::redis::compare::{Comparator, Comparison, Options, Progress};
use crate::effects::redis::key::printable;
use crate::effects::redis::tap::DirtyKeys;
use crate::model::error::Result;
use std::collections::BTreeSet;

/// Differing keys that are listed; beyond so many nothing is known.
const LISTED: usize = 1_000_000;
/// Names up to this length are shown whole.
const UNCUT: usize = 100;

impl<R: Record, P: Pair> Cutover<R, P> {
    /// Tells late writes, and ends the copy, which went on watching the source until now.
    pub(super) async fn late_writes_of_a_copy(&mut self) -> Result<()> {
        if !self.watch_by_the_copy().await? {
            self.compare_for_late_writes().await?;
        }
        // A script of before this action has ended the copy at the promotion.
        if let Err(error) = self.setup.pair.end_copy().await {
            self.outcome
                .notes
                .push(format!("the copy on the master was not ended: {error}"));
        }
        Ok(())
    }

    /// Returns false if there was no watch at the proof, or it was interrupted since.
    async fn watch_by_the_copy(&mut self) -> Result<bool> {
        let Some(monitored) = self.history.promoted()?.monitored.clone() else {
            return Ok(false);
        };
        let step = self.setup.ui.step("settle");
        self.wait_for_late_writes(&step).await?;
        let setup = &mut self.setup;
        let Some(late) = watched::since(&mut setup.pair, Some(&monitored), &setup.leave_out).await else {
            step.unchanged("MONITOR was interrupted since the proof: both sides are compared once more");
            return Ok(false);
        };
        self.our_watch = None;
        self.outcome.late_writes = Some(late.writes);
        self.tell_late(&late);
        step.done(format!("{} late writes, by MONITOR since the proof", late.writes));
        Ok(true)
    }

    /// Compares both sides once more. A key that differs, and that nobody wrote on our side since the
    /// promotion, was written on the source. A late write of a key that the app wrote too is not seen.
    pub(super) async fn compare_for_late_writes(&mut self) -> Result<()> {
        let step = self.setup.ui.step("settle");
        let promotion = self.history.promoted()?.clone();
        let setup = &self.setup;
        let table = command_table(&setup.master).await?;
        let watched = Watch::begin(&setup.master, table, &promotion.source_replid, promotion.offset).await?;
        let Some(watch) = watched else {
            step.failed("the master's own stream does not reach back to the promotion");
            return Ok(());
        };
        let mut comparator = Comparator::connect(&setup.source, &setup.master).await?;
        let options = Options {
            rounds: 1,
            first: LISTED,
            leave_out: setup.leave_out.clone(),
            ..Options::default()
        };
        let show = |progress: Progress| {
            step.update(format!(
                "comparing once more: {} of {} keys",
                progress.done, progress.total
            ));
        };
        let comparison = self.interrupt.or(comparator.everything(&options, &show)).await?;
        let master = self.setup.master.connect(0).await?.info().await?;
        watch.reach(master.master_repl_offset, READING).await?;
        let databases = comparator.databases_now().await?;
        let Some(lines) = not_ours(&comparison, &watch.dirty_since(promotion.offset)?, &databases) else {
            step.failed("too much differs to say what was written where");
            return Ok(());
        };
        self.our_watch = None;
        let late = Late {
            writes: lines.len() as u64,
            lines,
        };
        self.outcome.late_writes = Some(late.writes);
        self.outcome.late_by_comparison = true;
        self.tell_late(&late);
        step.done(format!(
            "{} late writes, by a second comparison of {} keys",
            late.writes, comparison.compared
        ));
        Ok(())
    }
}

/// Returns the keys that differ and were not written on our side; `None` if that cannot be told. Pure.
fn not_ours(comparison: &Comparison, dirty: &DirtyKeys, databases: &[u32]) -> Option<Vec<String>> {
    let differing = comparison.missing + comparison.extra + comparison.different;
    if comparison.counts_are_approximate || comparison.first.len() as u64 != differing + comparison.uncomparable {
        return None;
    }
    let written: BTreeSet<(u32, String)> = dirty
        .within(databases)?
        .iter()
        .map(|key| (key.database, printable(&key.name)))
        .collect();
    let others = comparison
        .first
        .iter()
        // A shortened name could be taken for another, so it counts as late.
        .filter(|key| key.key.len() > UNCUT || !written.contains(&(key.database, key.key.clone())));
    Some(
        others
            .map(|key| format!("{} in database {}: {}", key.key, key.database, key.reason))
            .collect(),
    )
}
