//! Fills a Redis.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod rig;

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use rig::{connect, rent};
use sandbox::addon::{Addon, Profile};
use sandbox::connect::Target;
use sandbox::demo::Seed;

/// Returns every key with its serialized value. Streams are read apart: they note delivery times.
async fn contents(redis: &mut MultiplexedConnection) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(redis).await.unwrap();
    let mut contents = BTreeMap::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(redis).await.unwrap();
        let value = if kind == "stream" {
            let mut look = redis::pipe();
            look.cmd("XRANGE")
                .arg(&key)
                .arg("-")
                .arg("+")
                .cmd("XPENDING")
                .arg(&key)
                .arg("mailers");
            let (entries, pending): (redis::Value, redis::Value) = look.query_async(redis).await.unwrap();
            format!("{entries:?} {pending:?}").into_bytes()
        } else {
            redis::cmd("DUMP").arg(&key).query_async(redis).await.unwrap()
        };
        contents.insert(key, value);
    }
    contents
}

async fn fill(addon: &Addon, keys: u64, seed: u64) -> sandbox::demo::Seeded {
    Seed {
        keys,
        databases: 2,
        seed,
    }
    .fill(&Target::parse(addon.url(), addon.certificate()).unwrap())
    .await
    .unwrap()
}

#[tokio::test]
async fn the_same_seed_gives_the_same_keys_of_all_types_in_both_databases() {
    let folder = tempfile::tempdir().unwrap();
    let addon = rent(folder.path(), "redis", true, Profile::Default).await;
    let seeded = fill(&addon, 2000, 7).await;
    assert_eq!(seeded.keys, 2000);
    let kinds: Vec<&str> = seeded.by_type.keys().copied().collect();
    assert_eq!(kinds, ["hash", "list", "set", "stream", "string", "zset"]);
    assert!((100..400).contains(&seeded.with_expiry), "{seeded:?}");

    for database in [0, 1] {
        let mut connection = connect(&addon, database).await;
        let redis = &mut connection.commands;
        let first = contents(redis).await;
        assert_eq!(first.len(), if database == 0 { 1500 } else { 500 });
        assert!(
            first.keys().any(|key| std::str::from_utf8(key).is_err()),
            "names that are no text"
        );
        fill(&addon, 2000, 7).await;
        assert_eq!(contents(redis).await, first);
        redis::cmd("FLUSHDB").exec_async(redis).await.unwrap();
        fill(&addon, 2000, 8).await;
        assert_ne!(contents(redis).await, first);
        redis::cmd("FLUSHALL").exec_async(redis).await.unwrap();
        fill(&addon, 2000, 7).await;
    }
}

#[tokio::test]
async fn a_hundred_thousand_keys_take_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let addon = rent(folder.path(), "redis", true, Profile::Default).await;
    let seeded = fill(&addon, 100_000, 1).await;
    let sizes = [connect(&addon, 0).await, connect(&addon, 1).await].map(|mut connection| async move {
        redis::cmd("DBSIZE")
            .query_async::<u64>(&mut connection.commands)
            .await
            .unwrap()
    });
    let [first, second] = sizes;
    assert_eq!(first.await + second.await, 100_000);
    println!("{seeded:?}");
    // Three seconds on an idle computer; tests share it with others.
    assert!(seeded.seconds < 60.0, "{seeded:?}");
}
