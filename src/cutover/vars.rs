//! Which config vars name the source, which of them move, and how one that an attachment owns becomes a plain one. Pure.
//!
//! The source's URL stays readable under `HOSTED_…_URL` through all of it, so that no old value has to be written down.

use crate::error::{Error, Result};
use crate::platform::heroku::owner;
use crate::platform::{Attachment, ConfigVars};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};

/// How the var of an attachment becomes a plain one.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Flatten {
    /// The attachment that owns the app's var, such as `REDIS`.
    pub attachment: String,
    /// The add-on's name.
    pub addon: String,
    /// The name under which the add-on stays attached, such as `HOSTED_REDIS`.
    pub hosted: String,
    /// Vars that vanish with the attachment: each is set to what `HOSTED_…` holds.
    pub vars: Vec<String>,
}

/// A var that names the source and will name the endpoint.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Moved {
    pub var: String,
    /// The database part of its URL: empty or `/3`.
    pub path: String,
}

/// The name under which the add-on stays attached: `HOSTED_REDIS` for `REDIS_URL`.
pub fn hosted_name(config_var: &str) -> String {
    format!("HOSTED_{}", config_var.strip_suffix("_URL").unwrap_or(config_var))
}

/// The var that keeps the source's URL: `HOSTED_REDIS_URL` for `REDIS_URL`.
pub fn hosted_var(config_var: &str) -> String {
    format!("{}_URL", hosted_name(config_var))
}

/// The var in which the source's URL is to be read: the hosted one as soon as it is there, since the app's own may name the endpoint.
pub fn source_var(vars: &ConfigVars, config_var: &str) -> String {
    let hosted = hosted_var(config_var);
    if vars.has(&hosted) { hosted } else { config_var.into() }
}

/// Host and port of a Redis URL, and its database part. Nothing for what is not one. Values are never quoted.
pub fn place(url: &Secret) -> Option<(String, u16, String)> {
    let parsed = reqwest::Url::parse(url.expose().trim()).ok()?;
    if !matches!(parsed.scheme(), "redis" | "rediss") {
        return None;
    }
    let host = parsed.host_str()?.trim_matches(['[', ']']).to_ascii_lowercase();
    let path = match parsed.path() {
        "/" => String::new(),
        path => path.to_string(),
    };
    Some((host, parsed.port().unwrap_or(6379), path))
}

/// The URL with another database part; without the query, which belongs to the old server's ways.
pub fn with_path(url: &Secret, path: &str) -> Secret {
    let base = url.expose().trim();
    let base = base.split(['?', '#']).next().unwrap_or(base);
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority..].find('/').map_or(base.len(), |at| authority + at);
    Secret::new(format!("{}{path}", &base[..end]))
}

/// What the app's var names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Points {
    Source,
    Endpoint,
    Absent,
    Elsewhere,
    /// Some apps name the source and some the endpoint.
    Mixed,
}

impl Points {
    /// What several apps name together.
    pub fn together(all: impl IntoIterator<Item = Points>) -> Points {
        all.into_iter()
            .reduce(|one, other| match (one, other) {
                (one, other) if one == other => one,
                (Points::Absent, _) | (_, Points::Absent) => Points::Absent,
                (Points::Elsewhere, _) | (_, Points::Elsewhere) => Points::Elsewhere,
                _ => Points::Mixed,
            })
            .unwrap_or(Points::Absent)
    }
}

/// What a var names, by host and port.
pub fn points(value: Option<&Secret>, source: (&str, u16), endpoint: (&str, u16)) -> Points {
    let Some(value) = value else {
        return Points::Absent;
    };
    match place(value) {
        Some((host, port, _)) if (host.as_str(), port) == endpoint => Points::Endpoint,
        Some((host, port, _)) if (host.as_str(), port) == source => Points::Source,
        _ => Points::Elsewhere,
    }
}

/// How the app's var becomes a plain one; nothing where it is one.
pub fn flatten(vars: &ConfigVars, attachments: &[Attachment], app: &str, config_var: &str) -> Result<Option<Flatten>> {
    let Some(owner) = owner(attachments, app, config_var) else {
        return Ok(None);
    };
    let hosted = hosted_name(config_var);
    if let Some(other) = attachments
        .iter()
        .find(|other| other.app == app && other.name == hosted && other.addon_id != owner.addon_id)
    {
        return Err(Error::failed(format!(
            "keep add-on {} attached as {hosted}: {} has that name",
            owner.addon_name, other.addon_name
        ))
        .hint(format!("detach it first: `heroku addons:detach {hosted} --app {app}`")));
    }
    // What vanishes with the attachment are the vars that begin with its name. One that another attachment owns is not its own.
    let prefix = format!("{}_", owner.name);
    let foreign = |var: &str| {
        attachments.iter().any(|other| {
            other.id != owner.id && other.name.len() > owner.name.len() && var.starts_with(&format!("{}_", other.name))
        })
    };
    let mut names: Vec<String> = Vec::new();
    for var in vars.names().filter(|var| var.starts_with(&prefix) && !foreign(var)) {
        let holds_url = vars.get(var).ok().flatten().is_some_and(|value| place(value).is_some());
        if var == config_var || holds_url {
            names.push(var.into());
        }
    }
    Ok(Some(Flatten {
        attachment: owner.name.clone(),
        addon: owner.addon_name.clone(),
        hosted,
        vars: names,
    }))
}

impl Flatten {
    /// Where the value of a var that vanished is to be found again.
    pub fn hosted_twin(&self, var: &str) -> String {
        let suffix = var.strip_prefix(&self.attachment).unwrap_or("_URL");
        format!("{}{suffix}", self.hosted)
    }
}

/// The next step of a flattening, told from what is there. An interrupted one goes on from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlattenStep {
    Attach,
    Detach,
    Set,
    Done,
}

pub fn next_flatten_step(plan: &Flatten, vars: &ConfigVars, attachments: &[Attachment], app: &str) -> FlattenStep {
    let attached = |name: &str| attachments.iter().any(|there| there.app == app && there.name == name);
    if !attached(&plan.hosted) {
        FlattenStep::Attach
    } else if attached(&plan.attachment) {
        FlattenStep::Detach
    } else if plan.vars.iter().any(|var| !vars.has(var)) {
        FlattenStep::Set
    } else {
        FlattenStep::Done
    }
}

/// The vars that will name the endpoint: the app's own, and every plain one that names the same server.
pub fn moved(
    vars: &ConfigVars,
    attachments: &[Attachment],
    app: &str,
    config_var: &str,
    source: (&str, u16),
) -> Vec<Moved> {
    let owned = |var: &str| owner(attachments, app, var).is_some();
    let mut moved = Vec::new();
    for (var, value) in vars.readable() {
        if var == hosted_var(config_var) || (owned(var) && var != config_var) {
            continue;
        }
        let Some((host, port, path)) = place(value) else {
            continue;
        };
        if var == config_var || (host.as_str(), port) == source {
            moved.push(Moved { var: var.into(), path });
        }
    }
    moved
}

#[cfg(test)]
#[path = "vars_tests.rs"]
mod tests;
