//! The log of changes of a real PostgreSQL.

use super::{Change, Event, Lsn, Slot, Tuple, Value, facts};
use crate::effects;
use crate::effects::postgres::Session;
use crate::effects::redis::Trust;
use crate::model::error::Result;
use crate::model::secret::Secret;
use futures_util::TryStreamExt;
use std::time::Duration;
use testkit::postgres::Postgres;

async fn connect(server: &Postgres) -> Session {
    let trust = Trust::Authority(server.authority().into());
    let server = effects::postgres::Postgres::from_url(&Secret::new(server.url()), trust, Duration::from_secs(20));
    server.unwrap().connect_for_changes().await.unwrap()
}

fn table(name: &str) -> (String, String) {
    ("public".into(), name.into())
}

async fn started(schema: &str, tables: &[&str]) -> (Postgres, Session, Slot) {
    let server = Postgres::start();
    server.sql(schema);
    let session = connect(&server).await;
    let slot = Slot::named("infra_test").unwrap();
    let tables: Vec<_> = tables.iter().map(|name| table(name)).collect();
    slot.create(&session, &tables).await.unwrap();
    (server, session, slot)
}

async fn read(slot: &Slot, session: &Session) -> Result<Vec<Event>> {
    let end = Slot::end_of_log(session).await?;
    let events: Vec<Option<Event>> = slot.read(session, end).await?.try_collect().await?;
    Ok(events.into_iter().flatten().collect())
}

/// One line for each change, as `insert markers 7,ada`, with `-` for NULL and `=` for a value that is not in the log.
fn shown(events: &[Event]) -> Vec<String> {
    let row = |tuple: &Tuple| {
        let values = tuple.iter().map(|value| match value {
            Value::Null => "-".to_owned(),
            Value::Unchanged => "=".to_owned(),
            Value::Text(text) => text.chars().take(30).collect(),
        });
        values.collect::<Vec<_>>().join(",")
    };
    let line = |event: &Event| match event {
        Event::Committed(_) => None,
        Event::Change(Change::Insert { relation, new }) => Some(format!("insert {} {}", relation.name, row(new))),
        Event::Change(Change::Update { relation, old, new }) => {
            let old = old.as_ref().map(|old| format!("{} -> ", row(old))).unwrap_or_default();
            Some(format!("update {} {old}{}", relation.name, row(new)))
        }
        Event::Change(Change::Delete { relation, old }) => Some(format!("delete {} {}", relation.name, row(old))),
        Event::Change(Change::Truncate { relations }) => {
            let names: Vec<&str> = relations.iter().map(|relation| relation.name.as_str()).collect();
            Some(format!("truncate {}", names.join(" ")))
        }
    };
    events.iter().filter_map(line).collect()
}

const TWO_TABLES: &str = "CREATE TABLE users (id int PRIMARY KEY, name text, note text);
    CREATE TABLE markers (user_id int, app text, status bigint, seen timestamptz, PRIMARY KEY (user_id, app));
    CREATE TABLE other (id int PRIMARY KEY);
    ALTER TABLE users ALTER note SET STORAGE EXTERNAL;";

#[tokio::test]
async fn every_kind_of_change_is_read_in_order() {
    let (server, session, slot) = started(TWO_TABLES, &["users", "markers"]).await;
    server.sql(
        "INSERT INTO users VALUES (1, 'ada', repeat('x', 9000)), (2, NULL, NULL);
         INSERT INTO other VALUES (1);
         UPDATE users SET name = 'Ada' WHERE id = 1;
         UPDATE users SET id = 3 WHERE id = 2;
         INSERT INTO markers VALUES (1, 'ios', 7, '2026-01-31 10:15:00.5+02');
         UPDATE markers SET status = 8;
         DELETE FROM markers;
         TRUNCATE users, markers;",
    );
    let events = read(&slot, &session).await.unwrap();
    assert_eq!(
        shown(&events),
        [
            format!("insert users 1,ada,{}", "x".repeat(30)),
            "insert users 2,-,-".into(),
            "update users 1,Ada,=".into(),
            "update users 2,-,- -> 3,-,-".into(),
            "insert markers 1,ios,7,2026-01-31 08:15:00.5+00".into(),
            "update markers 1,ios,8,2026-01-31 08:15:00.5+00".into(),
            "delete markers 1,ios,-,-".into(),
            "truncate users markers".into(),
        ]
    );
    // The statements came in one message of the client, which is one transaction.
    let commits = events
        .iter()
        .filter(|event| matches!(event, Event::Committed(_)))
        .count();
    assert!(commits > 0);
}

