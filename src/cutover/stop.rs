//! Preboot off and on, and the app stopped and started: what is done to its processes, each remembered in the journal before it is done.

use super::history::Entry;
use super::pair::Pair;
use super::record::Record;
use super::run::Cutover;
use crate::error::Result;
use crate::wait::Instant;
use jiff::Timestamp;
use std::collections::BTreeMap;

impl<R: Record, P: Pair> Cutover<R, P> {
    pub(super) async fn preboot_off(&mut self) -> Result<()> {
        for app in self.setup.apps.clone() {
            if !app.preboot().await? {
                continue;
            }
            let name = app.app_name().to_string();
            if !self.history.preboot_to_restore.contains(&name) {
                self.write(Entry::PrebootOff { app: name }).await?;
            }
            app.set_preboot(false).await?;
            self.setup
                .ui
                .step(format!("preboot of {}", app.app_name()))
                .done("off until the switch is done");
        }
        Ok(())
    }

    pub(super) async fn preboot_on(&mut self) -> Result<()> {
        for app in self.setup.apps.clone() {
            let name = app.app_name().to_string();
            if self.history.preboot_to_restore.contains(&name) {
                app.set_preboot(true).await?;
                self.write(Entry::PrebootOn { app: name }).await?;
                self.setup
                    .ui
                    .step(format!("preboot of {}", app.app_name()))
                    .done("on again");
            }
        }
        Ok(())
    }

    /// Maintenance on and no process left that the platform keeps running. Those that got their SIGTERM may still write: the source's clients tell.
    pub(super) async fn stop_app(&mut self) -> Result<()> {
        let step = self.setup.ui.step(format!("stop {}", self.setup.app_names()));
        self.setup.record.still_ours()?;
        let mut standing = BTreeMap::new();
        for app in &self.setup.apps {
            standing.insert(app.app_name().to_string(), app.standing().await?);
        }
        self.write(Entry::Stopping { apps: standing }).await?;
        self.stopped_at = Some((Instant::now(), Timestamp::now()));
        for app in &self.setup.apps {
            app.stop().await?;
        }
        step.done("under maintenance, no processes; how it stood is in the journal");
        Ok(())
    }

    pub(super) async fn start_app(&mut self) -> Result<()> {
        let Some(standing) = self.history.stopped.clone() else {
            return Ok(());
        };
        let step = self.setup.ui.step(format!("start {}", self.setup.app_names()));
        for app in &self.setup.apps {
            if let Some(standing) = standing.get(app.app_name()) {
                app.start(standing).await?;
            }
        }
        self.write(Entry::Started).await?;
        step.done("as it stood before");
        Ok(())
    }

    /// What was started runs the newest release.
    pub(super) async fn await_running(&mut self) -> Result<()> {
        let step = self.setup.ui.step("processes");
        let deadline = self.setup.limits.release;
        for app in &self.setup.apps {
            let release = app.newest_release().await?.map_or(0, |release| release.version);
            self.interrupt
                .or(self.command, app.await_processes(release, deadline, &step))
                .await?;
        }
        step.done("all that should run runs on the endpoint");
        Ok(())
    }
}
