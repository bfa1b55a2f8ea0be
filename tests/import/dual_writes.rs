//! An app of the story's shape: users, sessions, markers, and statistics by hour. It writes 500 times a second to
//! both, first PostgreSQL and then Redis, while its tables are imported, followed and compared.
//!
//! A ledger holds what was acknowledged. At the end PostgreSQL, Redis and the ledger are the same: no write is
//! lost, and nothing that was deleted is back.

use super::rig::Rig;
use infra::effects::postgres::{Postgres, Session};
use infra::effects::redis::Trust;
use infra::model::secret::Secret;
use redis::Cmd;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TABLES: &str = "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE sessions (token text PRIMARY KEY, user_id bigint NOT NULL);
CREATE TABLE markers (user_id bigint, collection text, status bigint NOT NULL, PRIMARY KEY (user_id, collection));
CREATE TABLE stats (hour text, app text, hits bigint NOT NULL, PRIMARY KEY (hour, app));
INSERT INTO users SELECT n, 'user ' || n FROM generate_series(0, 19999) n;
INSERT INTO sessions SELECT 'token' || n, n FROM generate_series(0, 4999) n;
INSERT INTO markers SELECT n, 'timeline', 1 FROM generate_series(0, 39999) n;
INSERT INTO stats SELECT '2026-01-' || n % 20 || 'T00', 'app' || n, 1 FROM generate_series(0, 499) n;";

const MAPPING: &str = "- {table: users, key: 'user:{{ id }}', type: hash}
- {table: sessions, key: 'session:{{ token }}', type: string, value: user_id}
- {table: markers, key: 'marker:{{ user_id }}:{{ collection }}', type: string, value: status}
- {table: stats, key: 'stats:{{ hour }}', type: sorted_set, value: app, score: hits}";

/// Writes a second, and between two of them the time that is left of it.
const PER_SECOND: u32 = 500;

/// The writes that both servers acknowledged: sessions and markers by their keys, hits by hour and app.
#[derive(Default)]
struct Ledger {
    writes: u64,
    values: BTreeMap<String, Option<String>>,
    hits: BTreeMap<(String, String), u64>,
}

struct App {
    postgres: Session,
    redis: redis::Connection,
    ledger: Ledger,
    random: u64,
}

impl App {
    /// A sequence of numbers that is the same in each run.
    fn number(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    /// Makes one write in both, in the order that docs/import.md asks for.
    async fn write(&mut self) {
        let id = self.number(40_100);
        let (sql, key, command, value) = match self.number(10) {
            0..=4 => {
                let status = self.number(1_000_000).to_string();
                let key = format!("marker:{id}:timeline");
                let sql = format!(
                    "INSERT INTO markers VALUES ({id}, 'timeline', {status}) ON CONFLICT (user_id, collection) DO UPDATE SET status = excluded.status"
                );
                (sql, key.clone(), Cmd::set(key, &status), Some(status))
            }
            5 => {
                let key = format!("marker:{id}:timeline");
                let sql = format!("DELETE FROM markers WHERE user_id = {id}");
                (sql, key.clone(), Cmd::del(key), None)
            }
            6 => {
                let (token, user) = (id % 5_100, self.number(20_000).to_string());
                let key = format!("session:token{token}");
                let sql = format!(
                    "INSERT INTO sessions VALUES ('token{token}', {user}) ON CONFLICT (token) DO UPDATE SET user_id = excluded.user_id"
                );
                (sql, key.clone(), Cmd::set(key, &user), Some(user))
            }
            7 => {
                let token = id % 5_100;
                let key = format!("session:token{token}");
                let sql = format!("DELETE FROM sessions WHERE token = 'token{token}'");
                (sql, key.clone(), Cmd::del(key), None)
            }
            _ => return self.hit(id).await,
        };
        self.postgres.run(&sql).await.unwrap();
        command.exec(&mut self.redis).unwrap();
        self.ledger.values.insert(key, value);
        self.ledger.writes += 1;
    }

    /// Counts a hit. The new value is PostgreSQL's, since Redis may not have the row yet.
    async fn hit(&mut self, id: u64) {
        let (hour, app) = (format!("2026-01-{}T00", id % 20), format!("app{}", id % 500));
        let sql = format!(
            "INSERT INTO stats VALUES ('{hour}', '{app}', 1) ON CONFLICT (hour, app) DO UPDATE SET hits = stats.hits + 1 RETURNING hits"
        );
        let hits: u64 = self.postgres.value(&sql).await.unwrap().unwrap().parse().unwrap();
        Cmd::zadd(format!("stats:{hour}"), &app, hits)
            .exec(&mut self.redis)
            .unwrap();
        self.ledger.hits.insert((hour, app), hits);
        self.ledger.writes += 1;
    }
}

/// Runs the app in a thread of its own until it is stopped; returns its ledger.
fn run_app(rig: &Rig, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Ledger> {
    let trust = Trust::Authority(rig.postgres.authority().into());
    let server = Postgres::from_url(&Secret::new(rig.postgres.url()), trust, Duration::from_secs(20)).unwrap();
    let redis = redis::Client::open(rig.redis_url()).unwrap().get_connection().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let postgres = server.connect_for_changes().await.unwrap();
            let mut app = App {
                postgres,
                redis,
                ledger: Ledger::default(),
                random: 1,
            };
            let begun = Instant::now();
            for number in 1_u32.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                app.write().await;
                let due = Duration::from_secs(1) * number / PER_SECOND;
                tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
            }
            app.ledger
        })
    })
}

#[test]
fn tables_that_the_app_keeps_writing_to_both_end_identical() {
    let rig = Rig::start();
    rig.postgres.sql(TABLES);
    rig.mapping(MAPPING);
    let catalogue = rig.catalogue();
    let stop = Arc::new(AtomicBool::new(false));
    let app = run_app(&rig, Arc::clone(&stop));
    let begun = Instant::now();
    for arguments in [&["run"][..], &["follow", "--for", "5s"], &["verify", "--rounds", "30"]] {
        let answer = rig.infra(arguments);
        assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.text);
    }
    stop.store(true, Ordering::Relaxed);
    let took = begun.elapsed();
    let ledger = app.join().unwrap();
    for arguments in [&["follow", "--once"][..], &["finish", "--rounds", "1"]] {
        let answer = rig.infra(arguments);
        assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.text);
    }
    let (mut lost, mut resurrected) = (Vec::new(), Vec::new());
    for (key, value) in &ledger.values {
        let found: Option<String> = rig.redis_query(&Cmd::get(key));
        match (value, found) {
            (Some(value), found) if found.as_ref() != Some(value) => lost.push(key),
            (None, Some(_)) => resurrected.push(key),
            _ => {}
        }
    }
    for ((hour, app), hits) in &ledger.hits {
        let found: Option<u64> = rig.redis_query(&Cmd::zscore(format!("stats:{hour}"), app));
        assert_eq!(found, Some(*hits), "{hour} {app}");
    }
    assert_eq!(
        (lost.len(), resurrected.len()),
        (0, 0),
        "lost {lost:?}, resurrected {resurrected:?}"
    );
    assert_eq!(rig.catalogue(), catalogue);
    let rate = ledger.writes as f64 / took.as_secs_f64();
    println!(
        "{} writes to both, {rate:.0} a second: 0 lost, 0 resurrected",
        ledger.writes
    );
    assert!(rate > 100.0, "the app wrote only {rate:.0} times a second");
}