#[tokio::test]
async fn changes_come_again_until_they_are_confirmed() {
    let (server, session, slot) = started(TWO_TABLES, &["users"]).await;
    server.sql("INSERT INTO users VALUES (1)");
    let first = read(&slot, &session).await.unwrap();
    assert_eq!(read(&slot, &session).await.unwrap(), first);
    let Some(Event::Committed(upto)) = first.last() else {
        panic!("the last event is no commit: {first:?}");
    };
    slot.confirm(&session, *upto).await.unwrap();
    assert_eq!(read(&slot, &session).await.unwrap(), []);
    // A place before the confirmed one is confirmed already.
    slot.confirm(&session, Lsn(upto.0 - 1)).await.unwrap();
    server.sql("BEGIN; INSERT INTO users VALUES (2); ROLLBACK; INSERT INTO users VALUES (3)");
    assert_eq!(shown(&read(&slot, &session).await.unwrap()), ["insert users 3,-,-"]);
}

#[tokio::test]
async fn a_schema_that_changes_in_the_middle_is_read_as_it_was_at_each_change() {
    let (server, session, slot) = started(TWO_TABLES, &["users"]).await;
    server.sql("INSERT INTO users VALUES (1, 'ada')");
    server.sql("ALTER TABLE users DROP COLUMN note");
    server.sql("ALTER TABLE users ADD COLUMN age int DEFAULT 7");
    server.sql("INSERT INTO users VALUES (2, 'bob')");
    server.sql("ALTER TABLE users RENAME name TO title");
    server.sql("UPDATE users SET title = 'Bob' WHERE id = 2");
    let events = read(&slot, &session).await.unwrap();
    assert_eq!(
        shown(&events),
        ["insert users 1,ada,-", "insert users 2,bob,7", "update users 2,Bob,7"]
    );
    let names = |event: &Event| match event {
        Event::Change(Change::Insert { relation, .. } | Change::Update { relation, .. }) => {
            let names = relation.columns.iter().map(|column| column.name.clone());
            Some(names.collect::<Vec<_>>())
        }
        _ => None,
    };
    let names: Vec<_> = events.iter().filter_map(names).collect();
    assert_eq!(
        names,
        [["id", "name", "note"], ["id", "name", "age"], ["id", "title", "age"]]
    );
}

#[tokio::test]
async fn changes_outlive_a_crash_of_the_server() {
    let (mut server, session, slot) = started(TWO_TABLES, &["users"]).await;
    server.sql("INSERT INTO users VALUES (1)");
    drop(session);
    server.crash();
    server.resume();
    let session = connect(&server).await;
    server.sql("INSERT INTO users VALUES (2)");
    assert_eq!(
        shown(&read(&slot, &session).await.unwrap()),
        ["insert users 1,-,-", "insert users 2,-,-"]
    );
}

#[tokio::test]
async fn what_the_server_keeps_for_a_slot_is_seen_and_goes_with_it() {
    let (server, session, slot) = started(TWO_TABLES, &["users"]).await;
    let before = slot.retained(&session).await.unwrap().unwrap();
    server.sql("INSERT INTO other SELECT generate_series(1, 20000)");
    let after = slot.retained(&session).await.unwrap().unwrap();
    assert!(after.bytes > before.bytes + 1_000_000, "{before:?} {after:?}");
    assert_eq!((after.lost, after.active, after.limit), (false, false, None));
    // Changes of other tables are no changes here, and are confirmed all the same.
    let end = Slot::end_of_log(&session).await.unwrap();
    let events: Vec<Option<Event>> = slot.read(&session, end).await.unwrap().try_collect().await.unwrap();
    assert_eq!(events.into_iter().flatten().count(), 0);
    slot.confirm(&session, end).await.unwrap();
    assert!(slot.retained(&session).await.unwrap().unwrap().unconfirmed < 10_000);
    slot.remove(&session).await.unwrap();
    slot.remove(&session).await.unwrap();
    assert_eq!(slot.retained(&session).await.unwrap(), None);
    assert_eq!(server.sql("SELECT count(*) FROM pg_publication"), "0");
}

