//! What stands in the way of a move, decided from what was seen. Pure.

use crate::redis::control::{Permission, Permissions};
use crate::redis::info::{Engine, Version};
use crate::ui::size;
use serde::Serialize;

/// The engine that the pair runs and the oldest version of it that the image brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OwnEngine {
    pub engine: Engine,
    pub version: Version,
}

/// What was seen of the source.
#[derive(Clone, Debug)]
pub struct SourceFacts {
    /// Host and port.
    pub address: String,
    pub engine: Engine,
    /// The version whose data format the source writes.
    pub version: Version,
    pub used_memory: u64,
    pub maxmemory: u64,
    pub databases: Vec<u32>,
    pub permissions: Permissions,
    pub tls: bool,
}

/// Who decides what the app's config var says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Owner {
    /// An attachment of an add-on: it must be flattened before the var can be set.
    Attachment { attachment: String, addon: String },
    /// A plain config var.
    Plain,
    /// The app has no such var.
    Absent,
}

/// Everything that was looked at; `Err` holds why it could not be seen.
pub struct Facts {
    pub source: Result<SourceFacts, Unseen>,
    pub own: OwnEngine,
    pub instance_type: String,
    /// Memory of the instance type in bytes.
    pub instance_memory: Result<u64, Unseen>,
    pub image: String,
    pub image_id: Result<String, Unseen>,
    pub config_var: String,
    pub owner: Result<Owner, Unseen>,
    /// Bytes that Redis may use on a host.
    pub maxmemory: u64,
    pub admin_cidrs: Vec<String>,
}

/// Why something could not be seen, and what to try.
#[derive(Clone, Debug)]
pub struct Unseen {
    pub why: String,
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Ok,
    Warning,
    Blocker,
}

/// One thing that was looked at, and what it means for the move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// A stable word for scripts.
    pub id: &'static str,
    pub found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(id: &'static str, found: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Ok,
            id,
            found: found.into(),
            remedy: None,
        }
    }

    fn warning(id: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Warning,
            id,
            found: found.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn blocker(id: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Blocker,
            id,
            found: found.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn unseen(id: &'static str, unseen: &Unseen) -> Self {
        Finding::blocker(id, unseen.why.clone(), unseen.remedy.clone())
    }
}

/// Databases that redis.conf of the pair provides.
pub const OWN_DATABASES: u32 = 16;

/// Part of `maxmemory` that the source's data may fill: the rest is for growth, fragmentation between versions and buffers.
const FILL_LIMIT_PERCENT: u64 = 80;

/// Judges everything that was seen. The order is the order of the move.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &facts.source {
        Err(unseen) => findings.push(Finding::unseen("source", unseen)),
        Ok(source) => judge_source(source, facts, &mut findings),
    }
    findings.push(match &facts.instance_memory {
        Ok(memory) => Finding::ok(
            "instance-type",
            format!(
                "{} has {}; Redis may use {}",
                facts.instance_type,
                size::bytes(*memory),
                size::bytes(facts.maxmemory)
            ),
        ),
        Err(unseen) => Finding::unseen("instance-type", unseen),
    });
    findings.push(match &facts.image_id {
        Ok(id) => Finding::ok("image", format!("{} is {id}", facts.image)),
        Err(unseen) => Finding::unseen("image", unseen),
    });
    findings.push(judge_owner(facts));
    findings.push(if facts.admin_cidrs.is_empty() {
        Finding::blocker(
            "admin-cidrs",
            "nobody may reach ssh: hosts.admin_cidrs is empty",
            "put your own address into hosts.admin_cidrs, such as 203.0.113.7/32",
        )
    } else if facts.admin_cidrs.iter().any(|cidr| cidr.ends_with("/0")) {
        Finding::warning(
            "admin-cidrs",
            "the whole world may reach ssh",
            "narrow hosts.admin_cidrs to your own address",
        )
    } else {
        Finding::ok("admin-cidrs", format!("ssh only from {}", facts.admin_cidrs.join(", ")))
    });
    findings
}

