//! What the steps do to the app: its vars, its attachments, its releases and processes.

use super::history::{Entry, Switch};
use super::look;
use super::pair::Pair;
use super::record::Record;
use super::run::{Cutover, Flow};
use super::steps::out_of_order;
use super::vars::{self, Flatten, FlattenStep, Points};
use crate::error::{Error, Kind, Result};
use crate::platform::{ConfigVars, Release, ReleaseStatus};
use crate::secret::Secret;
use crate::wait::{Look, Wait};
use std::collections::BTreeMap;

impl<R: Record, P: Pair> Cutover<R, P> {
    /// Makes the app's var a plain one: attach under another name, detach, set. Between the last two the var is absent, so the app is under maintenance meanwhile.
    pub(super) async fn flatten(&mut self) -> Result<()> {
        let app = self.setup.platform.app_name().to_string();
        let (vars, attachments) =
            tokio::try_join!(self.setup.platform.config_vars(), self.setup.platform.attachments())?;
        let begun = self.history.flattening.clone();
        let (plan, maintenance_was_on) = match begun {
            Some(begun) => begun,
            None => {
                let Some(plan) = vars::flatten(&vars, &attachments, &app, &self.setup.config_var)? else {
                    return Ok(());
                };
                let maintenance = self.setup.platform.app().await?.maintenance;
                self.write(Entry::Flattening {
                    plan: plan.clone(),
                    maintenance_was_on: maintenance,
                })
                .await?;
                (plan, maintenance)
            }
        };
        let step = self.setup.ui.step(format!("keep {} as {}", plan.addon, plan.hosted));
        let before = self.newest_release().await?;
        if !maintenance_was_on {
            self.setup.platform.set_maintenance(true).await?;
        }
        let changed = self.flatten_steps(&plan, &app, &step).await;
        if !maintenance_was_on {
            self.setup.platform.set_maintenance(false).await?;
        }
        if let Err(error) = changed {
            step.failed("not done");
            return Err(error);
        }
        // While the source is fenced its writers wait: the processes are about to be restarted by the switch anyway.
        if self.fence.is_none() && self.newest_release().await? > before {
            let release = self
                .setup
                .platform
                .terminal_release(before, self.setup.limits.release, &step)
                .await?;
            self.await_processes(release.version, &step).await?;
        }
        self.write(Entry::Flattened).await?;
        step.done(format!(
            "{} is a plain var now, with the same value",
            self.setup.config_var
        ));
        Ok(())
    }

    async fn flatten_steps(&mut self, plan: &Flatten, app: &str, step: &crate::ui::Step) -> Result<()> {
        // One step each, and a look between: at most attach, detach, set.
        for _ in 0..6 {
            // With a release phase a change shows only when its release has ended.
            self.settled_release(step).await?;
            let platform = &self.setup.platform;
            let (vars, attachments) = tokio::try_join!(platform.config_vars(), platform.attachments())?;
            match vars::next_flatten_step(plan, &vars, &attachments, app) {
                FlattenStep::Attach => {
                    step.update(format!("attaching {} as {}", plan.addon, plan.hosted));
                    platform.attach(&plan.addon, &plan.hosted).await?;
                }
                FlattenStep::Detach => {
                    // What is about to vanish must be readable under the other name first.
                    let kept = plan
                        .vars
                        .iter()
                        .map(|var| plan.hosted_twin(var))
                        .find(|twin| !vars.has(twin));
                    if let Some(missing) = kept {
                        return Err(Error::failed(format!(
                            "detach {}: the var {missing} that should keep its value is not there",
                            plan.attachment
                        ))
                        .hint("nothing was detached; see the app's config vars and releases on the platform"));
                    }
                    let Some(old) = attachments
                        .iter()
                        .find(|there| there.app == app && there.name == plan.attachment)
                    else {
                        continue;
                    };
                    step.update(format!("detaching {}", plan.attachment));
                    platform.detach(old).await?;
                }
                FlattenStep::Set => {
                    step.update("setting the plain vars");
                    if let Err(error) = self.set_plain(plan, &vars).await {
                        return Err(self.put_back(plan, error).await);
                    }
                }
                FlattenStep::Done => return Ok(()),
            }
        }
        Err(Error::failed(format!(
            "keep {} as {}: the platform does not show what was changed",
            plan.addon, plan.hosted
        ))
        .hint("run the same command again; the app's var may be absent until then"))
    }