#[tokio::test]
async fn a_slot_that_the_server_gave_up_is_said_to_be_lost() {
    let server = Postgres::with(
        true,
        &[
            "max_slot_wal_keep_size = 1MB",
            "min_wal_size = 32MB",
            "max_wal_size = 32MB",
        ],
    );
    server.sql("CREATE TABLE users (id int PRIMARY KEY)");
    let session = connect(&server).await;
    let slot = Slot::named("infra_test").unwrap();
    slot.create(&session, &[table("users")]).await.unwrap();
    for _ in 0..3 {
        server.superuser_sql("SELECT pg_switch_wal(); CREATE TABLE IF NOT EXISTS filler (t text); INSERT INTO filler SELECT repeat('x', 900) FROM generate_series(1, 20000); CHECKPOINT;");
    }
    let retained = slot.retained(&session).await.unwrap().unwrap();
    assert_eq!((retained.lost, retained.limit), (true, Some(1 << 20)));
    let error = read(&slot, &session).await.unwrap_err();
    assert!(error.next_step().unwrap().contains("makes a new slot"), "{error:#}");
    slot.remove(&session).await.unwrap();
}

#[tokio::test]
async fn the_catalogue_is_as_before_when_slot_and_publication_are_gone() {
    let server = Postgres::start();
    server.sql(TWO_TABLES);
    let catalogue = || {
        let tables = server.superuser_sql(
            "SELECT string_agg(format('%I.%I', schemaname, tablename), ' ' ORDER BY tablename) \
             FROM pg_tables WHERE schemaname = 'pg_catalog' \
             AND tablename NOT IN ('pg_statistic', 'pg_authid')",
        );
        let digests = tables.split(' ').map(|table| {
            format!("SELECT '{table}', md5(COALESCE(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} t;")
        });
        server.superuser_sql(&digests.collect::<String>())
    };
    let session = connect(&server).await;
    let slot = Slot::named("infra_test").unwrap();
    let before = catalogue();
    slot.create(&session, &[table("users")]).await.unwrap();
    assert_ne!(catalogue(), before);
    server.sql("INSERT INTO users VALUES (1)");
    read(&slot, &session).await.unwrap();
    slot.remove(&session).await.unwrap();
    assert_eq!(catalogue(), before);
}

#[tokio::test]
async fn a_server_says_what_keeps_its_log_from_being_followed() {
    let server = Postgres::without_replication();
    server.sql(
        "CREATE TABLE keyed (b int, a int, c text, PRIMARY KEY (a, b)); CREATE TABLE bare (a int);
         CREATE TABLE whole (a int, b int); ALTER TABLE whole REPLICA IDENTITY FULL;
         CREATE TABLE indexed (a int, b int NOT NULL); CREATE UNIQUE INDEX by_b ON indexed (b);
         ALTER TABLE indexed REPLICA IDENTITY USING INDEX by_b; CREATE UNLOGGED TABLE short (a int PRIMARY KEY);",
    );
    server.superuser_sql("CREATE TABLE foreign_one (a int PRIMARY KEY)");
    let session = connect(&server).await;
    let names = ["keyed", "bare", "whole", "indexed", "short", "foreign_one", "missing"];
    let found = facts(&session, &names.map(table)).await.unwrap();
    assert_eq!(
        (
            found.wal_level.as_str(),
            found.may_replicate,
            found.may_publish,
            found.free_slots,
            found.in_recovery
        ),
        ("logical", false, true, 8, false)
    );
    let identities: Vec<_> = found.tables[..4]
        .iter()
        .flatten()
        .map(|table| table.identity.join(","))
        .collect();
    assert_eq!(identities, ["b,a", "", "a,b", "b"]);
    assert!(found.tables[4].as_ref().unwrap().unlogged);
    assert!(!found.tables[5].as_ref().unwrap().owned && found.tables[0].as_ref().unwrap().owned);
    assert_eq!(found.tables[6], None);
    let slot = Slot::named("infra_test").unwrap();
    let error = slot.create(&session, &[table("keyed")]).await.unwrap_err();
    assert!(error.next_step().unwrap().contains("may not replicate"), "{error:#}");
    assert_eq!(server.sql("SELECT count(*) FROM pg_publication"), "0");
}

#[test]
fn a_place_in_the_log_is_read_as_it_is_written() {
    for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
        assert_eq!(Lsn::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(Lsn::parse("16B374D848"), None);
    assert!(Slot::named("Infra").is_err() && Slot::named("").is_err());
}
