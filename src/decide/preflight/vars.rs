//! Judges an app's vars that name the source: what is detached, what stays, what is refused. Pure.

use super::Finding;
use crate::decide::app_vars::{AppVars, Left};
use crate::model::secret::Secret;
use std::collections::BTreeMap;

/// Facts about one app's vars.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    pub app: String,
    /// Attachments to detach, with their add-on and vars; without that of the app's own var.
    pub detached: Vec<(String, String, Vec<String>)>,
    pub left: Vec<(String, Left)>,
    /// Vars whose URL has parameters, with the names of those.
    pub parameters: Vec<(String, Vec<String>)>,
    /// Why no change of vars could be sent.
    pub refused: Vec<Refused>,
}

/// An obstacle to a change, and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub found: String,
    pub remedy: String,
}

/// Returns the outlook of one app. `ca_var` will receive the endpoint's certificate authority.
pub fn outlook(vars: &AppVars<'_>, ca_var: &str) -> Outlook {
    let own = vars.owner(vars.config_var).map(|owner| &owner.id);
    let detached = vars.detached();
    let mut refused = Vec::new();
    if let Err(error) = vars.detachment() {
        refused.push(Refused {
            found: format!("{}: {error:#}", vars.app),
            remedy: error.next_step().unwrap_or("see the cause above").to_string(),
        });
    }
    if !vars.vars.has(vars.config_var) {
        let instead: Vec<String> = vars.will_move().into_iter().map(|(var, _)| var).collect();
        refused.push(Refused {
            found: format!(
                "{} has no config var {}{}",
                vars.app,
                vars.config_var,
                match instead.as_slice() {
                    [] => String::new(),
                    some => format!("; it names this Redis in {}", some.join(", ")),
                }
            ),
            remedy: format!(
                "set {} of {} to the source's URL: `switch-app` tells by that var where an app is",
                vars.config_var, vars.app
            ),
        });
    }
    refused.extend(ca_in_use(
        vars,
        ca_var,
        &detached.iter().map(|gone| gone.id.as_str()).collect::<Vec<_>>(),
    ));
    Outlook {
        app: vars.app.into(),
        detached: detached
            .into_iter()
            .filter(|attachment| Some(&attachment.id) != own)
            .map(|attachment| {
                let owned = vars.owned_by(attachment);
                (
                    attachment.name.clone(),
                    attachment.addon_name.clone(),
                    owned.into_iter().map(str::to_string).collect(),
                )
            })
            .collect(),
        left: vars.left(),
        parameters: vars.parameters(),
        refused,
    }
}

/// Returns an obstacle if the certificate's var is owned, or holds anything but a certificate.
fn ca_in_use(vars: &AppVars<'_>, ca_var: &str, gone: &[&str]) -> Option<Refused> {
    let found = match vars.owner(ca_var) {
        Some(owner) => format!(
            "{ca_var} of {} is to receive the endpoint's certificate authority, and the attachment {} of {} owns it{}",
            vars.app,
            owner.name,
            owner.addon_name,
            if gone.contains(&owner.id.as_str()) {
                "; the app may still want the add-on's value"
            } else {
                ""
            }
        ),
        None => {
            let holds_certificate = |value: &Secret| value.expose().contains("BEGIN CERTIFICATE");
            match vars.vars.get(ca_var) {
                Ok(Some(value)) if !holds_certificate(value) => {
                    format!(
                        "{ca_var} of {} is in use for something that is no certificate",
                        vars.app
                    )
                }
                _ => return None,
            }
        }
    };
    Some(Refused {
        found,
        remedy: "name another var in app.ca_config_var of infra.yml".into(),
    })
}

