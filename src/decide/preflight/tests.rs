//! Tests each obstacle by itself, since scripts and people know its id, severity and remedy.

mod copied;

use super::denials::Denials;
use super::*;
use crate::effects::platform::heroku::ChangeProbe;
use crate::effects::redis::Key;
use crate::effects::redis::control::{Permission, Permissions};
use crate::effects::redis::survey::{Large, Rate, Survey, Syncs};
use crate::model::follow::Follower;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire::info::{Engine, Version};

fn allowed() -> Permissions {
    let yes = Permission::Allowed;
    Permissions {
        info: yes.clone(),
        psync: yes.clone(),
        pause_writes: yes.clone(),
        client_list: yes.clone(),
        client_kill: yes.clone(),
        replicaof: denied(),
        config_get: denied(),
    }
}

fn denied() -> Permission {
    Permission::Denied("NOPERM".into())
}

fn survey() -> Survey {
    Survey {
        sampled: 1_000,
        commands: BTreeMap::from([("get".into(), 10), ("set".into(), 5), ("psync".into(), 1)]),
        syncs: Syncs {
            full: 1,
            uptime_seconds: 100_000,
            ..Syncs::default()
        },
        backlog_bytes: 16 << 20,
        writes: Rate {
            bytes_per_s: 10_000,
            measured: true,
        },
        settings: Some(BTreeMap::from([
            ("notify-keyspace-events".into(), String::new()),
            (
                "client-output-buffer-limit".into(),
                "normal 0 0 0 slave 268435456 67108864 60 pubsub 1 1 1".into(),
            ),
            ("timeout".into(), "300".into()),
        ])),
        databases: Some(16),
        ..Survey::default()
    }
}

pub(super) fn good() -> Facts {
    Facts {
        source: Ok(SourceFacts {
            address: "10.77.0.1:6390".into(),
            engine: Engine::Redis,
            version: Version::new(7, 0, 15),
            follows: None,
            used_memory: 50 << 20,
            keys: 100_000,
            follower: Follower::Replication,
            copy_rate: 8 << 20,
            leave_out: Vec::new(),
            maxmemory: 0,
            policy: "noeviction".into(),
            evicted_keys: 0,
            databases: vec![0, 1],
            permissions: allowed(),
            monitor: Permission::Allowed,
            tls: true,
            certificate: Some(Certificate {
                days_left: 300,
                issuer: "CN=source".into(),
                pinned: true,
            }),
            names_user: true,
            is_followed: false,
            survey: survey(),
            denied: Denials {
                told: DeniedBy::Rules,
                looked_at: 2,
                commands: Vec::new(),
            },
        }),
        own: own_engine(crate::model::config::Engine::Redis, "debian-13"),
        own_policy: None,
        own_databases: None,
        instance_type: "t3.micro".into(),
        instance_memory: Ok(1 << 30),
        network: Some(8_000_000),
        image: "debian-13".into(),
        image_id: Ok("ami-1".into()),
        config_var: "REDIS_URL".into(),
        owner: Ok(Owner::Plain),
        app: Ok(Some(AppSurvey {
            region: "us-east-1".into(),
            ..AppSurvey::default()
        })),
        private: None,
        endpoint: None,
        copy: Copy::Fresh,
        region: "us-east-1".into(),
        rehearsed: None,
        maxmemory: 400 << 20,
        admins: Ok(Admins::Named(vec!["203.0.113.7/32".parse().unwrap()])),
        apps: Ok(Apps::Anywhere),
        certificates: vec![("master", 397), ("replica", 390)],
        way: None,
    }
}

pub(super) fn source(change: impl FnOnce(&mut SourceFacts)) -> Facts {
    let mut facts = good();
    if let Ok(source) = &mut facts.source {
        change(source);
    }
    facts
}

fn surveyed(change: impl FnOnce(&mut Survey)) -> Facts {
    source(|source| change(&mut source.survey))
}

fn app(change: impl FnOnce(&mut AppSurvey)) -> Facts {
    let mut facts = good();
    if let Ok(Some(app)) = &mut facts.app {
        change(app);
    }
    facts
}

fn refused(commands: &[&str]) -> Facts {
    source(|source| {
        source.denied.commands = commands
            .iter()
            .map(|command| Denied {
                command: (*command).into(),
                calls: 3,
            })
            .collect();
    })
}

