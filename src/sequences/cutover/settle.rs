//! After the switch: disconnects the source's last clients, ends its pause, watches its stream.

use super::look::vars_point;
use super::pair::Pair;
use super::record::Record;
use super::state::Cutover;
use super::watch::{Late, READING, Seen, Watch, command_table};
use super::{clients, removals};
use crate::decide::vars::Points;
use crate::effects::redis::control;
use crate::model::clock::Instant;
use crate::model::error::Result;
use crate::model::follow::Follower;
use crate::model::phase::Phase;
use crate::model::size;
use crate::ui::Step;
use jiff::Timestamp;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use wire::info::OwnRemovals;

/// How many late writes are shown.
const SHOWN: usize = 20;

impl<R: Record, P: Pair> Cutover<R, P> {
    pub(super) async fn await_gone(&mut self) -> Result<()> {
        let step = self.setup.ui.step("source's clients");
        let mut connection = self.at_source().await?;
        let stopped = self.stopped_at.map_or_else(Instant::now, |(moment, _)| moment);
        let end = if self.is_empty_since_the_promotion().await? {
            Instant::now()
        } else {
            stopped.after(self.setup.limits.grace)
        };
        let comparison = self.reached.comparison().ok();
        let quiet = || {
            let Some((_, baseline)) = &comparison else {
                return Ok(None);
            };
            let Some(watch) = baseline.watch() else {
                return Ok(None);
            };
            // A broken stream would show no write either.
            watch.unbroken()?;
            Ok(watch.quiet_for())
        };
        let gone = clients::await_gone(
            &mut connection,
            &self.history.clients,
            end,
            quiet,
            self.setup.limits.away,
            &step,
        );
        match self.interrupt.or(gone).await? {
            0 => step.done("nobody who could write is left"),
            gone => step.done(format!("{gone} disconnected, and nobody came back")),
        }
        Ok(())
    }

