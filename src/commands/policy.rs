//! `infra policy`: the least that AWS must allow whoever runs this program on this environment. Looks at nothing but whose credentials these are.

use crate::decide::cloud::{Who, operator_policy};
use crate::model::error::{ExitCode, Result};
use crate::sequences::arguments::{Audience, Policy};
use crate::sequences::context::Context;

pub async fn run(context: &Context, arguments: &Policy) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let names = context.names(&environment)?;
    let who = match arguments.audience {
        Audience::Operator => Who::Operator,
        Audience::Ci => Who::Ci,
    };
    let policy = operator_policy(&names, who, context.config.backup.object_lock);
    // JSON in any case: it is for AWS to read. Indented it is for people too, and AWS does not count spaces.
    context.ui.data(format!("{policy:#}"));
    Ok(ExitCode::Done)
}
