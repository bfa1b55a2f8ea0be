//! `infra replace`: a lost or sick host is made anew, from the plan and from the other host.
//!
//! The state names the instance that is to go before anything else is done, so that a command that
//! was killed replaces that one, whatever role it has by then.

use super::{Outcome, Work, data_fits, instance, look, one_after_the_other, preview, serves, under_way, wanted_of};
use crate::decide::resize;
use crate::decide::rolling::Needs;
use crate::effects::cloud::ec2;
use crate::effects::host::programs;
use crate::effects::state::Held;
use crate::model::error::{Error, ExitCode, Kind, Result};
use crate::model::role::Role;
use crate::model::state::State;
use crate::sequences::arguments::Replace;
use crate::sequences::context::{Context, Environment, host_record};
use crate::sequences::setup::state_writer::StateWriter;
use serde_json::json;
use wire::info::ServerRole;

pub async fn run(context: &Context, arguments: &Replace) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let state = environment.state().await?;
    let serves = serves(context, &environment, &state).await?;
    let leaving = match &state.replacing {
        Some(begun) => {
            context.ui.note(format!("goes on with the replacement of {begun}"));
            begun.clone()
        }
        None => named(&environment, &state, &arguments.host)?,
    };
    let needs = needs(&state, &leaving);
    let mut replacing = Replacing {
        context,
        environment: &environment,
        leaving: leaving.clone(),
        serves,
    };
    if needs != Needs::default() && state.failover.is_none() {
        replacing.other_has_the_data().await?;
        replacing.can_be_made().await?;
    }
    let mut steps = under_way(&state);
    steps.extend(preview(&state, needs, serves, |role, id| {
        format!(
            "{role} {id}: end it with its disk, make another instance, and wait until it has all data of the other host"
        )
    })?);
    if arguments.confirmed.dry_run {
        context.ui.report(json!({ "steps": steps }), &steps);
        return Ok(ExitCode::Done);
    }
    context.ui.announce(&steps);
    context.confirm(
        arguments.confirmed.confirm.as_deref(),
        &format!("This ends {leaving} with its disk, and makes another instance in its place."),
    )?;
    let work = async |lock: &Held| {
        let writer = StateWriter::open(&environment.store, state.clone()).await?;
        if needs != Needs::default() && state.failover.is_none() {
            // Nothing is written down for a host that cannot be replaced now.
            replacing.other_has_the_data().await?;
        }
        writer.change(|state| state.replacing = Some(leaving.clone())).await?;
        let outcome = one_after_the_other(context, &environment, lock, serves, &mut replacing).await?;
        // The work has written the state meanwhile.
        let writer = StateWriter::open(&environment.store, state.clone()).await?;
        writer.change(|state| state.replacing = None).await?;
        Ok(outcome)
    };
    let outcome: Outcome = context.locked(&environment, "infra replace", work).await?;
    context.ui.report(json!(outcome), outcome.lines());
    if state.replacing.is_some() {
        context
            .ui
            .note("this finished what an earlier run had begun: run the command again to replace another host");
    }
    Ok(ExitCode::Done)
}

/// Returns the instance that the command line names by role, name or id.
fn named(environment: &Environment, state: &State, host: &str) -> Result<String> {
    for role in Role::ALL {
        let record = host_record(state, role)?;
        if [role.name(), &environment.names.host(role), &record.instance_id].contains(&host) {
            return Ok(record.instance_id.clone());
        }
    }
    Err(
        Error::usage(format!("replace {host}: no host of the pair has this name"))
            .hint("name it `master` or `replica`; `infra status` shows both with their instance ids"),
    )
}

fn needs(state: &State, leaving: &str) -> Needs {
    let leaves = |role| state.hosts.get(&role).is_some_and(|host| host.instance_id == leaving);
    Needs {
        master: leaves(Role::Master),
        replica: leaves(Role::Replica),
    }
}

struct Replacing<'a> {
    context: &'a Context,
    environment: &'a Environment,
    /// The instance that is to go.
    leaving: String,
    serves: bool,
}

impl Replacing<'_> {
    /// Fails if a host of the type in infra.yml cannot be made, or would have no room for the data.
    async fn can_be_made(&self) -> Result<()> {
        let state = self.environment.state().await?;
        let wanted = wanted_of(self.context, self.environment, &state);
        let found = look(self.environment, &wanted).await?;
        if !resize::changes_type(&wanted, &found) {
            return Ok(());
        }
        let doing = format!("replace {} by a {}", self.leaving, wanted.instance_type);
        let machine = resize::known_type(&doing, &wanted, &found)?;
        programs::find(self.context.agent.as_deref(), &machine.architecture)
            .map_err(|error| error.while_doing(doing.clone()))?;
        let looking = data_fits(self.context, &doing, machine, &self.environment.pair().await?).await;
        match looking {
            // The source has the data, and the promotion looks again.
            Err(error) if !self.serves && error.kind() != Kind::Usage => {
                self.context
                    .ui
                    .warn(format!("could not see whether the data fits: {error:#}"));
                Ok(())
            }
            other => other,
        }
    }

    /// Fails unless the host that stays has the data, or the source has it.
    async fn other_has_the_data(&self) -> Result<()> {
        if !self.serves {
            return Ok(());
        }
        let pair = self.environment.pair().await?;
        let look = async {
            let info = pair.server(Role::Master)?.connect(0).await?.info().await?;
            if info.role != ServerRole::Master || info.loading {
                return Err(Error::failed(
                    "see the master serve: it is still loading, or follows another server",
                ));
            }
            Ok(())
        };
        let is_master = needs(&pair.state, &self.leaving).master;
        look.await.map_err(|error: Error| {
            if error.is_by_an_impostor() {
                return error;
            }
            Error::failed("replace the host: the master does not serve, and only it is sure to have all data")
                .because(error)
                .hint(if is_master {
                    "`infra promote --force` makes the replica the master, then `infra up` makes another replica"
                } else {
                    "wait until `infra status` shows it, or start it with `infra up`, then run the same command again"
                })
        })
    }
}

impl Work for Replacing<'_> {
    async fn needs(&mut self) -> Result<Needs> {
        Ok(needs(&self.environment.state().await?, &self.leaving))
    }

    async fn perform(&mut self, role: Role) -> Result<()> {
        let cloud = &self.environment.cloud;
        self.other_has_the_data().await?;
        if ec2::state_of(cloud, &self.leaving).await?.is_some() {
            // A run that went on with a failover has not looked before.
            self.can_be_made().await?;
        }
        let step = self.context.ui.step(format!("{role} {}", self.leaving));
        if ec2::state_of(cloud, &self.leaving).await?.is_some() {
            instance::end(cloud, &step, &self.leaving).await?;
        }
        step.done("ended");
        Ok(())
    }
}
