//! Judges whether a replica can get its copy, and can go on after a lost link.

use super::{Finding, SourceFacts};
use crate::effects::redis::control::Permission;
use crate::model::size;
use std::time::Duration;

/// Careful estimate of a copy's speed to a small instance, in bytes a second.
const COPY_SPEED: u64 = 20 << 20;
/// A replica's output buffer if the source does not say: Redis's default (hard, soft, seconds).
const USUAL_BUFFER: Buffer = Buffer {
    hard: 256 << 20,
    soft: 64 << 20,
    seconds: 60,
};
/// A replica should be able to continue after a link that was lost for this long.
const LOST_LINK: Duration = Duration::from_secs(60);
/// A backlog that covers less than this leaves hardly time to connect.
const NO_TIME: Duration = Duration::from_secs(3);

pub(super) fn judge(source: &SourceFacts) -> Vec<Finding> {
    let survey = &source.survey;
    let mut findings = vec![match &source.permissions.psync {
        Permission::Allowed => Finding::ok("replication", "the source lets a replica follow"),
        Permission::Denied(reason) => Finding::blocker(
            "replication",
            format!("the source does not let a replica follow: {reason}"),
            "leave `source.follow` in infra.yml at `auto`, and its keys are copied instead; or ask the provider to allow replication (PSYNC and REPLCONF)",
        ),
        Permission::Unknown(reason) => Finding::warning(
            "replication",
            format!("it is not known whether the source lets a replica follow: {reason}"),
            "`infra up` will show it: a refused replica says so at once",
        ),
    }];
    findings.extend(output_buffer(source));
    let rate = survey.writes.bytes_per_s;
    if let Some(seconds) = survey
        .backlog_bytes
        .checked_div(rate)
        .filter(|_| survey.backlog_bytes > 0)
    {
        let lasts = Duration::from_secs(seconds);
        let found = format!(
            "the source keeps {} of its stream, about {} at {}{} a second",
            size::bytes(survey.backlog_bytes),
            size::duration(lasts),
            if survey.writes.measured { "" } else { "at most " },
            size::bytes(rate)
        );
        if lasts < NO_TIME && survey.writes.measured {
            findings.push(Finding::blocker(
                "backlog",
                format!("{found}: its stream cannot be followed closely enough to prove anything"),
                "ask the provider for a larger repl-backlog-size, or move in a quiet hour",
            ));
        } else if lasts < LOST_LINK {
            findings.push(Finding::warning(
                "backlog",
                format!("{found}: a lost link means a whole copy again"),
                "ask the provider for a larger repl-backlog-size, or move in a quiet hour",
            ));
        }
    }
    let syncs = survey.syncs;
    let often = syncs.full >= 4 && syncs.uptime_seconds / syncs.full < 600;
    if syncs.growing || often {
        findings.push(Finding::warning(
            "sync-loop",
            format!(
                "the source made {} whole copies for replicas in {}, and refused {} that wanted to go on",
                syncs.full,
                size::duration(Duration::from_secs(syncs.uptime_seconds)),
                syncs.refused
            ),
            "a replica is cut off again and again: its output buffer or the backlog on the source is too small; ask the provider to raise client-output-buffer-limit \
             replica and repl-backlog-size, or run `infra up` in a quiet hour",
        ));
    }
    if let Some(near) = survey.near_replicas {
        findings.push(Finding::warning(
            "min-replicas",
            format!("the source refuses writes unless enough replicas are near (min-replicas-to-write; {near} are)"),
            "our master counts among them while it follows: when it leaves, writes may be refused; ask the provider to set min-replicas-to-write to 0",
        ));
    }
    let timeout = survey
        .settings
        .as_ref()
        .and_then(|settings| settings.get("timeout")?.parse::<u64>().ok());
    if let Some(seconds) = timeout.filter(|seconds| (1..30).contains(seconds)) {
        findings.push(Finding::warning(
            "timeout",
            format!("the source cuts connections that were idle for {seconds} s"),
            "ask the provider for a timeout of 60 or more: connections of `infra` are idle for longer at times",
        ));
    }
    findings
}

#[derive(Clone, Copy)]
struct Buffer {
    hard: u64,
    soft: u64,
    seconds: u64,
}

/// Writes during a copy wait in a buffer on the source. A replica that overflows it is cut off and
/// begins again, for ever.
fn output_buffer(source: &SourceFacts) -> Option<Finding> {
    let told = source
        .survey
        .settings
        .as_ref()
        .and_then(|settings| replica_buffer(settings.get("client-output-buffer-limit")?));
    let limit = told.unwrap_or(USUAL_BUFFER);
    let copy_s = source.used_memory / COPY_SPEED + 1;
    let rate = source.survey.writes.bytes_per_s;
    let waiting = rate.saturating_mul(copy_s);
    let over_hard = limit.hard > 0 && waiting > limit.hard;
    let over_soft = limit.soft > 0 && waiting > limit.soft && (waiting - limit.soft) / rate.max(1) >= limit.seconds;
    let known = match told {
        Some(_) => "the source gives a replica",
        None => "the source does not say how much it gives a replica; usual are",
    };
    let found = format!(
        "a copy takes about {}, in which {} are written; {known} {}",
        size::duration(Duration::from_secs(copy_s)),
        size::bytes(waiting),
        size::bytes(limit.hard)
    );
    if over_hard || over_soft {
        return Some(Finding::warning(
            "output-buffer",
            format!("{found}: it may be cut off and begin again without end"),
            format!(
                "ask the provider to raise client-output-buffer-limit replica to {} or more, or run `infra up` in a quiet hour",
                size::bytes(waiting.saturating_mul(2))
            ),
        ));
    }
    told.map(|_| Finding::ok("output-buffer", found))
}

/// Returns the part for replicas of `normal 0 0 0 slave 268435456 67108864 60 pubsub …`.
fn replica_buffer(setting: &str) -> Option<Buffer> {
    let words: Vec<&str> = setting.split_whitespace().collect();
    let at = words.iter().position(|word| matches!(*word, "slave" | "replica"))?;
    let number = |offset: usize| words.get(at + offset)?.parse().ok();
    Some(Buffer {
        hard: number(1)?,
        soft: number(2)?,
        seconds: number(3)?,
    })
}
