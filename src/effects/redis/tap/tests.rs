use super::*;
use crate::effects::redis::compare::{Comparator, Options};
use crate::effects::redis::testing::{TestCertificate, TestServer, command};
use crate::effects::redis::{Key, Trust, control};
use crate::model::secret::Secret;
use std::collections::BTreeSet;

const SOON: Duration = Duration::from_secs(10);

/// A server with a replica, and so with a backlog.
async fn followed(arguments: &[&str]) -> (TestServer, TestServer) {
    let arguments: Vec<&str> = arguments
        .iter()
        .copied()
        .chain(["--repl-diskless-sync-delay", "0"])
        .collect();
    let source = TestServer::start(&arguments).await;
    let replica = TestServer::replica_of(&source).await;
    (source, replica)
}

async fn info(server: &TestServer) -> Info {
    server.connect(0).await.info().await.unwrap()
}

async fn tap(server: &TestServer) -> Tap {
    Tap::open(&server.server(), &info(server).await).await.unwrap()
}

/// Waits until the tap has all that the server has done so far.
async fn catch_up(tap: &Tap, server: &TestServer) {
    tap.reach(info(server).await.master_repl_offset, SOON).await.unwrap();
}

fn shown(keys: &[Key]) -> BTreeSet<String> {
    keys.iter()
        .map(|key| format!("{}>{}", key.database, String::from_utf8_lossy(&key.name)))
        .collect()
}

async fn await_break(tap: &Tap) -> String {
    let mut progress = tap.progress.clone();
    let broken = tokio::time::timeout(SOON, progress.wait_for(|progress| progress.broken.is_some())).await;
    broken.expect("the tap did not break").unwrap().broken.clone().unwrap()
}

