//! The change of the apps' vars: what moves, sending it, its release, and the way back.

use super::history::{AppSwitch, Switch};
use super::look::{self, release_is_pending};
use super::pair::Pair;
use super::record::Record;
use super::state::Cutover;
use crate::decide::vars::{self, Points};
use crate::effects::platform::{ConfigVars, Platform, Release, ReleaseStatus};
use crate::effects::wait::Pauses;
use crate::model::error::{Error, Kind, Result};
use crate::model::phase::Command;
use crate::model::secret::Secret;
use crate::ui::Step;
use std::collections::BTreeMap;
use std::time::Duration;

/// Time to look for a change whose answer was lost, before it counts as not made.
const UNCLEAR: Duration = Duration::from_secs(5);

enum Answer {
    Accepted(Option<u64>),
    /// The change was refused, or not sent at all.
    NotMade(Error),
    Unclear(Error),
}

impl<R: Record, P: Pair> Cutover<R, P> {
    /// Returns the one change of vars of each app, for the journal: names only.
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

    pub(super) async fn set_vars(&mut self) -> Result<()> {
        let switch = self.history.announced()?.clone();
        let strange = |app: &&Platform| !switch.apps.contains_key(app.app_name());
        if let Some(app) = self.setup.apps.iter().find(strange) {
            return Err(Error::failed(format!(
                "set the vars of app {}: the cutover was begun without it",
                app.app_name()
            ))
            .hint("remove it from `app.also` until this cutover is done, then move it by one of its own"));
        }
        self.just_confirmed = false;
        self.setup.record.confirm().await?;
        if let Some(fence) = self.reached.fence() {
            fence.holds()?;
        }
        // All are sent at once: the shorter the time between them, the less can come between.
        let this = &*self;
        let sending = this.setup.apps.iter().filter_map(|app| {
            let switch = switch.apps.get(app.app_name())?;
            Some(async move { (app.app_name().to_string(), this.send_vars(app, switch).await) })
        });
        let answers = futures_util::future::join_all(sending).await;
        self.note_answers(answers)
    }

    /// Keeps each app's answer. The error of an unclear change comes before that of a refused one.
    fn note_answers(&mut self, answers: Vec<(String, Answer)>) -> Result<()> {
        let (mut refused, mut unclear) = (None, None);
        for (app, answer) in answers {
            match answer {
                Answer::Accepted(before) => {
                    self.sent.accepted.insert(app, before);
                }
                Answer::NotMade(error) => refused = refused.or(Some(error)),
                Answer::Unclear(error) => {
                    self.sent.unclear.insert(app);
                    unclear = unclear.or(Some(error));
                }
            }
        }
        unclear.or(refused).map_or(Ok(()), Err)
    }

