//! The rights of the hosted add-on's renter.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod rig;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use rig::{LOOPBACK, connect, options, rent, rent_showing};
use sandbox::addon::{self, Profile, Tls};
use sandbox::connect::Target;

async fn run(redis: &mut MultiplexedConnection, line: &str) -> RedisResult<redis::Value> {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>()).query_async(redis).await
}

/// DEBUG is not here: Redis refuses it before it asks the rules.
const KEPT_BY_THE_HOST: [&str; 6] = [
    "CONFIG GET maxmemory",
    "SHUTDOWN NOSAVE",
    "REPLICAOF NO ONE",
    "SLAVEOF NO ONE",
    "ACL LIST",
    "MODULE LIST",
];
const ALLOWED: [&str; 6] = [
    "SET key value",
    "CLIENT LIST",
    "INFO replication",
    "CLIENT KILL TYPE pubsub",
    "KEYS *",
    "EVAL return(1) 0",
];

#[tokio::test]
async fn the_provider_keeps_administration_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    for tls in [true, false] {
        let addon = rent(folder.path(), &format!("tls-{tls}"), tls, Profile::Default).await;
        let mut redis = connect(&addon, 0).await;
        for line in KEPT_BY_THE_HOST {
            let error = run(&mut redis.commands, line).await.unwrap_err();
            assert_eq!(error.code(), Some("NOPERM"), "{line}: {error}");
        }
        assert!(run(&mut redis.commands, "DEBUG SLEEP 0").await.is_err());
        for line in ALLOWED
            .into_iter()
            .chain(["CLIENT PAUSE 1 WRITE", "REPLCONF capa psync2"])
        {
            run(&mut redis.commands, line)
                .await
                .unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        assert!(addon.stop().await.unwrap().success());
    }
}

#[tokio::test]
async fn stricter_providers_deny_pausing_or_replication() {
    let folder = tempfile::tempdir().unwrap();
    let addon = rent(folder.path(), "no-pause", false, Profile::NoPause).await;
    let mut redis = connect(&addon, 0).await;
    assert_eq!(
        run(&mut redis.commands, "CLIENT PAUSE 1 WRITE")
            .await
            .unwrap_err()
            .code(),
        Some("NOPERM")
    );
    run(&mut redis.commands, "CLIENT LIST").await.unwrap();

    let addon = rent(folder.path(), "no-replication", false, Profile::NoReplication).await;
    let mut redis = connect(&addon, 0).await;
    assert_eq!(
        run(&mut redis.commands, "PSYNC ? -1").await.unwrap_err().code(),
        Some("NOPERM")
    );
    run(&mut redis.commands, "CLIENT PAUSE 1 WRITE").await.unwrap();
}

/// Asserts that these are denied by the rules, and no others of the list.
async fn expect_denied(redis: &mut MultiplexedConnection, lines: &[(&str, bool)]) {
    for (line, is_denied) in lines {
        let result = run(redis, line).await;
        let denied = result.as_ref().is_err_and(|error| error.code() == Some("NOPERM"));
        assert_eq!(denied, *is_denied, "{line}: {result:?}");
    }
}

#[tokio::test]
async fn a_cloud_host_denies_replication_and_pauses_and_a_thin_one_nearly_all_else() {
    let folder = tempfile::tempdir().unwrap();
    for (profile, is_thin) in [(Profile::Cloud, false), (Profile::Thin, true)] {
        let addon = rent(folder.path(), &format!("{profile:?}"), false, profile).await;
        let mut redis = connect(&addon, 0).await;
        let lines = [
            ("PSYNC ? -1", true),
            ("SYNC", true),
            ("REPLCONF capa psync2", true),
            ("CLIENT PAUSE 1 WRITE", true),
            ("CLIENT UNPAUSE", true),
            ("CONFIG GET maxmemory", true),
            ("CLIENT LIST", is_thin),
            ("CLIENT KILL TYPE pubsub", is_thin),
            ("ROLE", is_thin),
            ("INFO", is_thin),
            ("INFO replication", is_thin),
            ("INFO keyspace", false),
            ("CLIENT SETNAME me", false),
            ("SCAN 0", false),
            ("DUMP nothing", false),
        ];
        expect_denied(&mut redis.commands, &lines).await;
        // A connection that monitors answers no other command.
        let mut other = connect(&addon, 0).await;
        expect_denied(&mut other.commands, &[("MONITOR", is_thin)]).await;
    }
}

#[tokio::test]
async fn a_small_plan_has_few_connections_and_a_second_port_has_no_tls() {
    let folder = tempfile::tempdir().unwrap();
    let options = addon::Options {
        connections: Some(3),
        databases: 1,
        plain_port: Some(addon::free_port(LOOPBACK).unwrap()),
        ..options(folder.path(), "small", Tls::On, Profile::Default)
    };
    let addon = addon::start(options).await.unwrap();
    let target = Target::parse(addon.plain_url().unwrap(), None).unwrap();
    let patience = std::time::Duration::from_secs(5);
    let mut plain = target.connect(0, patience).await.unwrap();
    run(&mut plain.commands, "SET key value").await.unwrap();
    assert!(run(&mut plain.commands, "SELECT 1").await.is_err());
    let _second = connect(&addon, 0).await;
    let _third = connect(&addon, 0).await;
    let refused = target.connect(0, patience).await;
    assert!(refused.is_err(), "a fourth connection of three");
}

