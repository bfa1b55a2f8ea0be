//! The gate for a master that copies its source. Without a watch one more sweep and the whole
//! comparison run inside the fence; with one, only the keys that were written meanwhile.

use super::super::fence::Fence;
use super::super::history::{Monitored, Promotion};
use super::super::keys::too_many_gone;
use super::super::logs;
use super::super::pair::Pair;
use super::super::sides::Sides;
use super::Proof;
use super::baseline::differs;
use super::watched::{self, Watched};
use crate::decide::cutover::Stillness;
use crate::effects::host::copy::Asked;
use crate::effects::redis::Server;
use crate::effects::redis::compare::{Comparator, Comparison, Options, Progress};
use crate::effects::wait::{Look, Wait};
use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use crate::model::follow::Follower;
use crate::model::size;
use crate::ui::Step;
use infra_agent::record::SweepReport;
use jiff::Timestamp;
use std::time::Duration;
use wire::info::{Info, ServerRole};

/// How long one sweep may take. The app waits for it, and a pause is renewed meanwhile.
const SWEEP: Duration = Duration::from_secs(30 * 60);
/// How long the copy writes nothing after the last sweep, unless a promotion shuts it out first.
const HOLD: Duration = Duration::from_secs(20 * 60);
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
    let begun = Instant::now();
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
    let differing = comparison.missing + comparison.extra + comparison.different;
    if comparison.uncomparable > 0 || differing > (comparison.compared / 10).max(FEW) {
        return Err(differs("before the fence, apart from a few", &comparison));
    }
    if let Some(watch) = &watched
        && !comparison.identical()
        && !watch.explains(&comparison, pair).await?
    {
        // Everything is compared inside the fence then, as without a watch.
        watched = None;
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
            // Reading and comparing everything once more needs no watch.
            Err(_) if allowed.longest.is_none_or(|longest| baseline.took * 2 <= longest) => {
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
        hint: "the source is open again; see the replica with `infra status`, then run the same command again",
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

/// Compares everything inside the fence, or what was written since it was compared, and makes the
/// proof.
pub async fn prove<P: Pair>(
    fence: &Fence,
    sides: &Sides,
    baseline: &mut Baseline,
    pair: &mut P,
    step: &Step,
) -> Result<Proof> {
    let Some(swept) = &baseline.swept else {
        return Err(super::super::history::out_of_order("a last sweep"));
    };
    let options = Options {
        rounds: 3,
        pause: Duration::from_millis(20),
        leave_out: baseline.leave_out.clone(),
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
        Some(watched) => Some(watched.still(pair).await?),
        None => None,
    };
    Ok(Proof {
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
    })
}

fn at(microseconds: u64) -> Option<Timestamp> {
    Timestamp::from_microsecond(i64::try_from(microseconds).ok()?).ok()
}

/// Returns what changed on the source between the fence and the end of the comparison. Pure.
fn changed(fenced: &Info, now: &Info, keys: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    if now.run_id != fenced.run_id {
        wrong.push("the source was restarted since the fence".to_string());
    }
    if now.role != ServerRole::Master {
        wrong.push("the source follows another server".into());
    }
    if now.evicted_keys != fenced.evicted_keys {
        wrong.push("the source evicted keys since the fence".into());
    }
    let own = now.own_removals.since(fenced.own_removals);
    if too_many_gone(keys, now.keys().saturating_add(own.expired_keys)) {
        wrong.push(format!(
            "the source has {} keys, and had {keys} at the fence",
            now.keys()
        ));
    }
    // A second witness beside the comparison.
    if counted_since(fenced, now) > 0 {
        wrong.push("the source counts writes since the fence".into());
    }
    wrong
}

/// Returns how many writes the source counts since the fence, without its own removals. Zero if it does not tell, or has saved
/// since, which begins the count anew. Pure.
pub fn counted_since(fenced: &Info, now: &Info) -> u64 {
    let (before, after) = (&fenced.persistence, &now.persistence);
    if now.run_id != fenced.run_id || before.last_save != after.last_save {
        return 0;
    }
    let (Some(before), Some(after)) = (before.unsaved_changes, after.unsaved_changes) else {
        return 0;
    };
    let own = now.own_removals.since(fenced.own_removals);
    // Without a save the count never falls.
    after
        .saturating_sub(before)
        .saturating_sub(own.expired_keys + own.evicted_keys + own.expired_fields)
}

/// Returns what speaks against our two sides after the last sweep. Pure.
fn moved(swept: &Info, master: &Info, replica: &Info) -> Vec<String> {
    let mut wrong = Vec::new();
    if master.role != ServerRole::Master {
        wrong.push("the master follows another server".to_string());
    }
    if master.replid != swept.replid || master.run_id != swept.run_id {
        wrong.push("the master was restarted since the last sweep".into());
    }
    if master.evicted_keys != swept.evicted_keys {
        wrong.push("the master evicted keys since the last sweep".into());
    }
    if replica.replid != swept.replid || !replica.link.as_ref().is_some_and(|link| link.up) {
        wrong.push("the replica does not follow the master".into());
    }
    if replica.applied_offset.unwrap_or(0) < swept.master_repl_offset {
        wrong.push("the replica has not applied all that was copied".into());
    }
    wrong
}

/// Returns whether the source is as it was at the promotion: nobody wrote to our side since, and the
/// two are identical.
pub async fn stillness(
    source: &Server,
    master: &Server,
    promotion: &Promotion,
    ours: Stillness,
    leave_out: &[String],
) -> Result<Stillness> {
    // What was written to our side would look like a difference of the source.
    if promotion.follower != Follower::Copy || ours != Stillness::Still {
        return Ok(Stillness::Unknown);
    }
    let now = source.connect(0).await?.info().await?;
    if now.run_id != promotion.source_run_id || now.role != ServerRole::Master {
        return Ok(Stillness::Unknown);
    }
    let options = Options {
        rounds: 3,
        pause: Duration::from_millis(100),
        leave_out: leave_out.to_vec(),
        ..Options::default()
    };
    let comparison = Comparator::connect(source, master)
        .await?
        .everything(&options, &|_| ())
        .await?;
    Ok(if comparison.identical() {
        Stillness::Still
    } else {
        Stillness::Moved
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(lines: &str) -> Info {
        let usual = "redis_version:7.0.15\r\nrun_id:a\r\nused_memory:1\r\nrole:master\r\nmaster_replid:b\r\nmaster_repl_offset:9\r\n\
                     rdb_changes_since_last_save:5\r\nrdb_last_save_time:100\r\ndb0:keys=1000,expires=0\r\n";
        let mut text = usual.to_string();
        for line in lines.lines() {
            let name = line.split(':').next().unwrap();
            text = text
                .lines()
                .filter(|old| old.split(':').next() != Some(name))
                .map(|old| format!("{old}\r\n"))
                .collect();
            text += &format!("{line}\r\n");
        }
        Info::parse(&text).unwrap()
    }

    #[test]
    fn a_source_that_moved_inside_the_fence_proves_nothing() {
        let fenced = info("");
        assert_eq!(changed(&fenced, &info(""), 1000), [] as [&str; 0]);
        for (now, why) in [
            ("run_id:c", "was restarted"),
            ("evicted_keys:1", "evicted keys"),
            ("rdb_changes_since_last_save:6", "counts writes"),
            ("rdb_changes_since_last_save:7\nexpired_keys:1", "counts writes"),
            ("db0:keys=10,expires=0", "has 10 keys"),
        ] {
            let wrong = changed(&fenced, &info(now), 1000);
            assert!(wrong.len() == 1 && wrong[0].contains(why), "{now}: {wrong:?}");
        }
        // A save resets the count, and the server's own expiry counts as a change.
        for harmless in [
            "rdb_changes_since_last_save:0\nrdb_last_save_time:101",
            "rdb_changes_since_last_save:6\nexpired_keys:1",
        ] {
            assert_eq!(changed(&fenced, &info(harmless), 1000), [] as [&str; 0], "{harmless}");
        }
    }

    #[test]
    fn a_master_that_is_not_as_the_last_sweep_left_it_proves_nothing() {
        let swept = info("");
        let replica = info("role:slave\nmaster_link_status:up\nmaster_host:a\nmaster_port:1\nslave_repl_offset:9");
        assert_eq!(moved(&swept, &info(""), &replica), [] as [&str; 0]);
        for (now, why) in [("run_id:c", "was restarted"), ("evicted_keys:1", "evicted keys")] {
            let wrong = moved(&swept, &info(now), &replica);
            assert!(wrong.len() == 1 && wrong[0].contains(why), "{now}: {wrong:?}");
        }
        let behind = info("role:slave\nmaster_link_status:up\nmaster_host:a\nmaster_port:1\nslave_repl_offset:8");
        let wrong = moved(&swept, &info(""), &behind);
        assert!(wrong.len() == 1 && wrong[0].contains("has not applied"), "{wrong:?}");
    }

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