    /// Sends the change of one app, if it is not there yet.
    async fn send_vars(&self, app: &Platform, switch: &AppSwitch) -> Answer {
        let step = self
            .setup
            .ui
            .step(format!("set {} of {}", self.setup.config_var, app.app_name()));
        let prepared = async {
            let vars = app.config_vars().await?;
            let sent_before = newest_release(app).await? > switch.release_before && release_is_pending(app).await?;
            Ok((self.wanted_vars(&vars, switch)?, sent_before))
        };
        let (wanted, sent_before) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => {
                step.failed("not sent");
                return Answer::NotMade(Error::with_nothing_changed(error));
            }
        };
        // An earlier run's release may be under way; sending again would only restart the app.
        if sent_before {
            step.unchanged("the change was sent already; its release is under way");
            return Answer::Accepted(Some(switch.release_before));
        }
        match app.set_config_vars(&wanted).await {
            Ok(Some(before)) => {
                step.done("the endpoint, in one change");
                Answer::Accepted(Some(before))
            }
            Ok(None) => {
                step.unchanged("the endpoint already");
                Answer::Accepted(None)
            }
            Err(error) if error.nothing_changed() => {
                step.failed("refused");
                Answer::NotMade(error)
            }
            Err(error) => {
                step.failed("not known");
                Answer::Unclear(error)
            }
        }
    }

    /// Returns the values of the one change: endpoint, authority, and the old URL to keep.
    fn wanted_vars(&self, vars: &ConfigVars, switch: &AppSwitch) -> Result<BTreeMap<String, Option<Secret>>> {
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
            look::vars_point(&self.setup, vars)?,
        ) {
            wanted.insert(keep.clone(), vars.get(&self.setup.config_var)?.cloned());
        }
        let at = vars::place_of(&self.setup.endpoint);
        let copies = vars::copies(&switch.moved, vars, (&at.0, at.1))?;
        wanted.extend(copies.into_iter().map(|(var, value)| (var, Some(value))));
        Ok(wanted)
    }

    pub(super) async fn await_release(&mut self) -> Result<()> {
        let switch = self.history.announced()?.clone();
        for app in self.setup.apps.clone() {
            let before = switch
                .apps
                .get(app.app_name())
                .map_or(0, |switch| switch.release_before);
            self.await_app_release(&app, before).await?;
        }
        Ok(())
    }

    async fn await_app_release(&mut self, app: &Platform, release_before: u64) -> Result<()> {
        let name = app.app_name();
        let step = self.setup.ui.step(format!("release of {name}"));
        let sent = self.sent.accepted.get(name).copied().flatten();
        let after = sent.unwrap_or(release_before);
        let release: Option<Release> = if newest_release(app).await? > after {
            let ending = app.terminal_release(after, self.setup.limits.release, &step);
            Some(self.interrupt.or(ending).await?)
        } else {
            // An earlier release had set the values already.
            None
        };
        let points = look::vars_point(&self.setup, &app.config_vars().await?)?;
        if let Some(release) = &release
            && release.status != ReleaseStatus::Succeeded
        {
            step.failed(format!("v{} {}", release.version, release.status));
            self.why_back = format!("switch app {name}: its release v{} {}", release.version, release.status);
            return Err(Error::failed(self.why_back.clone())
                .hint("see the release's output on the platform; the app is back on the source and nothing was lost"));
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
        Ok(())
    }

    /// Sets the old values where the platform took the new ones. An app that cannot be moved back
    /// is noted, and the others go on: app access is closed by now, so it can write nowhere.
    pub(super) async fn vars_back(&mut self) -> Result<()> {
        let Some(switch) = self.history.switch.clone() else {
            return Ok(());
        };
        let mut moved_back = Vec::new();
        for app in self.setup.apps.clone() {
            let Some(switch) = switch.apps.get(app.app_name()) else {
                continue;
            };
            match insist(|| self.app_vars_back(&app, switch)).await {
                Ok(true) => moved_back.push((app, switch)),
                Ok(false) => {}
                Err(_) if self.is_untouched(app.app_name()) => {}
                Err(error) => {
                    if self.command == Command::Back && self.all_stay(&moved_back).await {
                        return Err(error);
                    }
                    self.vars_not_back.insert(app.app_name().to_string());
                    self.not_put_back.push(format!(
                        "app {}: {} may still name the endpoint, which does not let it in ({})",
                        app.app_name(),
                        self.setup.config_var,
                        error.chain().join(": ")
                    ));
                }
            }
        }
        Ok(())
    }

    /// Returns true if an app's vars were certainly never changed.
    fn is_untouched(&self, app: &str) -> bool {
        let was_on_source = self.seen.app == Points::Source && !self.seen.release_pending;
        was_on_source && !self.sent.accepted.contains_key(app) && !self.sent.unclear.contains(app)
    }

    /// Moves apps that went back to the endpoint again; returns true if all apps are there.
    async fn all_stay(&self, moved_back: &[(Platform, &AppSwitch)]) -> bool {
        if !moved_back.is_empty() && self.reached.fence().is_none() {
            return false;
        }
        let step = self.setup.ui.step("keep the apps together");
        for (app, switch) in moved_back {
            let again = insist(|| async {
                match self.send_vars(app, switch).await {
                    Answer::Accepted(_) => self.settled_release(app, &step).await,
                    Answer::NotMade(error) | Answer::Unclear(error) => Err(error),
                }
            });
            if again.await.is_err() {
                step.failed("some are back on the source");
                return false;
            }
        }
        let stayed = self.apps_stayed().await;
        step.done("all stay on the endpoint");
        stayed
    }

    /// Returns true if anything was changed.
    async fn app_vars_back(&self, app: &Platform, switch: &AppSwitch) -> Result<bool> {
        let step = self.setup.ui.step(format!("vars of {}", app.app_name()));
        // A release under way would set the new values after us.
        self.settled_release(app, &step).await?;
        if self.sent.unclear.contains(app.app_name()) {
            tokio::time::sleep(UNCLEAR).await;
            self.settled_release(app, &step).await?;
        }
        let vars = app.config_vars().await?;
        if look::vars_point(&self.setup, &vars)? != Points::Endpoint {
            step.unchanged("they name the source");
            return Ok(false);
        }
        let old = vars::old_values(&switch.moved, &vars, &self.setup.config_var)?;
        let mut wanted: BTreeMap<String, Option<Secret>> =
            old.into_iter().map(|(var, value)| (var, Some(value))).collect();
        if !switch.ca_var.is_empty() {
            wanted.insert(switch.ca_var.clone(), None);
        }
        self.setup.record.confirm().await?;
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
        Ok(true)
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

/// Repeats a request that the platform refuses, for a few seconds: it may refuse only once.
pub(super) async fn insist<T, F: Future<Output = Result<T>>>(mut ask: impl FnMut() -> F) -> Result<T> {
    let mut pauses = Pauses::listed([300, 900, 1800].map(Duration::from_millis));
    loop {
        match ask().await {
            Err(error) if error.nothing_changed() && pauses.again().await => {}
            answered => return answered,
        }
    }
}

pub(super) async fn newest_release(app: &Platform) -> Result<u64> {
    Ok(app.newest_release().await?.map_or(0, |release| release.version))
}
