//! `infra switch-app`: moves the app to the endpoint, and promotes first if `promote` did not run.

use crate::model::error::{ExitCode, Result};
use crate::sequences::arguments::SwitchApp;
use crate::sequences::context::Context;
use crate::sequences::cutover::{Command, Limits};
use crate::sequences::move_app::before;
use crate::sequences::move_app::first;
use crate::sequences::move_app::{Plan, run as run_cutover};
use crate::sequences::rehearsal;

pub async fn run(context: &Context, arguments: &SwitchApp) -> Result<ExitCode> {
    if arguments.rehearse {
        return rehearsal::run::run(context).await;
    }
    let environment = context.environment().await?;
    if context.config.source.none {
        return first::switch(context, &environment, &arguments.confirmed).await;
    }
    let history = context.history(&environment).await?;
    let phase = history.phase;
    if !arguments.back && first::has_lost_its_endpoint(context, &environment, phase).await? {
        return first::switch(context, &environment, &arguments.confirmed).await;
    }
    if !arguments.back {
        let leave = &arguments.leave.leave;
        before::switch(context, &environment, &history, leave, arguments.without_rehearsal).await?;
    }
    let (command, what) = if arguments.back {
        (
            Command::Back,
            "This sets the app's config vars back to the source, which restarts its processes; it is refused once the new side was written to.",
        )
    } else {
        (
            Command::SwitchApp,
            "This fences the source, lets the master take over and changes the app's config vars, which restarts its processes.",
        )
    };
    let plan = Plan {
        command,
        limits: Limits {
            long_pause: arguments.longest_pause,
            grace: arguments.grace,
            settle: arguments.watch,
            rounds: arguments.rounds,
            ..Limits::default()
        },
        fence: arguments.fence,
        hold_was_asked_for: true,
        accept_loss: arguments.accept_loss,
        without_watch: arguments.without_watch,
        leave: &arguments.leave.leave,
        confirmed: &arguments.confirmed,
        what,
    };
    run_cutover(context, &environment, phase, plan).await
}