#[tokio::test]
async fn the_databases_of_an_app_are_counted_from_that_of_its_url() {
    let folder = tempfile::tempdir().unwrap();
    let addon = rent(folder.path(), "query", false, Profile::Default).await;
    let patience = std::time::Duration::from_secs(5);
    for url in [format!("{}?db=2&timeout=5", addon.url()), format!("{}/2", addon.url())] {
        let target = Target::parse(&url, None).unwrap();
        let mut redis = target.connect(1, patience).await.unwrap();
        let info = run(&mut redis.commands, "CLIENT INFO").await.unwrap();
        assert!(format!("{info:?}").contains(" db=3 "), "{url}: {info:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_certificate_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let addon = rent(folder.path(), "one", true, Profile::Default).await;
    let other = rent(folder.path(), "other", true, Profile::Default).await;
    let patience = std::time::Duration::from_secs(5);
    let wrong_password = addon.url().replace("hosted0secret", "wrong");
    assert!(
        Target::parse(&wrong_password, addon.certificate())
            .unwrap()
            .connect(0, patience)
            .await
            .is_err()
    );
    assert!(
        Target::parse(addon.url(), other.certificate())
            .unwrap()
            .connect(0, patience)
            .await
            .is_err()
    );
    // Without an authority any certificate is accepted, as of hosted ones.
    assert!(
        Target::parse(addon.url(), None)
            .unwrap()
            .connect(0, patience)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn each_kind_of_certificate_is_shown_and_its_host_gets_in() {
    for (tls, verifiable) in [
        (Tls::On, true),
        (Tls::SelfSigned, true),
        (Tls::Authority, true),
        (Tls::V1, false),
        (Tls::Off, false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut addon = rent_showing(folder.path(), "redis", tls, Profile::Default).await;
        assert_eq!(addon.certificate().is_some(), verifiable, "{tls:?}");
        connect(&addon, 0).await;
        addon.rotate("another0secret").await.unwrap();
        connect(&addon, 0).await;
    }
}

#[tokio::test]
async fn no_file_of_the_addon_holds_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let _addon = rent(folder.path(), "redis", true, Profile::Default).await;
    let mut folders = vec![folder.path().to_owned()];
    let mut files = 0;
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files += 1;
                let content = std::fs::read(&path).unwrap();
                assert!(
                    !content.windows(13).any(|window| window == b"hosted0secret"),
                    "{}",
                    path.display()
                );
            }
        }
    }
    assert!(files >= 4);
}

/// Returns the commands that the renter may not run.
async fn denied(profile: Profile) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let addon = rent(folder.path(), "asked", false, profile).await;
    let mut host = addon.provider().unwrap().connect().await.unwrap();
    let mut denied = Vec::new();
    let mut list = redis::cmd("COMMAND");
    let mut names: Vec<String> = list.arg("LIST").query_async(&mut host.commands).await.unwrap();
    names.sort();
    for name in names {
        let mut info = redis::cmd("COMMAND");
        let about: Vec<Vec<redis::Value>> = info
            .arg("INFO")
            .arg(&name)
            .query_async(&mut host.commands)
            .await
            .unwrap();
        let redis::Value::Int(arity) = about[0][1] else {
            panic!("{name}: {about:?}")
        };
        let words: Vec<&str> = name.split('|').collect();
        // Redis reports a wrong number of arguments before a lack of permission.
        let missing = usize::try_from(arity.abs()).unwrap().saturating_sub(words.len());
        let mut question = redis::cmd("ACL");
        question.arg("DRYRUN").arg("default").arg(words).arg(vec!["1"; missing]);
        // An error is about something else, such as a container without its subcommand.
        let answer: RedisResult<redis::Value> = question.query_async(&mut host.commands).await;
        if format!("{answer:?}").contains("no permissions to run") {
            denied.push(name);
        }
    }
    denied
}

#[tokio::test]
async fn each_profile_denies_what_it_names_and_nothing_else() {
    let by_default = denied(Profile::Default).await;
    assert!(by_default.contains(&"replicaof".to_owned()), "{by_default:?}");
    for (profile, own) in [
        (Profile::NoPause, vec!["client|pause", "client|unpause"]),
        (Profile::NoReplication, vec!["psync", "replconf", "sync"]),
    ] {
        let mut more = denied(profile).await;
        more.retain(|name| !by_default.contains(name));
        assert_eq!(more, own, "{profile:?}");
    }
}

#[tokio::test]
async fn a_rotation_refuses_the_old_password_and_keeps_sessions_until_they_are_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut addon = rent(folder.path(), "redis", true, Profile::Default).await;
    let old = Target::parse(addon.url(), addon.certificate()).unwrap();
    let mut redis = connect(&addon, 0).await;
    let configuration = || std::fs::read_to_string(folder.path().join("addon-redis/redis.conf")).unwrap();
    let before = configuration();
    addon.rotate("another0secret").await.unwrap();
    let after = configuration();
    let pairs = before.lines().zip(after.lines());
    let changed: Vec<_> = pairs.filter(|(before, after)| before != after).collect();
    assert!(
        changed.len() == 1 && changed[0].1.starts_with("user default on #"),
        "the next start knows the new password too: {changed:?}"
    );
    assert!(addon.url().contains("another0secret"));
    let patience = std::time::Duration::from_secs(5);
    assert!(old.connect(0, patience).await.is_err());
    run(&mut redis.commands, "SET key value").await.unwrap();
    let _new = connect(&addon, 0).await;
    assert!(addon.provider().unwrap().cut_clients().await.unwrap() >= 2);
    assert!(run(&mut redis.commands, "GET key").await.is_err());
}
