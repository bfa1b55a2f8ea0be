//! The pair's way back: app access closes, our side is proven unused, and the master follows again.

use super::keys::too_many_gone;
use super::look;
use super::pair::Pair;
use super::record::Record;
use super::state::Cutover;
use crate::decide::cutover::{MasterRole, Stillness};
use crate::effects::host::copy::Asked;
use crate::effects::wait::{Look, Wait};
use crate::model::error::{Error, Result};
use crate::model::follow::Follower;
use crate::model::size;
use crate::sequences::setup::follow::still_follows;
use wire::info::Info;

impl<R: Record, P: Pair> Cutover<R, P> {
    pub(super) async fn close_access(&mut self) -> Result<()> {
        if look::access_is_open(&mut self.setup.master.connect(0).await?).await? {
            let step = self.setup.ui.step("close app access");
            self.setup.pair.set_app_access(false).await?;
            step.done("the app may not log in to the master");
        }
        Ok(())
    }

    pub(super) async fn prove_unwritten(&mut self) -> Result<()> {
        let (role, _) = look::role(&mut self.setup.master.connect(0).await?, &self.history).await?;
        if role == MasterRole::Following {
            return Ok(());
        }
        let step = self.setup.ui.step("prove that our side is unused");
        match self.our_stillness().await?.0 {
            Stillness::Still => step.done("its stream shows no write since the promotion"),
            // App access was never opened, so only an administrator could have written.
            Stillness::Unknown if self.history.switch.is_none() || self.let_nobody_in() => {
                step.done("app access was never opened; the stream does not reach back to the promotion");
            }
            Stillness::Unknown | Stillness::Moved => {
                return Err(Error::unproven(format!(
                    "follow the source again: {} may have been written to since its promotion, and that would be gone",
                    self.setup.master
                ))
                .hint("run `infra verify` to see how the sides differ"));
            }
        }
        Ok(())
    }

    /// Fails if the source lost too many keys, unless `--accept-loss` was given. A source that had
    /// keys and has none counts as emptied, however few it had.
    pub(super) fn not_shrunk(&self, before: u64, now: u64) -> Result<()> {
        let emptied = before > 0 && now == 0;
        if !(emptied || too_many_gone(before, now)) || self.setup.accept_loss {
            return Ok(());
        }
        Err(Error::unproven(format!(
            "follow {}: it has {now} keys and had {before}; what it lost would be lost here too",
            self.setup.source
        ))
        .hint("look at the source first: a master that was promoted, or the last backup, still has those keys. If they may be gone, give --accept-loss"))
    }

    /// Fails if the source lost many of our keys, which all came from it. A source that came back
    /// empty may have as many new ones.
    async fn kept_its_keys(&self) -> Result<()> {
        if self.setup.accept_loss {
            return Ok(());
        }
        let (looked_at, missing) = look::missing_there(&self.setup.master, &self.setup.source).await?;
        let none_left = looked_at > 0 && missing == looked_at;
        if !(none_left || too_many_gone(looked_at, looked_at.saturating_sub(missing))) {
            return Ok(());
        }
        Err(Error::unproven(format!(
            "follow {}: of {looked_at} keys that it had it has lost {missing}; they would be lost here too",
            self.setup.source
        ))
        .hint("look at the source first: a master that was promoted, or the last backup, still has those keys. If they may be gone, give --accept-loss"))
    }

    pub(super) async fn follow(&mut self) -> Result<()> {
        let step = self.setup.ui.step("follow");
        if let Some(promotion) = &self.history.promotion {
            let source = self.setup.source.connect(0).await?.info().await?;
            let before = promotion.source_keys;
            self.not_shrunk(before, source.keys())?;
            self.kept_its_keys().await?;
        }
        self.setup.record.confirm().await?;
        self.setup.pair.follow_source().await?;
        step.done("the master follows the source");
        Ok(())
    }

    /// Waits for one sweep, after which the master has what the source had when it began.
    async fn await_sweep(&mut self) -> Result<()> {
        let step = self.setup.ui.step("sync");
        let setup = &mut self.setup;
        // The next cutover looks at the keys that the source lost.
        let asked = Asked::within(setup.limits.sync);
        let report = self.interrupt.or(setup.pair.sweep(asked)).await?;
        step.done(format!(
            "the master copies the source again, {} keys",
            size::count(report.keys)
        ));
        Ok(())
    }

    pub(super) async fn await_sync(&mut self) -> Result<()> {
        if self.follower == Follower::Copy {
            return self.await_sweep().await;
        }
        let step = self.setup.ui.step("sync");
        let setup = &self.setup;
        let (source, master, replica) = tokio::try_join!(
            setup.source.connect(0),
            setup.master.connect(0),
            setup.replica.connect(0)
        )?;
        let wait = Wait::new(
            "master and replica to have a copy of the source",
            setup.limits.sync,
            "see the links with `infra status`, then run the same command again",
        );
        let syncing = wait.until(&step, || {
            let (mut source, mut master, mut replica) = (source.clone(), master.clone(), replica.clone());
            async move {
                let (source, master, replica) = tokio::try_join!(source.info(), master.info(), replica.info())?;
                still_follows("master", &master)?;
                still_follows("replica", &replica)?;
                let up = |info: &Info| info.link.as_ref().is_some_and(|link| link.up) && info.replid == source.replid;
                let left = [&master, &replica]
                    .into_iter()
                    .filter_map(|info| info.link.as_ref()?.sync?.left_bytes)
                    .sum();
                let is_whole = up(&master) && up(&replica) && !master.loading && !replica.loading;
                Ok(Look::when(is_whole, format!("{} left to copy", size::bytes(left))))
            }
        });
        self.interrupt.or(syncing).await?;
        step.done("master and replica follow");
        Ok(())
    }
}
