//! Judges how the app uses Redis: which commands it runs, and how it logs in.

use super::denials::{Denied, DeniedBy};
use super::{Finding, SourceFacts};
use crate::model::size;

/// Commands that read or write data: an app whose call is refused is broken.
const DATA: [&str; 8] = [
    "flushall", "flushdb", "keys", "migrate", "restore", "sort", "sort_ro", "swapdb",
];

/// Commands of replication, of the provider's agents and of `infra`. An app that runs one reads
/// at most statistics by it.
const NOT_THE_APPS: [&str; 21] = [
    "psync",
    "sync",
    "replconf",
    "replicaof",
    "slaveof",
    "acl",
    "bgrewriteaof",
    "bgsave",
    "save",
    "cluster",
    "command",
    "config",
    "debug",
    "failover",
    "info",
    "lastsave",
    "latency",
    "module",
    "role",
    "slowlog",
    "shutdown",
];
const OURS: [&str; 5] = [
    "client|kill",
    "client|list",
    "client|pause",
    "client|unpause",
    "restore-asking",
];

/// Returns true if only a host's owner runs a command: its refusal says nothing about the app.
pub fn is_administrative(command: &str) -> bool {
    NOT_THE_APPS.contains(&command.split('|').next().unwrap_or_default()) || OURS.contains(&command)
}

pub(super) fn judge(source: &SourceFacts, findings: &mut Vec<Finding>) {
    let said = match source.denied.told {
        DeniedBy::Master => "our master says",
        DeniedBy::Rules => "by the rules that it will have",
    };
    if source.survey.commands.is_empty() {
        findings.push(Finding::warning(
            "app-commands",
            "the source does not tell which commands are in use (INFO commandstats)",
            "the app may not run KEYS, SORT, FLUSHDB and the like on the endpoint unless redis.app_commands of infra.yml names them: look through its code",
        ));
        return;
    }
    let listed = |denied: &[&Denied]| {
        let each: Vec<String> = denied
            .iter()
            .map(|denied| format!("{} ({} calls)", denied.command, size::count(denied.calls)))
            .collect();
        each.join(", ")
    };
    let names = |denied: &[&Denied]| {
        let each: Vec<&str> = denied.iter().map(|denied| denied.command.as_str()).collect();
        each.join(", ")
    };
    let denied = source
        .denied
        .commands
        .iter()
        .filter(|denied| !is_administrative(&denied.command));
    let (data, other): (Vec<&Denied>, Vec<&Denied>) =
        denied.partition(|denied| DATA.contains(&denied.command.as_str()));
    if !data.is_empty() {
        findings.push(Finding::blocker(
            "app-commands",
            format!("in use on the source and refused on the endpoint ({said}): {}", listed(&data)),
            format!(
                "if the app itself needs them, allow them in infra.yml: `redis: {{app_commands: [{}]}}`, then run `infra up`; if they were run by hand, the same line \
                 does no harm",
                names(&data)
            ),
        ));
    }
    if !other.is_empty() {
        findings.push(Finding::warning(
            "app-commands",
            format!(
                "in use on the source and refused on the endpoint ({said}): {}",
                listed(&other)
            ),
            format!(
                "the provider's own agents may run them; if the app does, name them in `redis.app_commands` ({})",
                names(&other)
            ),
        ));
    }
    if data.is_empty() && other.is_empty() {
        findings.push(Finding::ok(
            "app-commands",
            format!(
                "all {} commands in use on the source that an app runs are allowed to it on the endpoint ({said})",
                source
                    .survey
                    .commands
                    .keys()
                    .filter(|name| !is_administrative(name))
                    .count()
            ),
        ));
    }
}

/// Judges the login: the endpoint wants a user name, and TLS with an authority of our own.
pub(super) fn login(source: &SourceFacts, rehearsed: Option<bool>) -> Vec<Finding> {
    if rehearsed == Some(true) {
        return vec![Finding::ok(
            "login",
            "the app logged in to the endpoint's like in its last rehearsal",
        )];
    }
    let mut findings = Vec::new();
    let remedy = "`infra switch-app --rehearse` tries it with a process of the app itself, beside the live one";
    if !source.names_user {
        findings.push(Finding::warning(
            "login",
            "the source's URL has a password and no user name; the endpoint's has the user `app`, and its default user is off: an app that passes on the password alone cannot log in",
            remedy,
        ));
    }
    if !source.tls {
        findings.push(Finding::warning(
            "tls",
            "the app speaks to the source without TLS; the endpoint takes nothing else, with a certificate of its own authority",
            remedy,
        ));
    }
    findings
}
