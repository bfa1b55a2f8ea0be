//! Shows the plan before it is done, and the result.

use super::{Changes, Reached, Seen};
use crate::effects::backup::BackupSummary;
use crate::model::follow::Follower;
use crate::model::role::Role;
use crate::model::size;
use crate::sequences::context::Context;
use crate::sequences::cutover::Phase;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use wire::info::{Info, ServerRole};

/// Shows the plan with what it costs. `alone` means that nothing follows it.
pub(super) fn show_plan(context: &Context, seen: &Seen, cost: Option<String>, alone: bool) {
    let hosts: BTreeMap<&str, Vec<String>> = host_steps(seen);
    if context.ui.json() && !alone {
        // A command prints one JSON document, and this one's will say what was done.
        seen.plan.to_string().lines().for_each(|line| context.ui.note(line));
        host_lines(seen).for_each(|line| context.ui.note(format!("  ~ {line}")));
        cost.iter().for_each(|line| context.ui.note(line));
        return;
    }
    let fields = json!({ "plan": { "cloud": seen.plan, "hosts": hosts } });
    let host_lines = host_lines(seen).map(|line| format!("  ~ {line}"));
    let in_all = format!("In all: {}.", seen.changes());
    let lines = std::iter::once(seen.plan.to_string()).chain(host_lines);
    context.ui.report(fields, lines.chain([in_all]).chain(cost));
}

pub(super) fn host_lines(seen: &Seen) -> impl Iterator<Item = String> {
    host_steps(seen)
        .into_iter()
        .flat_map(|(host, steps)| steps.into_iter().map(move |step| format!("host {host}  {step}")))
}

/// Returns what will be done on the hosts. A host that was not looked at is only announced.
fn host_steps(seen: &Seen) -> BTreeMap<&'static str, Vec<String>> {
    match &seen.hosts {
        Some(hosts) => hosts
            .iter()
            .map(|(role, looked)| {
                (
                    role.name(),
                    looked.plan.steps.iter().map(|step| step.text.clone()).collect(),
                )
            })
            .collect(),
        None => Role::ALL
            .into_iter()
            .map(|role| {
                (
                    role.name(),
                    vec!["is looked at once it answers, and made what it should be".into()],
                )
            })
            .collect(),
    }
}

/// The changes that were made, counted as the plan counts them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Made {
    pub changes: Changes,
    /// The steps that setting up new hosts took.
    pub set_up_steps: usize,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}",
            self.changes
                .to_string()
                .replace("to set up", "set up")
                .replace(" changes", " changes made")
        )?;
        if self.set_up_steps > 0 {
            write!(f, "; setting up hosts took {} steps", self.set_up_steps)?;
        }
        Ok(())
    }
}

/// Says a server's role so that "master" and "replica" name the hosts alone.
fn what_it_does(host: &str, role: ServerRole, copies: bool) -> &'static str {
    match (role, host) {
        (ServerRole::Master, "master") if copies => "copies the source until it is promoted",
        (ServerRole::Master, _) => "takes writes",
        (ServerRole::Replica, "master") => "follows the source until it is promoted",
        (ServerRole::Replica, _) => "follows the master",
    }
}

pub(super) fn report(
    context: &Context,
    seen: &Seen,
    reached: &Reached,
    servers: &BTreeMap<&'static str, Info>,
    backup: Option<&BackupSummary>,
    made: Made,
    warnings: &[String],
) {
    let ui = &context.ui;
    for warning in warnings {
        ui.warn(warning);
    }
    for drift in &seen.plan.drift {
        ui.warn(drift.to_string());
    }
    let endpoint = reached.addresses.get(&Role::Master).cloned().unwrap_or_default();
    let all_warnings: Vec<&String> = seen.warnings.iter().chain(warnings).collect();
    let server_fields: BTreeMap<_, Value> = servers
        .iter()
        .map(|(name, info)| (*name, json!({ "role": info.role, "version": info.own_version(), "keys": info.keys(), "used_memory": info.used_memory })))
        .collect();
    let changes = made.changes.all();
    let first = if changes == 0 && seen.plan.drift.is_empty() {
        "nothing to change: cloud, hosts, replication and backup are as infra.yml says".to_string()
    } else if changes == 0 {
        "nothing changed: the differences named above are kept; each line says which command removes it".into()
    } else {
        made.to_string()
    };
    let copies = seen.source.upstream.is_some() && seen.source.record.follower == Follower::Copy;
    let server_lines = servers.iter().map(|(name, info)| {
        format!(
            "{name:<8} {}, {}, {} keys, {}",
            info.own_version(),
            what_it_does(name, info.role, copies),
            size::count(info.keys()),
            size::bytes(info.used_memory)
        )
    });
    let backup_line = backup.map(|backup| {
        format!(
            "backup   {} keys, {}, {}",
            size::count(backup.keys),
            size::bytes(backup.bytes),
            backup.key
        )
    });
    let last = format!("endpoint {endpoint}:6379 (TLS)");
    let lines = std::iter::once(first)
        .chain(server_lines)
        .chain(backup_line)
        .chain([last]);
    ui.report(
        json!({ "changes": changes, "endpoint": endpoint, "servers": server_fields, "backup": backup, "warnings": all_warnings }),
        lines,
    );
    if ui.json() {
        return;
    }
    ui.note(if seen.phase.is_some_and(|phase| phase >= Phase::Switched) {
        ""
    } else {
        "next: `infra verify`, then `infra switch-app`"
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_counts_as_the_plan_does() {
        let planned = Changes {
            cloud: 32,
            new_hosts: 2,
            host_steps: 0,
        };
        assert_eq!(planned.to_string(), "34 changes (32 in the cloud, 2 hosts to set up)");
        let made = Made {
            changes: planned,
            set_up_steps: 75,
        };
        assert_eq!(
            made.to_string(),
            "34 changes made (32 in the cloud, 2 hosts set up); setting up hosts took 75 steps"
        );
        assert_eq!(Changes::default().to_string(), "0 changes");
    }
}
