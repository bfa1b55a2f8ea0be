//! `infra import`: rows of PostgreSQL become keys of Redis, and both are held against each other.
//!
//! [`setup`] reads `import.yml` and checks it against the real schema; each verb has a file of its
//! own. [`window`] holds the rule that nothing is overwritten and nothing deleted comes back.

mod collisions;
pub mod finish;
pub mod follow;
mod history;
pub mod init;
pub mod pace;
mod plan;
mod progress;
mod ranges;
pub mod run;
pub mod setup;
pub mod status;
pub mod verify;
mod window;

use crate::model::error::{ExitCode, Result};
use crate::sequences::arguments::ImportVerb;
use crate::sequences::context::Context;

pub async fn run(context: &Context, verb: &ImportVerb) -> Result<ExitCode> {
    match verb {
        ImportVerb::Init(arguments) => init::run(context, arguments).await,
        ImportVerb::Plan(arguments) => plan::run(context, arguments).await,
        ImportVerb::Run(arguments) => run::run(context, arguments).await,
        ImportVerb::Verify(arguments) => verify::run(context, arguments).await,
        ImportVerb::Follow(arguments) => follow::run(context, arguments).await,
        ImportVerb::Status(arguments) => status::run(context, arguments).await,
        ImportVerb::Finish(arguments) => finish::run(context, arguments).await,
    }
}