    async fn set_plain(&self, plan: &Flatten, vars: &ConfigVars) -> Result<()> {
        let mut wanted = BTreeMap::new();
        for var in &plan.vars {
            let twin = plan.hosted_twin(var);
            let Some(value) = vars.get(&twin)? else {
                return Err(Error::failed(format!(
                    "set {var}: {twin}, which keeps its value, is not there"
                )));
            };
            wanted.insert(var.clone(), Some(value.clone()));
        }
        self.setup.platform.set_config_vars(&wanted).await?;
        Ok(())
    }

    /// The app must not stay without its var: the old attachment comes back.
    async fn put_back(&self, plan: &Flatten, error: Error) -> Error {
        match self.setup.platform.attach(&plan.addon, &plan.attachment).await {
            Ok(_) => error.while_doing(format!(
                "make {} a plain var; it was put back as it was",
                self.setup.config_var
            )),
            Err(second) => Error::partial(format!(
                "give the app its {} back after this: {error}",
                self.setup.config_var
            ))
            .because(second)
            .hint("the app has no such var now: run the same command again at once"),
        }
    }

    pub(super) async fn preboot_off(&mut self) -> Result<()> {
        if self.setup.platform.preboot().await? {
            if !self.history.preboot_to_restore {
                self.write(Entry::PrebootOff).await?;
            }
            self.setup.platform.set_preboot(false).await?;
            self.setup.ui.step("preboot").done("off until the switch is done");
        }
        Ok(())
    }

    pub(super) async fn preboot_on(&mut self) -> Result<()> {
        if self.history.preboot_to_restore {
            self.setup.platform.set_preboot(true).await?;
            self.write(Entry::PrebootOn).await?;
            self.setup.ui.step("preboot").done("on again");
        }
        Ok(())
    }

    /// The one change of vars, for the journal: names only.
    pub(super) async fn switch(&self) -> Result<Switch> {
        if let Some(begun) = &self.history.switch {
            return Ok(begun.clone());
        }
        let setup = &self.setup;
        let (vars, attachments) = tokio::try_join!(setup.platform.config_vars(), setup.platform.attachments())?;
        let source = (setup.source.host.to_ascii_lowercase(), setup.source.port);
        let app = setup.platform.app_name();
        let moved = vars::moved(&vars, &attachments, app, &setup.config_var, (&source.0, source.1));
        if let Some(authority) = &setup.authority
            && vars
                .get(&authority.var)?
                .is_some_and(|there| there.expose().trim() != authority.pem.trim())
        {
            return Err(Error::failed(format!(
                "set {} of app {app}: the app uses that var for something else",
                authority.var
            ))
            .hint("name another in `app.ca_config_var` of infra.yml"));
        }
        let hosted = vars::hosted_var(&setup.config_var);
        Ok(Switch {
            moved,
            ca_var: setup
                .authority
                .as_ref()
                .map(|authority| authority.var.clone())
                .unwrap_or_default(),
            keep_in: (!vars.has(&hosted)).then_some(hosted),
            release_before: self.newest_release().await?,
        })
    }

