//! Tries the watch by MONITOR with a real engine: it never tells more than it knows.

use super::rig::{Copying, Redis, until};
use infra_agent::copy::{Request, Wish};
use infra_agent::record::{WatchKind, WatchReport};
use sandbox::addon::Engine;
use std::time::{Duration, Instant};

const LOOK: Request = Request {
    wish: Wish::Look,
    record: false,
    hold: Duration::ZERO,
    accept_deletions: false,
};
const MARKED: Request = Request {
    wish: Wish::Marked,
    ..LOOK
};

pub fn look(copying: &Copying) -> WatchReport {
    copying.ask(LOOK).unwrap().watch.unwrap()
}

pub fn until_whole(copying: &Copying) -> WatchReport {
    let (mut whole, begun) = (None, std::time::Instant::now());
    until("the watch is whole", || {
        // Between two connections the copy only says what is wrong.
        let look = copying.ask(LOOK);
        if begun.elapsed() > Duration::from_secs(50) {
            println!("not whole: {look:?} {:?}", copying.status());
        }
        let watch = look.ok().and_then(|report| report.watch);
        whole = watch.filter(|watch| watch.whole);
        whole.is_some()
    });
    whole.unwrap()
}

fn watched() -> (Redis, Redis, Copying) {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis7));
    source.fill(2000, 10);
    let copying = Copying::watching(&source, &target);
    assert_eq!(until_whole(&copying).kind, WatchKind::Monitor);
    assert_eq!(target.contents(), source.contents());
    // The status is written a moment later.
    until("the sweep is counted", || copying.status().sweeps > 0);
    (source, target, copying)
}

#[test]
fn what_is_written_is_on_the_master_within_a_second_without_a_sweep() {
    let (source, target, copying) = watched();
    let sweeps = copying.status().sweeps;
    for round in 0..20 {
        source.script(&format!(
            "SET a {round}\nRPUSH list {round}\nDEL key:{round}\nEVAL return(redis.call('set','undeclared','{round}')) 0\nEXPIRE key:100 {}",
            1000 + round
        ));
        let begun = Instant::now();
        while target.contents() != source.contents() {
            assert!(begun.elapsed() < Duration::from_secs(5), "it never gets there");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(copying.status().sweeps, sweeps, "it swept again");
}

#[test]
fn a_client_that_waited_before_the_watch_moves_nothing_unseen() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis7));
    source.fill(10, 10);
    // Two pushes are moved by these, and MONITOR began after them.
    let wait = |line: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", source.port)).unwrap();
        std::io::Write::write_all(&mut stream, line.as_bytes()).unwrap();
        stream
    };
    let _first = wait("BLMOVE jobs taken LEFT RIGHT 0\r\n");
    let _second = wait("BRPOPLPUSH other moved 0\r\n");
    until("both wait", || source.number("blocked_clients") == 2);
    let copying = Copying::watching(&source, &target);
    until_whole(&copying);
    for push in ["RPUSH jobs a", "LPUSH other b"] {
        source.script(push);
        until("the element is where it was moved to", || {
            target.contents() == source.contents()
        });
    }
    assert_eq!(until_whole(&copying).breaks, 0);
    // Nobody waits any more, so a push is nothing but a push.
    std::thread::sleep(Duration::from_secs(2));
    let sweeps = copying.status().sweeps;
    source.script("RPUSH jobs c");
    until("the push is there", || target.contents() == source.contents());
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(copying.status().sweeps, sweeps, "it swept again");
}

#[test]
fn after_a_barrier_no_marked_key_is_left() {
    let (source, target, copying) = watched();
    let before = look(&copying).writes;
    for round in 0..50 {
        source.script(&format!("SET a {round}\nSADD set {round}"));
        let report = copying.ask(MARKED).unwrap();
        assert_eq!(target.contents(), source.contents());
        let watch = report.watch.unwrap();
        assert_eq!((watch.marked, watch.writes), (0, before + 2 * (round + 1)));
    }
}

#[test]
fn the_keys_written_since_a_moment_are_named_and_bytes_stay_what_they_are() {
    let (source, _target, copying) = watched();
    let recording = Request { record: true, ..MARKED };
    copying.ask(recording).unwrap();
    source.say(&["SET", "a\n\"\\\u{0}\u{e9}", "1"]);
    source.script("SELECT 3\nSET b 1");
    let mut keys = look(&copying).recorded.unwrap();
    keys.sort_by_key(|key| key.database);
    let names: Vec<(u32, &str)> = keys.iter().map(|key| (key.database, key.name.as_str())).collect();
    assert_eq!(names, [(0, "YQoiXADDqQ=="), (3, "Yg==")]);
}