fn ids(facts: &Facts, severity: Severity) -> Vec<&'static str> {
    judge(facts)
        .iter()
        .filter(|finding| finding.severity == severity)
        .map(|finding| finding.id)
        .collect()
}

pub(super) fn unseen() -> Unseen {
    Unseen {
        why: "gone".into(),
        remedy: "look".into(),
    }
}

#[test]
fn nothing_stands_in_the_way_of_an_ordinary_move() {
    assert_eq!(ids(&good(), Severity::Blocker), [""; 0]);
    assert_eq!(ids(&good(), Severity::Warning), [""; 0]);
}

#[test]
fn each_blocker_is_named_and_has_a_remedy() {
    let cases: Vec<(Facts, &str)> = vec![
        (source(|s| s.version = Version::new(8, 2, 0)), "version"),
        (source(|s| s.used_memory = 350 << 20), "memory"),
        (source(|s| s.follows = Some("10.0.0.1:6379".into())), "role"),
        (source(|s| s.permissions.psync = denied()), "replication"),
        (source(|s| s.permissions.client_list = denied()), "clients"),
        (source(|s| s.databases = vec![0, 31]), "databases"),
        (surveyed(|s| s.cluster = true), "cluster"),
        (
            surveyed(|s| s.foreign_kinds = BTreeSet::from(["ReJSON-RL".into()])),
            "modules",
        ),
        (
            surveyed(|s| {
                s.commands.insert("json.set".into(), 4);
            }),
            "modules",
        ),
        (
            surveyed(|s| {
                s.writes.bytes_per_s = 8 << 20;
                s.settings = None;
            }),
            "backlog",
        ),
        (source(|s| s.permissions.client_kill = denied()), "kill"),
        (refused(&["keys", "sort"]), "app-commands"),
        (
            Facts {
                owner: Ok(Owner::Absent),
                ..good()
            },
            "owner",
        ),
        (
            Facts {
                owner: Err(unseen()),
                ..good()
            },
            "owner",
        ),
        (
            Facts {
                app: Err(unseen()),
                ..good()
            },
            "app",
        ),
        (
            app(|app| app.change = ChangeProbe::Denied("You do not have access".into())),
            "app-config",
        ),
        (
            app(|app| app.masked = vec!["OTHER".into(), "REDIS_URL".into()]),
            "masked",
        ),
        (
            Facts {
                copy: Copy::Rotated {
                    var: "REDIS_URL".into(),
                    hosted: "HOSTED_REDIS_URL".into(),
                },
                ..good()
            },
            "stale-copy",
        ),
        (
            Facts {
                admins: Err(unseen()),
                ..good()
            },
            "admin-cidrs",
        ),
        (
            Facts {
                source: Err(unseen()),
                ..good()
            },
            "source",
        ),
        (
            Facts {
                image_id: Err(unseen()),
                ..good()
            },
            "image",
        ),
        (
            Facts {
                instance_memory: Err(unseen()),
                ..good()
            },
            "instance-type",
        ),
    ];
    for (facts, id) in cases {
        assert_eq!(ids(&facts, Severity::Blocker), [id]);
        assert!(
            judge(&facts)
                .iter()
                .all(|f| f.severity == Severity::Ok || f.remedy.is_some())
        );
    }
}

