//! The form of `infra status --json`, which scripts and monitors read.

use super::servers::Redis;
use super::*;
use crate::decide::credits::Credits;
use crate::decide::room::Use;
use crate::effects::cloud::ec2::Purpose;
use std::collections::BTreeSet;
use wire::info::{Keyspace, ServerRole};

fn redis(role: ServerRole) -> Redis {
    Redis {
        address: "192.0.2.7:6379".into(),
        version: "7.2.5".into(),
        role,
        run_id: "5a1c".into(),
        replid: "9f0e".into(),
        offset: 73_400_320,
        link_up: None,
        lag_bytes: None,
        used_memory: 300 << 20,
        maxmemory: 600 << 20,
        keys: [(
            0,
            Keyspace {
                keys: 100_000,
                expires: 250,
                expiring_fields: None,
            },
        )]
        .into(),
        connected_clients: 12,
        replicas: 1,
        certificate_days_left: Some(390),
    }
}

fn status() -> Status {
    let master = Redis {
        link_up: Some(true),
        lag_bytes: Some(14),
        ..redis(ServerRole::Replica)
    };
    Status {
        name: "demo".into(),
        env: "production".into(),
        phase: "following".into(),
        endpoint: Some("192.0.2.1".into()),
        app: "source",
        servers: [
            ("source", Seen::Up(Box::new(redis(ServerRole::Master)))),
            ("master", Seen::Up(Box::new(master))),
            (
                "replica",
                Seen::Down {
                    error: "connect to replica: timed out".into(),
                },
            ),
        ]
        .into(),
        backup: Some(BackupSummary {
            key: "backups/production/hourly/20260301T000000.000Z-master-5a1c/20260301T120000.000Z".into(),
            class: "hourly".into(),
            host: "replica".into(),
            bytes: 41_943_040,
            keys: 100_000,
            sha256: "00ff".into(),
            finished_at: "2026-03-01T12:00:09Z".parse().unwrap(),
            fell_from: None,
        }),
        backup_age_s: Some(600),
        log_until: Some("2026-03-01T12:10:04Z".parse().unwrap()),
        log_age_s: Some(5),
        drill: Some(drill::Report {
            drilled_at: "2026-02-27T09:00:00Z".parse().unwrap(),
            at: Some("2026-02-26T17:21:05Z".parse().unwrap()),
            base: "backups/production/daily/x/y".into(),
            keys: 99_000,
            expired: 3,
            seconds: 4.2,
            engine: "redis-server 8.0.2".into(),
            place: "the instance i-drill".into(),
            sampled: Some(crate::effects::backup::sample::Sampled {
                keys: 100,
                same: 90,
                different: 8,
                missing: 2,
            }),
        }),
        restore_instances: vec![RestoreInstance {
            instance: "i-restored".into(),
            purpose: Purpose::Restored,
            state: "running".into(),
            private_ip: Some("10.0.0.9".into()),
            public_ip: Some("192.0.2.9".into()),
            launched_at: Some("2026-03-01T11:00:00Z".parse().unwrap()),
        }],
        kept: [(
            "replica",
            KeptGeneration {
                replaced_at: "2026-03-01T07:00:00Z".parse().unwrap(),
                bytes: 314_572_800,
                folder: "/var/lib/infra/agent/kept/last-20260301T070000.000Z".into(),
            },
        )]
        .into(),
        tunnel: Some(TunnelView {
            source: "redis.test:6380".into(),
            address: Some("192.0.2.7:6380".into()),
            connected_since: Some("2026-03-01T10:00:00Z".parse().unwrap()),
            connections: 2,
            obstacle: None,
            why: None,
        }),
        copy: None,
        room: Room {
            memory: Some(Use {
                used: 300 << 20,
                most: 600 << 20,
            }),
            memory_growth_a_day: Some(1 << 20),
            memory_full_at: Some("2027-01-01T00:00:00Z".parse().unwrap()),
            connections: Some(Use { used: 12, most: 10_000 }),
            disks: [(
                "master",
                Use {
                    used: 3 << 30,
                    most: 16 << 30,
                },
            )]
            .into(),
            cpu_credits: [(
                "master",
                Credits {
                    left: 112.5,
                    gain_an_hour: Some(-12.5),
                    gone_at: Some("2026-03-01T21:05:00Z".parse().unwrap()),
                },
            )]
            .into(),
        },
        credits_unseen: None,
        drift: Some(vec!["~ address infra-demo-production: move it to i-master".into()]),
        upkeep: vec!["replica: redis-server 5:8.0.2-3 could become 5:8.0.4-1: `infra ssh replica -- …` does it".into()],
        alarms: vec!["replica does not answer: connect to replica: timed out".into()],
        findings: vec![Finding::alarm(
            "no-answer",
            "replica does not answer: connect to replica: timed out",
        )],
    }
}

#[test]
fn every_server_is_reported_by_itself_even_if_it_does_not_answer() {
    insta::assert_json_snapshot!("status", crate::ui::document(json!(status())));
}

#[test]
fn what_could_not_be_seen_is_null_and_not_empty() {
    let unknown = Status {
        endpoint: None,
        app: "unknown",
        servers: BTreeMap::new(),
        backup: None,
        backup_age_s: None,
        log_until: None,
        log_age_s: None,
        drill: None,
        restore_instances: Vec::new(),
        kept: BTreeMap::new(),
        tunnel: None,
        room: Room::default(),
        credits_unseen: Some("since these credentials may not call `cloudwatch:GetMetricData`".into()),
        drift: None,
        upkeep: Vec::new(),
        alarms: vec!["there is no backup".into()],
        findings: vec![Finding::alarm("no-backup", "there is no backup")],
        ..status()
    };
    insta::assert_json_snapshot!("status unknown", crate::ui::document(json!(unknown)));
}

#[test]
fn the_figures_for_prometheus_say_what_the_status_says() {
    let now: Timestamp = "2026-03-01T12:10:09Z".parse().unwrap();
    insta::assert_snapshot!("status metrics", metrics::text(&status(), now));
}

/// Returns the names of our figures in a text.
fn figures(text: &str) -> BTreeSet<&str> {
    let words = text.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_');
    words.filter(|word| word.starts_with("infra_")).collect()
}

#[test]
fn alert_rules_and_dashboard_ask_only_for_figures_that_exist() {
    let told = metrics::text(&status(), Timestamp::now());
    let exist = figures(&told);
    for file in ["alerts.yml", "dashboard.json"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs/monitoring")
            .join(file);
        let asked = std::fs::read_to_string(path).unwrap();
        let unknown: Vec<&str> = figures(&asked).difference(&exist).copied().collect();
        assert!(!figures(&asked).is_empty() && unknown.is_empty(), "{file}: {unknown:?}");
    }
}
