use super::*;
use crate::effects::redis::testing::{TestServer, command};
use std::time::Instant;

mod ends;
mod rounds;

/// Keys of every type, in three databases, one of them beyond the default 16.
const EVERY_TYPE: &str = "
    SET string value
    SET empty-ttl x PX 3600000
    PFADD hyperloglog a b c
    RPUSH list a b c
    SADD set a b c
    SADD integers 3 1 2
    HSET hash f 1 g 2
    ZADD zset 1.5 a 0.1 b inf c -inf d
    XADD stream 1-1 f v
    XADD stream 2-1 f w g x
    XGROUP CREATE stream group 0
    XREADGROUP GROUP group alice COUNT 1 STREAMS stream >
    XGROUP CREATECONSUMER stream group idle
    3>SET string other
    20>HSET hash a b";

async fn server() -> TestServer {
    TestServer::start(&["--databases", "32"]).await
}

/// Arguments of sources on a large and on a small plan, which are compared in different ways.
const PLANS: [&[&str]; 2] = [&[], &["--maxclients", "20"]];

/// Returns two servers with the same content.
async fn alike() -> (TestServer, TestServer) {
    alike_on(&[]).await
}

async fn alike_on(plan: &[&str]) -> (TestServer, TestServer) {
    let usual = ["--databases", "32", "--repl-diskless-sync-delay", "0"];
    let source = TestServer::start(&[&usual, plan].concat()).await;
    source.script(EVERY_TYPE).await;
    source.script("PEXPIREAT list 4102444800000").await;
    let target = TestServer::start(&["--databases", "32"]).await;
    target.script(&format!("REPLICAOF 127.0.0.1 {}", source.port)).await;
    follow(&source, &target).await;
    target.script("REPLICAOF NO ONE").await;
    (source, target)
}

