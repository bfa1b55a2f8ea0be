//! Makes owned vars plain: attach the add-on under another name, detach it, set the vars. Between
//! the last two the vars are absent, so the app is under maintenance. The next step follows from
//! what exists; `app_vars` decides which attachments are detached.

use super::app::{insist, newest_release};
use super::history::Entry;
use super::pair::Pair;
use super::record::Record;
use super::state::Cutover;
use crate::decide::vars::{self, DetachStep, DetachVars};
use crate::effects::platform::{ConfigVars, KnownApp, Platform, not_waited_for};
use crate::model::error::{Error, Result};
use crate::model::phase::Command;
use crate::ui::Step;
use std::collections::BTreeMap;

/// The most attachments of one app that a run detaches; more means that nothing changes.
const MOST_ATTACHMENTS: usize = 20;

impl<R: Record, P: Pair> Cutover<R, P> {
    pub(super) async fn detach_vars(&mut self) -> Result<()> {
        for app in self.setup.apps.clone() {
            // Each round detaches one attachment; an app has a handful at most.
            for _ in 0..MOST_ATTACHMENTS {
                if !self.detach_next(&app).await? {
                    break;
                }
            }
        }
        self.foresee_refusals().await
    }

    /// Detaches the next attachment; false if none has to be detached.
    async fn detach_next(&mut self, app: &Platform) -> Result<bool> {
        let name = app.app_name().to_string();
        let (plan, maintenance_was_on) = match self.history.detaching.get(&name).cloned() {
            Some(begun) => begun,
            // Only what was begun is finished on the way back.
            None if self.command == Command::Back => return Ok(false),
            None => {
                let (known, places) = (app.known().await?, self.setup.source_places());
                let Some(plan) = self.app_vars(&places, &known).detachment()? else {
                    return Ok(false);
                };
                // If the app's vars may not be set, they could not come back as plain ones.
                app.refusal_foreseen().await?;
                let maintenance_was_on = app.maintenance().await?;
                self.write(Entry::Detaching {
                    app: name.clone(),
                    plan: plan.clone(),
                    maintenance_was_on,
                })
                .await?;
                (plan, maintenance_was_on)
            }
        };
        let step = self.setup.ui.step(format!("keep {} as {}", plan.addon, plan.hosted));
        let (before, crashed) = (newest_release(app).await?, app.crashed().await?);
        self.crashed
            .entry(name.clone())
            .or_default()
            .extend(crashed.iter().cloned());
        if !maintenance_was_on {
            app.set_maintenance(true).await?;
        }
        let mut changed = self.detach_steps(app, &plan, &step).await;
        if !maintenance_was_on {
            changed = changed.and(self.end_maintenance(app).await);
        }
        if let Err(error) = changed {
            step.failed("not done");
            return Err(error);
        }
        // The switch restarts the processes anyway, and writers wait as long as the source is
        // fenced.
        if self.reached.fence().is_none() && newest_release(app).await? > before {
            let release = app.terminal_release(before, self.setup.limits.release, &step).await?;
            self.interrupt
                .or(app.await_processes(release.version, &crashed, self.setup.limits.release, &step))
                .await?;
        }
        self.write(Entry::Detached { app: name }).await?;
        let done = match plan.vars.as_slice() {
            [var] => format!("{var} is a plain var now, with the same value"),
            vars => format!("{} are plain vars now, with the same values", vars.join(" and ")),
        };
        step.done(done + &not_waited_for(&crashed));
        Ok(true)
    }

    /// Ends the maintenance, even if the app's vars could not be set.
    async fn end_maintenance(&mut self, app: &Platform) -> Result<()> {
        let ended = insist(|| app.set_maintenance(false)).await;
        if ended.is_err() {
            let name = app.app_name();
            self.not_put_back.push(format!(
                "app {name} is under maintenance (`heroku maintenance:off --app {name}`)"
            ));
        }
        ended
    }

    async fn detach_steps(&mut self, app: &Platform, plan: &DetachVars, step: &Step) -> Result<()> {
        let name = app.app_name();
        // Each round looks and takes one step: attach, detach or set.
        for _ in 0..6 {
            // With a release phase a change shows only when its release has ended.
            self.settled_release(app, step).await?;
            let KnownApp { vars, attachments, .. } = app.known().await?;
            self.setup.record.confirm().await?;
            match vars::next_detach_step(plan, &vars, &attachments, name) {
                DetachStep::Attach => {
                    step.update(format!("attaching {} as {}", plan.addon, plan.hosted));
                    heroku(app)?.attach(&plan.addon, &plan.hosted).await?;
                }
                DetachStep::Detach => {
                    // The values must be readable under the other name before the vars vanish.
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
                        .find(|there| there.app == name && there.name == plan.attachment)
                    else {
                        continue;
                    };
                    step.update(format!("detaching {}", plan.attachment));
                    heroku(app)?.detach(old).await?;
                }
                DetachStep::Set => {
                    step.update("setting the plain vars");
                    if let Err(error) = set_plain(app, plan, &vars).await {
                        return Err(self.reattach(app, plan, error).await);
                    }
                }
                DetachStep::Done => return Ok(()),
            }
        }
        Err(Error::failed(format!(
            "keep {} as {}: the platform does not show what was changed",
            plan.addon, plan.hosted
        ))
        .hint("run the same command again; the app's var may be absent until then"))
    }

    /// Attaches the add-on as before, since the app must not stay without its var.
    async fn reattach(&self, app: &Platform, plan: &DetachVars, error: Error) -> Error {
        let attaching = insist(|| async { heroku(app)?.attach(&plan.addon, &plan.attachment).await });
        match attaching.await {
            Ok(_) => error.while_doing(format!(
                "make {} plain; what was detached was put back as it was",
                plan.vars.join(" and ")
            )),
            Err(second) => Error::partial(format!(
                "give the app its {} back after this: {error}",
                plan.vars.join(" and ")
            ))
            .because(second)
            .hint("the app has no such var now: run the same command again at once"),
        }
    }
}

async fn set_plain(app: &Platform, plan: &DetachVars, vars: &ConfigVars) -> Result<()> {
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
    app.set_config_vars(&wanted).await?;
    Ok(())
}

fn heroku(app: &Platform) -> Result<&crate::effects::platform::Heroku> {
    app.heroku().ok_or_else(|| {
        Error::failed(format!(
            "change the attachments of app {}: its platform has none",
            app.app_name()
        ))
    })
}