    pub(super) async fn set_vars(&mut self) -> Result<()> {
        let Some(switch) = self.history.switch.clone() else {
            return Err(out_of_order("set the app's vars"));
        };
        let step = self.setup.ui.step(format!("set {}", self.setup.config_var));
        let vars = self.setup.platform.config_vars().await?;
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
            look::app_points(&self.setup, &vars)?,
        ) {
            wanted.insert(keep.clone(), vars.get(&self.setup.config_var)?.cloned());
        }
        // A release that an earlier run sent may still be under way, with the old values showing: sending it again would only restart the app once more.
        if self.newest_release().await? > switch.release_before && self.release_is_pending().await? {
            self.sent_after = Some(switch.release_before);
            self.change_was_sent = true;
            step.unchanged("the change was sent already; its release is under way");
            return Ok(());
        }
        self.setup.record.still_ours()?;
        if let Some(fence) = &self.fence {
            fence.holds()?;
        }
        self.change_was_sent = true;
        self.sent_after = self.setup.platform.set_config_vars(&wanted).await?;
        match self.sent_after {
            Some(_) => step.done("the endpoint, in one change"),
            None => step.unchanged("the endpoint already"),
        }
        Ok(())
    }

    pub(super) async fn await_release(&mut self) -> Result<Flow> {
        let Some(switch) = self.history.switch.clone() else {
            return Err(out_of_order("wait for a release"));
        };
        let step = self.setup.ui.step("release");
        let after = self.sent_after.unwrap_or(switch.release_before);
        let limits = self.setup.limits;
        let release: Option<Release> = match self.newest_release().await? > after {
            true => {
                let ending = self.setup.platform.terminal_release(after, limits.release, &step);
                Some(self.interrupt.or(self.command, ending).await?)
            }
            // The values were there already, by a release before ours.
            false => None,
        };
        let vars = self.setup.platform.config_vars().await?;
        let points = look::app_points(&self.setup, &vars)?;
        if let Some(release) = &release
            && release.status != ReleaseStatus::Succeeded
        {
            step.failed(format!("v{} {}", release.version, release.status));
            return Ok(Flow::ReleaseFailed(format!(
                "switch app {}: its release v{} {}",
                self.setup.platform.app_name(),
                release.version,
                release.status
            )));
        }
        if points != Points::Endpoint {
            step.failed("not on the endpoint");
            return Err(Error::partial(format!(
                "switch app {}: its release ended well and {} still does not name the endpoint",
                self.setup.platform.app_name(),
                self.setup.config_var
            ))
            .hint("somebody may change the app's vars at the same time; run `infra switch-app` again"));
        }
        let version = release.map_or(after, |release| release.version);
        self.await_processes(version, &step).await?;
        self.outcome.release = Some(version);
        step.done(format!("v{version} runs"));
        Ok(Flow::On)
    }

    /// Until all that should run runs, and nothing of an older release is shown. One-off processes keep what they were started with: the source's list of clients tells of them.
    async fn await_processes(&self, release: u64, step: &crate::ui::Step) -> Result<()> {
        let platform = &self.setup.platform;
        let what = format!("the processes of app {} to run release v{release}", platform.app_name());
        let wait = Wait::new(
            &what,
            self.setup.limits.release,
            "see the app's logs on the platform, then run the same command again",
        );
        let waiting = wait.until(step, || async {
            let (dynos, formation) = tokio::try_join!(platform.dynos(), platform.formation())?;
            let running = |kind: &str| {
                dynos
                    .iter()
                    .filter(|dyno| dyno.kind == kind && dyno.release >= release && dyno.state == "up")
                    .count() as u64
            };
            let old = dynos
                .iter()
                .filter(|dyno| !dyno.is_one_off() && dyno.release < release)
                .count();
            let missing: u64 = formation
                .iter()
                .map(|(kind, quantity)| quantity.saturating_sub(running(kind)))
                .sum();
            Ok(match old == 0 && missing == 0 {
                true => Look::Ready(()),
                false => Look::NotYet(format!("v{release}: {missing} processes to come up, {old} old ones")),
            })
        });
        self.interrupt.or(self.command, waiting).await
    }

    /// The old values again, where the platform took the new ones. What was kept stays kept.
    pub(super) async fn vars_back(&mut self) -> Result<()> {
        let Some(switch) = self.history.switch.clone() else {
            return Ok(());
        };
        let step = self.setup.ui.step("app's vars");
        // What is under way would set the new values after us.
        self.settled_release(&step).await?;
        let vars = self.setup.platform.config_vars().await?;
        if look::app_points(&self.setup, &vars)? != Points::Endpoint {
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
        let after = self.setup.platform.set_config_vars(&wanted).await?;
        if let Some(after) = after {
            let release = self
                .setup
                .platform
                .terminal_release(after, self.setup.limits.release, &step)
                .await?;
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
    async fn settled_release(&self, step: &crate::ui::Step) -> Result<()> {
        if self.release_is_pending().await? {
            let before = self.newest_release().await?.saturating_sub(1);
            self.setup
                .platform
                .terminal_release(before, self.setup.limits.release, step)
                .await?;
        }
        Ok(())
    }

    async fn newest_release(&self) -> Result<u64> {
        let newest = self.setup.platform.newest_release().await?;
        Ok(newest.map_or(0, |release| release.version))
    }

    async fn release_is_pending(&self) -> Result<bool> {
        let newest = self.setup.platform.newest_release().await?;
        Ok(newest.is_some_and(|release| !release.status.is_terminal()))
    }
}
