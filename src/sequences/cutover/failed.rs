//! After a failed step: decides whether to go back, puts things back, and makes the error.

use super::gate::copied;
use super::history::Entry;
use super::look;
use super::pair::Pair;
use super::record::Record;
use super::state::Cutover;
use super::watch::Seen;
use crate::decide::cutover as decide;
use crate::decide::cutover::{Failure, Stillness};
use crate::decide::vars::Points;
use crate::model::error::{Error, Kind, Result};
use crate::model::phase::{Command, FenceKind, Phase};

impl<R: Record, P: Pair> Cutover<R, P> {
    /// Returns true if going back loses no write and no change under way could still move an app.
    async fn may_go_back(&self, error: &Error) -> bool {
        match self.history.phase {
            Some(Phase::Promoted | Phase::Returning) => true,
            Some(Phase::Switching) if error.kind() != Kind::Locked => {
                let moved_before =
                    self.seen.release_pending || !matches!(self.seen.app, Points::Source | Points::Absent);
                decide::may_take_back(&Failure {
                    given_up: !self.why_back.is_empty(),
                    nothing_changed: error.nothing_changed(),
                    sent: !self.sent.accepted.is_empty(),
                    unclear: !self.sent.unclear.is_empty(),
                    moved_before: self.seen.fence == FenceKind::Pause && moved_before,
                    access_opened: self.access_opened,
                    unused: self.is_unused().await,
                })
            }
            _ => false,
        }
    }

    /// Returns true if nobody wrote to our side since the promotion: by its stream, or since this run
    /// let nobody in.
    async fn is_unused(&self) -> bool {
        match self.our_stillness().await {
            Ok((Stillness::Still, _)) => true,
            Ok((Stillness::Unknown, _)) => self.let_nobody_in(),
            Ok((Stillness::Moved, _)) | Err(_) => false,
        }
    }

    /// Returns whether our master was written to since its promotion, and what its stream showed.
    pub(super) async fn our_stillness(&self) -> Result<(Stillness, Seen)> {
        look::our_stillness(&self.setup.master, &self.setup.source, self.history.promoted()?).await
    }

    /// Returns true if app access was closed from before this run's proof until now, and no app was
    /// told of the endpoint. Our side's stream may still not reach back to the promotion: a source
    /// that changed its replication id in between makes the master copy everything once more.
    pub(super) fn let_nobody_in(&self) -> bool {
        self.proven_here && !self.access_opened && self.sent.accepted.is_empty() && self.sent.unclear.is_empty()
    }

    /// Mends after a failed step what must not stay as it is, and returns the error to show.
    pub(super) async fn step_back(&mut self, error: Error) -> Error {
        #[cfg(test)]
        if self.dies_after.is_some() {
            return error;
        }
        self.interrupt.ignore();
        if self.setup.record.confirm().await.is_err() {
            // Another command may hold the lock: the pause ends, the rest is that command's.
            return error;
        }
        if self.history.phase == Some(Phase::Returning) && !self.vars_not_back.is_empty() {
            return self.put_back(error);
        }
        if self.command == Command::Back && self.history.phase == Some(Phase::Returning) && self.apps_stayed().await {
            return self.stay_on_endpoint(error).await;
        }
        if self.may_go_back(&error).await {
            if self.why_back.is_empty() {
                self.why_back = error.to_string();
            }
            return match self.all(&decide::way_back(self.seen.fence)).await {
                Ok(()) => self.put_back(error),
                Err(second) => self.stuck_on_the_way_back(error, second).await,
            };
        }
        match self.history.phase {
            Some(Phase::Switching | Phase::Switched) => self.half_done(error),
            _ if self.history.stopped.is_some() => {
                if self.why_back.is_empty() {
                    self.why_back = error.to_string();
                }
                match self.all(&decide::restart()).await {
                    Ok(()) => {
                        self.let_the_copy_go_on().await;
                        self.put_back(error)
                    }
                    Err(second) => Error::partial(format!("start the app again after this: {error}"))
                        .because(second)
                        .hint("the app is stopped: run the same command again, or `infra switch-app --back` to let it run on the source"),
                }
            }
            _ => {
                if let Some(fence) = self.reached.take_fence()
                    && let Err(lifting) = fence.lift().await
                {
                    self.setup.ui.warn(format!(
                        "the pause of the source ends by itself within seconds: {lifting}"
                    ));
                }
                self.let_the_copy_go_on().await;
                match self.preboot_on().await {
                    Ok(()) => self.put_back(error),
                    Err(preboot) => {
                        self.setup
                            .ui
                            .warn(format!("preboot is still off; the next run turns it on: {preboot}"));
                        error
                    }
                }
            }
        }
    }

