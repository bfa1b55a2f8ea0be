//! Shared by `promote` and `switch-app`: gathers both sides, takes the lock, runs the cutover.

pub mod before;
pub mod first;

use crate::decide::vars::place_of;
use crate::effects::redis::{Server, Trust};
use crate::effects::state::{Held, Journal};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::role::Role;
use crate::model::secrets::RedisUser;
use crate::model::state::State;
use crate::sequences::arguments::Confirmed;
use crate::sequences::context::{Context, Environment, REDIS_PORT, host_record, host_server, target};
use crate::sequences::cutover;
use crate::sequences::cutover::record::{Reading, Record};
use crate::sequences::cutover::{Authority, Command, FenceKind, Hosts, Ledger, Limits, Outcome, Phase, Setup};
use crate::sequences::setup::state_writer::StateWriter;

use serde_json::json;

/// The wish of one of the two commands.
pub struct Plan<'a> {
    pub command: Command,
    pub limits: Limits,
    /// The kind of fence; `None` means a pause if the source allows one.
    pub fence: Option<FenceKind>,
    /// `--hold` was given: the operator knows that an app may stay stopped until the switch.
    pub hold_was_asked_for: bool,
    /// A source that lost a good part of its keys is followed all the same.
    pub accept_loss: bool,
    /// The apps that `--leave` names.
    pub leave: &'a [String],
    pub confirmed: &'a Confirmed,
    /// Says for the confirmation what is about to happen.
    pub what: &'a str,
}

pub async fn run(context: &Context, plan: Plan<'_>) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let state = environment.state().await?;
    crate::sequences::rotation::run::refuse_unfinished(&state)?;
    let phase = context.phase(&environment).await?;
    refuse_unwanted_stop(context, &environment, &state, &plan).await?;
    if plan.confirmed.dry_run {
        return preview(context, &environment, &state, &plan).await;
    }
    if phase != Some(Phase::Settled) {
        context.confirm(plan.confirmed.confirm.as_deref(), plan.what)?;
    }
    let work = async |lock: &Held| {
        let outcome = cut_over(context, &environment, &state, &plan, lock).await?;
        show(context, &outcome);
        Ok(ExitCode::Done)
    };
    context
        .locked(&environment, &format!("infra {}", plan.command), work)
        .await
}

/// Fails if the app would stay stopped after `promote`, unless `--hold` says that this is wanted.
async fn refuse_unwanted_stop(
    context: &Context,
    environment: &Environment,
    state: &State,
    plan: &Plan<'_>,
) -> Result<()> {
    if plan.hold_was_asked_for {
        return Ok(());
    }
    let record = Reading(Journal::latest(&environment.store).await?);
    let setup = setup(context, environment, state, plan, record, None).await?;
    if cutover::fence_kind(&setup).await? != FenceKind::Platform {
        return Ok(());
    }
    Err(Error::usage(format!(
        "promote alone: {} cannot be paused, so the app is stopped instead, and stays stopped until `infra switch-app`",
        setup.source
    ))
    .hint("run `infra switch-app`, which does both at once; or give --hold to say that the app may stay stopped"))
}

async fn preview(context: &Context, environment: &Environment, state: &State, plan: &Plan<'_>) -> Result<ExitCode> {
    let record = Reading(Journal::latest(&environment.store).await?);
    let setup = setup(context, environment, state, plan, record, None).await?;
    let steps = cutover::preview(&setup, plan.command).await?;
    context.ui.report(json!({ "steps": steps }), &steps);
    Ok(ExitCode::Done)
}

async fn cut_over(
    context: &Context,
    environment: &Environment,
    state: &State,
    plan: &Plan<'_>,
    lock: &Held,
) -> Result<Outcome> {
    let journal = match Journal::latest(&environment.store).await? {
        Some(journal) => journal,
        None => Journal::begin(&environment.store, plan.command.name()).await?,
    };
    let writer = StateWriter::open(&environment.store, state.clone()).await?;
    let id = journal.id().to_string();
    writer.change(|state| state.cutover = Some(id)).await?;
    let record = Ledger::new(journal, lock);
    let setup = setup(context, environment, state, plan, record, Some(lock.epoch())).await?;
    let result = cutover::run(setup, plan.command).await;
    // The journal is the truth; the state keeps the phase for commands that only look.
    if let Some(phase) = context.warn_of(context.phase(environment).await).flatten() {
        let kept = writer.change(|state| state.phase = phase.name().into()).await;
        context.warn_of(kept);
    }
    result
}

