//! Compares real replicas whose engine or version has its own behaviour.

use super::*;
use crate::effects::redis::testing::{TestServer, command};
use sandbox::addon::Engine;
use std::time::Instant;

const AT_ONCE: [&str; 2] = ["--repl-diskless-sync-delay", "0"];

async fn start(engine: Engine) -> Option<TestServer> {
    match engine {
        Engine::Redis7 => Some(TestServer::start(&AT_ONCE).await),
        other => TestServer::start_engine(other, &AT_ONCE).await,
    }
}

/// Returns a source and a replica of it.
async fn pair(source: Engine, target: Engine) -> Option<(TestServer, TestServer)> {
    let (source, target) = (start(source).await?, start(target).await?);
    target.follow(&source).await;
    Some((source, target))
}

async fn catch_up(source: &TestServer, target: &TestServer) {
    let begun = Instant::now();
    let wanted = source.connect(0).await.info().await.unwrap().master_repl_offset;
    while target.connect(0).await.info().await.unwrap().applied_offset < Some(wanted) {
        assert!(begun.elapsed().as_secs() < 20, "the target does not follow");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn compared(source: &TestServer, target: &TestServer) -> Comparison {
    catch_up(source, target).await;
    let options = Options {
        rounds: 1,
        ..Options::default()
    };
    compare(&source.server(), &target.server(), &options, |_| {})
        .await
        .unwrap()
}

async fn differences(source: &TestServer, target: &TestServer) -> Vec<String> {
    let comparison = compared(source, target).await;
    let lines = comparison.first.iter();
    lines.map(|key| format!("{}: {}", key.key, key.reason)).collect()
}

/// Allows writes on the target.
async fn open(target: &TestServer) {
    target.script("CONFIG SET replica-read-only no").await;
}

/// Common uses of consumer groups.
const GROUPS: &str = "XADD s 1-1 f v
    XADD s 2-1 f v
    XADD s 3-1 f v
    XADD s 4-1 f v
    XADD s 5-1 f v
    XGROUP CREATE s g 0
    XGROUP CREATECONSUMER s g made
    XREADGROUP GROUP g reads COUNT 2 STREAMS s >
    XREADGROUP GROUP g noack COUNT 1 NOACK STREAMS s >
    XREADGROUP GROUP g reads STREAMS s 0
    XREADGROUP GROUP g reads STREAMS s 0
    XREADGROUP GROUP g empty STREAMS s 0
    XCLAIM s g claims 0 1-1
    XAUTOCLAIM s g auto 0 2-1
    XCLAIM s g claims 0 1-1 JUSTID
    XREADGROUP GROUP g claims STREAMS s 0
    XCLAIM s g nothing 0 99-1
    XREADGROUP GROUP g acks COUNT 1 STREAMS s >
    XACK s g 4-1
    XREADGROUP GROUP g deletes COUNT 1 STREAMS s >
    XDEL s 5-1
    XREADGROUP GROUP g deletes STREAMS s 0
    XGROUP CREATE s other $
    XREADGROUP GROUP other idle STREAMS s >
    XGROUP CREATE empty g $ MKSTREAM
    XREADGROUP GROUP g nobody STREAMS empty >
    XADD gone 1-1 f v
    XGROUP CREATE gone g 0
    XREADGROUP GROUP g had STREAMS gone >
    XGROUP DELCONSUMER gone g had
    XGROUP SETID gone g 0";

#[tokio::test]
async fn consumer_groups_of_every_shape_are_the_same_on_a_healthy_replica() {
    let pairs = [
        (Engine::Redis62, Engine::Redis62),
        (Engine::Redis62, Engine::Redis7),
        (Engine::Redis62, Engine::Redis8),
        (Engine::Redis7, Engine::Redis7),
        (Engine::Redis7, Engine::Redis8),
        (Engine::Redis7, Engine::Valkey8),
        (Engine::Redis8, Engine::Redis8),
        (Engine::Valkey8, Engine::Valkey8),
    ];
    for (one, two) in pairs {
        let Some((source, target)) = pair(one, two).await else {
            continue;
        };
        source.script(GROUPS).await;
        assert_eq!(differences(&source, &target).await, [""; 0], "{one:?} to {two:?}");
        // Only dead ids are left out: an entry with another owner, or none, is still found.
        open(&target).await;
        target.script("XCLAIM s g other 0 1-1").await;
        let found = differences(&source, &target).await;
        assert_eq!(
            found,
            ["s: differs in pending entry 1-1 of group g"],
            "{one:?} to {two:?}"
        );
        target.script("XCLAIM s g claims 0 1-1\n XACK s g 2-1").await;
        let found = differences(&source, &target).await;
        assert!(found.len() == 1 && found[0].contains("pending"), "{found:?}");
    }
}

#[tokio::test]
async fn what_is_left_out_of_consumer_groups_is_said() {
    let server = TestServer::start(&[]).await;
    let comparison = compare(&server.server(), &server.server(), &Options::default(), |_| {})
        .await
        .unwrap();
    for words in ["nothing pending", "how often a pending entry was delivered"] {
        assert!(
            comparison.not_compared.iter().any(|line| line.contains(words)),
            "{words}"
        );
    }
    assert!(!comparison.not_compared.iter().any(|line| line.contains("hash fields")));
}

#[tokio::test]
async fn ids_that_are_pending_without_an_entry_may_be_on_the_older_side_only() {
    let Some((source, target)) = pair(Engine::Redis62, Engine::Redis7).await else {
        return;
    };
    let mut lines = "XGROUP CREATE s g 0 MKSTREAM\n".to_owned();
    (1..=2_500).for_each(|at| lines.push_str(&format!("XADD s {at}-1 f v\n")));
    let mut connection = source.connect(0).await;
    let mut commands = ::redis::pipe();
    for line in lines.lines() {
        commands.add_command(command(line));
    }
    commands.add_command(command("XREADGROUP GROUP g a COUNT 3000 STREAMS s >"));
    for at in (3..=2_500).step_by(3) {
        commands.add_command(command(&format!("XDEL s {at}-1")));
    }
    // The newer side drops the ids of deleted entries when they are claimed.
    commands.add_command(command("XAUTOCLAIM s g b 0 0 COUNT 3000"));
    connection.ask_all(&commands).await.unwrap();
    catch_up(&source, &target).await;
    let pending = async |server: &TestServer| -> Vec<::redis::Value> { server.run("XPENDING s g - + 9999").await };
    let (here, there) = (pending(&source).await.len(), pending(&target).await.len());
    assert!(here > there, "both have {here}");
    assert_eq!(differences(&source, &target).await, [""; 0]);
    open(&target).await;
    target.script("XACK s g 2000-1").await;
    assert_eq!(
        differences(&source, &target).await,
        ["s: differs in pending entry 2000-1 of group g"]
    );
}

#[tokio::test]
async fn fields_that_expire_are_compared_with_their_times() {
    let Some((source, target)) = pair(Engine::Redis8, Engine::Redis8).await else {
        return;
    };
    source
        .script(
            "HSET plain a 1 b 2
             HSET h a 1 b 2 c 3
             HPEXPIREAT h 4102444800000 FIELDS 2 a b
             HSETEX brief PX 600000 FIELDS 2 x 1 y 2
             3>HSET other f v",
        )
        .await;
    let mut connection = source.connect(0).await;
    let mut commands = ::redis::pipe();
    for at in 0..6_000 {
        let field = format!("field-{at:08}-{}", "x".repeat(30));
        commands.cmd("HSET").arg("large").arg(&field).arg(at);
        if at % 2 == 0 {
            let times = commands.cmd("HPEXPIREAT").arg("large").arg(4_102_444_800_000i64 + at);
            times.arg("FIELDS").arg(1).arg(&field);
        }
    }
    connection.ask_all(&commands).await.unwrap();
    assert_eq!(differences(&source, &target).await, [""; 0]);
    open(&target).await;
    let last = format!("field-{:08}-{}", 5_998, "x".repeat(30));
    for (change, back, found) in [
        (
            "HPEXPIREAT h 4102444800001 FIELDS 1 a".to_owned(),
            "HPEXPIREAT h 4102444800000 FIELDS 1 a".to_owned(),
            "h: field a expires 2100-01-01T00:00:00Z on the source, 2100-01-01T00:00:00.001Z on the target".to_owned(),
        ),
        (
            "HPERSIST h FIELDS 1 b".into(),
            "HPEXPIREAT h 4102444800000 FIELDS 1 b".into(),
            "h: field b expires 2100-01-01T00:00:00Z on the source, never on the target".into(),
        ),
        (
            "HPEXPIREAT h 4102444800000 FIELDS 1 c".into(),
            "HPERSIST h FIELDS 1 c".into(),
            "h: field c expires never on the source, 2100-01-01T00:00:00Z on the target".into(),
        ),
        (
            "HPEXPIREAT plain 4102444800000 FIELDS 1 a".into(),
            "HPERSIST plain FIELDS 1 a".into(),
            "plain: field a expires never on the source, 2100-01-01T00:00:00Z on the target".into(),
        ),
        ("HSET h c 4".into(), "HSET h c 3".into(), "h: differs in field c".into()),
        ("HDEL h c".into(), "HSET h c 3".into(), "h: differs in field c".into()),
        ("HSET h d 3".into(), "HDEL h d".into(), "h: differs in field d".into()),
        (
            format!("HPERSIST large FIELDS 1 {last}"),
            format!("HPEXPIREAT large {} FIELDS 1 {last}", 4_102_444_800_000i64 + 5_998),
            format!("large: field {last} expires 2100-01-01T00:00:05.998Z on the source, never on the target"),
        ),
        (
            "HSET large zzz 1".into(),
            "HDEL large zzz".into(),
            "large: differs in field zzz".into(),
        ),
        (
            "SET plain x".into(),
            "DEL plain\n HSET plain a 1 b 2".into(),
            "plain: a hash on the source, a string on the target".into(),
        ),
    ] {
        target.script(&change).await;
        assert_eq!(differences(&source, &target).await, [found], "{change}");
        target.script(&back).await;
        assert_eq!(differences(&source, &target).await, [""; 0], "{back}");
    }
}

#[tokio::test]
async fn fields_that_expired_and_were_not_removed_yet_are_left_out() {
    let Some((source, target)) = pair(Engine::Redis8, Engine::Redis8).await else {
        return;
    };
    // A paused server keeps expired fields, and so does its replica.
    source
        .script("HSET h a 1 b 2\n HPEXPIRE h 300 FIELDS 1 a\n CLIENT PAUSE 20000 WRITE")
        .await;
    let begun = Instant::now();
    while begun.elapsed().as_millis() < 700 {
        assert_eq!(differences(&source, &target).await, [""; 0], "{:?}", begun.elapsed());
    }
    assert_eq!(source.run::<u64>("HLEN h").await, 2);
    // A field that expires within the leeway may be gone on one side; a longer one is missed.
    source
        .script("CLIENT UNPAUSE\n HSET k a 1 b 2\n HPEXPIRE k 60000 FIELDS 1 a")
        .await;
    catch_up(&source, &target).await;
    open(&target).await;
    target.script("HDEL k a").await;
    assert_eq!(differences(&source, &target).await, ["k: differs in field a"]);
    source.script("HPEXPIRE k 1500 FIELDS 1 a").await;
    assert_eq!(differences(&source, &target).await, [""; 0]);
}

#[tokio::test]
async fn keys_of_an_old_source_that_expire_later_by_the_lag_are_reported_as_no_difference() {
    let Some((source, target)) = pair(Engine::Redis62, Engine::Redis7).await else {
        return;
    };
    source.script("SET plain 1\n SET early 1 PX 600000").await;
    catch_up(&source, &target).await;
    // Commands to the target wait, as they do during a copy.
    target.script("CLIENT PAUSE 4000").await;
    source
        .script("SETEX a 600 1\n SET b 1\n PEXPIRE b 600000\n RPUSH l x\n EXPIRE l 600")
        .await;
    tokio::time::sleep(Duration::from_millis(4_100)).await;
    let comparison = compared(&source, &target).await;
    assert!(comparison.identical(), "{comparison:?}");
    assert_eq!(comparison.expire_later, 3, "{comparison:?}");
    assert!(comparison.later_said().unwrap().starts_with("3 keys expire later"));
    assert!(
        (2_000..10_000).contains(&comparison.expire_later_by_ms),
        "{comparison:?}"
    );
    open(&target).await;
    target.script("PEXPIRE early 590000").await;
    let found = differences(&source, &target).await;
    assert!(found.len() == 1 && found[0].starts_with("early: expires "), "{found:?}");
}

#[tokio::test]
async fn a_later_expiry_is_a_difference_if_the_source_sends_absolute_times() {
    let (source, target) = pair(Engine::Redis7, Engine::Redis7).await.unwrap();
    source.script("SET a 1 PX 600000").await;
    catch_up(&source, &target).await;
    open(&target).await;
    target.script("PEXPIRE a 610000").await;
    assert_eq!(differences(&source, &target).await.len(), 1);
}
