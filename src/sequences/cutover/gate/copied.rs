//! The gate for a master that copies its source. Without a watch one more sweep and the whole
//! comparison run inside the fence; with one, only the keys that were written meanwhile.

use super::super::fence::Fence;
use super::super::history::Monitored;
use super::super::logs;
use super::super::pair::Pair;
use super::super::sides::Sides;
use super::Proof;
use super::baseline::differs;
use super::unmoved::{changed, moved};
use super::watched::{self, Doubt, Watched};
use crate::effects::host::copy::Asked;
use crate::effects::redis::Server;
use crate::effects::redis::compare::{Comparator, Comparison, Options, Progress};
use crate::effects::wait::{Look, Wait};
use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use crate::model::size;
use crate::ui::Step;
use infra_agent::copy::Wish;
use infra_agent::record::SweepReport;
use jiff::Timestamp;
use std::time::Duration;
use wire::info::Info;

/// How long one sweep may take. The app waits for it, and a pause is renewed meanwhile.
const SWEEP: Duration = Duration::from_secs(30 * 60);
/// How long the copy writes nothing after the last sweep, unless a promotion shuts it out first.
const HOLD: Duration = Duration::from_secs(20 * 60);
/// How long the copy may take for what was marked meanwhile, once the app is back.
const GOING_ON: Duration = Duration::from_secs(20);
/// How long the replica may take to apply what the last sweep wrote.
const APPLIED: Duration = Duration::from_secs(60);
/// Clocks that differ by more let keys expire too early or too late on the master.
const CLOCK_MS: u64 = 500;
/// This many keys may differ before the fence, whatever their share is.
const FEW: u64 = 1_000;

/// So many differing keys are named, to see whether all of them were written meanwhile.
const NAMED: usize = 20_000;

/// The comparison before the fence, and what the last sweep inside it reached.
pub struct Baseline {
    comparator: Comparator,
    pub comparison: Comparison,
    /// How long a sweep and a comparison took together.
    pub took: Duration,
    leave_out: Vec<String>,
    swept: Option<Swept>,
    watched: Option<Watched>,
    /// Source and master before the comparison.
    evicted: [u64; 2],
}

impl Baseline {
    /// Returns true if the copy knows which keys were written since the comparison began.
    pub fn is_watched(&self) -> bool {
        self.watched.is_some()
    }

    /// Returns true if the app may wait until everything is copied and compared once more, which needs no watch.
    fn may_begin_anew(&self, allowed: Allowed) -> bool {
        allowed.longest.is_none_or(|longest| self.took * 2 <= longest)
    }
}

/// The master after the last sweep.
struct Swept {
    master: Info,
    /// Keys that the source had, over all databases.
    keys: u64,
}

/// What the operator allowed.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// `--accept-loss`: deletions apply however many they are.
    pub loss: bool,
    /// How long the app may wait at most; `None` with `--without-watch`.
    pub longest: Option<Duration>,
}

/// Makes a sweep and a comparison while the app goes on writing. Some keys differ then; what counts
/// is that they are few, and how long the same will take inside the fence.
pub async fn compare<P: Pair>(
    [source, master]: [&Server; 2],
    pair: &mut P,
    allowed: Allowed,
    leave_out: Vec<String>,
    step: &Step,
) -> Result<Baseline> {
    let mut begun = Instant::now();
    let evicted = evicted(source, master).await?;
    let mut watched = watched::begin(pair).await?;
    if watched.is_none() {
        step.update("waiting for the copy to go through all keys");
        let report = sweep(pair, Duration::ZERO, allowed.loss).await?;
        refuse(&objections(&report, None))?;
        // A sweep makes a watch whole that began before it.
        watched = watched::begin(pair).await?;
    }
    if let Some((_, report)) = &watched {
        refuse(&objections(report, None))?;
    }
    let mut watched = watched.map(|(watched, _)| watched);
    let mut comparator = Comparator::connect(source, master).await?;
    let options = Options {
        rounds: 2,
        pause: Duration::from_millis(50),
        first: NAMED,
        leave_out: leave_out.clone(),
        spread: watched.is_some(),
        ..Options::default()
    };
    let show = |progress: Progress| {
        step.update(format!(
            "{} of {} keys, {} differ",
            progress.done, progress.total, progress.differing
        ));
    };
    let mut comparison = comparator.everything(&options, &show).await?;
    if !are_explained(watched.as_ref(), &comparison, pair).await? {
        // A watch of the source does not show that somebody removed keys from the master.
        step.update("keys differ that nobody wrote: the copy goes through all of them once more");
        begun = Instant::now();
        refuse(&objections(&sweep(pair, Duration::ZERO, allowed.loss).await?, None))?;
        watched = watched::begin(pair).await?.map(|(watched, _)| watched);
        comparison = comparator.everything(&options, &show).await?;
        if !are_explained(watched.as_ref(), &comparison, pair).await? {
            // Everything is compared inside the fence then, as without a watch.
            watched = None;
        }
    }
    let differing = comparison.missing + comparison.extra + comparison.different;
    if comparison.uncomparable > 0 || differing > (comparison.compared / 10).max(FEW) {
        return Err(differs("before the fence, apart from a few", &comparison));
    }
    let took = begun.elapsed();
    if watched.is_none() && allowed.longest.is_some_and(|longest| took > longest) {
        return Err(Error::failed(format!(
            "fence the source: nothing tells which keys are written, so all {} have to be read and compared while the app waits, which took {} just now",
            size::count(comparison.compared),
            size::duration(took)
        ))
        .hint("move in a quiet hour, and give --without-watch to say that the app may wait for so long"));
    }
    Ok(Baseline {
        comparator,
        comparison,
        took,
        leave_out,
        swept: None,
        watched,
        evicted,
    })
}

