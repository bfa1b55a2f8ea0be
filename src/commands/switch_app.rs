//! `infra switch-app`: the app's Redis URL moves to the endpoint; the cutover of the data is part of it where `promote` did not run before.

use super::context::Context;
use super::move_app::{Plan, run as run_cutover};
use crate::cli::SwitchApp;
use crate::cutover::{Command, Limits};
use crate::error::{ExitCode, Result};

pub async fn run(context: &Context, arguments: &SwitchApp) -> Result<ExitCode> {
    if arguments.rehearse {
        return super::rehearse::run(context).await;
    }
    if !arguments.confirmed.dry_run {
        super::rehearse::ask_before_switch(context, arguments.without_rehearsal).await?;
    }
    let plan = Plan {
        command: Command::SwitchApp,
        limits: Limits {
            long_pause: arguments.longest_pause,
            ..Limits::default()
        },
        confirmed: &arguments.confirmed,
        what: "This pauses the source's writes, lets the master take over and changes the app's config vars, which restarts its processes.",
    };
    run_cutover(context, plan).await
}