    /// Ends a copy's hold, which is for a gate that never came. A copy that is not reached goes on by itself after a while.
    async fn let_the_copy_go_on(&mut self) {
        if std::mem::take(&mut self.copy_holds)
            && let Err(failed) = copied::go_on(&mut self.setup.pair).await
        {
            tracing::debug!("the copy holds still for a while: {failed}");
        }
    }

    /// Returns the error of a switch that can only go forward.
    fn half_done(&self, error: Error) -> Error {
        let refused = error.nothing_changed();
        let error = match error.kind() {
            Kind::Interrupted => error,
            _ => error.with_kind(Kind::Partial),
        };
        if refused {
            return error
                .while_doing("finish the switch: the platform refused a change, and the new side is in use, so nothing was taken back")
                .hint("mend what the platform says, then run `infra switch-app` with the same --confirm: it goes on where this one stopped");
        }
        error
            .while_doing("finish the switch: the change of the app was announced, and from there the way is forward")
            .hint("run `infra switch-app` with the same --confirm: it goes on where this one stopped")
    }

    /// Returns the error after everything was put back, or one that names what could not be.
    fn put_back(&mut self, error: Error) -> Error {
        if self.not_put_back.is_empty() {
            return error;
        }
        let left = std::mem::take(&mut self.not_put_back).join("; ");
        Error::partial(format!("put everything back after this: {error}"))
            .because(left)
            .hint("mend what the platform says, then run the same command again: it puts the rest back first")
    }

    /// Returns true if every app is still on the endpoint, after a way back that could not begin.
    pub(super) async fn apps_stayed(&self) -> bool {
        let sent = !self.sent.accepted.is_empty() || !self.sent.unclear.is_empty();
        if sent || !self.history.was_switched || !self.is_unused().await {
            return false;
        }
        match look::apps(&self.setup).await {
            Ok((points, pending)) => points == Points::Endpoint && !pending,
            // The platform does not answer. Nothing was sent, so what was seen before still holds.
            Err(_) => self.seen.app == Points::Endpoint && !self.seen.release_pending,
        }
    }

    /// Opens app access again for apps that could not be moved back, and journals where they are.
    async fn stay_on_endpoint(&mut self, error: Error) -> Error {
        match self.reopen().await {
            Ok(()) => error.while_doing("move the app back: it stays on the endpoint, as before"),
            Err(second) => Error::partial(format!("let the app go on at the endpoint after this: {error}"))
                .because(second)
                .hint("the app may not log in to the master now: run `infra switch-app` at once"),
        }
    }

    async fn reopen(&mut self) -> Result<()> {
        let switch = self.history.announced()?.clone();
        let was_switched = self.history.was_switched;
        self.write(Entry::Switching(switch)).await?;
        self.setup.record.confirm().await?;
        self.setup.pair.set_app_access(true).await?;
        if self.command == Command::Back && was_switched {
            // The switch had been done before this run was asked to go back.
            let (release, late_writes) = (self.history.release, self.history.late_writes);
            self.write(Entry::Switched { release }).await?;
            self.write(Entry::Settled { late_writes }).await?;
            if let Some(fence) = self.reached.take_fence() {
                fence.lift().await?;
            }
        }
        Ok(())
    }

    /// The way back failed too. If our side has writes, app access opens and the way is forward.
    async fn stuck_on_the_way_back(&mut self, first: Error, second: Error) -> Error {
        if self.history.switch.is_some()
            && let Ok((Stillness::Moved, _)) = self.our_stillness().await
            && let Err(third) = self.reopen().await
        {
            self.setup
                .ui
                .warn(format!("the app may not log in to the new side yet: {third}"));
        }
        Error::partial(format!("go back after this: {first}"))
            .because(second)
            .hint("run the same command again: it goes on or back from here, whichever is safe")
    }
}
