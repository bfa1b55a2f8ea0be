//! `infra promote`: the master takes over, and the source stays paused for `switch-app`. Once the
//! app is on the pair, the replica takes over from the master.

use crate::model::error::{Error, ExitCode, Result};
use crate::sequences::arguments::Promote;
use crate::sequences::context::Context;
use crate::sequences::cutover::{Command, Limits, Phase};
use crate::sequences::failover;
use crate::sequences::move_app::before;
use crate::sequences::move_app::{Plan, run as run_cutover};

pub async fn run(context: &Context, arguments: &Promote) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let history = context.history(&environment).await?;
    let phase = history.phase;
    let on_the_pair = phase == Some(Phase::Settled) || context.config.source.none;
    match (arguments.force, on_the_pair) {
        (true, true) => return failover::forced::run(context, &environment, arguments).await,
        (true, false) => {
            return Err(Error::usage("force a failover: the app is not on the pair yet")
                .hint("the app still uses the source: `infra up` makes another host for one that is gone"));
        }
        (false, true) => return failover::run::run(context, &environment, &arguments.confirmed).await,
        (false, false) => {}
    }
    before::promote(context, &history, &arguments.leave.leave).await?;
    let plan = Plan {
        command: Command::Promote,
        limits: Limits {
            hold: arguments.hold.unwrap_or(Limits::default().hold),
            grace: arguments.grace,
            rounds: arguments.rounds,
            ..Limits::default()
        },
        fence: arguments.fence,
        hold_was_asked_for: arguments.hold.is_some(),
        accept_loss: arguments.accept_loss,
        without_watch: arguments.without_watch,
        leave: &arguments.leave.leave,
        confirmed: &arguments.confirmed,
        what: "This pauses the source's writes until the master has taken over, and longer for `infra switch-app` to follow.",
    };
    run_cutover(context, &environment, phase, plan).await
}
