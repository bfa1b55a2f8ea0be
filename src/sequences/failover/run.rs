//! Runs a failover: look, decide, show, ask, do, and go back if a step fails before the role moved.

use super::figures::Outcome;
use super::work::Work;
use crate::decide::failover::steps::Step;
use crate::decide::failover::{Next, Refusal};
use crate::effects::fault;
use crate::effects::state::Held;
use crate::model::clock::Instant;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::failover::Stage;
use crate::sequences::arguments::Confirmed;
use crate::sequences::context::{Context, Environment};
use crate::sequences::{rotation, up};
use serde_json::json;

/// How often it may go back before it begins.
const ROUNDS: usize = 4;

pub async fn run(context: &Context, environment: &Environment, confirmed: &Confirmed) -> Result<ExitCode> {
    let state = environment.state().await?;
    let stage = state.failover.as_ref().map(|failover| failover.stage);
    if state.failover.is_none() {
        rotation::run::refuse_unfinished(&state)?;
    }
    if confirmed.dry_run {
        let mut work = Work::looking(context, environment).await?;
        let steps = preview(work.decide(stage).await?);
        context.ui.report(json!({ "steps": steps }), &steps);
        return Ok(ExitCode::Done);
    }
    if stage.is_none() {
        up::refuse_changes(context, environment).await?;
    }
    context.confirm(
        confirmed.confirm.as_deref(),
        "This makes the replica the master: writes pause for less than a second, and the app has to connect again.",
    )?;
    let work = async |lock: &Held| {
        let outcome = carry_out(context, environment, lock).await?;
        context.ui.report(json!(outcome), outcome.lines());
        Ok(ExitCode::Done)
    };
    context.locked(environment, "infra promote", work).await
}

fn preview(next: Next) -> Vec<String> {
    let described = |steps: Vec<Step>| steps.into_iter().map(Step::describe);
    match next {
        Next::Do(steps) => described(steps).collect(),
        Next::Then(steps) => described(steps).chain(["and then decides again".into()]).collect(),
        Next::Refuse(refusal) => {
            let (found, hint) = refusal.explain();
            vec![format!("refuses: {found}; {hint}")]
        }
    }
}

/// Moves the role, or brings a failover to its end that is under way.
pub async fn carry_out(context: &Context, environment: &Environment, lock: &Held) -> Result<Outcome> {
    let mut work = Work::begin(context, environment, lock).await?;
    for _ in 0..ROUNDS {
        let stage = work.stage().await;
        match work.decide(stage).await? {
            Next::Refuse(refusal) => return Err(refused(refusal)),
            Next::Do(steps) => {
                return match all(context, &mut work, &steps).await {
                    Ok(()) => Ok(work.outcome()),
                    Err(error) => Err(after(context, &mut work, error).await),
                };
            }
            Next::Then(steps) => {
                context
                    .ui
                    .note("going back first: an earlier failover did not come to its end");
                all(context, &mut work, &steps).await?;
            }
        }
    }
    Err(Error::failed("fail over: it had to go back several times in a row")
        .hint("see who else changes the hosts, then run the same command again"))
}

fn refused(refusal: Refusal) -> Error {
    let (found, hint) = refusal.explain();
    Error::failed(format!("fail over: {found}")).hint(hint)
}

async fn all(context: &Context, work: &mut Work<'_>, steps: &[Step]) -> Result<()> {
    for step in steps {
        // From there on the app waits, so the way is forward.
        let may_stop = !matches!(step, Step::TakeOver | Step::OpenAccess | Step::MoveAddress | Step::Swap);
        if may_stop && context.interrupt.requested() {
            return Err(Error::interrupted("finish the failover: it was interrupted")
                .hint("run the same command again to go on"));
        }
        let begun = Instant::now();
        let performed = fault::around(&step.name(), work.perform(*step)).await;
        work.took(*step, begun.elapsed());
        performed?;
    }
    Ok(())
}

/// Returns the error of a failed step. While the old master is the master, it first goes back, so
/// that the replica is a replica again and the app may log in on both hosts.
async fn after(context: &Context, work: &mut Work<'_>, error: Error) -> Error {
    let stage = work.stage().await;
    if stage.is_none_or(|stage| stage == Stage::Settling) {
        return with_next(
            error,
            "the new master takes writes; run the same command again to finish the rest",
        );
    }
    match work.decide(stage).await {
        Ok(Next::Then(steps)) => match all(context, work, &steps).await {
            Ok(()) => with_next(error, "the old master goes on as before, and the replica follows it"),
            Err(back) => with_next(
                error,
                &format!("going back failed too ({back:#}): run the same command again"),
            ),
        },
        _ => with_next(error, "run the same command again: it goes on or back"),
    }
}

fn with_next(error: Error, next: &str) -> Error {
    let hint = match error.next_step() {
        Some(hint) => format!("{hint}; {next}"),
        None => next.into(),
    };
    error.hint(hint)
}