#[test]
fn each_warning_is_named_and_stops_nothing() {
    let often = Syncs {
        full: 20,
        refused: 19,
        uptime_seconds: 3_600,
        growing: false,
    };
    let cases: Vec<(Facts, &str)> = vec![
        (source(|s| s.permissions.pause_writes = denied()), "pause"),
        (
            source(|s| s.permissions.client_kill = Permission::Unknown("no answer".into())),
            "kill",
        ),
        (
            source(|s| s.permissions.psync = Permission::Unknown("MULTI is denied".into())),
            "replication",
        ),
        (source(|s| s.names_user = false), "login"),
        (source(|s| s.tls = false), "tls"),
        (source(|s| s.version = Version::new(4, 0, 1)), "version"),
        (source(|s| s.maxmemory = 1 << 30), "memory"),
        (
            source(|s| (s.policy, s.evicted_keys) = ("allkeys-lru".into(), 9)),
            "eviction",
        ),
        (
            Facts {
                own_policy: Some("allkeys-lru".into()),
                ..good()
            },
            "eviction",
        ),
        (source(|s| s.address = "[2001:db8::7]:6390".into()), "ipv6"),
        (surveyed(|s| s.modules = vec!["search".into()]), "modules"),
        (surveyed(|s| s.functions = 1), "functions"),
        (surveyed(|s| s.cached_scripts = 7), "scripts"),
        (surveyed(|s| s.settings = None), "keyspace-events"),
        (surveyed(|s| s.syncs.growing = true), "sync-loop"),
        (surveyed(|s| s.syncs = often), "sync-loop"),
        (surveyed(|s| s.near_replicas = Some(1)), "min-replicas"),
        (surveyed(|s| s.commands.clear()), "app-commands"),
        (refused(&["client|unblock"]), "app-commands"),
        (surveyed(|s| s.writes.bytes_per_s = 1 << 20), "backlog"),
        (
            surveyed(|s| {
                s.settings.as_mut().unwrap().insert("timeout".into(), "5".into());
            }),
            "timeout",
        ),
        (app(|app| app.preboot = true), "preboot"),
        (app(|app| app.release_phase = true), "release-phase"),
        (app(|app| app.space = Some("prod".into())), "space"),
        (app(|app| app.one_offs = vec!["run.17".into()]), "one-offs"),
        (
            app(|app| app.schedulers = vec!["scheduler (clock-1)".into()]),
            "scheduler",
        ),
        (app(|app| app.maintenance = true), "maintenance"),
        (app(|app| app.masked = vec!["OTHER".into()]), "masked"),
        (app(|app| app.region = "eu-west-1".into()), "region"),
        (
            Facts {
                admins: Ok(Admins::Named(vec!["0.0.0.0/0".parse().unwrap()])),
                ..good()
            },
            "admin-world",
        ),
        (
            Facts {
                admins: Ok(Admins::Named(vec![])),
                ..good()
            },
            "admin-nobody",
        ),
        (
            Facts {
                apps: Ok(Apps::Named(vec![])),
                ..good()
            },
            "app-nobody",
        ),
    ];
    for (facts, id) in cases {
        assert_eq!(ids(&facts, Severity::Warning), [id]);
        assert_eq!(ids(&facts, Severity::Blocker), [""; 0], "{id}");
        assert!(
            judge(&facts)
                .iter()
                .all(|f| f.severity == Severity::Ok || f.remedy.is_some())
        );
    }
}

#[test]
fn expiring_fields_are_reported_and_stop_nothing() {
    let facts = surveyed(|s| s.expiring_fields = Some(3));
    assert_eq!(ids(&facts, Severity::Warning), ids(&good(), Severity::Warning));
    assert!(ids(&facts, Severity::Ok).contains(&"field-ttls"));
}

#[test]
fn a_finding_names_what_it_is_about() {
    let text = |facts: &Facts, id: &str| {
        let findings = judge(facts);
        let finding = findings
            .iter()
            .find(|finding| finding.id == id && finding.severity != Severity::Ok);
        let finding = finding.unwrap();
        format!("{} → {}", finding.found, finding.remedy.clone().unwrap_or_default())
    };
    assert!(text(&app(|app| app.one_offs = vec!["run.17".into()]), "one-offs").contains("run.17"));
    let commands = text(&refused(&["keys", "flushdb", "slowlog|get"]), "app-commands");
    assert!(commands.contains("keys (3 calls), flushdb (3 calls)"), "{commands}");
    assert!(
        commands.contains("app_commands: [keys, flushdb]") && !commands.contains("slowlog"),
        "{commands}"
    );
    assert!(text(&source(|s| s.databases = vec![31]), "databases").contains("at least 32"));
    assert!(text(&source(|s| s.permissions.pause_writes = denied()), "pause").contains("--hold"));
}

#[test]
fn after_a_good_rehearsal_the_way_in_is_known() {
    let strange = |rehearsed| Facts {
        rehearsed,
        ..source(|s| (s.tls, s.names_user) = (false, false))
    };
    assert_eq!(ids(&strange(None), Severity::Warning), ["login", "tls"]);
    assert_eq!(ids(&strange(Some(true)), Severity::Warning), [""; 0]);
    assert_eq!(ids(&strange(Some(false)), Severity::Warning), ["login", "tls"]);
}

