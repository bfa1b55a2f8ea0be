//! Shows the plan before it is done, and the result.

use super::{Reached, Seen};
use crate::effects::backup::BackupSummary;
use crate::model::role::Role;
use crate::model::size;
use crate::sequences::context::Context;
use crate::sequences::cutover::Phase;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use wire::info::Info;

/// Shows the plan. `alone` means that nothing follows it.
pub(super) fn show_plan(context: &Context, seen: &Seen, alone: bool) {
    let hosts: BTreeMap<&str, Vec<String>> = host_steps(seen);
    if context.ui.json() && !alone {
        // A command prints one JSON document, and this one's will say what was done.
        seen.plan.to_string().lines().for_each(|line| context.ui.note(line));
        host_lines(seen).for_each(|line| context.ui.note(format!("  ~ {line}")));
        return;
    }
    let fields = json!({ "plan": { "cloud": seen.plan, "hosts": hosts } });
    let host_lines = host_lines(seen).map(|line| format!("  ~ {line}"));
    let lines = std::iter::once(seen.plan.to_string()).chain(host_lines);
    context.ui.report(fields, lines);
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

pub(super) fn report(
    context: &Context,
    seen: &Seen,
    reached: &Reached,
    servers: &BTreeMap<&'static str, Info>,
    backup: Option<&BackupSummary>,
    changes: usize,
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
    let first = if changes == 0 && seen.plan.drift.is_empty() {
        "nothing to change: cloud, hosts, replication and backup are as infra.yml says".to_string()
    } else if changes == 0 {
        "nothing changed: what infra.yml says otherwise of machines that stand, named above, is for new ones".into()
    } else {
        format!("{changes} changes made")
    };
    let server_lines = servers.iter().map(|(name, info)| {
        format!(
            "{name:<8} {:?} {}, {} keys, {}",
            info.role,
            info.own_version(),
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
