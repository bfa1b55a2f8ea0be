//! The change of the apps' vars: what moves, sending it, its release, and the way back.

use super::history::{AppSwitch, Switch};
use super::look;
use super::pair::Pair;
use super::record::Record;
use super::run::{Cutover, Flow};
use super::steps::out_of_order;
use super::vars::{self, Points};
use crate::error::{Error, Kind, Result};
use crate::platform::{Platform, Release, ReleaseStatus};
use crate::secret::Secret;
use crate::ui::Step;
use std::collections::BTreeMap;

/// What one run knows of the changes that it sent.
#[derive(Default)]
pub(super) struct Sent {
    /// The newest release before the change, by app.
    pub after: BTreeMap<String, u64>,
    /// Whether any was asked for, whatever came of it.
    pub any: bool,
}

impl<R: Record, P: Pair> Cutover<R, P> {
    /// The one change of vars of each app, for the journal: names only.
    pub(super) async fn switch(&self) -> Result<Switch> {
        if let Some(begun) = &self.history.switch {
            return Ok(begun.clone());
        }
        let mut apps = BTreeMap::new();
        for app in &self.setup.apps {
            apps.insert(app.app_name().to_string(), self.app_switch(app).await?);
        }
        Ok(Switch { apps })
    }

    async fn app_switch(&self, app: &Platform) -> Result<AppSwitch> {
        let setup = &self.setup;
        let (vars, attachments) = tokio::try_join!(app.config_vars(), app.attachments())?;
        let source = (setup.source.host.to_ascii_lowercase(), setup.source.port);
        let name = app.app_name();
        let moved = vars::moved(&vars, &attachments, name, &setup.config_var, (&source.0, source.1));
        if let Some(authority) = &setup.authority
            && vars
                .get(&authority.var)?
                .is_some_and(|there| there.expose().trim() != authority.pem.trim())
        {
            return Err(Error::failed(format!(
                "set {} of app {name}: the app uses that var for something else",
                authority.var
            ))
            .hint("name another in `app.ca_config_var` of infra.yml"));
        }
        let hosted = vars::hosted_var(&setup.config_var);
        Ok(AppSwitch {
            moved,
            ca_var: setup
                .authority
                .as_ref()
                .map(|authority| authority.var.clone())
                .unwrap_or_default(),
            keep_in: (!vars.has(&hosted)).then_some(hosted),
            release_before: newest_release(app).await?,
        })
    }

    pub(super) async fn set_vars(&mut self) -> Result<()> {
        let Some(switch) = self.history.switch.clone() else {
            return Err(out_of_order("set the app's vars"));
        };
        for app in self.setup.apps.clone() {
            let Some(switch) = switch.apps.get(app.app_name()) else {
                return Err(Error::failed(format!(
                    "set the vars of app {}: the cutover was begun without it",
                    app.app_name()
                ))
                .hint("remove it from `app.also` until this cutover is done, then move it by one of its own"));
            };
            self.set_app_vars(&app, switch).await?;
        }
        Ok(())
    }

    async fn set_app_vars(&mut self, app: &Platform, switch: &AppSwitch) -> Result<()> {
        let name = app.app_name().to_string();
        let step = self.setup.ui.step(format!("set {} of {name}", self.setup.config_var));
        let vars = app.config_vars().await?;
        let endpoint = self.setup.endpoint.url();
        let mut wanted: BTreeMap<String, Option<Secret>> = BTreeMap::new();
        for moved in &switch.moved {
            wanted.insert(moved.var.clone(), Some(vars::with_path(&endpoint, &moved.path)));
        }
        if let Some(authority) = &self.setup.authority {
            wanted.insert(authority.var.clone(), Some(Secret::new(authority.pem.clone())));
        }
        if let (Some(keep), false, Points::Source) = (
            &switch.keep_in,
            switch.keep_in.as_ref().is_some_and(|keep| vars.has(keep)),
            look::vars_point(&self.setup, &vars)?,
        ) {
            wanted.insert(keep.clone(), vars.get(&self.setup.config_var)?.cloned());
        }
        // A release that an earlier run sent may still be under way, with the old values showing: sending it again would only restart the app once more.
        if newest_release(app).await? > switch.release_before && release_is_pending(app).await? {
            self.sent.after.insert(name, switch.release_before);
            self.sent.any = true;
            step.unchanged("the change was sent already; its release is under way");
            return Ok(());
        }
        self.setup.record.still_ours()?;
        if let Some(fence) = &self.fence {
            fence.holds()?;
        }
        self.sent.any = true;
        match app.set_config_vars(&wanted).await? {
            Some(before) => {
                self.sent.after.insert(name, before);
                step.done("the endpoint, in one change");
            }
            None => step.unchanged("the endpoint already"),
        }
        Ok(())
    }

