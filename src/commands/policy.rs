//! `infra policy`: prints the least AWS policy for whoever runs this program on this environment.

use crate::decide::cloud::{Who, operator_policy};
use crate::model::error::{ExitCode, Result};
use crate::sequences::arguments::{Audience, Policy};
use crate::sequences::context::Context;

pub async fn run(context: &Context, arguments: &Policy) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let who = match arguments.audience {
        Audience::Operator => Who::Operator,
        Audience::Ci => Who::Ci,
        Audience::Fence => Who::Fence,
    };
    let policy = operator_policy(&environment.names, who, context.config.backup.object_lock);
    // Always JSON, since AWS reads it. Indented for people, since AWS does not count whitespace.
    context.ui.data(format!("{policy:#}"));
    Ok(ExitCode::Done)
}
