//! Strings are read many at once, and keys without ends are not asked for them: nothing is missed by that.

use super::relay::Relay;
use super::rig::{Copying, Redis, until};
use super::watching::until_whole;
use infra_agent::copy::{Request, Wish};
use sandbox::addon::Engine;
use std::time::{Duration, Instant};

const KEYS: usize = 20_000;

/// Adds strings of every form, and some keys of other types: `others` of a thousand.
fn fill(redis: &Redis, others: usize) {
    let mut connection = redis.connection();
    for from in (0..KEYS).step_by(1000) {
        let mut batch = redis::pipe();
        for at in from..from + 1000 {
            let key = [b"key:\r\n\xff".as_slice(), at.to_string().as_bytes()].concat();
            if at % 1000 < others {
                batch.cmd("RPUSH").arg(key).arg(at).ignore();
                continue;
            }
            let value = match at % 7 {
                0 => Vec::new(),
                1 => at.to_string().into_bytes(),
                2 => vec![0xff; at % 300],
                // Too long to be read with others.
                3 => vec![b'x'; 1500],
                4 => at.to_le_bytes().to_vec(),
                5 => vec![b'a'; 63 + at % 3],
                _ => b"-0012".to_vec(),
            };
            batch.cmd("SET").arg(key).arg(value).ignore();
        }
        batch.exec(&mut connection).unwrap();
    }
}

/// Returns how often a command was called.
fn calls(redis: &Redis, name: &str) -> u64 {
    let text = redis.text(&["INFO", "commandstats"]);
    let start = format!("cmdstat_{name}:calls=");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[test]
fn strings_are_read_together_and_whatever_else_there_is_comes_too() {
    let (old, new) = (Engine::Redis7, Engine::Redis8);
    // Nearly all are strings, about half, nearly none.
    for (engine, others) in [(old, 0), (old, 30), (old, 500), (old, 990), (new, 30)] {
        let (source, target) = (Redis::start(engine), Redis::start(engine));
        fill(&source, others);
        source.script("SELECT 3\nSET ends 1 PX 3600000\nSET stays 1\nHSET hash a 1\nPEXPIRE hash 3600000");
        let copying = Copying::watching(&source, &target);
        until_whole(&copying);
        let (strings, ends) = (calls(&source, "mget"), calls(&source, "pexpiretime"));
        assert_eq!(target.contents(), source.contents(), "{engine:?} {others}");
        assert_eq!(strings > 20, others < 990, "{engine:?} {others}: {strings} MGET");
        assert!(
            ends < 20,
            "{engine:?} {others}: no key of database 0 has an end, and {ends} were asked for one"
        );
        let report = copying.sweep();
        assert_eq!((report.keys, report.refused), (KEYS as u64 + 3, 0), "{report:?}");
        // The few strings among many others may be read by the other way than before, and are written again.
        assert!(report.changed < KEYS as u64 / 50, "{report:?}");
        assert_eq!(report.deleted, 0, "{report:?}");
    }
}

#[test]
fn a_key_that_gets_an_end_while_no_other_has_one_has_it_on_the_master() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis8));
    fill(&source, 30);
    let copying = Copying::watching(&source, &target);
    let mut connection = source.connection();
    let begun = Instant::now();
    let mut at = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        at = (at + 7919) % KEYS;
        let key = [b"key:\r\n\xff".as_slice(), at.to_string().as_bytes()].concat();
        let mut written = redis::pipe();
        match at % 4 {
            0 => written.cmd("PERSIST").arg(key),
            1 => written.cmd("DEL").arg(key),
            _ => written.cmd("PEXPIRE").arg(key).arg(3_600_000 + at),
        };
        written.exec(&mut connection).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    until_whole(&copying);
    let marked = Request {
        wish: Wish::Marked,
        ..Request::default()
    };
    until("nothing is marked", || copying.ask(marked).is_ok());
    assert!(source.contents().len() < KEYS, "none was deleted");
    assert_eq!(target.digest(), source.digest());
    let ends = |redis: &Redis| {
        let mut connection = redis.connection();
        let mut asked = redis::pipe();
        for at in 0..KEYS {
            let key = [b"key:\r\n\xff".as_slice(), at.to_string().as_bytes()].concat();
            asked.cmd("PEXPIRETIME").arg(key);
        }
        asked.query::<Vec<i64>>(&mut connection).unwrap()
    };
    assert_eq!(ends(&target), ends(&source));
}

#[test]
fn a_source_that_refuses_to_give_several_keys_at_once_is_copied_key_by_key() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis7));
    fill(&source, 30);
    source.script("ACL SETUSER default -mget");
    let report = Copying::start(&source, &target).sweep();
    assert_eq!((report.keys, report.refused), (KEYS as u64, 0), "{report:?}");
    assert_eq!(target.contents(), source.contents());
    // It may be refused later, too.
    let target = Redis::start(Engine::Redis7);
    source.script("ACL SETUSER default +mget");
    let copying = Copying::start(&source, &target);
    copying.sweep();
    source.script("ACL SETUSER default -mget");
    let report = copying.sweep();
    assert_eq!((report.keys, report.refused), (KEYS as u64, 0), "{report:?}");
    assert_eq!(target.contents(), source.contents());
}

#[test]
fn a_source_whose_scan_tells_no_types_is_copied_key_by_key() {
    let (mut source, target) = (Redis::start(Engine::Redis6), Redis::start(Engine::Redis7));
    fill(&source, 30);
    let (relay, port) = (Relay::without_types(source.port), source.port);
    source.port = relay.port;
    let copying = Copying::start(&source, &target);
    source.port = port;
    for _ in 0..2 {
        let report = copying.sweep();
        assert_eq!((report.keys, report.refused), (KEYS as u64, 0), "{report:?}");
    }
    assert_eq!(target.digest(), source.digest());
    assert_eq!(calls(&source, "mget"), 0);
}

#[test]
fn a_sweep_that_is_stopped_again_and_again_passes_no_key_that_it_has_not_read() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis7));
    // A few of each step are no strings, and are read after those of the next.
    fill(&source, 50);
    let copying = Copying::gentle(&source, &target, 1 << 20);
    // A request that needs a watch stops the sweep, and cannot be granted until the sweep has ended.
    let marked = Request {
        wish: Wish::Marked,
        ..Request::default()
    };
    let mut stops = 0;
    // The sweep has to be under way: requests that come one after the other keep it from beginning.
    std::thread::sleep(Duration::from_millis(1500));
    until("the watch is whole", || {
        stops += 1;
        // A sweep that is stopped again and again may never end.
        if stops <= 10 {
            drop(copying.ask(marked));
        }
        std::thread::sleep(Duration::from_millis(100));
        super::watching::look(&copying).whole
    });
    assert!(stops > 4, "it was stopped {stops} times");
    assert_eq!(target.contents(), source.contents());
}

#[test]
fn a_key_that_goes_during_a_sweep_goes_on_the_master() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis7));
    fill(&source, 30);
    let copying = Copying::watching(&source, &target);
    until_whole(&copying);
    std::thread::scope(|scope| {
        let sweeps = scope.spawn(|| (0..10).map(|_| copying.sweep().refused).sum::<u64>());
        let mut connection = source.connection();
        for at in 0..KEYS / 2 {
            let key = [b"key:\r\n\xff".as_slice(), at.to_string().as_bytes()].concat();
            redis::cmd("DEL").arg(key).exec(&mut connection).unwrap();
        }
        assert_eq!(sweeps.join().unwrap(), 0);
    });
    until("the deleted keys are gone", || target.contents() == source.contents());
    assert_eq!(target.keys(), KEYS as u64 / 2);
}