fn judge_source(source: &SourceFacts, facts: &Facts, findings: &mut Vec<Finding>) {
    findings.push(Finding::ok(
        "source",
        format!("{} answers: {:?} {}", source.address, source.engine, source.version),
    ));
    findings.push(judge_version(source, facts.own));
    findings.push(judge_memory(source, facts.maxmemory));
    findings.push(match &source.permissions.psync {
        Permission::Allowed => Finding::ok("replication", "the source lets a replica follow"),
        Permission::Denied(reason) => Finding::blocker(
            "replication",
            format!("the source does not let a replica follow: {reason}"),
            "ask the provider to allow replication (PSYNC), or for a plan that does",
        ),
        Permission::Unknown(reason) => Finding::warning(
            "replication",
            format!("whether the source lets a replica follow cannot be told: {reason}"),
            "`infra up` will show it: a refused replica says so at once",
        ),
    });
    findings.push(match &source.permissions.pause_writes {
        Permission::Allowed => Finding::ok("pause", "the source lets its writes be paused"),
        Permission::Denied(reason) | Permission::Unknown(reason) => Finding::blocker(
            "pause",
            format!("the source's writes cannot be fenced by CLIENT PAUSE … WRITE: {reason}"),
            "it takes Redis 6.2 or later and a provider that allows it; ask for an upgrade",
        ),
    });
    findings.push(match &source.permissions.client_list {
        Permission::Allowed => Finding::ok("clients", "the source shows its clients"),
        Permission::Denied(reason) | Permission::Unknown(reason) => Finding::blocker(
            "clients",
            format!("the source does not show its clients (CLIENT LIST): {reason}"),
            "without it nobody can tell whether a process still writes to the old side; ask the provider to allow it",
        ),
    });
    if let Some(highest) = source.databases.iter().max().filter(|db| **db >= OWN_DATABASES) {
        findings.push(Finding::blocker(
            "databases",
            format!("the source holds keys in database {highest}"),
            format!("set redis.settings.databases to at least {}", highest + 1),
        ));
    }
}

/// Data travels only to the same or a later format: Redis 7.4 and Valkey 9 each write one that the other engine cannot read.
fn judge_version(source: &SourceFacts, own: OwnEngine) -> Finding {
    let readable = match (source.engine, own.engine) {
        (Engine::Redis, Engine::Redis) | (Engine::Valkey, Engine::Valkey) => source.version <= own.version.any_patch(),
        (Engine::Redis, Engine::Valkey) => source.version < Version::new(7, 4, 0),
        (Engine::Valkey, Engine::Redis) => source.version < Version::new(9, 0, 0),
    };
    let found = format!(
        "source {:?} {}, pair {:?} {}",
        source.engine, source.version, own.engine, own.version
    );
    if readable {
        Finding::ok("version", found)
    } else {
        Finding::blocker(
            "version",
            format!("the pair cannot read the source's data: {found}"),
            "choose an engine and image that are not older than the source (redis.engine, hosts.image)",
        )
    }
}

fn judge_memory(source: &SourceFacts, maxmemory: u64) -> Finding {
    let found = format!(
        "the source uses {}, a host may use {}",
        size::bytes(source.used_memory),
        size::bytes(maxmemory)
    );
    if source.used_memory > maxmemory / 100 * FILL_LIMIT_PERCENT {
        Finding::blocker(
            "memory",
            format!("{found}: a master enforces that limit from the moment of the cutover"),
            "choose a larger hosts.instance_type, or raise redis.maxmemory where the instance has room",
        )
    } else {
        Finding::ok("memory", found)
    }
}

fn judge_owner(facts: &Facts) -> Finding {
    let var = &facts.config_var;
    match &facts.owner {
        Err(unseen) => Finding::unseen("owner", unseen),
        Ok(Owner::Plain) => Finding::ok(
            "owner",
            format!("{var} is a plain config var: one change moves the app"),
        ),
        Ok(Owner::Attachment { attachment, addon }) => Finding::ok(
            "owner",
            format!(
                "{var} belongs to the attachment {attachment} of {addon}: `switch-app` attaches it as HOSTED_REDIS and sets {var} as a plain var first"
            ),
        ),
        Ok(Owner::Absent) => Finding::blocker(
            "owner",
            format!("the app has no config var {var}"),
            "correct app.config_var in infra.yml",
        ),
    }
}

