//! Performs the steps from the comparison to the proof, for either way to follow.

use super::compared::Compared;
use super::gate::{self, copied};
use super::look;
use super::pair::Pair;
use super::record::Record;
use super::state::Cutover;
use crate::decide::cutover::Stillness;
use crate::model::error::{Error, Result};
use crate::model::follow::Follower;
use crate::model::size;

impl<R: Record, P: Pair> Cutover<R, P> {
    pub(super) async fn compare(&mut self) -> Result<()> {
        let step = self.setup.ui.step("compare");
        let allowed = self.allowed();
        let sides = self.reached.connections()?;
        let setup = &mut self.setup;
        let comparing = async {
            if self.follower == Follower::Copy {
                let servers = [&setup.source, &setup.master];
                let leave_out = setup.leave_out.clone();
                let compared = copied::compare(servers, &mut setup.pair, allowed, leave_out, &step).await?;
                return Ok(Compared::Copied(compared));
            }
            let mut baseline = gate::compare(&setup.source, &setup.master, sides, setup.limits.rounds, &step).await?;
            baseline.shrink().await?;
            Ok(Compared::Followed(baseline))
        };
        let baseline = self.interrupt.or(comparing).await?;
        let comparison = baseline.comparison();
        let hot = comparison.missing + comparison.extra + comparison.different;
        let but = match hot {
            0 => String::new(),
            hot => format!(" but {hot} that are written all the time and follow inside the fence"),
        };
        step.done(match &baseline {
            Compared::Followed(_) => format!(
                "{} keys identical{but}, {} rounds",
                size::count(comparison.compared),
                comparison.rounds.len()
            ),
            Compared::Copied(copied) if copied.is_watched() => format!(
                "{} keys, {hot} of them on their way; MONITOR tells which are written, and inside the fence only those are compared again",
                size::count(comparison.compared)
            ),
            Compared::Copied(copied) => format!(
                "{} keys, {hot} of them on their way; inside the fence all are copied and compared once more, about {}",
                size::count(comparison.compared),
                size::duration(copied.took)
            ),
        });
        self.outcome.notes.extend(comparison.later_said());
        self.reached.compared(baseline);
        Ok(())
    }

    /// Returns what the operator allowed a copy.
    fn allowed(&self) -> copied::Allowed {
        copied::Allowed {
            loss: self.setup.accept_loss,
            longest: (!self.setup.without_watch).then_some(self.setup.limits.unwatched),
        }
    }

    pub(super) async fn drain(&mut self) -> Result<()> {
        let step = self.setup.ui.step("drain");
        let allowed = self.allowed();
        let (fence, sides, baseline) = self.reached.fenced_comparison()?;
        match baseline {
            Compared::Followed(baseline) => {
                gate::drain(fence, sides, baseline, &step).await?;
                step.done("master and replica have applied all of it");
            }
            Compared::Copied(baseline) => {
                let pair = &mut self.setup.pair;
                self.copy_holds = true;
                let report = copied::drain(fence, sides, baseline, pair, allowed, &step).await?;
                let what = if baseline.is_watched() {
                    "the keys written before the fence are copied"
                } else {
                    "the last sweep ended"
                };
                step.done(format!(
                    "{what}: {} new or changed and {} deleted; the replica has them",
                    size::count(report.changed),
                    size::count(report.deleted)
                ));
            }
        }
        Ok(())
    }

    pub(super) async fn prove(&mut self) -> Result<()> {
        let step = self.setup.ui.step("prove");
        let allowed = self.allowed();
        let (fence, sides, baseline) = self.reached.fenced_comparison()?;
        // The bucket confirms the lock meanwhile, since the promotion follows the proof at once.
        let setup = &mut self.setup;
        let proving = async {
            match &mut *baseline {
                Compared::Followed(baseline) => gate::prove(fence, sides, baseline, &mut setup.pair).await,
                Compared::Copied(baseline) => {
                    copied::prove(fence, sides, baseline, &mut setup.pair, allowed, &step).await
                }
            }
        };
        let (proof, ours) = tokio::join!(proving, setup.record.confirm());
        ours?;
        // A watch that broke meanwhile had no part in the proof.
        let watched = baseline.is_watched();
        self.outcome.watch = Some(baseline.watch_name());
        let proof = proof?;
        let compared = size::count(proof.keys_compared_in_fence());
        step.done(if watched {
            format!("{compared} keys written meanwhile are identical, the source has not moved")
        } else {
            format!("all {compared} keys are identical, the source has not moved")
        });
        self.outcome.keys_compared = Some(proof.keys_compared());
        self.outcome.keys_compared_in_fence = Some(proof.keys_compared_in_fence());
        self.outcome.source_offset = Some(proof.offset());
        // The proof set the watch's mark, so every write since then is late.
        self.source_watch = self.reached.proven(proof);
        self.proven_here = true;
        Ok(())
    }

    pub(super) async fn prove_still(&mut self) -> Result<()> {
        let step = self.setup.ui.step("prove");
        let (fence, sides) = self.reached.fenced_connections()?;
        let promotion = self.history.promoted()?;
        let (ours, seen) = self.our_stillness().await?;
        let (source, watch) = look::source_stillness(&mut self.setup, promotion).await?;
        let is_known = watch.is_some() || promotion.follower == Follower::Copy;
        if !is_known {
            return Err(
                Error::unproven("take over the promotion: the source's stream does not continue from there")
                    .hint("run the same command again: it follows the source again first"),
            );
        }
        let watched = (watch.as_ref(), source);
        let proof = gate::prove_still(fence, sides, promotion, watched, ours, &mut self.setup.pair).await?;
        step.done(match ours {
            Stillness::Moved => "nothing was written on the source since the promotion; somebody wrote to our side",
            _ => "nothing was written on either side since the promotion",
        });
        if ours == Stillness::Moved {
            self.outcome.tell_foreign(&seen);
        }
        self.outcome.keys_compared = Some(proof.keys_compared());
        self.outcome.source_offset = Some(proof.offset());
        self.reached.proven(proof);
        self.source_watch = watch;
        Ok(())
    }
}