/// A full copy makes the server fork: a tap must never cause one.
async fn full_syncs(server: &TestServer) -> String {
    let stats: String = server.run("INFO stats").await;
    stats
        .lines()
        .find(|line| line.starts_with("sync_full:"))
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn the_keys_of_every_kind_of_write_are_seen_in_their_databases() {
    let (source, _replica) = followed(&[]).await;
    // The stream then tells a database before the first of these.
    let tap = tap(&source).await;
    source.script("9>SET elsewhere 1").await;
    for (script, keys) in [
        ("SET s 1", "0>s"),
        ("GETSET s 2", "0>s"),
        ("GETEX s PX 100000", "0>s"),
        ("GETEX s PERSIST", "0>s"),
        ("INCRBYFLOAT s 1.5", "0>s"),
        (
            "SETRANGE s 2 x\n APPEND s y\n SETBIT s 3 1\n BITFIELD s SET u8 0 7",
            "0>s",
        ),
        ("MSET a 1 b 2", "0>a 0>b"),
        ("BITOP AND to a b", "0>to"),
        ("PFADD h1 x\n PFADD h2 y", "0>h1 0>h2"),
        ("PFMERGE h3 h1 h2", "0>h3"),
        ("EXPIRE a 1000\n PEXPIREAT b 4102444800000\n PERSIST a", "0>a 0>b"),
        ("EXPIRE a -1", "0>a"),
        ("RENAME b c", "0>b 0>c"),
        ("COPY c d", "0>d"),
        ("COPY c d DB 3", "3>d"),
        ("MOVE d 4", "0>d 4>d"),
        (
            "RPUSH l 1 2 3 4\n LPUSHX l 0\n LINSERT l BEFORE 1 x\n LSET l 0 y\n LTRIM l 0 3\n LREM l 1 x",
            "0>l",
        ),
        ("LMOVE l m LEFT RIGHT", "0>l 0>m"),
        ("RPOPLPUSH l m\n BLMOVE l m LEFT RIGHT 1", "0>l 0>m"),
        ("LMPOP 2 nothing m LEFT\n BLPOP nothing m 1", "0>m"),
        ("RPUSH n b a\n SORT n ALPHA STORE sorted", "0>n 0>sorted"),
        ("SADD set a b c d\n SADD set2 c", "0>set 0>set2"),
        ("SMOVE set set2 a", "0>set 0>set2"),
        ("SPOP set 1", "0>set"),
        ("SUNIONSTORE set3 set set2", "0>set3"),
        ("SINTERSTORE set3 set nothing", "0>set3"),
        (
            "HSET h a 1 b 2\n HINCRBY h a 2\n HINCRBYFLOAT h a 0.5\n HDEL h b\n HSETNX h c 1",
            "0>h",
        ),
        (
            "ZADD z 1 a 2 b 3 c 4 d\n ZINCRBY z 1 a\n ZREMRANGEBYRANK z 0 0\n ZPOPMAX z",
            "0>z",
        ),
        ("BZPOPMIN nothing z 1\n ZMPOP 1 z MAX", "0>z"),
        (
            "ZADD z 5 e 6 f\n ZRANGESTORE z2 z 0 -1\n ZUNIONSTORE z3 2 z z2",
            "0>z 0>z2 0>z3",
        ),
        (
            "GEOADD geo 13.3 38.1 a 15.0 37.5 b\n GEOSEARCHSTORE near geo FROMMEMBER a BYRADIUS 500 km",
            "0>geo 0>near",
        ),
        ("GEORADIUS geo 15 37 500 km STORE nearer", "0>nearer"),
        ("XADD x 1-1 f v\n XADD x 2-1 f v\n XGROUP CREATE x g 0", "0>x"),
        ("XREADGROUP GROUP g alice COUNT 1 STREAMS x >", "0>x"),
        (
            "XAUTOCLAIM x g bob 0 0\n XACK x g 1-1\n XDEL x 1-1\n XTRIM x MAXLEN 0\n XSETID x 9-9",
            "0>x",
        ),
        ("XGROUP DELCONSUMER x g bob\n XGROUP DESTROY x g", "0>x"),
        (
            "EVAL redis.call('set',KEYS[1],1)redis.call('select',6)redis.call('set','by-script',1) 1 a",
            "0>a 6>by-script",
        ),
        ("7>SET s 1", "7>s"),
        ("DEL s nothing\n UNLINK a c", "0>s 0>nothing 0>a 0>c"),
        ("GET s\n EXISTS s\n PUBLISH s 1\n PING", ""),
    ] {
        let mark = tap.position();
        source.script(script).await;
        catch_up(&tap, &source).await;
        let dirty = tap.dirty_since(mark).unwrap();
        assert!(!dirty.everything, "{script}");
        let found = shown(&dirty.keys);
        assert_eq!(found, keys.split_whitespace().map(str::to_owned).collect(), "{script}");
        assert!(dirty.in_some_database.is_empty());
    }
    assert_eq!(tap.broken(), None);
}

#[tokio::test]
async fn a_transaction_is_seen_as_its_writes() {
    let (source, _replica) = followed(&[]).await;
    let tap = tap(&source).await;
    let mut connection = source.connect(2).await;
    let mut transaction = ::redis::pipe();
    transaction
        .cmd("MULTI")
        .cmd("SET")
        .arg("a")
        .arg(1)
        .cmd("INCR")
        .arg("b")
        .cmd("EXEC");
    connection.ask_all(&transaction).await.unwrap();
    catch_up(&tap, &source).await;
    assert_eq!(
        shown(&tap.dirty_since(tap.opened_at()).unwrap().keys),
        ["2>a", "2>b"].map(str::to_owned).into()
    );
    assert_eq!(tap.seen().writes, 2);
}

#[tokio::test]
async fn flushes_and_swaps_make_everything_dirty() {
    let (source, _replica) = followed(&[]).await;
    let tap = tap(&source).await;
    for words in ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1"] {
        source.script("SET a 1").await;
        catch_up(&tap, &source).await;
        let mark = tap.position();
        source.script(words).await;
        catch_up(&tap, &source).await;
        assert!(tap.dirty_since(mark).unwrap().everything, "{words}");
        assert!(tap.dirty_since(tap.position()).unwrap().is_empty(), "{words}");
    }
}

#[tokio::test]
async fn before_a_select_passes_a_key_may_be_in_any_database_and_one_comparison_settles_it() {
    let (source, replica) = followed(&[]).await;
    source.script("5>SET before 1").await;
    let tap = tap(&source).await;
    source.script("5>SET a 1").await;
    catch_up(&tap, &source).await;
    let dirty = tap.dirty_since(tap.opened_at()).unwrap();
    assert_eq!(dirty.in_some_database, [b"a".to_vec()]);
    replica.script("CONFIG SET replica-read-only no\n 5>SET a wrong").await;
    let mut comparator = Comparator::connect(&source.server(), &replica.server()).await.unwrap();
    let keys = dirty.within(&comparator.databases_now().await.unwrap()).unwrap();
    let options = Options {
        rounds: 1,
        ..Options::default()
    };
    let comparison = comparator.keys(&keys, &options).await.unwrap();
    assert_eq!((comparison.different, comparison.first[0].database), (1, 5));
}