impl Version {
    /// The latest patch of this minor version: a patch never changes the data format.
    fn any_patch(self) -> Version {
        Version {
            patch: u32::MAX,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Permissions {
        let yes = Permission::Allowed;
        Permissions {
            info: yes.clone(),
            psync: yes.clone(),
            pause_writes: yes.clone(),
            client_list: yes.clone(),
            client_kill: yes.clone(),
            replicaof: Permission::Denied("NOPERM".into()),
            config_get: Permission::Denied("NOPERM".into()),
        }
    }

    fn good() -> Facts {
        Facts {
            source: Ok(SourceFacts {
                address: "10.77.0.1:6390".into(),
                engine: Engine::Redis,
                version: Version::new(7, 0, 15),
                used_memory: 50 << 20,
                maxmemory: 0,
                databases: vec![0, 1],
                permissions: allowed(),
                tls: true,
            }),
            own: OwnEngine {
                engine: Engine::Redis,
                version: Version::new(8, 0, 0),
            },
            instance_type: "t3.micro".into(),
            instance_memory: Ok(1 << 30),
            image: "debian-13".into(),
            image_id: Ok("ami-1".into()),
            config_var: "REDIS_URL".into(),
            owner: Ok(Owner::Plain),
            maxmemory: 400 << 20,
            admin_cidrs: vec!["203.0.113.7/32".into()],
        }
    }

    fn source(change: impl FnOnce(&mut SourceFacts)) -> Facts {
        let mut facts = good();
        if let Ok(source) = &mut facts.source {
            change(source);
        }
        facts
    }

    fn blockers(facts: &Facts) -> Vec<&'static str> {
        judge(facts)
            .iter()
            .filter(|f| f.severity == Severity::Blocker)
            .map(|f| f.id)
            .collect()
    }

    #[test]
    fn nothing_stands_in_the_way_of_an_ordinary_move() {
        assert_eq!(blockers(&good()), [""; 0]);
    }

    #[test]
    fn each_obstacle_is_named_and_has_a_remedy() {
        let denied = || Permission::Denied("NOPERM".into());
        let cases: Vec<(Facts, &str)> = vec![
            (source(|s| s.version = Version::new(8, 2, 0)), "version"),
            (source(|s| s.used_memory = 350 << 20), "memory"),
            (source(|s| s.permissions.psync = denied()), "replication"),
            (source(|s| s.permissions.pause_writes = denied()), "pause"),
            (source(|s| s.permissions.client_list = denied()), "clients"),
            (source(|s| s.databases = vec![0, 31]), "databases"),
            (
                Facts {
                    owner: Ok(Owner::Absent),
                    ..good()
                },
                "owner",
            ),
            (
                Facts {
                    admin_cidrs: vec![],
                    ..good()
                },
                "admin-cidrs",
            ),
            (
                Facts {
                    source: Err(Unseen {
                        why: "gone".into(),
                        remedy: "look".into(),
                    }),
                    ..good()
                },
                "source",
            ),
        ];
        for (facts, id) in cases {
            assert_eq!(blockers(&facts), [id]);
            assert!(
                judge(&facts)
                    .iter()
                    .all(|f| f.severity != Severity::Blocker || f.remedy.is_some())
            );
        }
    }

    #[test]
    fn data_travels_only_to_a_format_that_can_be_read() {
        let own = |engine, major| OwnEngine {
            engine,
            version: Version::new(major, 0, 0),
        };
        let cases = [
            (Engine::Redis, Version::new(7, 2, 5), own(Engine::Valkey, 8), true),
            (Engine::Redis, Version::new(7, 4, 0), own(Engine::Valkey, 8), false),
            (Engine::Valkey, Version::new(8, 1, 0), own(Engine::Redis, 8), true),
            (Engine::Valkey, Version::new(9, 0, 0), own(Engine::Redis, 8), false),
            (Engine::Redis, Version::new(8, 0, 9), own(Engine::Redis, 8), true),
        ];
        for (engine, version, own, readable) in cases {
            let mut facts = source(|s| (s.engine, s.version) = (engine, version));
            facts.own = own;
            assert_eq!(
                !blockers(&facts).contains(&"version"),
                readable,
                "{engine:?} {version} to {own:?}"
            );
        }
    }
}
