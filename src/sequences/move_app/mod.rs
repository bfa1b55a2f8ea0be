//! Shared by `promote` and `switch-app`: gathers both sides, takes the lock, runs the cutover.

pub mod before;
pub mod first;

use crate::decide::vars::place_of;
use crate::effects::state::{Held, Journal};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::role::Role;
use crate::sequences::arguments::Confirmed;
use crate::sequences::context::{Context, Environment, KnownPair};
use crate::sequences::cutover::record::{Reading, Record};
use crate::sequences::cutover::{self, Authority, Command, FenceKind, Hosts, Ledger, Limits, Outcome, Phase, Setup};
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
    /// The app may wait for longer than a minute while everything is compared.
    pub without_watch: bool,
    pub leave: &'a [String],
    pub confirmed: &'a Confirmed,
    /// Says for the confirmation what is about to happen.
    pub what: &'a str,
}

pub async fn run(
    context: &Context,
    environment: &Environment,
    phase: Option<Phase>,
    plan: Plan<'_>,
) -> Result<ExitCode> {
    let pair = environment.pair().await?;
    crate::sequences::rotation::run::refuse_unfinished(&pair.state)?;
    let app = App {
        context,
        environment,
        pair: &pair,
        plan: &plan,
    };
    app.refuse_unwanted_stop().await?;
    if plan.confirmed.dry_run {
        return app.preview().await;
    }
    if phase != Some(Phase::Settled) {
        context.confirm(plan.confirmed.confirm.as_deref(), plan.what)?;
    }
    let work = async |lock: &Held| {
        let outcome = app.cut_over(lock).await?;
        context.ui.report(json!(outcome), outcome.lines());
        Ok(ExitCode::Done)
    };
    context
        .locked(environment, &format!("infra {}", plan.command), work)
        .await
}

/// The app that is moved, by a plan, to the pair.
struct App<'a> {
    context: &'a Context,
    environment: &'a Environment,
    pair: &'a KnownPair,
    plan: &'a Plan<'a>,
}

impl App<'_> {
    /// Fails if the app would stay stopped after `promote`, unless `--hold` says that this is wanted.
    async fn refuse_unwanted_stop(&self) -> Result<()> {
        if self.plan.hold_was_asked_for {
            return Ok(());
        }
        let setup = self.setup(self.reading().await?, None).await?;
        if cutover::fence_kind(&setup).await? != FenceKind::Platform {
            return Ok(());
        }
        Err(Error::usage(format!(
            "promote alone: {} cannot be paused, so the app is stopped instead, and stays stopped until `infra switch-app`",
            setup.source
        ))
        .hint("run `infra switch-app`, which does both at once; or give --hold to say that the app may stay stopped"))
    }

    async fn preview(&self) -> Result<ExitCode> {
        let mut setup = self.setup(self.reading().await?, None).await?;
        let steps = cutover::preview(&mut setup, self.plan.command).await?;
        self.context.ui.report(json!({ "steps": steps }), &steps);
        Ok(ExitCode::Done)
    }

    async fn reading(&self) -> Result<Reading> {
        Ok(Reading(Journal::latest(&self.environment.store).await?))
    }

    async fn cut_over(&self, lock: &Held) -> Result<Outcome> {
        let (context, store, command) = (self.context, &self.environment.store, self.plan.command);
        let journal = match Journal::latest(store).await? {
            Some(journal) => journal,
            None => Journal::begin(store, command.name()).await?,
        };
        let writer = StateWriter::open(store, self.pair.state.clone()).await?;
        let id = journal.id().to_string();
        writer.change(|state| state.cutover = Some(id)).await?;
        let record = Ledger::new(journal, lock);
        let setup = self.setup(record, Some(lock.epoch())).await?;
        let result = cutover::run(setup, command).await;
        // The journal is the truth; the state keeps the phase for commands that only look.
        if let Some(phase) = context.warn_of(context.phase(self.environment).await).flatten() {
            let kept = writer.change(|state| state.phase = phase.name().into()).await;
            context.warn_of(kept);
        }
        result
    }

    /// Gathers both sides, the app and the hosts. The source and who names it are looked up anew each
    /// time, since they may have changed before the lock was taken.
    async fn setup<R: Record>(&self, record: R, epoch: Option<u64>) -> Result<Setup<R, Hosts>> {
        let (context, pair, plan) = (self.context, self.pair, self.plan);
        let apps = context.known_apps().await?;
        let source = context.source_in(Ok(&apps[0].vars)).await?;
        let naming = context.naming(&apps, &place_of(&source), plan.leave);
        Ok(Setup {
            source,
            master: pair.server(Role::Master)?,
            replica: pair.server(Role::Replica)?,
            endpoint: pair.endpoint()?,
            domain: context.config.hosts.domain.clone(),
            authority: Some(Authority {
                var: context.config.app.ca_config_var(),
                pem: pair.secrets.ca_cert()?.to_string(),
            }),
            pair: Hosts::new(pair.target(Role::Master)?, pair.target(Role::Replica)?, epoch),
            record,
            apps: apps.into_iter().map(|app| app.platform).collect(),
            naming,
            fence: plan.fence,
            accept_loss: plan.accept_loss,
            without_watch: plan.without_watch,
            leave_out: context.config.source.leave_out.clone(),
            folder: context.common.inventory.clone(),
            config_var: context.config.app.config_var.clone(),
            limits: plan.limits,
            ui: context.ui.clone(),
            interrupt: context.interrupt.clone(),
        })
    }
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
            watch: None,
            late_by_comparison: false,
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