    pub(super) async fn await_release(&mut self) -> Result<Flow> {
        let Some(switch) = self.history.switch.clone() else {
            return Err(out_of_order("wait for a release"));
        };
        for app in self.setup.apps.clone() {
            let before = switch
                .apps
                .get(app.app_name())
                .map_or(0, |switch| switch.release_before);
            if let Flow::ReleaseFailed(what) = self.await_app_release(&app, before).await? {
                return Ok(Flow::ReleaseFailed(what));
            }
        }
        Ok(Flow::On)
    }

    async fn await_app_release(&mut self, app: &Platform, release_before: u64) -> Result<Flow> {
        let name = app.app_name();
        let step = self.setup.ui.step(format!("release of {name}"));
        let after = self.sent.after.get(name).copied().unwrap_or(release_before);
        let release: Option<Release> = match newest_release(app).await? > after {
            true => {
                let ending = app.terminal_release(after, self.setup.limits.release, &step);
                Some(self.interrupt.or(self.command, ending).await?)
            }
            // The values were there already, by a release before ours.
            false => None,
        };
        let points = look::vars_point(&self.setup, &app.config_vars().await?)?;
        if let Some(release) = &release
            && release.status != ReleaseStatus::Succeeded
        {
            step.failed(format!("v{} {}", release.version, release.status));
            return Ok(Flow::ReleaseFailed(format!(
                "switch app {name}: its release v{} {}",
                release.version, release.status
            )));
        }
        if points != Points::Endpoint {
            step.failed("not on the endpoint");
            return Err(Error::partial(format!(
                "switch app {name}: its release ended well and {} still does not name the endpoint",
                self.setup.config_var
            ))
            .hint("somebody may change the app's vars at the same time; run `infra switch-app` again"));
        }
        let version = release.map_or(after, |release| release.version);
        if self.setup.apps.first().is_some_and(|first| first.app_name() == name) {
            self.outcome.release = Some(version);
        }
        step.done(format!("v{version}"));
        Ok(Flow::On)
    }

    /// The old values again, where the platform took the new ones. What was kept stays kept.
    pub(super) async fn vars_back(&mut self) -> Result<()> {
        let Some(switch) = self.history.switch.clone() else {
            return Ok(());
        };
        for app in self.setup.apps.clone() {
            if let Some(switch) = switch.apps.get(app.app_name()) {
                self.app_vars_back(&app, switch).await?;
            }
        }
        Ok(())
    }

    async fn app_vars_back(&self, app: &Platform, switch: &AppSwitch) -> Result<()> {
        let step = self.setup.ui.step(format!("vars of {}", app.app_name()));
        // What is under way would set the new values after us.
        self.settled_release(app, &step).await?;
        let vars = app.config_vars().await?;
        if look::vars_point(&self.setup, &vars)? != Points::Endpoint {
            step.unchanged("they name the source");
            return Ok(());
        }
        let hosted = vars::hosted_var(&self.setup.config_var);
        let Some(old) = vars.get(&hosted)? else {
            return Err(Error::failed(format!(
                "set {} back: {hosted}, which keeps the old value, is not there",
                self.setup.config_var
            )));
        };
        let mut wanted: BTreeMap<String, Option<Secret>> = BTreeMap::new();
        for moved in &switch.moved {
            let value = if moved.var == self.setup.config_var {
                old.clone()
            } else {
                vars::with_path(old, &moved.path)
            };
            wanted.insert(moved.var.clone(), Some(value));
        }
        if !switch.ca_var.is_empty() {
            wanted.insert(switch.ca_var.clone(), None);
        }
        let after = app.set_config_vars(&wanted).await?;
        if let Some(after) = after {
            let release = app.terminal_release(after, self.setup.limits.release, &step).await?;
            if release.status != ReleaseStatus::Succeeded {
                return Err(Error::new(
                    Kind::Partial,
                    format!(
                        "set {} back: release v{} {}",
                        self.setup.config_var, release.version, release.status
                    ),
                )
                .hint("see the release's output on the platform, then run the same command again"));
            }
        }
        step.done("they name the source again");
        Ok(())
    }

    /// Waits until no release is under way.
    pub(super) async fn settled_release(&self, app: &Platform, step: &Step) -> Result<()> {
        if release_is_pending(app).await? {
            let before = newest_release(app).await?.saturating_sub(1);
            app.terminal_release(before, self.setup.limits.release, step).await?;
        }
        Ok(())
    }
}

pub(super) async fn newest_release(app: &Platform) -> Result<u64> {
    Ok(app.newest_release().await?.map_or(0, |release| release.version))
}

pub(super) async fn release_is_pending(app: &Platform) -> Result<bool> {
    Ok(app
        .newest_release()
        .await?
        .is_some_and(|release| !release.status.is_terminal()))
}
