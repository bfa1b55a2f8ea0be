//! Large streams that are written all the time: their new entries are copied, and not the whole stream again.

use super::contents::{self, Depth};
use super::hot::{Dice, EndsLater, MARKED, calls, seeded};
use super::rig::{Copying, Redis, until};
use super::watching::until_whole;
use redis::{Connection, Value, cmd};
use sandbox::addon::Engine;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Entries of a large stream, and the bytes of each.
const ENTRIES: u64 = 9000;
const LENGTH: usize = 200;

/// Adds a large stream with two groups. The ids of its first entries are `1-0` to `1-8999`.
pub fn fill(redis: &Redis, name: &str) {
    let mut connection = redis.connection();
    for from in (0..ENTRIES).step_by(1000) {
        let mut batch = redis::pipe();
        for number in from..from + 1000 {
            let value = format!("{number:0>LENGTH$}");
            batch
                .cmd("XADD")
                .arg(name)
                .arg(format!("1-{}", number + 1))
                .arg("field")
                .arg(value)
                .ignore();
        }
        batch.exec(&mut connection).unwrap();
    }
    redis.script(&format!(
        "XDEL {name} 1-7 1-70\nXGROUP CREATE {name} jobs 0\nXGROUP CREATE {name} more $\nXREADGROUP GROUP jobs one COUNT 20 STREAMS {name} >"
    ));
}

/// Starts a copy that follows the streams by their entries.
fn followed(engine: Engine, names: &[&str]) -> (Redis, Redis, Copying) {
    let (source, target) = (Redis::start(engine), Redis::start(engine));
    names.iter().for_each(|name| fill(&source, name));
    let copying = Copying::watching(&source, &target);
    until_whole(&copying);
    (source, target, copying)
}

/// Asks for what is marked, and fails unless both sides are the same then.
fn assert_drained(source: &Redis, target: &Redis, copying: &Copying, what: &str) {
    let report = copying.ask(MARKED).unwrap();
    assert_eq!((report.watch.unwrap().marked, report.refused), (0, 0), "{what}");
    contents::assert_same(source, target, Depth::Whole, what);
}

/// Returns how often a whole key was put into its place.
fn whole_copies(target: &Redis) -> u64 {
    calls(target, "rename") + calls(target, "restore")
}

#[test]
fn entries_that_are_added_to_a_large_stream_are_read_alone() {
    let (source, target, copying) = followed(Engine::Redis7, &["stream"]);
    let (whole, sent) = (whole_copies(&target), source.number("total_net_output_bytes"));
    let mut batch = redis::pipe();
    for number in 0..1000 {
        batch.cmd("XADD").arg("stream").arg("*").arg("new").arg(number).ignore();
    }
    batch.exec(&mut source.connection()).unwrap();
    let length = |redis: &Redis| redis.text(&["XLEN", "stream"]);
    until("the entries are on the master", || length(&target) == length(&source));
    // MONITOR, the entries themselves and the answers to XADD.
    let sent = source.number("total_net_output_bytes") - sent;
    assert!(
        sent < 500_000,
        "the source sent {sent} bytes of {}",
        ENTRIES * LENGTH as u64
    );
    assert_eq!(whole_copies(&target), whole);
    assert_drained(&source, &target, &copying, "after 1000 entries");
}

#[test]
fn each_write_that_names_its_part_of_a_stream_is_followed_without_reading_it_whole() {
    let (source, target, copying) = followed(Engine::Redis7, &["stream"]);
    let whole = whole_copies(&target);
    for line in [
        "XADD stream * field value",
        "XADD stream 9999999999999-* field value",
        "XADD stream MAXLEN ~ 8500 * field value",
        "XADD stream NOMKSTREAM MINID ~ 1-400 LIMIT 0 * field value",
        "XTRIM stream MAXLEN 8000",
        "XTRIM stream MINID 1-1200",
        // The first entry, one that is gone, and one in the middle.
        "XDEL stream 1-1200 1-3 1-5000",
        "XADD stream MAXLEN 8001 9999999999999-88 field value",
        // The last entry: the last id stays.
        "XDEL stream 9999999999999-88",
        "XGROUP CREATE stream third 1-4000 ENTRIESREAD 3990",
        "XREADGROUP GROUP third reader COUNT 30 STREAMS stream >",
        "XREADGROUP GROUP third reader STREAMS stream 0",
        "XREADGROUP GROUP third other COUNT 3 NOACK STREAMS stream >",
        "XACK stream third 1-4001 1-4007",
        "XCLAIM stream third other 0 1-4002 RETRYCOUNT 7",
        "XAUTOCLAIM stream third last 0 1-4010 COUNT 5",
        "XGROUP DELCONSUMER stream third last",
        "XGROUP SETID stream more 1-8000",
        "XGROUP DESTROY stream jobs",
        "XTRIM stream MAXLEN 0",
        "XADD stream MAXLEN 0 * field value",
        "XADD stream * field value",
    ] {
        let _: Value = source.say(&line.split(' ').collect::<Vec<_>>());
        assert_drained(&source, &target, &copying, line);
    }
    assert_eq!(whole_copies(&target), whole, "it was read whole");
    // The group's pending entries are gone from the stream, so this cannot be done in part.
    source.script("XREADGROUP GROUP third reader STREAMS stream >");
    assert_drained(&source, &target, &copying, "pending entries without an entry");
    assert!(whole_copies(&target) > whole, "it was not read whole");
}