/// Returns true if all that differs was written while it was compared, or nothing tells.
async fn are_explained<P: Pair>(watched: Option<&Watched>, comparison: &Comparison, pair: &mut P) -> Result<bool> {
    match watched {
        Some(watch) if !comparison.identical() => watch.explains(comparison, pair).await,
        _ => Ok(true),
    }
}

/// Returns how many keys source and master have evicted.
async fn evicted(source: &Server, master: &Server) -> Result<[u64; 2]> {
    let (mut source, mut master) = tokio::try_join!(source.connect(0), master.connect(0))?;
    let (source, master) = tokio::try_join!(source.info(), master.info())?;
    Ok([source.evicted_keys, master.evicted_keys])
}

async fn sweep<P: Pair>(pair: &mut P, hold: Duration, accept_deletions: bool) -> Result<SweepReport> {
    pair.sweep(Asked {
        hold,
        accept_deletions,
        ..Asked::within(SWEEP)
    })
    .await
}

/// Returns what keeps a sweep from being whole. Pure.
fn objections(report: &SweepReport, fenced: Option<&Info>) -> Vec<String> {
    let mut wrong = Vec::new();
    if report.held > 0 {
        wrong.push(format!(
            "the source lacks {} keys that the master has, more than a tenth: they were not deleted",
            report.held
        ));
    }
    if let Some(first) = &report.first_refused {
        wrong.push(format!(
            "{} keys cannot be copied, the first is {first}",
            report.refused
        ));
    }
    if let Some(off) = report.clock_ms.filter(|off| off.unsigned_abs() > CLOCK_MS) {
        wrong.push(format!(
            "the clocks of source and master differ by {off} ms, so keys would expire at other times"
        ));
    }
    if let Some(fenced) = fenced
        && !report.source_run_id.is_empty()
        && report.source_run_id != fenced.run_id
    {
        wrong.push("the copy reads another server than the one that is fenced".into());
    }
    wrong
}

fn refuse(wrong: &[String]) -> Result<()> {
    if wrong.is_empty() {
        return Ok(());
    }
    Err(
        Error::unproven(format!("have the whole source on the master: {}", wrong.join("; "))).hint(
            "see `infra status`; the app was left on its old side. If keys that are missing on the source may go, give --accept-loss",
        ),
    )
}

/// Makes the last sweep, or copies what the watch has marked, and waits until the replica has applied it.
pub async fn drain<P: Pair>(
    fence: &Fence,
    sides: &Sides,
    baseline: &mut Baseline,
    pair: &mut P,
    allowed: Allowed,
    step: &Step,
) -> Result<SweepReport> {
    let report = match &mut baseline.watched {
        None => sweep(pair, HOLD, allowed.loss).await?,
        Some(watched) => match watched.drain(pair, HOLD).await {
            Ok(report) => report,
            Err(_) if baseline.may_begin_anew(allowed) => {
                step.update("the watch broke: copying everything once more");
                baseline.watched = None;
                sweep(pair, HOLD, allowed.loss).await?
            }
            Err(error) => return Err(error),
        },
    };
    refuse(&objections(&report, Some(&fence.captured)))?;
    let master = sides.master.clone().info().await?;
    let wanted = master.master_repl_offset;
    let wait = Wait {
        what: "the replica to apply all that was copied",
        deadline: APPLIED,
        hint: "the source takes writes again; see the replica with `infra status`, then run the same command again",
        first_pause: Duration::from_millis(2),
    };
    wait.until(step, || async {
        let replica = sides.replica.clone().info().await?;
        let applied = replica.applied_offset.unwrap_or(0);
        Ok(Look::when(
            replica.replid == master.replid && applied >= wanted,
            format!("replica {} bytes behind", wanted.saturating_sub(applied)),
        ))
    })
    .await?;
    baseline.swept = Some(Swept {
        keys: fence.captured.keys(),
        master,
    });
    Ok(report)
}

