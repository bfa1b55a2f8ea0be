//! Decides which side a config var names, and how an owned var becomes plain. Pure. Which vars of
//! an app move is decided in `app_vars`.
//!
//! The source's URL stays readable under `HOSTED_…_URL`, so that no old value is written down.

use crate::effects::platform::{Attachment, ConfigVars};
use crate::effects::redis::Server;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the vars of an attachment become plain.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct DetachVars {
    /// The attachment that owns the app's var, such as `REDIS`.
    pub attachment: String,
    /// The add-on's name.
    pub addon: String,
    /// The name under which the add-on stays attached, such as `HOSTED_REDIS`.
    pub hosted: String,
    /// Vars that vanish with the attachment. Each is set to the value of its `HOSTED_…` twin.
    pub vars: Vec<String>,
}

/// Host and port, the host in lower case.
pub type Place = (String, u16);

/// How the apps' vars named the source when the command began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// Further addresses of the source: an add-on's `TLS_URL` may have another port than its `URL`.
    pub others: Vec<Place>,
    /// Vars that stay on the source on purpose.
    pub stay: Vec<String>,
}

impl Naming {
    /// Returns every address of the source, its own first.
    pub fn places(&self, source: &Server) -> Vec<Place> {
        std::iter::once(place_of(source))
            .chain(self.others.iter().cloned())
            .collect()
    }
}

/// A var that names the source and will name the endpoint.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Moved {
    pub var: String,
    /// The database part of its URL: empty or `/3`.
    pub path: String,
    /// The var that holds the old value, apart from `path`. Older journals have none: then it is
    /// the config var's `HOSTED_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_in: Option<String>,
    /// `kept_in` is a plain var that the change itself sets to the old value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copied: bool,
}

/// Returns the var that keeps the source's URL: `HOSTED_REDIS_URL` for `REDIS_URL`.
pub fn hosted_var(config_var: &str) -> String {
    format!("HOSTED_{}_URL", config_var.strip_suffix("_URL").unwrap_or(config_var))
}

/// Returns the var that holds the source's URL: the hosted one if it exists, because the app's
/// own may name the endpoint.
pub fn source_var(vars: &ConfigVars, config_var: &str) -> String {
    let hosted = hosted_var(config_var);
    if vars.has(&hosted) { hosted } else { config_var.into() }
}

/// Returns host, port and database part of a Redis URL; `None` if it is none. Quotes no value.
pub fn place(url: &Secret) -> Option<(String, u16, String)> {
    let parsed = reqwest::Url::parse(url.expose().trim()).ok()?;
    if !matches!(parsed.scheme(), "redis" | "rediss") {
        return None;
    }
    let host = parsed.host_str()?.trim_matches(['[', ']']).to_ascii_lowercase();
    // Clients that take a database from the query let it come before the path's.
    let queried = parsed.query_pairs().find(|(name, _)| name == "db");
    let path = match (
        queried.and_then(|(_, number)| number.parse::<u32>().ok()),
        parsed.path(),
    ) {
        (Some(0), _) | (None, "/") => String::new(),
        (Some(number), _) => format!("/{number}"),
        (None, path) => path.to_string(),
    };
    Some((host, parsed.port().unwrap_or(6379), path))
}

/// Returns the names of a URL's parameters, without the database, which the new URL keeps.
pub fn parameters(url: &Secret) -> Vec<String> {
    let Ok(parsed) = reqwest::Url::parse(url.expose().trim()) else {
        return Vec::new();
    };
    let mut names: Vec<String> = parsed
        .query_pairs()
        .filter(|(name, _)| !name.is_empty())
        .filter(|(name, value)| name != "db" || value.parse::<u32>().is_err())
        .map(|(name, _)| name.into_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Returns the address of a server, as vars name it.
pub fn place_of(server: &Server) -> Place {
    (server.host.to_ascii_lowercase(), server.port)
}

/// Returns the URL with another database part, without its query, which was for the old server.
pub fn with_path(url: &Secret, path: &str) -> Secret {
    let base = url.expose().trim();
    let base = base.split(['?', '#']).next().unwrap_or(base);
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority..].find('/').map_or(base.len(), |at| authority + at);
    Secret::new(format!("{}{path}", &base[..end]))
}

/// Returns the kept URL with this database part.
pub fn restored(kept: &Secret, path: &str) -> Secret {
    match place(kept) {
        Some((_, _, own)) if own != path => with_path(kept, path),
        _ => kept.clone(),
    }
}

/// The side that the app's var names.
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
    /// Returns the side that several apps name together.
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

/// Returns which side a var names, by host and port. `source` holds every address of the source.
pub fn points(value: Option<&Secret>, source: &[Place], endpoint: (&str, u16)) -> Points {
    let Some(value) = value else {
        return Points::Absent;
    };
    match place(value) {
        Some((host, port, _)) if (host.as_str(), port) == endpoint => Points::Endpoint,
        Some((host, port, _)) if source.contains(&(host.clone(), port)) => Points::Source,
        _ => Points::Elsewhere,
    }
}

impl DetachVars {
    /// Returns the var that holds the value of a var that vanished.
    pub fn hosted_twin(&self, var: &str) -> String {
        let suffix = var.strip_prefix(&self.attachment).unwrap_or("_URL");
        format!("{}{suffix}", self.hosted)
    }
}

/// Returns the old values that the change itself keeps, by the plain var that receives each. A
/// var that names the endpoint already was copied by an earlier run.
pub fn copies(moved: &[Moved], vars: &ConfigVars, endpoint: (&str, u16)) -> Result<BTreeMap<String, Secret>> {
    let mut copies = BTreeMap::new();
    for moved in moved.iter().filter(|moved| moved.copied) {
        let (Some(kept_in), Some(value)) = (&moved.kept_in, vars.get(&moved.var)?) else {
            continue;
        };
        if points(Some(value), &[], endpoint) != Points::Endpoint {
            copies.insert(kept_in.clone(), value.clone());
        }
    }
    Ok(copies)
}

/// Returns the old value of every moved var, read from the var that keeps it.
pub fn old_values(moved: &[Moved], vars: &ConfigVars, config_var: &str) -> Result<BTreeMap<String, Secret>> {
    let hosted = hosted_var(config_var);
    let mut old = BTreeMap::new();
    for moved in moved {
        let kept_in = moved.kept_in.as_ref().unwrap_or(&hosted);
        let Some(kept) = vars.get(kept_in)? else {
            return Err(Error::failed(format!(
                "set {} back: {kept_in}, which keeps the old value, is not there",
                moved.var
            ))
            .hint("set that var to the source's URL, then run the same command again"));
        };
        old.insert(moved.var.clone(), restored(kept, &moved.path));
    }
    Ok(old)
}

/// The next step of a detachment. It follows from what exists, so an interrupted one continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetachStep {
    Attach,
    Detach,
    Set,
    Done,
}

pub fn next_detach_step(plan: &DetachVars, vars: &ConfigVars, attachments: &[Attachment], app: &str) -> DetachStep {
    let attached = |name: &str| attachments.iter().any(|there| there.app == app && there.name == name);
    if !attached(&plan.hosted) {
        DetachStep::Attach
    } else if attached(&plan.attachment) {
        DetachStep::Detach
    } else if plan.vars.iter().any(|var| !vars.has(var)) {
        DetachStep::Set
    } else {
        DetachStep::Done
    }
}

#[cfg(test)]
mod tests;