#[test]
fn a_client_that_waited_for_an_entry_is_seen_though_no_request_says_so() {
    let (source, target, copying) = followed(Engine::Redis7, &["stream"]);
    source.script("XGROUP SETID stream jobs $");
    assert_drained(&source, &target, &copying, "before somebody waits");
    let whole = whole_copies(&target);
    for number in 0..10 {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                source.script("XREADGROUP GROUP jobs waiting BLOCK 30000 COUNT 1 STREAMS stream >");
            });
            until("somebody waits", || source.number("blocked_clients") == 1);
            assert_drained(&source, &target, &copying, "while somebody waits");
            source.script(&format!("XADD stream * number {number}"));
            waiting.join().unwrap();
        });
        assert_drained(&source, &target, &copying, "after the entry came");
    }
    assert_eq!(whole_copies(&target), whole, "it was read whole");
}

#[test]
fn a_stream_that_is_written_all_the_time_is_on_the_master_at_once() {
    let (source, target, copying) = followed(Engine::Redis7, &["stream"]);
    let (ends, port) = (AtomicBool::new(false), source.port);
    let app = |each: &(dyn Fn(&mut Connection, u64) + Sync)| {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let mut connection = client.get_connection().unwrap();
        for number in 1.. {
            if ends.load(Ordering::Relaxed) {
                break;
            }
            each(&mut connection, number);
        }
    };
    let run = |connection: &mut Connection, line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        cmd(words[0]).arg(&words[1..]).query::<Value>(connection).unwrap()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            app(&|connection, number| {
                run(connection, &format!("XADD stream MAXLEN ~ 8800 * number {number}"));
                run(
                    connection,
                    &format!("XADD stream 10000000000000-{} own id", number * 1000),
                );
                run(
                    connection,
                    &format!("XDEL stream 1-{} 1-{}", 2000 + number * 2, 9000 - number),
                );
                std::thread::sleep(Duration::from_millis(10));
            });
        });
        scope.spawn(|| {
            app(&|connection, _| {
                let read = run(
                    connection,
                    "XREADGROUP GROUP more reader COUNT 3 BLOCK 50 STREAMS stream >",
                );
                for id in ids(&read) {
                    run(connection, &format!("XACK stream more {id}"));
                }
            });
        });
        let _end = EndsLater(&ends);
        until("the app writes", || last_id(&source).0 == 10_000_000_000_000);
        let whole = whole_copies(&target);
        for _ in 0..20 {
            let last = last_id(&source);
            let begun = Instant::now();
            until("the entries are on the master", || last_id(&target) >= last);
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(5), "it took {took:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(whole_copies(&target), whole, "it was read whole");
    });
    assert_drained(&source, &target, &copying, "after the last write");
    assert_eq!(copying.status().last_sweep.unwrap().refused, 0);
}

/// Returns the ids in an answer to XREADGROUP.
fn ids(read: &Value) -> Vec<String> {
    let parts = |value: &Value| wire::reply::array(value.clone()).unwrap_or_default();
    let streams = parts(read);
    let entries = streams
        .first()
        .map(|stream| parts(&parts(stream)[1]))
        .unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| wire::reply::text(&parts(entry)[0]))
        .collect()
}

fn last_id(redis: &Redis) -> (u64, u64) {
    let stream = wire::reply::pairs(redis.say(&["XINFO", "STREAM", "stream"])).unwrap();
    let id = wire::reply::text(&stream["last-generated-id"]).unwrap();
    let (time, number) = id.split_once('-').unwrap();
    (time.parse().unwrap(), number.parse().unwrap())
}

