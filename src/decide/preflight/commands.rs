//! Judges how the app uses Redis: which commands it runs, and how it logs in.

use super::denials::{Denied, DeniedBy};
use super::{Finding, SourceFacts};
use crate::effects::redis::Survey;
use crate::model::{config, size};
use std::collections::{BTreeMap, BTreeSet};

/// Commands that read or write data: an app whose call is refused is broken.
const DATA: [&str; 8] = [
    "flushall", "flushdb", "keys", "migrate", "restore", "sort", "sort_ro", "swapdb",
];

/// Commands of replication, and of the server's administrator: an app has no use for them.
const THE_OWNERS: [&str; 12] = [
    "psync",
    "sync",
    "replconf",
    "replicaof",
    "slaveof",
    "bgrewriteaof",
    "bgsave",
    "save",
    "failover",
    "shutdown",
    "restore-asking",
    "acl",
];

/// Commands whose subcommands Redis before 7 counts together, with the one that apps and dashboards
/// mostly run; `None` if the app may run all that apps do run, or if nothing can be told.
const COUNTED_TOGETHER: [(&str, Option<&str>); 14] = [
    ("client", None),
    ("cluster", None),
    ("command", None),
    ("config", Some("config|get")),
    ("function", None),
    ("latency", Some("latency|latest")),
    ("memory", None),
    ("module", Some("module|list")),
    ("object", None),
    ("pubsub", None),
    ("script", None),
    ("slowlog", Some("slowlog|get")),
    ("xgroup", None),
    ("xinfo", None),
];

/// Returns how often one look of ours sends a command to the source, at most; `None` for never.
/// A look is one call of `check`, or one `up` with what it asks besides.
fn ours_in_a_look(command: &str) -> Option<u64> {
    match command {
        "config" | "config|get" => Some(20),
        "client|list" | "client|kill" | "client|pause" => Some(1),
        "client|unpause" => Some(0),
        _ => None,
    }
}

/// Returns the commands that an app may run, with the calls that were certainly not ours. A cutover
/// that was begun has listed and paused clients over and over: then only what was watched counts.
pub fn in_use(survey: &Survey, cutover_begun: bool) -> BTreeMap<String, u64> {
    let mut used: BTreeMap<String, u64> = BTreeMap::new();
    let names: BTreeSet<&String> = survey.commands.keys().chain(survey.watched.keys()).collect();
    for command in names {
        let of = |counted: &BTreeMap<String, u64>| counted.get(command).copied().unwrap_or(0);
        let (calls, watched) = (of(&survey.commands), of(&survey.watched));
        let theirs = match (ours_in_a_look(command), survey.earlier_looks) {
            (None, _) => calls.max(watched),
            (Some(_), _) if cutover_begun && command.starts_with("client|") => watched,
            (Some(each), Some(looks)) => calls.saturating_sub(each.saturating_mul(looks)).max(watched),
            (Some(_), None) => watched,
        };
        let parent = command.split('|').next().unwrap_or_default();
        let named = match COUNTED_TOGETHER.iter().find(|(together, _)| together == command) {
            Some((_, usual)) => *usual,
            None => Some(command.as_str()),
        };
        if let Some(named) = named.filter(|_| theirs > 0 && !THE_OWNERS.contains(&parent)) {
            *used.entry(named.into()).or_default() += theirs;
        }
    }
    used
}

/// Returns what a command would show or let the app do, for commands that infra.yml may allow.
fn opens(command: &str) -> &'static str {
    match command {
        "client|kill" => "disconnecting anybody, the replica and `infra` too",
        "client|list" => "addresses, names and last commands of all clients",
        "client|no-evict" => "keeping its own connections when memory is short",
        "client|pause" | "client|unpause" => "holding up everybody's commands",
        "client|unblock" => "waking clients that wait in a blocking command",
        "lastsave" => "when the data was last saved",
        "latency|reset" | "slowlog|reset" => "erasing what was recorded for you",
        "monitor" => "every command of every client, with its values",
        "role" => "the role and the replication offset",
        "slowlog|get" | "commandlog|get" => "slow commands of all clients, with keys and values",
        _ if command.starts_with("latency|") || command == "slowlog|len" => "figures about slow commands",
        _ => "what Redis's documentation says of it",
    }
}

/// Returns the line that allows a command, or why there is none.
fn how_to_allow(command: &str) -> String {
    if config::is_for_apps(command) {
        format!("`redis: {{app_commands: [{command}]}}` opens {}", opens(command))
    } else {
        let reason = match command {
            "config|get" => "it shows the passwords of the pair",
            _ if command.starts_with("config|") => "it changes settings that the pair depends on",
            _ => "the pair depends on it",
        };
        format!("{command} cannot be allowed, since {reason}: see that the app goes on without it")
    }
}

pub(super) fn judge(source: &SourceFacts, findings: &mut Vec<Finding>) {
    let said = match source.denied.told {
        DeniedBy::Master => "our master says",
        DeniedBy::Rules => "by the rules that it will have",
    };
    if source.survey.commands.is_empty() {
        findings.push(Finding::warning(
            "app-commands",
            "the source does not say which commands are in use (INFO commandstats)",
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
    let (data, other): (Vec<&Denied>, Vec<&Denied>) =
        (source.denied.commands.iter()).partition(|denied| DATA.contains(&denied.command.as_str()));
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
                "nothing, if the provider's own agents run them. If a dashboard or a worker of the app does: {}",
                other
                    .iter()
                    .map(|denied| how_to_allow(&denied.command))
                    .collect::<Vec<_>>()
                    .join("; ")
            ),
        ));
    }
    if data.is_empty() && other.is_empty() {
        findings.push(Finding::ok(
            "app-commands",
            format!(
                "all {} commands in use on the source that an app runs are allowed to it on the endpoint ({said})",
                source.denied.looked_at
            ),
        ));
    }
}