async fn follow(source: &TestServer, target: &TestServer) {
    let begun = Instant::now();
    loop {
        let there = target.connect(0).await.info().await.unwrap();
        let here = source.connect(0).await.info().await.unwrap();
        if there.link.is_some_and(|link| link.up) && there.applied_offset >= Some(here.master_repl_offset) {
            return;
        }
        assert!(begun.elapsed().as_secs() < 20, "the target does not follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn once() -> Options {
    Options {
        rounds: 1,
        ..Options::default()
    }
}

async fn compared(source: &TestServer, target: &TestServer, options: &Options) -> Comparison {
    compare(&source.server(), &target.server(), options, |_| {})
        .await
        .unwrap()
}

/// Returns the keys that differ in one round, with their reasons.
async fn differences(source: &TestServer, target: &TestServer) -> Vec<String> {
    let comparison = compared(source, target, &once()).await;
    assert_eq!(comparison.identical(), comparison.first.is_empty());
    comparison
        .first
        .iter()
        .map(|key| format!("{}>{}: {}", key.database, key.key, key.reason))
        .collect()
}

#[tokio::test]
async fn a_copy_by_replication_is_identical_in_every_database() {
    for plan in PLANS {
        let (source, target) = alike_on(plan).await;
        let comparison = compared(&source, &target, &Options::default()).await;
        assert!(comparison.identical(), "{comparison:?}");
        assert_eq!(
            (
                comparison.compared,
                comparison.rounds.len(),
                comparison.expiry_tolerance_ms
            ),
            (11, 1, 0)
        );
        let counts = DatabaseCounts {
            source_keys: 1,
            target_keys: 1,
            compared: 1,
        };
        assert_eq!(comparison.databases[&20], counts);
        assert_eq!(comparison.databases.keys().copied().collect::<Vec<_>>(), [0, 3, 20]);
    }
}

#[tokio::test]
async fn every_single_change_on_the_target_is_found_and_named() {
    for plan in PLANS {
        let (source, target) = alike_on(plan).await;
        for (change, found) in [
            ("SET string Value", "0>string: differs in byte 0 of the string"),
            ("APPEND string s", "0>string: length 5 on the source, 6 on the target"),
            ("DEL string", "0>string: not on the target"),
            ("SET new x", "0>new: not on the source"),
            ("3>DEL string", "3>string: not on the target"),
            ("3>SET new x", "3>new: not on the source"),
            ("25>SET new x", "25>new: not on the source"),
            (
                "PERSIST list",
                "0>list: expires 2100-01-01T00:00:00Z on the source, never on the target",
            ),
            (
                "PEXPIREAT list 4102444800001",
                "0>list: expires 2100-01-01T00:00:00Z on the source, 2100-01-01T00:00:00.001Z on the target",
            ),
            (
                "PEXPIREAT set 4102444800000",
                "0>set: expires never on the source, 2100-01-01T00:00:00Z on the target",
            ),
            ("LSET list 1 B", "0>list: differs in element 1"),
            ("RPUSH list d", "0>list: length 3 on the source, 4 on the target"),
            (
                "SMOVE set elsewhere a\n DEL elsewhere\n SADD set A",
                "0>set: differs in member a",
            ),
            ("SREM integers 3\n SADD integers 4", "0>integers: differs in member 3"),
            ("HSET hash g 3", "0>hash: differs in field g"),
            ("HDEL hash g\n HSET hash h 2", "0>hash: differs in field g"),
            ("20>HSET hash a B", "20>hash: differs in field a"),
            (
                "ZADD zset 0.10000000000000002 b",
                "0>zset: differs in member or score at rank 1",
            ),
            (
                "ZREM zset a\n ZADD zset 1.5 A",
                "0>zset: differs in member or score at rank 2",
            ),
            ("XADD stream 3-1 f v", "0>stream: differs in its length"),
            ("XDEL stream 1-1", "0>stream: differs in its length"),
            ("XSETID stream 9-9", "0>stream: differs in its last-generated-id"),
            (
                "XSETID stream 2-1 ENTRIESADDED 5 MAXDELETEDID 0-0",
                "0>stream: differs in its entries-added",
            ),
            (
                "XGROUP CREATE stream other 0",
                "0>stream: differs in whether it has group other",
            ),
            (
                "XGROUP DESTROY stream group",
                "0>stream: differs in whether it has group group",
            ),
            (
                "XGROUP SETID stream group 2-1 ENTRIESREAD 1",
                "0>stream: differs in last-delivered-id of group group",
            ),
            ("XACK stream group 1-1", "0>stream: differs in pending of group group"),
            (
                "XCLAIM stream group idle 0 1-1",
                "0>stream: differs in pending entry 1-1 of group group",
            ),
            (
                "DEL stream\n RPUSH stream x",
                "0>stream: a stream on the source, a list on the target",
            ),
            (
                "DEL string\n RPUSH string x",
                "0>string: a string on the source, a list on the target",
            ),
            (
                "DEL list\n SET list x\n PEXPIREAT list 4102444800000",
                "0>list: a list on the source, a string on the target",
            ),
        ] {
            // A new copy of the one key undoes the change.
            let (database, key) = found.split_once(':').unwrap().0.split_once('>').unwrap();
            target.script(change).await;
            assert_eq!(differences(&source, &target).await, [found], "{change}");
            restore(&source, &target, database.parse().unwrap(), key).await;
            assert_eq!(
                differences(&source, &target).await,
                [""; 0],
                "after taking back {change}"
            );
        }
    }
}

async fn restore(source: &TestServer, target: &TestServer, database: u32, key: &str) {
    let (mut here, mut there) = (source.connect(database).await, target.connect(database).await);
    there.query::<()>(&command(&format!("DEL {key}"))).await.unwrap();
    let Some(dump) = here
        .query::<Option<Vec<u8>>>(&command(&format!("DUMP {key}")))
        .await
        .unwrap()
    else {
        return;
    };
    let expiry: i64 = here.query(&command(&format!("PEXPIRETIME {key}"))).await.unwrap();
    there
        .query::<()>(
            ::redis::cmd("RESTORE")
                .arg(key)
                .arg(expiry.max(0))
                .arg(dump)
                .arg("ABSTTL"),
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn a_changed_entry_of_a_stream_is_found() {
    let (source, target) = (server().await, server().await);
    for (server, value) in [(&source, "v"), (&target, "V")] {
        server
            .script(&format!("XADD stream 1-1 f a\n XADD stream 2-5 f {value}"))
            .await;
    }
    assert_eq!(differences(&source, &target).await, ["0>stream: differs in entry 2-5"]);
}

#[tokio::test]
async fn a_group_read_while_its_replica_follows_is_equal_on_both() {
    let source = server().await;
    let target = TestServer::replica_of(&source).await;
    source
        .script("XADD s 1-1 f v\n XADD s 2-1 f v\n XADD s 3-1 f v\n XGROUP CREATE s g 0\n XREADGROUP GROUP g c COUNT 2 STREAMS s >\n XACK s g 1-1")
        .await;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let found = differences(&source, &target).await;
        if found.is_empty() && target.run::<u64>("XLEN s").await == 3 {
            break;
        }
        assert!(std::time::Instant::now() < end, "{found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_order_of_a_hash_and_a_set_and_their_encoding_do_not_matter() {
    let (source, target) = (server().await, server().await);
    target.script("CONFIG SET hash-max-listpack-entries 0\n CONFIG SET set-max-intset-entries 0\n CONFIG SET zset-max-listpack-entries 0").await;
    source
        .script("HSET h a 1 b 2 c 3\n SADD s 1 2 3 4\n ZADD z 1 a 2 b")
        .await;
    target
        .script("HSET h c 3 a 1 b 2\n SADD s 4 2 3 1\n ZADD z 2 b 1 a")
        .await;
    assert_eq!(differences(&source, &target).await, [""; 0]);
}

/// Adds `many` elements of each type under `name`, the same on every server.
async fn fill_large(server: &TestServer, many: usize) {
    let mut connection = server.connect(0).await;
    for first in (0..many).step_by(500) {
        let mut commands = ::redis::pipe();
        for at in first..(first + 500).min(many) {
            let element = format!("element-{at:08}-{}", "x".repeat(30));
            commands.cmd("RPUSH").arg("list").arg(&element);
            commands.cmd("SADD").arg("set").arg(&element);
            commands.cmd("HSET").arg("hash").arg(&element).arg(at);
            commands.cmd("ZADD").arg("zset").arg(at as f64 / 3.0).arg(&element);
            commands
                .cmd("XADD")
                .arg("stream")
                .arg(format!("{at}-1"))
                .arg("f")
                .arg(&element);
            commands.cmd("APPEND").arg("string").arg(element.repeat(20));
        }
        connection.ask_all(&commands).await.unwrap();
    }
    server
        .script("XGROUP CREATE stream g 0\n XREADGROUP GROUP g c COUNT 5000 STREAMS stream >")
        .await;
}

#[tokio::test]
async fn values_read_in_windows_differ_at_their_first_middle_and_last_place() {
    let (source, target) = (server().await, server().await);
    let many = 6_000;
    tokio::join!(fill_large(&source, many), fill_large(&target, many));
    assert_eq!(differences(&source, &target).await, [""; 0]);
    let element = |at: usize| format!("element-{at:08}-{}", "x".repeat(30));
    for at in [0, many / 2, many - 1] {
        let bytes = at * element(0).len() * 20;
        let window = bytes / (1 << 20) * (1 << 20);
        for (change, back, found) in [
            (
                format!("LSET list {at} y"),
                format!("LSET list {at} {}", element(at)),
                format!("list: differs in element {at}"),
            ),
            (
                format!("SREM set {}\n SADD set y", element(at)),
                format!("SREM set y\n SADD set {}", element(at)),
                format!("set: differs in member {}", element(at)),
            ),
            (
                format!("HSET hash {} y", element(at)),
                format!("HSET hash {} {at}", element(at)),
                format!("hash: differs in field {}", element(at)),
            ),
            (
                format!("ZINCRBY zset 0.0001 {}", element(at)),
                format!("ZADD zset {} {}", at as f64 / 3.0, element(at)),
                format!("zset: differs in member or score at rank {at}"),
            ),
            (
                format!("SETRANGE string {bytes} y"),
                format!("SETRANGE string {bytes} e"),
                format!("string: differs in the string from byte {window} on"),
            ),
        ] {
            target.script(&change).await;
            assert_eq!(differences(&source, &target).await, [format!("0>{found}")], "{change}");
            target.script(&back).await;
            assert_eq!(differences(&source, &target).await, [""; 0], "{back}");
        }
    }
    let last_pending = "XCLAIM stream g other 0 4999-1";
    target.script(last_pending).await;
    assert_eq!(
        differences(&source, &target).await,
        ["0>stream: differs in pending entry 4999-1 of group g"]
    );
}

#[tokio::test]
async fn keys_that_expired_or_are_about_to_are_left_out_on_either_side() {
    let (source, target) = (server().await, server().await);
    for server in [&source, &target] {
        // With expiry stopped, it holds expired keys, as a replica or a paused server does.
        server.script("DEBUG SET-ACTIVE-EXPIRE 0\n SET kept 1").await;
    }
    source
        .script("SET gone 1 PX 1\n SET going 1 PX 1500\n SET later 1 PX 60000")
        .await;
    target.script("SET leaving 1 PX 1500").await;
    // Waits until the first key has expired; asking for it would remove it.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let comparison = compared(&source, &target, &once()).await;
    assert_eq!(
        (comparison.missing, comparison.extra, comparison.different),
        (1, 0, 0),
        "{comparison:?}"
    );
    assert_eq!(
        (comparison.first[0].key.as_str(), comparison.expired),
        ("later", 2),
        "{comparison:?}"
    );
}

#[tokio::test]
async fn some_keys_are_compared_in_their_databases_and_no_others() {
    let (source, target) = alike().await;
    target
        .script("SET string x\n 3>SET string x\n HSET hash f 9\n SET new x")
        .await;
    let key = |database, name: &str| Key {
        database,
        name: name.into(),
    };
    let keys = [
        key(3, "string"),
        key(0, "hash"),
        key(0, "new"),
        key(0, "list"),
        key(0, "nowhere"),
    ];
    let comparison = compare_keys(&source.server(), &target.server(), &keys, &once())
        .await
        .unwrap();
    let found: Vec<_> = comparison
        .first
        .iter()
        .map(|key| (key.database, key.key.as_str(), key.kind))
        .collect();
    let expected = [
        (0, "hash", DifferenceKind::Different),
        (0, "new", DifferenceKind::Extra),
        (3, "string", DifferenceKind::Different),
    ];
    assert_eq!(found, expected);
    assert_eq!(comparison.compared, 4);
}

#[tokio::test]
async fn keys_that_are_no_text_are_compared_and_shown_escaped() {
    let (source, target) = (server().await, server().await);
    let name: &[u8] = b"\x00\xff\r\n\x1b[31m key";
    source
        .connect(0)
        .await
        .query::<()>(::redis::cmd("SET").arg(name).arg(b"\xfe"))
        .await
        .unwrap();
    assert_eq!(
        differences(&source, &target).await,
        ["0>\\u{0}\\xff\\r\\n\\u{1b}[31m key: not on the target"]
    );
}

#[tokio::test]
async fn strings_of_every_length_differ_by_their_last_byte_and_by_one_byte_more() {
    let (source, target) = (server().await, server().await);
    for length in [1, 4095, 4096, 4097, 65_536, 65_537, 1 << 20, (1 << 20) + 1] {
        let zeros = format!("SETRANGE text {} 0", length - 1);
        tokio::join!(source.script(&zeros), target.script(&zeros));
        assert_eq!(differences(&source, &target).await, [""; 0], "{length}");
        target.script(&format!("SETRANGE text {} 1", length - 1)).await;
        let found = differences(&source, &target).await;
        assert!(
            found.len() == 1 && found[0].contains("differs in"),
            "{length}: {found:?}"
        );
        target.script(&format!("{zeros}\n APPEND text 0")).await;
        let found = differences(&source, &target).await;
        assert_eq!(
            found,
            [format!(
                "0>text: length {length} on the source, {} on the target",
                length + 1
            )]
        );
        tokio::join!(source.script("DEL text"), target.script("DEL text"));
    }
}

#[tokio::test]
async fn a_few_keys_of_all_types_and_databases_are_compared_in_two_round_trips() {
    const ROUND_TRIP: Duration = Duration::from_millis(150);
    let (source, target) = alike().await;
    for server in [&source, &target] {
        server.script(&format!("SET longer {}", "x".repeat(10_000))).await;
    }
    let mut comparator = Comparator::connect(&source.far(ROUND_TRIP).await, &target.far(ROUND_TRIP).await)
        .await
        .unwrap();
    let names = [
        "string",
        "empty-ttl",
        "longer",
        "hyperloglog",
        "list",
        "set",
        "integers",
        "hash",
        "zset",
    ];
    let keys = names
        .map(|name| (0, name))
        .into_iter()
        .chain([(3, "string"), (20, "hash")]);
    let keys: Vec<Key> = keys
        .map(|(database, name)| Key {
            database,
            name: name.into(),
        })
        .collect();
    let begun = Instant::now();
    let comparison = comparator.keys(&keys, &once()).await.unwrap();
    let took = begun.elapsed();
    assert!(comparison.identical() && comparison.compared == 11, "{comparison:?}");
    assert!((ROUND_TRIP * 2..ROUND_TRIP * 3).contains(&took), "{took:?}");

    target.script("ZADD zset 2 a").await;
    target.script("RPUSH list d").await;
    target.script("SET longer y").await;
    let comparison = comparator.keys(&keys, &once()).await.unwrap();
    let mut reasons: Vec<String> = comparison
        .first
        .iter()
        .map(|key| format!("{}: {}", key.key, key.reason))
        .collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [
            "list: length 3 on the source, 4 on the target",
            "longer: length 10000 on the source, 1 on the target",
            "zset: differs in member or score at rank 2",
        ]
    );
}