#[test]
fn emptied_databases_are_explained_by_their_line_and_followed() {
    let (source, target, copying) = watched();
    source.script("FLUSHALL\nSET a 1");
    until("the master follows", || target.keys() == 1);
    assert_eq!(until_whole(&copying).breaks, 0);
    source.script("SELECT 1\nSET b 1\nSWAPDB 0 1");
    until("the swap is followed", || target.contents() == source.contents());
    source.script("RENAME b c");
    until("the rename is followed", || target.contents() == source.contents());
}

#[test]
fn a_broken_watch_is_another_one_and_whole_only_after_a_sweep() {
    let (source, target, copying) = watched();
    let before = look(&copying);
    copying.ask(Request { record: true, ..MARKED }).unwrap();
    source.script("CLIENT KILL TYPE normal");
    source.script("SET while-cut 1");
    let next = until_whole(&copying);
    assert!(next.id != before.id && next.breaks > 0, "{next:?}");
    assert_eq!(next.recorded, None, "it names keys that it did not see being written");
    until("the sweep found it", || target.contents() == source.contents());
}

#[test]
fn a_monitor_that_the_source_cannot_send_fast_enough_is_never_trusted() {
    let (source, target, copying) = watched();
    let before = look(&copying);
    let limit = |text: &str| source.say(&["CONFIG", "SET", "client-output-buffer-limit", text]);
    limit("normal 262144 0 0");
    let value = "v".repeat(1 << 20);
    until("the source closes MONITOR", || {
        source.say(&["SET", "big", &value]);
        let watch = copying.ask(LOOK).ok().and_then(|report| report.watch);
        watch.is_some_and(|watch| watch.id != before.id)
    });
    limit("normal 0 0 0");
    assert!(until_whole(&copying).breaks > 0);
    until("the sweep found it", || target.contents() == source.contents());
}

#[test]
fn a_source_that_was_restarted_has_another_watch() {
    let (mut source, target, copying) = watched();
    let before = look(&copying);
    source.restart_empty();
    source.script("SET new 1");
    until("another watch begins", || {
        copying.ask(LOOK).is_ok_and(|report| {
            report
                .watch
                .is_some_and(|watch| !watch.id.is_empty() && watch.id != before.id)
        })
    });
    // No request explains that 2,000 keys went.
    std::thread::sleep(Duration::from_secs(3));
    assert!(target.keys() > 2000 && !look(&copying).whole);
}

#[test]
fn commands_that_monitor_does_not_show_end_the_watch() {
    let (source, target, copying) = watched();
    let before = look(&copying);
    source.script("DEBUG POPULATE 5 hidden 10");
    assert_ne!(look(&copying).id, before.id, "a hidden command was not noticed");
    until_whole(&copying);
    until("the sweep found it", || target.contents() == source.contents());
}

/// Valkey 8.1.1 shows `x"y` as `"x"y"`, and a backslash as it is.
#[test]
fn a_source_that_does_not_quote_what_monitor_shows_has_no_watch_and_is_copied_all_the_same() {
    let (source, target) = (Redis::start(Engine::Valkey8), Redis::start(Engine::Valkey8));
    source.script("SET a 1");
    let copying = Copying::watching(&source, &target);
    until("it is copied", || target.keys() == 1);
    until("it says why", || {
        look(&copying).why.is_some_and(|why| why.contains("understand MONITOR"))
    });
    let watch = look(&copying);
    assert!(watch.kind == WatchKind::None && !watch.whole, "{watch:?}");
}

#[test]
fn a_source_that_denies_monitor_or_its_counts_has_no_watch_and_is_copied_all_the_same() {
    for rule in ["-monitor", "-info +info|server +info|memory +info|keyspace"] {
        let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis7));
        source.script(&format!("SET a 1\nACL SETUSER default {rule}"));
        let copying = Copying::watching(&source, &target);
        until("it is copied", || target.keys() == 1);
        let watch = look(&copying);
        assert!(watch.kind == WatchKind::None && !watch.whole, "{watch:?}");
        until("it says why", || {
            look(&copying).why.is_some_and(|why| why != "it has not begun yet")
        });
        let error = copying.ask(MARKED).unwrap_err();
        assert!(!format!("{error:#}").is_empty());
    }
}