/// Returns a random write to one of the streams. A few may change any part of it.
pub fn write(dice: &mut Dice) -> String {
    let name = ["first", "second"][usize::from(dice.roll(3) == 0)];
    let group = ["jobs", "more"][dice.roll(2) as usize];
    let consumer = ["one", "two", "three"][dice.roll(3) as usize];
    let old = |dice: &mut Dice| format!("1-{}", dice.roll(ENTRIES + 100));
    let count = dice.roll(40);
    match dice.roll(400) {
        0 => format!("RENAME {name} other"),
        1 => format!("RENAME other {name}"),
        2 => format!("DEL {name}"),
        3 => format!("XSETID {name} 30000000000000-{count}"),
        4 => "COPY first second REPLACE".into(),
        5 => format!("PEXPIRE {name} 150"),
        6 => format!("EVAL return(redis.call('xadd','{name}','*','script','1')) 0"),
        7 => format!("XTRIM {name} MAXLEN {count}"),
        8 => format!("XGROUP DESTROY {name} {group}"),
        9..15 => format!("XGROUP CREATE {name} {group} {}", old(dice)),
        15..20 => format!("XGROUP SETID {name} {group} {}", old(dice)),
        20..25 => format!("XGROUP DELCONSUMER {name} {group} {consumer}"),
        25..30 => format!("XGROUP CREATECONSUMER {name} {group} {consumer}"),
        30..40 => format!("XTRIM {name} MAXLEN ~ {}", 8000 + dice.roll(1000)),
        40..50 => format!("XTRIM {name} MINID 1-{}", dice.roll(3000)),
        50..100 => format!("XDEL {name} {} {} 5", old(dice), old(dice)),
        100..150 => format!(
            "XREADGROUP GROUP {group} {consumer} COUNT {} STREAMS {name} >",
            count + 1
        ),
        150..160 => format!("XREADGROUP GROUP {group} {consumer} COUNT 5 STREAMS {name} 0"),
        160..165 => format!("XREADGROUP GROUP {group} {consumer} NOACK COUNT 5 STREAMS first second > >"),
        165..210 => format!("XACK {name} {group} {} {} {}", old(dice), old(dice), old(dice)),
        210..225 => format!("XCLAIM {name} {group} {consumer} 0 {} {}", old(dice), old(dice)),
        225..235 => format!("XCLAIM {name} {group} {consumer} 0 {} FORCE", old(dice)),
        235..245 => format!("XAUTOCLAIM {name} {group} {consumer} 0 0 COUNT {}", count + 1),
        245..260 => format!("XADD {name} MAXLEN ~ 8000 * a {count}"),
        260..270 => format!("XADD {name} NOMKSTREAM MAXLEN 8500 * a {count}"),
        270..280 => format!("XADD {name} {}-{count} a 1", 20_000_000_000_000 + dice.roll(10_000)),
        280..290 => format!("HSET {name} field {count}"),
        _ => format!("XADD {name} * a {count}"),
    }
}

#[test]
fn after_random_writes_to_streams_and_a_barrier_both_sides_are_the_same() {
    let (mut dice, seed, rounds) = seeded();
    let (source, target, copying) = followed(Engine::Redis7, &["first", "second"]);
    let mut app = source.connection();
    let (mut drains, mut in_parts) = (0, 0);
    for round in 0..rounds * 4 {
        let what = format!("HOT_SEED={seed} round {round}");
        let mut last = String::new();
        let whole = whole_copies(&target);
        for _ in 0..dice.roll(60) {
            last = write(&mut dice);
            let words: Vec<&str> = last.split(' ').collect();
            // Some streams and groups are gone at times.
            let _: Result<Value, _> = cmd(words[0]).arg(&words[1..]).query(&mut app);
            if dice.roll(30) == 0 {
                std::thread::sleep(Duration::from_millis(dice.roll(150)));
            }
        }
        // Keys that end shortly have ended on both sides.
        std::thread::sleep(Duration::from_millis(200));
        if dice.roll(12) == 0 {
            // Both connections of the copy are lost, within whatever it does.
            source.script("CLIENT KILL TYPE normal SKIPME yes");
            app = source.connection();
            let _: Result<Value, _> = cmd("XADD")
                .arg("first")
                .arg("*")
                .arg("while")
                .arg("cut")
                .query(&mut app);
            until_whole(&copying);
        }
        assert_drained(&source, &target, &copying, &format!("{what}: {last}"));
        drains += 1;
        in_parts += u64::from(whole_copies(&target) == whole);
        let mut is_small = |name| cmd("XLEN").arg(name).query(&mut app).unwrap_or(0) < ENTRIES / 2;
        if is_small("first") || is_small("second") {
            source.script("DEL first second");
            ["first", "second"].iter().for_each(|name| fill(&source, name));
            assert_drained(&source, &target, &copying, &what);
        }
    }
    assert!(in_parts > 0, "each of {drains} rounds copied a stream whole");
}
