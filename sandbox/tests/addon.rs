//! What the hosted add-on lets its renter do.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod rig;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use rig::{connect, rent};
use sandbox::addon::Profile;
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
async fn the_host_keeps_administration_for_itself() {
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
async fn stricter_hosts_deny_pausing_or_replication() {
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
    // Without a certificate to hold it against, any will do, as with hosted ones.
    assert!(
        Target::parse(addon.url(), None)
            .unwrap()
            .connect(0, patience)
            .await
            .is_ok()
    );
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
