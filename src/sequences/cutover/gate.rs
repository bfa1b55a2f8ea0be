//! The gate: what must hold before the master may take over. Only this file makes a [`Proof`].
//!
//! It proves that master and replica have applied the source's stream up to the fence; that every
//! key was compared while following, and each touched since again inside the fence; and that the
//! source is the process that was compared. A comparison says itself what it does not look at.

mod baseline;
pub mod copied;
pub mod unmoved;
pub mod watched;

pub use baseline::{Baseline, compare};

use super::fence::Fence;
use super::ground::Ground;
use super::history::{Monitored, Promotion};
use super::logs::{self, Logs};
use super::sides::Sides;
use super::watch::Watch;
use crate::decide::cutover::Stillness;
use crate::effects::redis::compare::Options;
use crate::effects::wait::{Look, Pauses, Wait};
use crate::model::error::{Error, Result};
use crate::model::phase::FenceKind;
use crate::sequences::setup::follow::still_follows;
use crate::ui::Step;
use baseline::differs;
use jiff::Timestamp;
use std::time::Duration;
use wire::info::{Info, OwnRemovals, ServerRole};

/// How long master and replica may take to apply what the source had at the fence.
const DRAIN: Duration = Duration::from_secs(8);
/// How long a replica may take to follow a master that was just promoted.
const JOINING: Duration = Duration::from_secs(3);
/// Shows that the gate held. Its offset is the source's at the fence.
#[derive(Debug)]
pub struct Proof {
    /// Whose stream the offset is in.
    replication_id: String,
    offset: u64,
    keys_compared: u64,
    keys_compared_in_fence: u64,
    /// When the last write before the fence was seen; `None` if the watched stream showed none.
    last_write_at: Option<Timestamp>,
    /// Removals that the source made by itself, up to the offset; `None` in an older journal.
    source_removals: Option<OwnRemovals>,
    /// The watch by MONITOR that saw no write up to now.
    monitored: Option<Monitored>,
}

