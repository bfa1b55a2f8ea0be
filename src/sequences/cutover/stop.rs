//! Turns preboot off and on, stops and starts the app. The journal has each before it is done.

use super::app::insist;
use super::history::Entry;
use super::pair::Pair;
use super::record::Record;
use super::state::Cutover;
use crate::effects::platform::{Crashed, not_waited_for};
use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use crate::model::phase::Phase;
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
        let after_the_switch = self.history.phase == Some(Phase::Switched);
        for app in self.setup.apps.clone() {
            let name = app.app_name().to_string();
            if !self.history.preboot_to_restore.contains(&name) {
                continue;
            }
            match insist(|| app.set_preboot(true)).await {
                Ok(()) => {}
                Err(error) if after_the_switch => return Err(error),
                Err(error) => {
                    self.not_put_back.push(format!(
                        "app {name}: preboot is off (`heroku features:enable preboot --app {name}`; {})",
                        error.chain().join(": ")
                    ));
                    continue;
                }
            }
            self.write(Entry::PrebootOn { app: name }).await?;
            self.setup
                .ui
                .step(format!("preboot of {}", app.app_name()))
                .done("on again");
        }
        Ok(())
    }

    /// Turns maintenance on and stops all processes. They may still write until they are killed.
    pub(super) async fn stop_app(&mut self) -> Result<()> {
        let step = self.setup.ui.step(format!("stop {}", self.setup.app_names()));
        self.setup.record.confirm().await?;
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
        // After the switch a refusal may lead back; on the way back every app that can start does.
        let on_the_way_back = self.history.phase != Some(Phase::Switching);
        self.setup.record.confirm().await?;
        let mut left = 0;
        for app in self.setup.apps.clone() {
            let name = app.app_name();
            let Some(standing) = standing.get(name) else {
                continue;
            };
            if !on_the_way_back {
                app.start(standing).await?;
                continue;
            }
            let started = if self.vars_not_back.contains(name) {
                Err(Error::failed("its vars are not those of the source yet"))
            } else {
                insist(|| app.start(standing)).await
            };
            if let Err(error) = started {
                left += 1;
                self.not_put_back.push(format!(
                    "app {name} is stopped or under maintenance ({})",
                    error.chain().join(": ")
                ));
            }
        }
        if left > 0 {
            step.failed(format!("{left} could not be started"));
            return Ok(());
        }
        self.write(Entry::Started).await?;
        step.done("as it stood before");
        Ok(())
    }

    /// Waits until what was started runs the newest release.
    pub(super) async fn await_running(&mut self) -> Result<()> {
        let step = self.setup.ui.step("processes");
        let deadline = self.setup.limits.release;
        let mut left_out = Crashed::new();
        for app in &self.setup.apps {
            let release = app.newest_release().await?.map_or(0, |release| release.version);
            let name = app.app_name();
            let stopped = self.history.stopped.as_ref().and_then(|apps| apps.get(name));
            let switched = self.history.switch.as_ref().and_then(|switch| switch.apps.get(name));
            let crashed: Crashed = [stopped.map(|app| &app.crashed), switched.map(|app| &app.crashed)]
                .into_iter()
                .flatten()
                .flatten()
                .cloned()
                .collect();
            self.interrupt
                .or(app.await_processes(release, &crashed, deadline, &step))
                .await?;
            left_out.extend(crashed);
        }
        self.replaced_at = Some(Instant::now());
        step.done(format!(
            "all that should run runs on the endpoint{}",
            not_waited_for(&left_out)
        ));
        Ok(())
    }
}
