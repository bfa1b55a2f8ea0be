//! What is still to be done on a pair, for commands that do it one host after the other.

use super::look;
use super::show::host_lines;
use crate::effects::host::upkeep::{self, Need};
use crate::model::error::{Error, Result};
use crate::model::role::Role;
use crate::sequences::context::{Context, Environment};
use crate::sequences::setup::hosts::Looked;
use std::collections::BTreeMap;

/// Returns what `infra up` would change now, for a command that does that too.
pub async fn pending(context: &Context, environment: &Environment) -> Result<Vec<String>> {
    let seen = look(&context.quietly(), environment).await?;
    let mut lines: Vec<String> = seen.plan.changes().iter().map(ToString::to_string).collect();
    if seen.hosts.is_some() {
        lines.extend(host_lines(&seen));
    }
    Ok(lines)
}

/// Returns the work on each host that stops its engine for a moment.
pub async fn needs(context: &Context, environment: &Environment) -> Result<BTreeMap<Role, Vec<Need>>> {
    let seen = look(&context.quietly(), environment).await?;
    let hosts = seen.hosts.ok_or_else(|| {
        Error::failed("look at both hosts: the cloud is not as infra.yml says").hint("run `infra up` first")
    })?;
    let of = |looked: &Looked| upkeep::needs(&looked.description.engine, &looked.facts);
    Ok(hosts.iter().map(|(role, looked)| (*role, of(looked))).collect())
}