impl Proof {
    pub fn replication_id(&self) -> &str {
        &self.replication_id
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the keys of both comparisons.
    pub fn keys_compared(&self) -> u64 {
        self.keys_compared + self.keys_compared_in_fence
    }

    pub fn keys_compared_in_fence(&self) -> u64 {
        self.keys_compared_in_fence
    }

    pub fn last_write_at(&self) -> Option<Timestamp> {
        self.last_write_at
    }

    pub fn source_removals(&self) -> Option<OwnRemovals> {
        self.source_removals
    }

    pub fn monitored(&self) -> Option<&Monitored> {
        self.monitored.as_ref()
    }
}

/// Waits until the pair has applied, and the watch has read, all that the source had at the fence.
pub async fn drain(fence: &Fence, sides: &mut Sides, baseline: &Baseline, step: &Step) -> Result<()> {
    let wanted = fence.captured.master_repl_offset;
    let applied = |info: &Info| info.applied_offset.unwrap_or(0);
    for asked in std::mem::take(&mut sides.ahead) {
        if let Ok(Ok((master, replica))) = asked.await
            && applied(&master).min(applied(&replica)) >= wanted
        {
            return baseline.watch.reach(wanted, DRAIN).await;
        }
    }
    let sides = &*sides;
    let wait = Wait {
        what: "master and replica to apply all that the source had",
        deadline: DRAIN,
        hint: "the source takes writes again; see the lag with `infra status`, then run the same command again",
        first_pause: Duration::from_millis(1),
    };
    wait.until(step, || async {
        let (master, replica) = sides.pair().await?;
        still_follows("master", &master)?;
        still_follows("replica", &replica)?;
        let seen = format!(
            "master {} bytes behind, replica {} bytes",
            wanted.saturating_sub(applied(&master)),
            wanted.saturating_sub(applied(&replica))
        );
        Ok(Look::when(
            applied(&master) >= wanted && applied(&replica) >= wanted,
            seen,
        ))
    })
    .await?;
    baseline.watch.reach(wanted, DRAIN).await
}

/// Compares what was written since, inside the fence, and makes the proof.
pub async fn prove<P: Logs>(fence: &Fence, sides: &Sides, baseline: &mut Baseline, pair: &mut P) -> Result<Proof> {
    let offset = fence.captured.master_repl_offset;
    let Some(keys) = baseline.dirty(fence.captured.keyspace.keys().copied())? else {
        return Err(Error::unproven(
            "compare what was written since the comparison: a command was used that does not say which keys it wrote, or too many were written",
        )
        .hint("the source takes writes again; run the same command again when FLUSHDB, SWAPDB, scripts of old servers or modules are not in use"));
    };
    let options = Options {
        rounds: 2,
        pause: Duration::from_millis(5),
        ..Options::default()
    };
    let comparing = async {
        if keys.is_empty() {
            return Ok(());
        }
        let comparison = baseline.comparator.keys(&keys, &options).await?;
        if comparison.identical() {
            return Ok(());
        }
        Err(differs("inside the fence", &comparison))
    };
    let asking = async { tokio::try_join!(fence.check(), sides.pair()) };
    let (source, (master, replica)) = match fence.kind() {
        // The source is asked while keys are compared. If somebody ends the pause later, the writes
        // are in the stream, which is looked at again before the app may write to our side.
        FenceKind::Pause => tokio::try_join!(comparing, asking)?.1,
        FenceKind::Platform => {
            comparing.await?;
            asking.await?
        }
    };
    fence.holds()?;
    let ground = Ground {
        run_id: &baseline.run_id,
        replid: &baseline.replid,
        keys: &baseline.keys,
        removed: baseline.watch.seen().deletions,
        offset,
    };
    let mut wrong = ground.objections(&source, &master, &replica);
    wrong.extend(logs::objections_of(&master, &replica, pair).await);
    if !wrong.is_empty() {
        return Err(
            Error::unproven(format!("prove that the master may take over: {}", wrong.join("; ")))
                .hint("nothing was changed; see `infra status`, then run the same command again"),
        );
    }
    // The stream up to now may hold nothing but what a source sends by itself.
    let latest = match fence.kind() {
        FenceKind::Pause => fence.latest_offset().await?,
        FenceKind::Platform => source.master_repl_offset,
    };
    baseline.watch.reach(latest, DRAIN).await?;
    // The mark comes before the look: what comes between is in both, what comes later is late.
    let last_write_at = baseline.watch.seen().last_write_at;
    baseline.watch.mark();
    let since = baseline.watch.dirty_since(offset)?;
    // A source that is not paused goes on expiring keys; a paused one does not.
    let harmless = since.is_empty()
        || (fence.kind() == FenceKind::Platform
            && baseline
                .only_removed_by_itself(&fence.captured, fence.connection())
                .await?);
    if !harmless {
        return Err(
            Error::unproven("prove that the source is fenced: it was written to since")
                .hint("somebody may have ended the pause, or writes with the old URL; run the same command again"),
        );
    }
    Ok(Proof {
        replication_id: baseline.replid.clone(),
        offset,
        keys_compared: baseline.comparison.compared,
        keys_compared_in_fence: keys.len() as u64,
        last_write_at,
        source_removals: Some(fence.captured.own_removals),
        monitored: None,
    })
}

/// Proves that an earlier promotion holds: nothing was written to the source since, and the replica
/// follows its master. What somebody wrote to our own side stays there; the caller reports it.
pub async fn prove_still<P: Logs>(
    fence: &Fence,
    sides: &Sides,
    promotion: &Promotion,
    source: (Option<&Watch>, Stillness),
    ours: Stillness,
    pair: &mut P,
) -> Result<Proof> {
    let (watch, stillness) = source;
    let (now, (master, replica)) = tokio::try_join!(fence.check(), joined_pair(sides))?;
    if let Some(watch) = watch {
        watch.reach(now.master_repl_offset, DRAIN).await?;
    }
    let mut wrong = logs::objections_of(&master, &replica, pair).await;
    if stillness != Stillness::Still || watch.is_some_and(|watch| watch.seen().writes > 0) {
        wrong.push("the source was written to since the promotion".to_string());
    }
    if ours == Stillness::Unknown {
        wrong.push("our side's stream does not tell whether it was written to since the promotion".into());
    }
    // The promotion of a copy has an id of our own master.
    let is_other = promotion.follower.is_replication() && now.replid != promotion.source_replid;
    if now.run_id != promotion.source_run_id || is_other {
        wrong.push("the source was restarted since the promotion".into());
    }
    if master.role != ServerRole::Master {
        wrong.push("the master is no master".into());
    }
    if !has_joined(&master, &replica) {
        wrong.push("the replica does not follow the master".into());
    }
    if !wrong.is_empty() {
        return Err(
            Error::unproven(format!("take over the promotion: {}", wrong.join("; ")))
                .hint("run the same command again: it follows the source again first"),
        );
    }
    Ok(Proof {
        replication_id: promotion.source_replid.clone(),
        offset: promotion.offset,
        keys_compared: promotion.keys_compared,
        keys_compared_in_fence: 0,
        last_write_at: promotion.last_write_at,
        source_removals: promotion.source_removals,
        monitored: promotion.monitored.clone(),
    })
}

fn has_joined(master: &Info, replica: &Info) -> bool {
    replica.link.as_ref().is_some_and(|link| link.up) && replica.replid == master.replid
}

/// Waits until the replica follows the promoted master's new replication id, about a second.
async fn joined_pair(sides: &Sides) -> Result<(Info, Info)> {
    let mut pauses = Pauses::even(JOINING, Duration::from_millis(50));
    loop {
        let (master, replica) = sides.pair().await?;
        if has_joined(&master, &replica) || !pauses.again().await {
            return Ok((master, replica));
        }
    }
}

#[cfg(test)]
mod tests;