#[tokio::test]
async fn under_load_exactly_the_keys_written_after_the_mark_are_dirty() {
    let (source, _replica) = followed(&[]).await;
    let tap = tap(&source).await;
    let writers = (0..4u32).map(|writer| {
        let server = source.server();
        tokio::spawn(async move {
            let mut connection = server.connect(writer).await.unwrap();
            for phase in ["early", "late"] {
                for first in (0..2_000).step_by(100) {
                    let mut commands = ::redis::pipe();
                    for at in first..first + 100 {
                        commands
                            .cmd("SET")
                            .arg(format!("{phase}:{at}"))
                            .arg("v".repeat(at % 300));
                        commands.cmd("INCR").arg("both");
                    }
                    connection.ask_all(&commands).await.unwrap();
                }
                if phase == "early" {
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for writer in writers {
        writer.await.unwrap();
    }
    catch_up(&tap, &source).await;
    let mark = tap.position();
    assert_eq!(tap.dirty_since(tap.opened_at()).unwrap().keys.len(), 4 * 4_001);
    assert_eq!(tap.seen().writes, 4 * 2 * 4_000);
    assert!(tap.dirty_since(mark).unwrap().is_empty());
    source.script("1>SET late:7 x\n SET new 1").await;
    catch_up(&tap, &source).await;
    assert_eq!(
        shown(&tap.dirty_since(mark).unwrap().keys),
        ["0>new", "1>late:7"].map(str::to_owned).into()
    );
    tap.forget(mark);
    assert_eq!(tap.dirty_since(tap.opened_at()).unwrap().keys.len(), 2);
    assert_eq!(tap.position(), info(&source).await.master_repl_offset);
}

#[tokio::test]
async fn a_quiet_source_is_seen_to_be_quiet_for_longer_than_its_patience() {
    let (source, _replica) = followed(&["--repl-ping-replica-period", "1", "--repl-timeout", "3"]).await;
    let tap = tap(&source).await;
    let (mark, before) = (tap.position(), tap.seen());
    tokio::time::sleep(Duration::from_secs(5)).await;
    catch_up(&tap, &source).await;
    assert_eq!((tap.broken(), tap.seen()), (None, before));
    // Pings move the offset, and are no writes.
    assert!(tap.position() > mark && tap.dirty_since(mark).unwrap().is_empty());
}

#[tokio::test]
async fn a_tap_costs_the_source_no_copy_and_does_not_count_as_a_replica_that_has_a_write() {
    let (source, _replica) = followed(&[]).await;
    let before = full_syncs(&source).await;
    let tap = tap(&source).await;
    let mut connection = source.connect(0).await;
    connection.query::<()>(&command("SET a 1")).await.unwrap();
    assert_eq!(connection.query::<i64>(&command("WAIT 2 1500")).await.unwrap(), 1);
    assert_eq!((full_syncs(&source).await, tap.broken()), (before, None));
}

#[tokio::test]
async fn an_expired_key_is_a_removal_and_not_a_write() {
    let (source, _replica) = followed(&[]).await;
    source.script("SET brief 1 PX 300").await;
    let tap = tap(&source).await;
    let begun = std::time::Instant::now();
    while tap.seen().removals == 0 {
        assert!(begun.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seen = tap.seen();
    assert_eq!((seen.writes, seen.removals), (0, 1));
    assert!(seen.last.unwrap().1.ends_with(" brief"));
}

#[tokio::test]
async fn what_passes_is_shown_to_an_observer_with_its_offset() {
    let (source, _replica) = followed(&[]).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = events.clone();
    let observer = move |event: &Event| sink.lock().unwrap().push(event.clone());
    let tap = Tap::observed(&source.server(), &info(&source).await, Arc::default(), observer)
        .await
        .unwrap();
    source.script("3>SET a 1\n 3>PUBLISH channel hello").await;
    catch_up(&tap, &source).await;
    let events = events.lock().unwrap();
    let names: Vec<_> = events
        .iter()
        .map(|event| (event.command.as_str(), event.database))
        .collect();
    assert_eq!(names, [("SET", Some(3)), ("PUBLISH", Some(3))]);
    assert!(events.is_sorted_by_key(|event| event.offset) && events[1].offset <= tap.position());
}

#[tokio::test]
async fn a_disconnected_or_killed_source_breaks_the_tap_for_good() {
    for kill in [false, true] {
        let (mut source, _replica) = followed(&[]).await;
        let tap = tap(&source).await;
        let mark = tap.position();
        source.script("SET a 1").await;
        catch_up(&tap, &source).await;
        if kill {
            source.kill_and_restart().await;
        } else {
            source.run::<i64>("CLIENT KILL TYPE replica").await;
        }
        let reason = await_break(&tap).await;
        assert!(reason.contains("connection"), "{reason}");
        let errors = [
            tap.dirty_since(mark).unwrap_err(),
            tap.reach(mark, SOON).await.unwrap_err(),
        ];
        assert!(
            errors
                .iter()
                .all(|error| error.kind() == crate::model::error::Kind::Unproven && error.next_step().is_some())
        );
    }
}

#[tokio::test]
async fn an_offset_that_is_not_reached_in_time_is_an_error() {
    let (source, _replica) = followed(&[]).await;
    source.script("SET a 1").await;
    let tap = tap(&source).await;
    assert!(tap.dirty_since(tap.opened_at() - 1).is_err());
    let error = tap
        .reach(tap.position() + 1_000_000, Duration::from_millis(50))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), crate::model::error::Kind::Unproven);
}

#[tokio::test]
async fn a_tap_that_would_cost_a_copy_is_refused_before_it_does() {
    // No replica ever followed this server, so it has no backlog.
    let alone = TestServer::start(&[]).await;
    alone.script("SET a 1").await;
    let error = Tap::open(&alone.server(), &info(&alone).await).await.err().unwrap();
    assert!(error.to_string().contains("no backlog"), "{error}");
    assert_eq!(full_syncs(&alone).await, "sync_full:0");
    // The replication id has changed since.
    let (source, _replica) = followed(&[]).await;
    let mut stale = info(&source).await;
    stale.replid = "0123456789012345678901234567890123456789".into();
    let error = Tap::open(&source.server(), &stale).await.err().unwrap();
    assert!(error.to_string().contains("no longer has offset"), "{error}");
}

#[tokio::test]
async fn a_tap_logs_in_over_tls_and_a_denied_psync_is_said() {
    let certificate = TestCertificate::for_names(&["127.0.0.1"]);
    let trust = Trust::Pin(certificate.digest);
    let source = TestServer::start_tls(&certificate.certificate, &certificate.key, trust).await;
    source
        .script("ACL SETUSER tap on >right ~* &* +@all\n CONFIG SET repl-diskless-sync-delay 0")
        .await;
    // A client that asks for a copy and disconnects leaves a backlog.
    let mut asking = source.connect(0).await;
    let _ = tokio::time::timeout(Duration::from_millis(200), asking.ask(&command("PSYNC ? -1"))).await;
    drop(asking);
    let mut server = source.server();
    (server.user, server.password) = (Some("tap".into()), Some(Secret::new("right")));
    let now = info(&source).await;
    let tap = Tap::open(&server, &now).await.unwrap();
    source.script("SET b 1").await;
    catch_up(&tap, &source).await;
    assert_eq!(tap.seen().writes, 1);
    server.password = Some(Secret::new("wrong"));
    let pretended = Info {
        backlog_active: true,
        ..now
    };
    let error = Tap::open(&server, &pretended).await.err().unwrap();
    assert!(
        error.to_string().contains("WRONGPASS") && !format!("{error:?}").contains("wrong\""),
        "{error}"
    );
    source.script("ACL SETUSER tap -psync").await;
    server.password = Some(Secret::new("right"));
    let error = Tap::open(&server, &pretended).await.err().unwrap();
    assert!(error.to_string().contains("NOPERM"), "{error}");
    let found = control::permissions(&mut server.connect(0).await.unwrap())
        .await
        .unwrap();
    assert_ne!(found.psync, control::Permission::Allowed);
}
