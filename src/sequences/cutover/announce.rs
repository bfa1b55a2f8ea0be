//! Writes the journal's entries that begin a phase, and checks what must hold before.

use super::history::{Counted, Entry, Known, Promotion};
use super::pair::Pair;
use super::reached::Reached;
use super::record::Record;
use super::state::Cutover;
use crate::model::error::{Error, Result};
use crate::model::phase::{Command, FenceKind, Phase};
use jiff::Timestamp;

impl<R: Record, P: Pair> Cutover<R, P> {
    /// Writes the entry that begins a phase; checks lock and fence before the points of no return.
    pub(super) async fn announce(&mut self, phase: Phase) -> Result<()> {
        let entry = match phase {
            Phase::Following => {
                self.all_is_back()?;
                Entry::Following {
                    source: self.begin_with_source().await?,
                }
            }
            Phase::Returning => Entry::Returning {
                why: std::mem::take(&mut self.why_back),
            },
            Phase::Fenced => {
                self.foresee_refusals().await?;
                let (onlookers, baseline) = self.reached.comparison()?;
                let step = self.setup.ui.step("onlookers");
                let known = onlookers.known(self.setup.limits.onlookers, &step);
                let clients = self.interrupt.or(known).await?;
                step.done(format!(
                    "{} of the source's clients only look, and may stay",
                    clients.len()
                ));
                // This leaves as few keys as possible for the comparison inside the fence.
                baseline.shrink().await?;
                let fence = self.seen.fence;
                let switch = match fence {
                    FenceKind::Pause => None,
                    FenceKind::Platform => Some(self.switch().await?),
                };
                // The switch's changes are planned while nobody waits for them.
                if fence == FenceKind::Pause && self.command == Command::SwitchApp {
                    self.planned_switch = Some(self.switch().await?);
                }
                Entry::Fenced { fence, switch, clients }
            }
            Phase::Promoted => {
                self.hold_on().await?;
                Entry::Promoted(self.promotion()?)
            }
            Phase::Switching => {
                self.hold_on().await?;
                Entry::Switching(self.switch().await?)
            }
            Phase::Switched => Entry::Switched {
                release: self.outcome.release,
            },
            Phase::Settled => Entry::Settled {
                late_writes: self.outcome.late_writes,
            },
            // These phases have no effect of their own, so they have no entry.
            Phase::Drained | Phase::Proven => return Ok(()),
        };
        self.write(entry).await
    }

    /// Writes promotion and switch at once, since writers wait. If the run dies, neither happened.
    pub(super) async fn announce_switch(&mut self) -> Result<()> {
        self.hold_on().await?;
        let promoted = Entry::Promoted(self.promotion()?);
        let switch = match self.planned_switch.take() {
            Some(planned) => planned,
            None => self.switch().await?,
        };
        self.write_all(&[promoted, Entry::Switching(switch)]).await
    }

    /// Fails if an app could not be moved back or started: the way back is not over then.
    fn all_is_back(&mut self) -> Result<()> {
        if self.vars_not_back.is_empty() && self.history.stopped.is_none() {
            return Ok(());
        }
        Err(Error::partial("put everything back as it was").because(self.not_put_back.join("; ")))
    }

    /// Returns the source as a cutover finds it. Fails if a restarted source lost its keys: its
    /// followers are empty too then, and a comparison would find all of them equal.
    async fn begin_with_source(&self) -> Result<Option<Known>> {
        let on_the_way_back = self.command == Command::Back || self.history.phase == Some(Phase::Returning);
        if on_the_way_back || !matches!(self.reached, Reached::Begun) {
            return Ok(None);
        }
        let info = self.setup.source.connect(0).await?.info().await?;
        if let Some(known) = &self.history.source
            && known.run_id != info.run_id
        {
            self.not_shrunk(known.keys, info.keys())?;
        }
        Ok(Some(Known {
            keys: info.keys(),
            run_id: info.run_id,
        }))
    }

    /// Checks that the lock is ours and that nothing can write to the source. A pause is renewed all
    /// the time, so nobody is asked about it: that would make the app wait, and the proof and the
    /// long pause ask the source themselves.
    async fn hold_on(&self) -> Result<()> {
        let fence = self.reached.standing_fence()?;
        match fence.kind() {
            FenceKind::Pause => {
                self.setup.record.still_ours()?;
                fence.holds()
            }
            FenceKind::Platform => tokio::try_join!(self.setup.record.confirm(), fence.check()).map(drop),
        }
    }

    fn promotion(&self) -> Result<Promotion> {
        let hold = jiff::SignedDuration::try_from(self.setup.limits.hold).unwrap_or(jiff::SignedDuration::ZERO);
        let hold_until = match self.command {
            Command::Promote => Timestamp::now().checked_add(hold).ok(),
            Command::SwitchApp | Command::Back => None,
        };
        // A hold that is made longer keeps the offset that was proven.
        if let Some(earlier) = &self.history.promotion {
            return Ok(Promotion {
                hold_until,
                ..earlier.clone()
            });
        }
        let (fence, proof) = self.reached.fenced_proof()?;
        Ok(Promotion {
            source_run_id: fence.captured.run_id.clone(),
            source_replid: proof.replication_id().into(),
            offset: proof.offset(),
            fenced_at: fence.raised_at,
            last_write_at: proof.last_write_at(),
            source_keys: fence.captured.keys(),
            source_removals: proof.source_removals(),
            // The stream of a replicated source tells more.
            counted: Counted::by(&fence.captured).filter(|_| !self.follower.is_replication()),
            keys_compared: proof.keys_compared(),
            follower: self.follower,
            monitored: proof.monitored().cloned(),
            hold_until,
        })
    }
}
