//! Judges the source: what it is, its certificate and its size.

use super::{Facts, Finding, version};
use crate::effects::redis::control::{Permission, Permissions};
use crate::effects::redis::survey::Survey;
use crate::model::follow::Follower;
use crate::model::size;
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
    /// Keys over all databases.
    pub keys: u64,
    /// How it is followed, and how many bytes a copy reads in a second.
    pub follower: Follower,
    pub copy_rate: u64,
    /// Beginnings of names of keys that a copy leaves behind.
    pub leave_out: Vec<String>,
    pub maxmemory: u64,
    pub policy: String,
    pub evicted_keys: u64,
    /// Databases that hold keys.
    pub databases: Vec<u32>,
    pub permissions: Permissions,
    /// Asked only of a source that is copied.
    pub monitor: Permission,
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

/// A pinned certificate that ends within this many days may end before the move does.
const ENDING_DAYS: i64 = 30;
/// Public authorities' certificates last some weeks only, and are renewed well before this.
pub const RENEWED_LATE_DAYS: i64 = 7;

/// Databases of the pair unless infra.yml or the source has another number.
pub const OWN_DATABASES: u32 = 16;
/// Part of `maxmemory` that the data may fill. The rest is for growth, fragmentation and buffers.
const FILL_LIMIT_PERCENT: u64 = 80;
pub(super) fn judge(source: &SourceFacts, facts: &Facts, findings: &mut Vec<Finding>) {
    findings.push(Finding::ok(
        "source",
        format!("{} answers: {:?} {}", source.address, source.engine, source.version),
    ));
    findings.push(version::judge(
        source.follower,
        source.engine,
        source.version,
        facts.own,
    ));
    findings.extend(certificate(source));
    findings.extend(shape(source));
    findings.extend(memory(source, facts));
    findings.extend(databases(source, facts.own_databases));
}

/// Judges only how long the certificate lasts. The connection to the source shows that it is
/// trusted.
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
