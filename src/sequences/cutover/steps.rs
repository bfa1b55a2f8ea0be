//! Performs the steps that touch Redis and the hosts. Those that touch the app are in `app`.

use super::fence::Fence;
use super::onlookers::Onlookers;
use super::pair::Pair;
use super::reached::Reached;
use super::record::Record;
use super::sides::Sides;
use super::state::Cutover;
use super::{logs, look};
use crate::decide::cutover::Stillness;
use crate::decide::cutover::steps::Step as Doing;
use crate::decide::vars::Points;
use crate::effects::redis::control::{self, Permission};
use crate::model::clock::milliseconds;
use crate::model::error::{Error, Result};
use crate::model::follow::Follower;
use crate::model::phase::{Command, FenceKind};
use crate::model::size;
use jiff::Timestamp;
use std::time::Duration;
use wire::info::ServerRole;

/// A pause that nobody waits for: only another run of the command ends it.
const UNTIL_ALL_HAVE_MOVED: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl<R: Record, P: Pair> Cutover<R, P> {
    pub(super) async fn perform(&mut self, step: Doing) -> Result<()> {
        match step {
            Doing::DetachVars => self.detach_vars().await,
            Doing::PrebootOff => self.preboot_off().await,
            Doing::PrebootOn => self.preboot_on().await,
            Doing::CloseAccess => self.close_access().await,
            Doing::Ready => self.ready().await,
            Doing::Compare => self.compare().await,
            Doing::Announce(phase) => self.announce(phase).await,
            Doing::Fence => self.raise_fence().await,
            Doing::Drain => self.drain().await,
            Doing::Prove => self.prove().await,
            Doing::ProveStill => self.prove_still().await,
            Doing::Promote => self.promote().await,
            Doing::AnnounceSwitch => self.announce_switch().await,
            Doing::PromoteAndHold => self.promote_and_hold().await,
            Doing::Hold => self.hold().await,
            Doing::LongPause => self.long_pause().await,
            Doing::StayPaused => self.stay_paused().await,
            Doing::OpenAccess => self.open_access().await,
            Doing::SetVars => self.set_vars().await,
            Doing::AwaitRelease => self.await_release().await,
            Doing::StopApp => self.stop_app().await,
            Doing::StartApp => self.start_app().await,
            Doing::AwaitRunning => self.await_running().await,
            Doing::AwaitClients => self.await_clients().await,
            Doing::AwaitGone => self.await_gone().await,
            Doing::Disconnect => self.disconnect().await,
            Doing::Unpause => self.unpause().await,
            Doing::Watch => self.watch_late_writes().await,
            Doing::ProveUnwritten => self.prove_unwritten().await,
            Doing::VarsBack => self.vars_back().await,
            Doing::Follow => self.follow().await,
            Doing::AwaitSync => self.await_sync().await,
        }
    }

    async fn ready(&mut self) -> Result<()> {
        let step = self.setup.ui.step("ready");
        let setup = &mut self.setup;
        let mut sides = Sides::connect(&setup.source, &setup.master, &setup.replica).await?;
        let permissions = control::permissions(&mut sides.source).await?;
        // A copy rests on comparisons alone: what a client wrote is found by them.
        let denied = |permission: &Permission| matches!(permission, Permission::Denied(_));
        let hides_clients =
            self.follower == Follower::Copy && (denied(&permissions.client_list) || denied(&permissions.client_kill));
        for (what, permission, needed) in [
            (
                "CLIENT PAUSE … WRITE",
                &permissions.pause_writes,
                self.seen.fence == FenceKind::Pause,
            ),
            ("PSYNC", &permissions.psync, self.follower == Follower::Replication),
            ("CLIENT LIST", &permissions.client_list, !hides_clients),
            ("CLIENT KILL", &permissions.client_kill, !hides_clients),
        ] {
            if let (Permission::Denied(reason), true) = (permission, needed) {
                return Err(
                    Error::failed(format!("fence {}: {what} is not allowed there: {reason}", setup.source))
                        .hint("ask the provider to allow it; without it no write can be kept from being lost"),
                );
            }
        }
        let (master, _) = sides.pair().await?;
        // A standing link hides that the password was changed, and could not be made again.
        let known = control::setting(&mut sides.master, "masterauth").await?;
        let wanted = setup.source.password.as_ref().map_or("", |password| password.expose());
        if master.role == ServerRole::Replica && known.is_some_and(|known| known.expose() != wanted) {
            return Err(Error::failed(format!(
                "begin: {} follows {} by a password that was changed since",
                setup.master, setup.source
            ))
            .hint("run `infra up`, which points the master at it anew, then the same command again"));
        }
        look::link(&setup.master, &sides, setup.limits.sync, &step).await?;
        if master.role == ServerRole::Replica || self.follower == Follower::Copy {
            let waiting = logs::wait(&sides, setup.limits.sync, &step);
            self.interrupt.or(waiting).await?;
        }
        // A replica ignores `maxmemory`, a master enforces it at once.
        if master.maxmemory > 0 && master.used_memory > master.maxmemory {
            return Err(Error::failed(format!(
                "let the master take over: it uses {} of memory and may use {}",
                size::bytes(master.used_memory),
                size::bytes(master.maxmemory)
            ))
            .hint("take a larger `hosts.instance_type`, or raise `redis.maxmemory`"));
        }
        setup.pair.ready().await?;
        let onlookers = if hides_clients {
            self.outcome.notes.push(
                "the source does not show its clients, or lets none be disconnected: whether a process still writes there \
                 is known by the platform's list of processes and by the comparisons"
                    .into(),
            );
            Onlookers::hidden()
        } else {
            Onlookers::watch(sides.source.clone())
        };
        self.reached = Reached::Connected(sides, onlookers);
        step.done("hosts and source answer; what the fence and its proof need is allowed");
        Ok(())
    }

    async fn raise_fence(&mut self) -> Result<()> {
        let step = self.setup.ui.step("fence");
        let fence = match self.seen.fence {
            FenceKind::Pause => {
                let open = self.reached.connections().ok().map(|sides| {
                    sides.ask_ahead();
                    sides.source.clone()
                });
                Fence::raise(&self.setup.source, open).await?
            }
            FenceKind::Platform => {
                // Much was written since the last comparison. Nobody waits for these milliseconds.
                if let Ok((_, baseline)) = self.reached.comparison() {
                    baseline.shrink().await?;
                }
                let now = || (crate::model::clock::Instant::now(), Timestamp::now());
                Fence::of_stopped_app(
                    self.at_source().await?,
                    self.history.clients.clone(),
                    self.stopped_at.unwrap_or_else(now),
                )
                .await?
            }
        };
        let offset = fence.captured.master_repl_offset;
        step.done(match fence.kind() {
            FenceKind::Pause => format!("source paused at offset {offset}"),
            FenceKind::Platform => format!("nobody is left who writes to the source; its offset is {offset}"),
        });
        self.reached.fenced(fence);
        Ok(())
    }

    async fn promote(&mut self) -> Result<()> {
        let step = self.setup.ui.step("promote");
        let (fence, proof) = self.reached.fenced_proof()?;
        self.setup.record.still_ours()?;
        fence.holds()?;
        // The host answers with the role that runs.
        self.setup.pair.promote(proof, fence).await?;
        self.promoted(&step).await
    }

    /// Sends three requests at once: the promotion, the long pause, and the question whether the
    /// lock is ours, without which app access does not open.
    async fn promote_and_hold(&mut self) -> Result<()> {
        let step = self.setup.ui.step("promote");
        let (fence, proof) = self.reached.fenced_proof()?;
        self.setup.record.still_ours()?;
        fence.holds()?;
        let setup = &mut self.setup;
        let (promoted, held, ours) = tokio::join!(
            setup.pair.promote(proof, fence),
            fence.extend(setup.limits.long_pause),
            setup.record.confirm()
        );
        ours?;
        promoted?;
        held?;
        self.just_confirmed = true;
        self.promoted(&step).await
    }

    async fn promoted(&mut self, step: &crate::ui::Step) -> Result<()> {
        let fenced = milliseconds(self.reached.standing_fence()?.raised.elapsed());
        self.outcome.fenced_ms = Some(fenced);
        step.done(format!("the master follows no more, {fenced} ms after the fence began"));
        if let (Command::SwitchApp, Some(promotion)) = (self.command, self.history.promotion.clone()) {
            self.our_look = Some(self.look_at_ours(&promotion).await?);
        }
        Ok(())
    }

    async fn hold(&mut self) -> Result<()> {
        if self.seen.fence == FenceKind::Platform {
            self.outcome.notes.push(
                "the app is stopped, and nothing starts it by itself: run `infra switch-app` to let it run on the master, or `infra switch-app --back` on the source"
                    .into(),
            );
            return Ok(());
        }
        self.reached.standing_fence()?.extend(self.setup.limits.hold).await?;
        let until = self.history.promoted()?.hold_until;
        self.outcome.held_until = until;
        if self.outcome.fenced_ms.is_none() {
            self.outcome
                .notes
                .push("it was promoted before; the pause was made longer".into());
        }
        if let Some(until) = until {
            self.outcome.notes.push(format!(
                "writes of the app wait until {}; run `infra switch-app` before that. Later the app is back on its old master, and `switch-app` follows and \
                 promotes again",
                until.strftime("%H:%M:%S UTC")
            ));
        }
        Ok(())
    }

    async fn long_pause(&mut self) -> Result<()> {
        let step = self.setup.ui.step("hold the source");
        if self.reached.fence().is_none() {
            let open = self.at_source().await.ok();
            match Fence::raise(&self.setup.source, open).await {
                Ok(fence) => {
                    self.reached.fenced(fence);
                    self.still_since_promotion().await?;
                }
                // Every app runs on the endpoint: nobody writes to a source that is out of reach.
                Err(error) if self.all_have_moved() => {
                    step.failed("not reachable");
                    let line = format!("the source cannot be paused any more, nor watched: {error}");
                    self.setup.ui.warn(&line);
                    self.outcome.notes.push(line);
                    return Ok(());
                }
                Err(error) => {
                    return Err(error.while_doing("hold the source while an app may still write there"));
                }
            }
        }
        if let Some(fence) = self.reached.fence() {
            // The bucket is asked: another holder of the lock may have given the source to its app.
            self.setup.record.confirm().await?;
            fence.extend(self.setup.limits.long_pause).await?;
            step.done(format!(
                "paused for {} should this command die",
                size::duration(self.setup.limits.long_pause)
            ));
        }
        Ok(())
    }

    /// Fails if an app may have written to the source between an earlier run's pause and this one.
    async fn still_since_promotion(&mut self) -> Result<()> {
        let Some(promotion) = self.history.promotion.clone().filter(|_| !self.all_have_moved()) else {
            return Ok(());
        };
        let (stillness, watch) = look::source_stillness(&mut self.setup, &promotion).await?;
        if stillness == Stillness::Still {
            self.source_watch = watch;
            return Ok(());
        }
        let what = match stillness {
            Stillness::Moved => "the source was written to after the promotion, before its pause began again",
            _ => "it is not proven that the source was not written to after the promotion",
        };
        self.why_back = what.into();
        Err(Error::unproven(format!("switch the app: {what}"))
            .hint("run the same command again: it follows the source again first"))
    }

    /// Returns true if all apps were on the endpoint, with no pending release, when this run began.
    fn all_have_moved(&self) -> bool {
        self.seen.app == Points::Endpoint && !self.seen.release_pending
    }

    /// Makes the pause endless: once one app may write to the master, no other may use the source.
    async fn stay_paused(&mut self) -> Result<()> {
        let Some(fence) = self.reached.fence() else {
            // Every app has moved, and the source is out of reach: see `long_pause`.
            return Ok(());
        };
        let step = self.setup.ui.step("hold the source");
        fence.extend(UNTIL_ALL_HAVE_MOVED).await?;
        step.done("paused until every app has moved, also should this command die");
        Ok(())
    }
}
