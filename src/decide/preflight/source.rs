//! Judges the source: what it is, its size, what a copy leaves out, whether a copy can be kept.

use super::{Facts, Finding, version};
use crate::effects::redis::control::{Permission, Permissions};
use crate::effects::redis::survey::Survey;
use crate::model::size;
use std::time::Duration;
use wire::info::{Engine, Version};

#[derive(Clone, Debug)]
pub struct SourceFacts {
    /// Host and port.
    pub address: String,
    pub engine: Engine,
    /// The version whose data format the source writes.
    pub version: Version,
    /// The server that it replicates from; `None` if it is no replica.
    pub follows: Option<String>,
    pub used_memory: u64,
    pub maxmemory: u64,
    pub policy: String,
    pub evicted_keys: u64,
    /// Databases that hold keys.
    pub databases: Vec<u32>,
    pub permissions: Permissions,
    pub tls: bool,
    /// The certificate that it shows; `None` without TLS.
    pub certificate: Option<Certificate>,
    /// True if the URL names a user that the source has, beside the password.
    pub names_user: bool,
    /// True if a master of ours follows it already.
    pub is_followed: bool,
    pub survey: Survey,
    /// Commands in use on the source that our `app` user may not run.
    pub denied: super::denials::Denials,
}

/// A certificate, as far as the move depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub days_left: i64,
    pub issuer: String,
    /// False if a public authority vouches for it, so that a renewed one is accepted too.
    pub pinned: bool,
}

/// A pinned certificate of a source that ends within so many days may end before the move does.
const ENDING_DAYS: i64 = 30;
/// Public authorities' certificates last some weeks only, and are renewed well before this.
pub const RENEWED_LATE_DAYS: i64 = 7;

/// Databases of the pair unless infra.yml or the source has another number.
pub const OWN_DATABASES: u32 = 16;
/// Part of `maxmemory` that the data may fill. The rest is for growth, fragmentation and buffers.
const FILL_LIMIT_PERCENT: u64 = 80;
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

pub(super) fn judge(source: &SourceFacts, facts: &Facts, findings: &mut Vec<Finding>) {
    findings.push(Finding::ok(
        "source",
        format!("{} answers: {:?} {}", source.address, source.engine, source.version),
    ));
    findings.push(version::judge(source.engine, source.version, facts.own));
    findings.extend(certificate(source));
    findings.extend(shape(source));
    findings.extend(memory(source, facts));
    findings.extend(databases(source, facts.own_databases));
    findings.extend(left_out(source));
    findings.extend(replication(source));
}

/// Judges only how long the certificate lasts: whoever is connected to the source trusts it.
fn certificate(source: &SourceFacts) -> Option<Finding> {
    let shown = source.certificate.as_ref()?;
    let Certificate {
        days_left,
        issuer,
        pinned,
    } = shown;
    let ends = format!("the source's certificate ends in {days_left} days");
    Some(if *pinned && *days_left < ENDING_DAYS {
        Finding::warning(
            "source-certificate",
            format!("{ends}; the link breaks with it"),
            "be through with the move by then, or ask the provider when it is renewed and run `infra check --pin` after that",
        )
    } else if *days_left < RENEWED_LATE_DAYS {
        Finding::warning(
            "source-certificate",
            format!("{ends}, and the provider has not renewed it; the link breaks with it"),
            "ask the provider when it is renewed; the new one needs nothing from you",
        )
    } else {
        let how = if *pinned {
            "pinned"
        } else {
            "verified by authority and name, nothing to pin"
        };
        Finding::ok(
            "source-certificate",
            format!("{how}; issued by {issuer}, {days_left} days left"),
        )
    })
}

/// Finds what makes the source anything but a single master.
fn shape(source: &SourceFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.survey.cluster {
        findings.push(Finding::blocker(
            "cluster",
            "the source runs in cluster mode: its data is split over several servers",
            "only a single master can be followed; ask the provider for a plan without cluster mode",
        ));
    }
    if let Some(master) = &source.follows {
        findings.push(Finding::blocker(
            "role",
            format!("the source is itself a replica of {master}: what is written there cannot be held back here"),
            "name the master's own URL in `source`",
        ));
    }
    findings
}

fn memory(source: &SourceFacts, facts: &Facts) -> Vec<Finding> {
    let limit = facts.maxmemory;
    let found = format!(
        "the source uses {}, a host may use {}",
        size::bytes(source.used_memory),
        size::bytes(limit)
    );
    let remedy = "choose a larger hosts.instance_type, or raise redis.maxmemory where the instance has room";
    let mut findings = vec![if source.used_memory > limit / 100 * FILL_LIMIT_PERCENT {
        Finding::blocker(
            "memory",
            format!("{found}: a master enforces that limit from the moment of the cutover"),
            remedy,
        )
    } else if source.maxmemory > limit {
        Finding::warning(
            "memory",
            format!("{found}; the source may grow to {}", size::bytes(source.maxmemory)),
            remedy,
        )
    } else {
        Finding::ok("memory", found)
    }];
    let evicts = source.policy != "noeviction" && source.evicted_keys > 0;
    match &facts.own_policy {
        Some(own) if *own != source.policy && !source.policy.is_empty() => findings.push(Finding::warning(
            "eviction",
            format!("the source has maxmemory-policy {}, infra.yml asks for {own}", source.policy),
            "leave maxmemory-policy out of redis.settings to keep the source's, unless the change is meant",
        )),
        _ if evicts => findings.push(Finding::warning(
            "eviction",
            format!(
                "the source is full and evicts ({}, {} keys since its start); the pair will have the same policy and {}",
                source.policy,
                size::count(source.evicted_keys),
                size::bytes(limit)
            ),
            "see that redis.maxmemory is what the app should have from now on",
        )),
        _ => findings.push(Finding::ok(
            "eviction",
            format!("maxmemory-policy {}, on the pair too", source.policy),
        )),
    }
    findings
}