#[test]
fn the_pair_has_the_sources_number_of_databases() {
    for (highest, told, own, fits) in [
        (15, None, None, true),
        (16, None, None, false),
        (31, Some(32), None, true),
        (31, Some(32), Some(16), false),
        (3, Some(4), None, true),
        (63, Some(16), Some(64), true),
    ] {
        let facts = Facts {
            own_databases: own,
            ..source(|s| {
                s.databases = vec![0, highest];
                s.survey.databases = told;
            })
        };
        assert_eq!(
            !ids(&facts, Severity::Blocker).contains(&"databases"),
            fits,
            "{highest} {told:?} {own:?}"
        );
    }
}

#[test]
fn an_output_buffer_is_compared_with_what_is_written_during_a_copy() {
    let limits = |text: &str, memory: u64, rate: u64| {
        let mut facts = surveyed(|s| {
            s.settings.as_mut().unwrap().insert(
                "client-output-buffer-limit".into(),
                format!("normal 0 0 0 slave {text} pubsub 0 0 0"),
            );
            s.writes.bytes_per_s = rate;
            s.backlog_bytes = 0;
        });
        if let Ok(source) = &mut facts.source {
            source.used_memory = memory;
        }
        facts.maxmemory = 100 << 30;
        ids(&facts, Severity::Warning).contains(&"output-buffer")
    };
    let mib = 1 << 20;
    // 2 GiB take about 100 s.
    assert!(!limits("268435456 67108864 60", 2048 * mib, 100_000));
    assert!(limits("268435456 67108864 60", 2048 * mib, 3 * mib));
    // Above the soft limit for longer than its seconds.
    assert!(limits("0 67108864 30", 2048 * mib, mib));
    assert!(!limits("0 67108864 60", 2048 * mib, mib));
    assert!(!limits("0 0 0", 2048 * mib, 50 * mib));
    assert!(limits("1048576 0 0", 10 * mib, 2 * mib));
}

#[test]
fn the_end_of_the_sources_certificate_matters_sooner_if_it_is_pinned() {
    let with = |days_left, pinned| {
        let mut facts = good();
        if let Ok(source) = &mut facts.source {
            source.certificate = Some(Certificate {
                days_left,
                issuer: "CN=Some Authority".into(),
                pinned,
            });
        }
        let findings = judge(&facts);
        let finding = findings.iter().find(|finding| finding.id == "source-certificate");
        let finding = finding.unwrap();
        (finding.severity, finding.found.clone())
    };
    assert_eq!(with(300, true).0, Severity::Ok);
    assert_eq!(with(12, true).0, Severity::Warning);
    let (severity, found) = with(12, false);
    assert_eq!(severity, Severity::Ok);
    assert!(
        found.contains("nothing to pin") && found.contains("Some Authority"),
        "{found}"
    );
    assert_eq!(with(3, false).0, Severity::Warning);
}

#[test]
fn a_certificate_of_ours_near_its_end_is_reported() {
    let with = |certificates| {
        let facts = Facts { certificates, ..good() };
        judge(&facts).into_iter().find(|finding| finding.id == "certificates")
    };
    assert_eq!(with(vec![]), None);
    assert_eq!(
        with(vec![("master", 61), ("replica", 90)]).unwrap().severity,
        Severity::Ok
    );
    let near = with(vec![("master", 61), ("replica", 1)]).unwrap();
    assert_eq!(near.severity, Severity::Warning);
    assert!(near.found.contains("replica ends in 1 days"), "{}", near.found);
}

#[test]
fn addresses_for_a_providers_list_are_named_once_they_are_known() {
    let found = |endpoint: Option<&str>, admins: Admins| {
        let facts = Facts {
            endpoint: endpoint.map(str::to_string),
            admins: Ok(admins),
            ..good()
        };
        let findings = judge(&facts);
        let finding = findings.into_iter().find(|finding| finding.id == "source-reach")?;
        assert_eq!(finding.severity, Severity::Ok);
        Some(finding.found)
    };
    let own = Admins::Own([203, 0, 113, 7].into());
    assert_eq!(found(None, own.clone()), None);
    let both = found(Some("198.51.100.9"), own).unwrap();
    assert!(both.contains("198.51.100.9") && both.contains("203.0.113.7"), "{both}");
    let hosts = found(Some("198.51.100.9"), Admins::Named(vec!["0.0.0.0/32".parse().unwrap()])).unwrap();
    assert!(
        hosts.contains("198.51.100.9") && !hosts.contains("this computer"),
        "{hosts}"
    );
}