    /// Returns true if every process that knew the source's URL was waited for already: a promotion
    /// behind the platform's fence did that, and each app's only release since set the endpoint.
    async fn is_empty_since_the_promotion(&self) -> Result<bool> {
        let (Some(_), Some(switch)) = (&self.history.promotion, &self.history.switch) else {
            return Ok(false);
        };
        for app in &self.setup.apps {
            let ours = switch.apps.get(app.app_name()).map(|app| app.release_before + 1);
            let newest = app.newest_release().await?.map(|release| release.version);
            if ours.is_none()
                || newest != ours
                || vars_point(&self.setup, &app.config_vars().await?)? != Points::Endpoint
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for the grace of replaced processes: until the platform kills one, it may connect
    /// again and write its work back. The app runs on the new side, so waiting costs it nothing.
    pub(super) async fn await_clients(&mut self) -> Result<()> {
        let Some(fence) = self.reached.fence() else {
            return Ok(());
        };
        let step = self.setup.ui.step("source's clients");
        let end = self
            .replaced_at
            .unwrap_or_else(Instant::now)
            .after(self.setup.limits.grace);
        let mut connection = fence.connection();
        let waiting = clients::await_grace(&mut connection, &self.history.clients, end, &step);
        self.interrupt.or(waiting).await?;
        step.done(format!(
            "no process that was replaced can be alive after {}",
            size::duration(self.setup.limits.grace)
        ));
        Ok(())
    }

    pub(super) async fn disconnect(&mut self) -> Result<()> {
        let Some(fence) = self.reached.fence() else {
            return Ok(());
        };
        fence.check().await?;
        let step = self.setup.ui.step("disconnect");
        let mut connection = fence.connection();
        let disconnecting = clients::disconnect(&mut connection, &self.history.clients, self.setup.limits.away, &step);
        let gone = self.interrupt.or(disconnecting).await?;
        step.done(format!(
            "{} disconnected before the pause ends, and nobody came back to write",
            gone.disconnected
        ));
        if let Some(who) = gone.persistent {
            self.outcome
                .notes
                .push(format!("still connected to the source, and only looking: {who}"));
        }
        fence.check().await?;
        Ok(())
    }

    pub(super) async fn unpause(&mut self) -> Result<()> {
        let step = self.setup.ui.step("end the pause");
        if let Some(fence) = self.reached.fence() {
            // Keys do not expire while the pause runs; those that are due go when it ends.
            self.expired_before = Some(fence.connection().info().await?.own_removals.expired_keys);
        }
        self.setup.record.confirm().await?;
        match self.reached.take_fence() {
            Some(fence) => fence.lift().await?,
            None if self.history.phase == Some(Phase::Switched) => {
                step.unchanged("the source is out of reach");
                return Ok(());
            }
            None => control::unpause(&mut self.at_source().await?).await?,
        }
        step.done("the source takes writes again");
        Ok(())
    }

    /// Watches the source's stream for a while after the pause, and computes the write gap.
    pub(super) async fn watch_late_writes(&mut self) -> Result<()> {
        if self.follower == Follower::Copy {
            return self.late_writes_of_a_copy().await;
        }
        let step = self.setup.ui.step("settle");
        let watch = match self.source_watch.take() {
            Some(watch) => Some(watch),
            // An earlier run promoted.
            None => self.watch_from_the_promotion().await?,
        };
        let Some(mut watch) = watch else {
            step.failed("the source's stream could not be watched");
            return Ok(());
        };
        self.wait_for_late_writes(&step).await?;
        // A source that cut the stream may still have what came since.
        if let Err(broken) = watch.unbroken() {
            watch = self.watch_from_the_promotion().await?.ok_or(broken)?;
        }
        let info = self.at_source().await?.info().await?;
        watch.reach(info.master_repl_offset, READING).await?;
        let late = self.late(&watch.seen()).await?;
        self.outcome.late_writes = Some(late.writes);
        self.tell_late(&late);
        let last = self
            .history
            .promotion
            .as_ref()
            .and_then(|promotion| promotion.last_write_at);
        let first = self.our_watch.take().and_then(|watch| watch.seen().first_write_at);
        self.outcome.app_write_gap_ms = match (last, first) {
            (Some(last), Some(first)) => u64::try_from(first.duration_since(last).as_millis()).ok(),
            _ => None,
        };
        step.done(format!(
            "{} late writes in the source's stream since the fence",
            late.writes
        ));
        Ok(())
    }

    /// Waits as long as late writes are looked for.
    pub(super) async fn wait_for_late_writes(&self, step: &Step) -> Result<()> {
        let end = Instant::now().after(self.setup.limits.settle);
        let waiting = async {
            while !end.has_passed() {
                step.update(format!(
                    "watching for late writes for {} more",
                    size::duration(end.remaining())
                ));
                tokio::time::sleep(end.remaining().min(Duration::from_secs(1))).await;
            }
            Ok(())
        };
        self.interrupt.or(waiting).await
    }

    /// Reads the source's stream since the promotion; `None` if the source is gone or has forgotten it.
    async fn watch_from_the_promotion(&self) -> Result<Option<Watch>> {
        let promotion = self.history.promoted()?;
        let table = command_table(&self.setup.master).await?;
        let begun = Watch::begin(&self.setup.source, table, &promotion.source_replid, promotion.offset);
        Ok(begun.await.unwrap_or_default())
    }

    /// Returns the writes in the source's stream. The source's own expiry and eviction
    /// are none, nor are removals of what our side does not have either.
    pub(super) async fn late(&self, seen: &Seen) -> Result<Late> {
        let mut late = Late {
            writes: seen.writes,
            lines: seen.lines.clone(),
        };
        if seen.deletions + seen.field_deletions == 0 {
            return Ok(late);
        }
        let now = self.at_source().await?.info().await?.own_removals;
        let promotion = self.history.promotion.as_ref();
        let before = match promotion.and_then(|promotion| promotion.source_removals) {
            Some(before) => before,
            // An older journal has no count; the one from before the pause ended is nearly as good.
            None => OwnRemovals {
                expired_keys: self.expired_before.unwrap_or(now.expired_keys),
                ..now
            },
        };
        let removed = removals::by_clients(seen, now.since(before), &self.setup.master).await?;
        late.writes += removed.keys + removed.fields;
        for (count, what) in [(removed.keys, "keys"), (removed.fields, "fields of hashes")] {
            if count > 0 {
                late.lines.push(format!("{count} {what} were deleted"));
            }
        }
        Ok(late)
    }

    /// Shows the first late writes. If there are more, a file gets all of them.
    pub(super) fn tell_late(&mut self, late: &Late) {
        for line in late.lines.iter().take(SHOWN) {
            self.outcome.notes.push(format!("late write: {line}"));
        }
        if late.lines.len() <= SHOWN {
            return;
        }
        let (more, text) = (late.lines.len() - SHOWN, late.lines.join("\n") + "\n");
        let name = format!("late-writes-{}.txt", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
        let path = self.setup.folder.join(name);
        self.outcome.notes.push(match write_private(&path, &text) {
            Ok(()) => format!("{more} more late writes: all are listed in {}", path.display()),
            // If the file cannot be written, the whole list is shown, so that it is not lost.
            Err(error) => format!(
                "the list could not be written to {}: {error}; {}",
                path.display(),
                late.lines[SHOWN..].join("; ")
            ),
        });
    }
}

/// Writes a file that only its owner may read: the names of keys are private.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}
