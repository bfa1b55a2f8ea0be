//! `infra upgrade`: newer packages of the engine, and the restarts and reboots that upgrades ask for.

use super::{Outcome, Work, answer, one_after_the_other, preview, serves, under_way};
use crate::decide::rolling::Needs;
use crate::effects::host::engine::Layout;
use crate::effects::host::upgrade;
use crate::effects::host::upkeep::Need;
use crate::effects::remote::Session;
use crate::effects::state::Held;
use crate::effects::wait::{Look, Wait};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::role::Role;
use crate::model::state::State;
use crate::sequences::arguments::Upgrade;
use crate::sequences::context::{Context, Environment};
use crate::sequences::setup::hosts::BOOT;
use crate::sequences::up;
use serde_json::json;
use std::collections::BTreeMap;

pub async fn run(context: &Context, arguments: &Upgrade) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let state = environment.state().await?;
    let serves = serves(context, &environment, &state).await?;
    let mut upgrading = Upgrading {
        context,
        environment: &environment,
        engine: Layout::of(context.config.redis.engine),
    };
    answer(context, &environment).await?;
    let steps = match under_way(&state) {
        steps if steps.is_empty() => upgrading.plan(&state, serves, arguments.confirmed.dry_run).await?,
        // Until the roles are clear again, nobody can say what belongs to which host.
        steps => steps,
    };
    if arguments.confirmed.dry_run {
        context.ui.report(json!({ "steps": steps }), &steps);
        return Ok(ExitCode::Done);
    }
    if steps.is_empty() {
        let lines = ["nothing to upgrade: the engines are the newest that apt knows, and no reboot is wanted"];
        context.ui.report(json!({ "done": [], "failovers": [] }), lines);
        return Ok(ExitCode::Done);
    }
    context.ui.announce(&steps);
    context.confirm(
        arguments.confirmed.confirm.as_deref(),
        "This upgrades one host after the other, and may reboot each.",
    )?;
    let work = async |lock: &Held| one_after_the_other(context, &environment, lock, serves, &mut upgrading).await;
    let outcome: Outcome = context.locked(&environment, "infra upgrade", work).await?;
    context.ui.report(json!(outcome), outcome.lines());
    Ok(ExitCode::Done)
}

fn needs(all: &BTreeMap<Role, Vec<Need>>) -> Needs {
    let has = |role| all.get(&role).is_some_and(|needs| !needs.is_empty());
    Needs {
        master: has(Role::Master),
        replica: has(Role::Replica),
    }
}

struct Upgrading<'a> {
    context: &'a Context,
    environment: &'a Environment,
    engine: Layout,
}

impl Upgrading<'_> {
    /// Returns what is ahead; empty if nothing is. A dry run leaves the lists of packages as they are.
    async fn plan(&self, state: &State, serves: bool, dry_run: bool) -> Result<Vec<String>> {
        if !dry_run {
            self.refresh_lists().await?;
        }
        let all = up::needs(self.context, self.environment).await?;
        let mut steps = preview(state, needs(&all), serves, |role, id| {
            let has = |role| all.get(&role).filter(|needs| !needs.is_empty());
            // The last host to be worked on has another role by then.
            let needs = has(role).or_else(|| has(role.other()));
            let needs: Vec<String> = needs.into_iter().flatten().map(ToString::to_string).collect();
            format!("{role} {id}: {}, and wait until it is in sync again", needs.join("; "))
        })?;
        let pending = up::pending(self.context, self.environment).await?;
        steps.extend(pending.iter().map(|line| format!("as `infra up`: {line}")));
        Ok(steps)
    }

    async fn refresh_lists(&self) -> Result<()> {
        let pair = self.environment.pair().await?;
        for role in Role::ALL {
            let step = self.context.ui.step(format!("lists of packages on the {role}"));
            let warnings = upgrade::refresh_lists(&pair.log_in(role).await?, &self.engine).await?;
            step.done("up to date");
            warnings.iter().for_each(|warning| self.context.ui.warn(warning));
        }
        Ok(())
    }

    /// Returns what a host still needs.
    async fn of(&self, role: Role) -> Result<Vec<Need>> {
        let mut all = up::needs(self.context, self.environment).await?;
        Ok(all.remove(&role).unwrap_or_default())
    }

    async fn log_in(&self, role: Role) -> Result<Session> {
        self.environment.pair().await?.log_in(role).await
    }

    async fn install(&self, role: Role) -> Result<()> {
        let step = self.context.ui.step(format!("packages on the {role}"));
        let warnings = upgrade::install(&self.log_in(role).await?, &self.engine).await?;
        warnings.iter().for_each(|warning| self.context.ui.warn(warning));
        if let Some(kept) = self
            .of(role)
            .await?
            .iter()
            .find(|need| matches!(need, Need::Upgrade(_)))
        {
            return Err(
                Error::failed(format!("upgrade the {role}: apt kept it as it was: {kept}")).hint(format!(
                    "`infra ssh {role} -- apt-mark showhold` shows what somebody has put on hold"
                )),
            );
        }
        step.done("installed");
        Ok(())
    }

    async fn reboot(&self, role: Role) -> Result<()> {
        let step = self.context.ui.step(format!("reboot of the {role}"));
        let session = self.log_in(role).await?;
        let before = upgrade::boot_id(&session).await?;
        upgrade::reboot(&session).await;
        drop(session);
        let what = format!("the {role} to answer after its reboot");
        let hint = "see its console with `aws ec2 get-console-output`, then run the same command again";
        Wait::new(&what, BOOT, hint)
            .until(&step, || async {
                let id = async { upgrade::boot_id(&self.log_in(role).await?).await };
                Ok(match id.await {
                    Ok(id) => Look::when(id != before, "it has not gone down yet"),
                    Err(error) if error.is_by_an_impostor() => return Err(error),
                    Err(error) => Look::NotYet(format!("{error:#}")),
                })
            })
            .await?;
        step.done("it is up again");
        Ok(())
    }
}

impl Work for Upgrading<'_> {
    async fn needs(&mut self) -> Result<Needs> {
        Ok(needs(&up::needs(self.context, self.environment).await?))
    }

    async fn perform(&mut self, role: Role) -> Result<()> {
        if self.of(role).await?.iter().any(|need| matches!(need, Need::Upgrade(_))) {
            self.install(role).await?;
        }
        for need in self.of(role).await? {
            match need {
                Need::Reboot => return self.reboot(role).await,
                Need::Restart(_) => {
                    let step = self.context.ui.step(format!("engine of the {role}"));
                    upgrade::restart_engine(&self.log_in(role).await?, &self.engine).await?;
                    step.done("restarted");
                }
                Need::Upgrade(_) => {}
            }
        }
        Ok(())
    }
}