/// Judges the apps that are switched.
pub fn judge(outlooks: &[Outlook], leave: &[String]) -> Vec<Finding> {
    outlooks
        .iter()
        .flat_map(|outlook| {
            let mut findings = Vec::new();
            findings.extend(
                outlook
                    .refused
                    .iter()
                    .map(|refused| Finding::blocker("refused-vars", refused.found.clone(), refused.remedy.clone())),
            );
            findings.extend(
                outlook
                    .detached
                    .iter()
                    .map(|detached| judge_detached(outlook, detached)),
            );
            findings.extend(
                outlook
                    .parameters
                    .iter()
                    .map(|(var, names)| judge_parameters(outlook, var, names)),
            );
            findings.extend(judge_left(outlook, leave));
            findings
        })
        .collect()
}

fn judge_detached(outlook: &Outlook, (attachment, addon, vars): &(String, String, Vec<String>)) -> Finding {
    Finding::warning(
        "owned-vars",
        format!(
            "{} of {} belongs to the attachment {attachment} of {addon}: `switch-app` detaches that attachment first, and sets the plain var {} to the endpoint with the rest",
            vars.join(", "),
            outlook.app,
            vars.join(", "),
        ),
        format!(
            "nothing to do: no process stays on the source, whichever var it reads. If none reads it, --leave {} keeps the attachment as it is",
            outlook.app
        ),
    )
}

/// The endpoint's URL has no parameters: those of the old URL were for the old server.
fn judge_parameters(outlook: &Outlook, var: &str, names: &[String]) -> Finding {
    let mut remedies: Vec<&str> = names.iter().map(|name| instead_of(name)).collect();
    remedies.sort_unstable();
    remedies.dedup();
    Finding::warning(
        "url-parameters",
        format!(
            "{var} of {} has {} in its URL: the switch leaves that out of the new one",
            outlook.app,
            names.join(", ")
        ),
        remedies.join("; "),
    )
}

/// Returns what takes the place of a URL's parameter.
fn instead_of(parameter: &str) -> &'static str {
    let lower = parameter.to_ascii_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if is(&["ssl", "tls", "cert", "verify"]) {
        "how the client checks the certificate is set in its code or by app.ca_config_var: the endpoint's has an authority of its own"
    } else if is(&["pass", "user", "auth", "token"]) {
        "the login stands before the host in the new URL, not in a parameter"
    } else if is(&["db", "database"]) {
        "give the var the database as ?db=N or as a path, such as /2, before the switch: that is kept"
    } else {
        "what only concerns the client, such as a timeout, is set in its code before the switch"
    }
}

fn judge_left(outlook: &Outlook, leave: &[String]) -> Vec<Finding> {
    let app = &outlook.app;
    let mut by_reason: BTreeMap<&str, (Vec<&str>, String)> = BTreeMap::new();
    for (var, left) in &outlook.left {
        let (reason, remedy) = match left {
            Left::OnPurpose if leave.contains(app) => (
                "--leave says so",
                "make sure that no process reads it: what it writes would be on the old side only".to_string(),
            ),
            Left::OnPurpose => (
                "source.config_var of infra.yml reads the source's URL there",
                "make sure that no process reads it; if one does, name the app's own var in source.config_var, and the switch moves both".to_string(),
            ),
            Left::UnknownAddon => (
                "the key may not see the add-on of its attachment",
                format!("use a key that may see the add-on, or detach the attachment and set the var as a plain one; or see that no process of {app} reads it"),
            ),
            Left::AnotherPort => (
                "it has the source's host and password and another port, and no add-on says that this is the same server",
                "if a process reads it, set it to the same URL as the app's own var before the switch".to_string(),
            ),
            Left::NoUrl => (
                "it holds the source's host, port or password and is no Redis URL",
                "if a process reads it, let that process read the URL, or set the var by hand when the switch is done".to_string(),
            ),
        };
        by_reason
            .entry(reason)
            .or_insert_with(|| (Vec::new(), remedy))
            .0
            .push(var);
    }
    by_reason
        .into_iter()
        .map(|(reason, (vars, remedy))| {
            Finding::warning(
                "left-vars",
                format!("the switch leaves {} of {app} as it is: {reason}", vars.join(", ")),
                remedy,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests;