fn databases(source: &SourceFacts, own: Option<u32>) -> Option<Finding> {
    let highest = *source.databases.iter().max()?;
    // Without a number in infra.yml the pair takes the source's own, if the source says it.
    let ours = own.unwrap_or_else(|| source.survey.databases.unwrap_or(OWN_DATABASES).max(OWN_DATABASES));
    Some(if highest >= ours {
        Finding::blocker(
            "databases",
            format!("the source holds keys in database {highest}, the pair has {ours}"),
            format!("set redis.settings.databases to at least {}", highest + 1),
        )
    } else {
        Finding::ok(
            "databases",
            format!("the highest in use is {highest}, the pair has {ours}"),
        )
    })
}

/// Finds what a copy does not carry, or the comparison does not look at.
fn left_out(source: &SourceFacts) -> Vec<Finding> {
    let survey = &source.survey;
    let mut findings = Vec::new();
    let module_calls: u64 = survey
        .commands
        .iter()
        .filter(|(name, _)| name.contains('.'))
        .map(|(_, calls)| calls)
        .sum();
    let kinds: Vec<&str> = survey.foreign_kinds.iter().map(String::as_str).collect();
    if !kinds.is_empty() {
        findings.push(Finding::blocker(
            "modules",
            format!("the source holds values of modules: {}", kinds.join(", ")),
            "the pair has no modules and cannot read them: move that data to plain types first, or keep it where it is",
        ));
    } else if module_calls > 0 {
        findings.push(Finding::blocker(
            "modules",
            format!(
                "commands of modules are in use on the source ({} calls)",
                size::count(module_calls)
            ),
            "the pair has no modules: the app would get errors for them; move that data to plain types first",
        ));
    } else if !survey.modules.is_empty() {
        findings.push(Finding::warning(
            "modules",
            format!(
                "the source has modules loaded ({}), and no sign that they are used: none among {} keys, no call",
                survey.modules.join(", "),
                size::count(survey.sampled)
            ),
            "if some key does hold a module's value, the first copy fails and says so: nothing is lost by trying",
        ));
    } else {
        findings.push(Finding::ok(
            "modules",
            format!(
                "none loaded, and none's values among {} keys",
                size::count(survey.sampled)
            ),
        ));
    }
    if let Some(fields) = survey.expiring_fields.filter(|fields| *fields > 0) {
        findings.push(Finding::ok(
            "field-ttls",
            format!(
                "{} hashes have fields that expire by themselves: they travel with the copy and are compared with their times",
                size::count(fields)
            ),
        ));
    }
    if survey.functions > 0 {
        findings.push(Finding::warning(
            "functions",
            format!("{} functions are loaded on the source", survey.functions),
            "they travel by replication, but the comparison does not look at them: compare FUNCTION LIST of both sides",
        ));
    }
    if survey.cached_scripts > 0 {
        findings.push(Finding::warning(
            "scripts",
            format!(
                "{} scripts are cached on the source; the cache does not travel",
                size::count(survey.cached_scripts)
            ),
            "a client that sends EVALSHA gets NOSCRIPT once and must send EVAL then; nearly all libraries do so by themselves",
        ));
    }
    match &survey.settings {
        None => findings.push(Finding::warning(
            "keyspace-events",
            "it is not known whether the source sends keyspace notifications: CONFIG is denied there",
            "if the app waits for expired or changed keys, set redis.settings.notify-keyspace-events (such as Ex) in infra.yml",
        )),
        Some(settings) => findings.push(match settings.get("notify-keyspace-events").map(String::as_str) {
            None | Some("") => Finding::ok("keyspace-events", "the source sends no keyspace notifications"),
            Some(events) => Finding::ok("keyspace-events", format!("{events} on the source, on the pair too")),
        }),
    }
    findings
}

/// Judges whether a replica can get its copy, and can go on after a lost link.
fn replication(source: &SourceFacts) -> Vec<Finding> {
    let survey = &source.survey;
    let mut findings = vec![match &source.permissions.psync {
        Permission::Allowed => Finding::ok("replication", "the source lets a replica follow"),
        Permission::Denied(reason) => Finding::blocker(
            "replication",
            format!("the source does not let a replica follow: {reason}"),
            "ask the provider to allow replication (PSYNC and REPLCONF), or for a plan that does: without it nothing can be moved",
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
