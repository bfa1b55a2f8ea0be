//! Judges whether the source lets us pause its writes, and list and disconnect its clients.

use super::{Finding, SourceFacts};
use crate::effects::redis::control::Permission;
use crate::model::follow::Follower;

/// What stands in for the list of clients if the source is copied.
const HIDDEN: &str = "stop every process that has the old URL before the switch: that none is left is known by the platform's \
                      list of processes alone, and what one of them writes is found by a second comparison after the switch";

pub(super) fn judge(source: &SourceFacts, findings: &mut Vec<Finding>) {
    let permissions = &source.permissions;
    findings.push(match &permissions.pause_writes {
        Permission::Allowed => Finding::ok("pause", "the source lets its writes be paused"),
        Permission::Denied(reason) | Permission::Unknown(reason) => Finding::warning(
            "pause",
            format!("the source's writes cannot be paused (CLIENT PAUSE … WRITE): {reason}"),
            "the platform will be the fence: the app is stopped for the length of a release, about a minute or two; `promote` alone leaves it stopped until \
             `switch-app` and so wants --hold. A source of Redis 6.2 or later that allows it avoids this",
        ),
    });
    findings.push(match (&permissions.client_list, &permissions.pause_writes) {
        (Permission::Allowed, _) => Finding::ok("clients", "the source shows its clients"),
        (Permission::Denied(reason), _) if source.follower == Follower::Copy => Finding::warning(
            "clients",
            format!("the source does not show its clients (CLIENT LIST): {reason}"),
            HIDDEN,
        ),
        (Permission::Denied(reason) | Permission::Unknown(reason), _) => Finding::blocker(
            "clients",
            format!("the source does not show its clients (CLIENT LIST): {reason}"),
            "without it nobody can tell whether a process still writes to the old side after the switch; ask the provider to allow it",
        ),
    });
    findings.push(match &permissions.client_kill {
        Permission::Allowed => Finding::ok("kill", "the source lets its clients be disconnected"),
        Permission::Denied(reason) if source.follower == Follower::Copy => Finding::warning(
            "kill",
            format!("the source does not let its clients be disconnected (CLIENT KILL): {reason}"),
            HIDDEN,
        ),
        Permission::Denied(reason) => Finding::blocker(
            "kill",
            format!("the source does not let its clients be disconnected (CLIENT KILL): {reason}"),
            "a process that stays connected to the old side must be disconnected before its writes are let through again; ask the provider to allow it",
        ),
        Permission::Unknown(reason) => Finding::warning(
            "kill",
            format!("it is not known whether the source lets its clients be disconnected (CLIENT KILL): {reason}"),
            "the switch finds out before it fences anything, and stops where it may not",
        ),
    });
}