/// Ends the hold after the last sweep: the copy follows its source again.
pub async fn go_on<P: Pair>(pair: &mut P) -> Result<()> {
    // Any request but a look ends a hold, and this one is short. Without a watch it fails, and the hold ends all the same.
    let asked = Asked {
        wish: Wish::Marked,
        ..Asked::within(GOING_ON)
    };
    pair.sweep(asked).await.map(drop)
}

/// Compares everything inside the fence, or what was written since it was compared, and makes the
/// proof. If the watch breaks meanwhile, everything is copied and compared once more.
pub async fn prove<P: Pair>(
    fence: &Fence,
    sides: &Sides,
    baseline: &mut Baseline,
    pair: &mut P,
    allowed: Allowed,
    step: &Step,
) -> Result<Proof> {
    let broken = match prove_once(fence, sides, baseline, pair, step).await? {
        Ok(proof) => return Ok(proof),
        Err(broken) => broken,
    };
    if !baseline.may_begin_anew(allowed) {
        return Err(broken);
    }
    step.update("the watch broke: copying and comparing everything once more");
    baseline.watched = None;
    drain(fence, sides, baseline, pair, allowed, step).await?;
    prove_once(fence, sides, baseline, pair, step).await?
}

/// Makes the proof. The inner error says why the watch does not tell whether the source was written to.
async fn prove_once<P: Pair>(
    fence: &Fence,
    sides: &Sides,
    baseline: &mut Baseline,
    pair: &mut P,
    step: &Step,
) -> Result<Result<Proof>> {
    let Some(swept) = &baseline.swept else {
        return Err(super::super::history::out_of_order("a last sweep"));
    };
    let options = Options {
        rounds: 3,
        pause: Duration::from_millis(20),
        leave_out: baseline.leave_out.clone(),
        spread: baseline.is_watched(),
        ..Options::default()
    };
    let comparator = &mut baseline.comparator;
    let comparison = match &baseline.watched {
        Some(watched) if watched.written().is_empty() => None,
        Some(watched) => Some(comparator.keys(watched.written(), &options).await?),
        None => {
            let show = |progress: Progress| step.update(format!("{} of {} keys", progress.done, progress.total));
            Some(comparator.everything(&options, &show).await?)
        }
    };
    if let Some(comparison) = comparison.as_ref().filter(|comparison| !comparison.identical()) {
        return Err(differs("inside the fence", comparison));
    }
    let (source, (master, replica)) = tokio::try_join!(fence.check(), sides.pair())?;
    fence.holds()?;
    let mut wrong = changed(&fence.captured, &source, swept.keys);
    wrong.extend(moved(&swept.master, &master, &replica));
    // MONITOR does not show evictions.
    if baseline.is_watched() && baseline.evicted != [source.evicted_keys, master.evicted_keys] {
        wrong.push("source or master evicted keys since the comparison".into());
    }
    wrong.extend(logs::objections_of(&master, &replica, pair).await);
    if !wrong.is_empty() {
        return Err(
            Error::unproven(format!("prove that the master may take over: {}", wrong.join("; ")))
                .hint("nothing was changed; see `infra status`, then run the same command again"),
        );
    }
    // The last look of all: nothing may have been written up to here.
    let seen = match &baseline.watched {
        Some(watched) => match watched.still(pair).await {
            Ok(seen) => Some(seen),
            Err(Doubt::Broken(error)) => return Ok(Err(error)),
            Err(Doubt::Written(error)) => return Err(error),
        },
        None => None,
    };
    Ok(Ok(Proof {
        replication_id: swept.master.replid.clone(),
        offset: swept.master.master_repl_offset,
        keys_compared: baseline.comparison.compared,
        keys_compared_in_fence: comparison.map_or(0, |comparison| comparison.compared),
        last_write_at: seen.as_ref().and_then(|seen| at(seen.last_write_us?)),
        source_removals: Some(fence.captured.own_removals),
        monitored: seen.map(|seen| Monitored {
            id: seen.id,
            writes: seen.writes,
        }),
    }))
}

fn at(microseconds: u64) -> Option<Timestamp> {
    Timestamp::from_microsecond(i64::try_from(microseconds).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::unmoved::tests::info;
    use super::*;

    #[test]
    fn a_sweep_that_left_something_out_is_no_ground() {
        let whole = SweepReport {
            source_run_id: "a".into(),
            clock_ms: Some(-400),
            ..SweepReport::default()
        };
        assert_eq!(objections(&whole, Some(&info(""))), [] as [&str; 0]);
        let silent = SweepReport {
            source_run_id: String::new(),
            ..whole.clone()
        };
        assert_eq!(objections(&silent, Some(&info(""))), [] as [&str; 0]);
        let wrong = SweepReport {
            source_run_id: "c".into(),
            held: 200,
            refused: 1,
            first_refused: Some("database 0 key a: no".into()),
            clock_ms: Some(501),
            ..whole
        };
        assert_eq!(objections(&wrong, Some(&info(""))).len(), 4);
    }
}