/// Judges the login: the endpoint wants a user name, and TLS with an authority of our own.
pub(super) fn login(source: &SourceFacts, rehearsed: Option<bool>) -> Vec<Finding> {
    if rehearsed == Some(true) {
        return vec![Finding::ok(
            "login",
            "in the last rehearsal the app logged in to a scratch server with the endpoint's rules",
        )];
    }
    let mut findings = Vec::new();
    let remedy = "`infra switch-app --rehearse` tries it with a process of the app itself, beside the live one";
    if !source.names_user {
        findings.push(Finding::warning(
            "login",
            "the source's URL names no user that the source has, only a password; the endpoint's has the user `app`, and its default user is off: an app that passes on the password alone cannot log in",
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

#[cfg(test)]
mod tests {
    use super::super::tests::source;
    use super::super::{Severity, judge as judge_all};
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs
            .iter()
            .map(|(name, calls)| ((*name).to_string(), *calls))
            .collect()
    }

    fn survey(commands: &[(&str, u64)], watched: &[(&str, u64)], earlier_looks: Option<u64>) -> Survey {
        Survey {
            commands: counts(commands),
            watched: counts(watched),
            earlier_looks,
            ..Survey::default()
        }
    }

    #[test]
    fn commands_that_only_others_send_count_from_the_sources_start() {
        let commands = [
            ("slowlog|get", 7),
            ("role", 2),
            ("get", 90),
            ("psync", 1),
            ("replconf", 400),
            ("bgsave", 3),
        ];
        let used = in_use(&survey(&commands, &[("latency|latest", 1)], None), true);
        assert_eq!(
            used,
            counts(&[("slowlog|get", 7), ("role", 2), ("get", 90), ("latency|latest", 1)])
        );
    }

    #[test]
    fn our_own_looks_are_taken_off() {
        for (commands, watched, looks, begun, expected) in [
            // Three looks of ours, and nobody else.
            (
                &[("config|get", 15), ("client|list", 3)][..],
                &[][..],
                Some(3),
                false,
                &[][..],
            ),
            // A worker that lists clients at each start.
            (&[("client|list", 12)], &[], Some(3), false, &[("client|list", 9)]),
            (&[("config|get", 90)], &[], Some(3), false, &[("config|get", 30)]),
            // A cutover lists clients over and over.
            (&[("client|list", 900), ("client|pause", 40)], &[], Some(3), true, &[]),
            (
                &[("client|list", 900)],
                &[("client|list", 2)],
                Some(3),
                true,
                &[("client|list", 2)],
            ),
            // A source that hides our looks.
            (&[("config|get", 90)], &[], None, false, &[]),
            (
                &[("config|get", 90)],
                &[("config|get", 4)],
                None,
                false,
                &[("config|get", 4)],
            ),
        ] {
            let used = in_use(&survey(commands, watched, looks), begun);
            assert_eq!(used, counts(expected), "{commands:?} {watched:?} {looks:?} {begun}");
        }
    }

    #[test]
    fn what_old_servers_count_together_is_named_by_the_usual_subcommand() {
        let commands = [
            ("slowlog", 7),
            ("config", 90),
            ("client", 1_000),
            ("memory", 5),
            ("xgroup", 5),
        ];
        let used = in_use(&survey(&commands, &[], Some(1)), false);
        assert_eq!(used, counts(&[("slowlog|get", 7), ("config|get", 70)]));
    }

    #[test]
    fn each_command_is_named_with_its_line_and_what_it_opens_and_none_as_a_whole() {
        let facts = source(|source| {
            source.denied.commands = ["client|list", "config|get", "role", "slowlog|get"]
                .map(|command| Denied {
                    command: command.into(),
                    calls: 4,
                })
                .into();
        });
        let findings = judge_all(&facts);
        let found = findings.iter().find(|finding| finding.id == "app-commands").unwrap();
        assert_eq!(found.severity, Severity::Warning);
        assert!(found.found.contains("config|get (4 calls)"), "{}", found.found);
        let remedy = found.remedy.as_ref().unwrap();
        for part in [
            "`redis: {app_commands: [client|list]}` opens addresses",
            "`redis: {app_commands: [role]}` opens the role",
            "`redis: {app_commands: [slowlog|get]}` opens slow commands",
            "config|get cannot be allowed, since it shows the passwords",
        ] {
            assert!(remedy.contains(part), "{remedy}");
        }
        for (together, _) in COUNTED_TOGETHER {
            assert!(!remedy.contains(&format!("[{together}]")), "{remedy}");
        }
    }

    /// A line that is advised must be one that infra.yml takes and the rules follow.
    #[test]
    fn every_advised_line_is_accepted_and_opens_that_command_alone() {
        use crate::effects::host::users::app_rules;
        for command in [
            "client|list",
            "lastsave",
            "latency|latest",
            "monitor",
            "role",
            "slowlog|get",
        ] {
            assert!(config::is_for_apps(command), "{command}");
            let rules = app_rules(&[command.to_string()]).unwrap();
            assert!(rules.allow(command), "{command}");
            assert!(!rules.allow("client|kill") && !rules.allow("client|pause"), "{command}");
        }
    }
}
