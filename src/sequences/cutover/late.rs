//! Late writes on a source whose stream nobody can watch: found by a second comparison.

use super::pair::Pair;
use super::record::Record;
use super::state::{Cutover, Late};
use super::watch::{READING, Watch, command_table};
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