/// Gathers both sides, the app and the hosts for a cutover.
async fn setup<R: Record>(
    context: &Context,
    environment: &Environment,
    state: &State,
    plan: &Plan<'_>,
    record: R,
    epoch: Option<u64>,
) -> Result<Setup<R, Hosts>> {
    let (secrets, addresses, source) = tokio::try_join!(
        context.secrets(environment),
        context.addresses(environment),
        context.source()
    )?;
    let apps = context.apps()?;
    let naming = context.naming(&apps, &place_of(&source), plan.leave).await?;
    let endpoint = state
        .endpoint
        .clone()
        .ok_or_else(|| Error::failed("find the endpoint: there is none yet").hint("run `infra up` first"))?;
    let authority = secrets.ca_cert()?.to_string();
    let host_target = |role| target(role, addresses.of(role)?, host_record(state, role)?, &secrets);
    Ok(Setup {
        source,
        master: host_server(Role::Master, addresses.of(Role::Master)?, &secrets)?,
        replica: host_server(Role::Replica, addresses.of(Role::Replica)?, &secrets)?,
        endpoint: Server {
            label: "endpoint".into(),
            host: endpoint,
            port: REDIS_PORT,
            user: Some(RedisUser::App.name().into()),
            password: Some(secrets.password(RedisUser::App)?.clone()),
            trust: Some(Trust::Authority(authority.clone())),
        },
        domain: context.config.hosts.domain.clone(),
        authority: Some(Authority {
            var: context.config.app.ca_config_var(),
            pem: authority,
        }),
        pair: Hosts::new(host_target(Role::Master)?, host_target(Role::Replica)?, epoch),
        record,
        apps,
        naming,
        fence: plan.fence,
        accept_loss: plan.accept_loss,
        folder: context.common.inventory.clone(),
        config_var: context.config.app.config_var.clone(),
        limits: plan.limits,
        ui: context.ui.clone(),
        interrupt: context.interrupt.clone(),
    })
}

fn show(context: &Context, outcome: &Outcome) {
    context.ui.report(json!(outcome), outcome.lines());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled() -> Outcome {
        Outcome {
            phase: Some(Phase::Settled),
            fenced_ms: Some(412),
            app_write_gap_ms: Some(2_350),
            keys_compared: Some(100_240),
            keys_compared_in_fence: Some(240),
            late_writes: Some(0),
            foreign_writes: 0,
            source_offset: Some(73_400_320),
            release: Some(17),
            held_until: None,
            seconds: [("compare".into(), 1.5), ("await release".into(), 4.25)].into(),
            notes: vec!["the add-on stays attached as HOSTED_REDIS".into()],
        }
    }

    /// The source is held for `switch-app`; nobody has switched yet.
    fn promoted() -> Outcome {
        Outcome {
            phase: Some(Phase::Promoted),
            app_write_gap_ms: None,
            late_writes: None,
            release: None,
            held_until: Some("2026-03-01T12:02:00Z".parse().unwrap()),
            notes: Vec::new(),
            ..settled()
        }
    }

    #[test]
    fn every_figure_of_a_cutover_is_in_its_json_even_if_unknown() {
        insta::assert_json_snapshot!("a switch", crate::ui::document(json!(settled())));
        insta::assert_json_snapshot!("a promotion", crate::ui::document(json!(promoted())));
    }

    #[test]
    fn a_cutover_is_reported_with_the_figures_of_each_claim() {
        let unwatched = Outcome {
            late_writes: None,
            ..settled()
        };
        let told = [settled(), unwatched, promoted()].map(|outcome| outcome.lines().join("\n"));
        insta::assert_snapshot!("told", told.join("\n\n"));
    }
}
