//! The full comparison while following, and the keys that are left to compare inside the fence.

use super::super::removals;
use super::super::sides::Sides;
use super::super::watch::{Watch, command_table};
use crate::effects::redis::compare::{Comparator, Comparison, Options};
use crate::effects::redis::key::{Key, printable};
use crate::effects::redis::tap::DirtyKeys;
use crate::effects::redis::{Connection, Server};
use crate::model::error::{Error, Result};
use crate::ui::Step;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire::info::Info;

/// How long the watch may take to read the stream up to the source's present offset.
const READING: Duration = Duration::from_secs(8);
/// Rounds before the fence that compare newly written keys, to leave few for inside it.
const SHRINKING: u32 = 3;

/// Number of keys that may differ after the last round, if they are written all the time.
const MOST_HOT: usize = 1_000;
/// Names up to this length are shown whole.
const UNCUT: usize = 100;

/// The state at the last full comparison.
pub struct Baseline {
    pub(super) source: Server,
    pub(super) master: Server,
    pub(super) run_id: String,
    pub(super) replid: String,
    pub(super) keys: BTreeMap<u32, u64>,
    pub comparison: Comparison,
    /// Every key was found equal after its last write up to this offset.
    pub(super) equal_until: u64,
    pub(super) watch: Watch,
    pub(super) comparator: Comparator,
}

/// Compares everything while following. The stream is watched from before the first key on.
pub async fn compare(
    source: &Server,
    master: &Server,
    sides: &mut Sides,
    rounds: u32,
    step: &Step,
) -> Result<Baseline> {
    let info = sides.source.info().await?;
    let table = command_table(master).await?;
    let begun = Watch::begin_over(None, source, table, info.clone(), &info.replid, info.master_repl_offset);
    let Some(watch) = begun.await? else {
        return Err(Error::unproven(format!("watch the stream of writes of {source}: it does not continue from where it is"))
            .hint("the source keeps no backlog, or too small a one: see `repl-backlog-size` there, then run the same command again"));
    };
    let mut comparator = Comparator::connect(source, master).await?;
    let options = Options {
        rounds,
        first: MOST_HOT,
        ..Options::default()
    };
    let comparison = comparator
        .everything(&options, &|progress| {
            step.update(format!(
                "{} of {} keys, {} differ",
                progress.done, progress.total, progress.differing
            ));
        })
        .await?;
    let databases = comparator.databases_now().await?;
    if !comparison.identical() && !only_hot(&comparison, &watch.dirty_since(info.master_repl_offset)?, &databases) {
        return Err(differs("while following", &comparison));
    }
    let baseline = Baseline {
        source: source.clone(),
        master: master.clone(),
        run_id: info.run_id,
        replid: info.replid,
        equal_until: info.master_repl_offset,
        keys: info
            .keyspace
            .iter()
            .map(|(database, keyspace)| (*database, keyspace.keys))
            .collect(),
        comparison,
        watch,
        comparator,
    };
    Ok(baseline)
}

/// Returns true if all that differs is written all the time: over a slow line such keys never look
/// equal. The stream saw each of them, so they are compared again inside the fence. Pure.
pub(super) fn only_hot(comparison: &Comparison, dirty: &DirtyKeys, databases: &[u32]) -> bool {
    let differing = comparison.missing + comparison.extra + comparison.different;
    let Some(written) = dirty.within(databases) else {
        return false;
    };
    let written: BTreeSet<(u32, String)> = written.iter().map(|key| (key.database, printable(&key.name))).collect();
    comparison.uncomparable == 0
        && !comparison.counts_are_approximate
        && comparison.first.len() as u64 == differing
        // Longer names are shown shortened, and one could be taken for another.
        && comparison
            .first
            .iter()
            .all(|key| key.key.len() <= UNCUT && written.contains(&(key.database, key.key.clone())))
}

impl Baseline {
    /// Compares newly written keys again, so that few are left for inside the fence.
    pub async fn shrink(&mut self) -> Result<()> {
        let options = Options {
            rounds: 2,
            pause: Duration::from_millis(20),
            ..Options::default()
        };
        for _ in 0..SHRINKING {
            let until = self.watch.position();
            // A key whose database the stream did not name may be in one that was empty before.
            let databases = self.comparator.databases_now().await?;
            let Some(keys) = self.dirty(databases)? else {
                return Ok(());
            };
            // Keys that did not become equal are compared again inside the fence.
            if keys.is_empty() || self.comparator.keys(&keys, &options).await?.identical() {
                self.equal_until = until;
                self.watch.forget(until);
            }
        }
        Ok(())
    }

    /// Returns the keys to compare again, in these and the compared databases; `None` for all keys.
    pub(super) fn dirty(&self, databases: impl IntoIterator<Item = u32>) -> Result<Option<Vec<Key>>> {
        let databases: BTreeSet<u32> = databases
            .into_iter()
            .chain(self.keys.keys().copied())
            .chain([0])
            .collect();
        let databases: Vec<u32> = databases.into_iter().collect();
        Ok(self.watch.dirty_since(self.equal_until)?.within(&databases))
    }

    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Returns true if the source's stream since the fence shows only its own expiry and eviction.
    /// A watch from the fence on replaces the old one, since the fence's counters fit only that.
    pub(super) async fn only_removed_by_itself(&mut self, fenced: &Info, mut source: Connection) -> Result<bool> {
        let begun = Watch::begin_over(
            None,
            &self.source,
            self.watch.table(),
            source.info().await?,
            &self.replid,
            fenced.master_repl_offset,
        );
        let Some(watch) = begun.await? else { return Ok(false) };
        let info = source.info().await?;
        watch.reach(info.master_repl_offset, READING).await?;
        let by_itself = info.own_removals.since(fenced.own_removals);
        let seen = watch.seen();
        let harmless = seen.writes == 0 && removals::by_clients(&seen, by_itself, &self.master).await?.is_none();
        self.watch = watch;
        Ok(harmless)
    }

    /// Returns the watch, for the time after the promotion.
    pub fn into_watch(self) -> Watch {
        self.watch
    }
}

pub(super) fn differs(when: &str, comparison: &Comparison) -> Error {
    let first: Vec<String> = comparison
        .first
        .iter()
        .take(5)
        .map(|key| format!("database {} key {}: {}", key.database, key.key, key.reason))
        .collect();
    Error::unproven(format!(
        "find source and master identical {when}: {} missing, {} extra, {} different, {} not comparable",
        comparison.missing, comparison.extra, comparison.different, comparison.uncomparable
    ))
    .because(first.join("; "))
    .hint("run `infra verify` to see the keys; the app was left on its old side")
}
