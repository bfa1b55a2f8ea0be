//! Large keys that are written all the time: their members are copied, and not the whole key again.

use super::contents::{self, Depth};
use super::rig::{Copying, Redis, until};
use super::watching::until_whole;
use infra_agent::copy::{Request, Wish};
use redis::{Connection, cmd};
use sandbox::addon::Engine;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Members of each large key. Their names are long enough to make it larger than a megabyte.
const MEMBERS: u64 = 9000;
pub const MARKED: Request = Request {
    wish: Wish::Marked,
    record: false,
    hold: Duration::ZERO,
    accept_deletions: false,
};

fn member(number: u64) -> String {
    format!("member:{number:0>100}")
}

/// Adds a large hash, a large set and a large sorted set.
fn fill(connection: &mut Connection) {
    for from in (0..MEMBERS).step_by(500) {
        let (mut hash, mut set, mut sorted) = (cmd("HSET"), cmd("SADD"), cmd("ZADD"));
        hash.arg("hash");
        set.arg("set");
        sorted.arg("sorted");
        for number in from..from + 500 {
            hash.arg(member(number)).arg(number);
            set.arg(member(number));
            sorted.arg(number).arg(member(number));
        }
        for command in [hash, set, sorted] {
            command.exec(connection).unwrap();
        }
    }
}

/// Ends the app of a test, also if the test fails.
pub struct EndsLater<'a>(pub &'a AtomicBool);

impl Drop for EndsLater<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns how often a command ran.
pub fn calls(redis: &Redis, name: &str) -> u64 {
    let text = redis.text(&["INFO", "commandstats"]);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

fn scans(redis: &Redis) -> u64 {
    ["hscan", "sscan", "zscan"].iter().map(|name| calls(redis, name)).sum()
}

/// Starts a copy that follows all large keys by their members.
fn followed(engine: Engine) -> (Redis, Redis, Copying) {
    let (source, target) = (Redis::start(engine), Redis::start(engine));
    fill(&mut source.connection());
    let copying = Copying::watching(&source, &target);
    until_whole(&copying);
    (source, target, copying)
}

#[test]
fn large_keys_that_are_written_all_the_time_are_followed_by_their_members() {
    let (source, target, copying) = followed(Engine::Redis8);
    let (ends, port) = (AtomicBool::new(false), source.port);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
            let mut app = client.get_connection().unwrap();
            let mut number = 0;
            while !ends.load(Ordering::Relaxed) {
                number += 1;
                let name = member(number % MEMBERS);
                cmd("HSET")
                    .arg("hash")
                    .arg(&name)
                    .arg(format!("new {number}"))
                    .exec(&mut app)
                    .unwrap();
                let other = member(number * 7 % MEMBERS);
                cmd("HDEL").arg("hash").arg(other).exec(&mut app).unwrap();
                cmd("SADD")
                    .arg("set")
                    .arg(format!("added {number}"))
                    .exec(&mut app)
                    .unwrap();
                cmd("ZINCRBY").arg("sorted").arg(3).arg(&name).exec(&mut app).unwrap();
                cmd("SET").arg("beat").arg(number).exec(&mut app).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let _end = EndsLater(&ends);
        until("the app writes", || source.text(&["EXISTS", "beat"]) == "1");
        // A key that is read anew at each write would never be as new as this.
        let before = scans(&source);
        for _ in 0..20 {
            let beat = source.text(&["GET", "beat"]);
            let begun = Instant::now();
            until("the members are on the master", || {
                let there = |redis: &Redis| redis.text(&["SISMEMBER", "set", &format!("added {beat}")]);
                there(&target) == "1"
            });
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "it took {:?}",
                begun.elapsed()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(
            scans(&source) <= before + 200,
            "large keys were read anew: {before}, {}",
            scans(&source)
        );
        assert!(calls(&source, "hmget") > 0 && calls(&source, "zmscore") > 0);
    });
    let report = copying.ask(MARKED).unwrap();
    assert_eq!(report.watch.unwrap().marked, 0);
    contents::assert_same(&source, &target, Depth::Whole, "hot keys");
    assert_eq!(copying.status().last_sweep.unwrap().refused, 0);
}

/// Random numbers that a seed repeats.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Returns random numbers, their seed, and how many rounds a test has: `HOT_SEED` repeats a run, `HOT_ROUNDS` makes it
/// longer.
pub fn seeded() -> (Dice, u64, u64) {
    let read = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = read("HOT_SEED").unwrap_or(now.subsec_nanos().into());
    eprintln!("HOT_SEED={seed}");
    (Dice(seed), seed, read("HOT_ROUNDS").unwrap_or(8))
}

/// Returns a random write to one of the large keys. One in some hundred may change any member of it.
fn write(dice: &mut Dice) -> Vec<String> {
    let name = member(dice.roll(MEMBERS + 50));
    let number = dice.roll(1000).to_string();
    let text: String = match dice.roll(420) {
        0 => "SPOP set 3".into(),
        1 => "ZPOPMIN sorted 2".into(),
        2 => "ZREMRANGEBYRANK sorted 5 7".into(),
        3 => "RENAME hash other".into(),
        4 => "DEL hash set".into(),
        5 => format!("PEXPIRE {} 150", ["hash", "set", "sorted"][dice.roll(3) as usize]),
        6 => "EVAL return(redis.call('hset','hash','script','1')) 0".into(),
        7 => "RENAME other hash".into(),
        8 => "COPY sorted second REPLACE".into(),
        9 => "SUNIONSTORE set set few".into(),
        10..80 => format!("HSET hash {name} {number} {number} 1"),
        80..120 => format!("HDEL hash {name} {number}"),
        120..150 => format!("HINCRBY hash counter {number}"),
        150..170 => format!("HPEXPIRE hash {} FIELDS 1 {name}", 60_000 + dice.roll(3) * 1000),
        170..180 => format!("HPEXPIRE hash 50 FIELDS 1 {name}"),
        180..190 => format!("HPERSIST hash FIELDS 1 {name}"),
        190..240 => format!("SADD set {name} {number}"),
        240..280 => format!("SREM set {name}"),
        280..340 => format!("ZADD sorted GT {number} {name} {number} {number}"),
        340..370 => format!("ZINCRBY sorted -2.5 {name}"),
        370..400 => format!("ZREM sorted {name} {number}"),
        _ => format!("SET few:{number} 1"),
    };
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn after_random_writes_to_members_and_a_barrier_both_sides_are_the_same() {
    let (mut dice, seed, rounds) = seeded();
    let (source, target, copying) = followed(Engine::Redis8);
    let mut app = source.connection();
    // On a busy computer whole keys are copied for a while, and members of each kind must have been read.
    let unread = || {
        let names = ["hmget", "smismember", "zmscore"].into_iter();
        names.filter(|name| calls(&source, name) == 0).collect::<Vec<_>>()
    };
    for round in 0..10 * rounds {
        if round >= rounds && unread().is_empty() {
            break;
        }
        for _ in 0..dice.roll(400) {
            let words = write(&mut dice);
            let mut command = cmd(&words[0]);
            command.arg(&words[1..]);
            // Some keys are gone at times.
            let _: Result<redis::Value, _> = command.query(&mut app);
            if dice.roll(60) == 0 {
                std::thread::sleep(Duration::from_millis(dice.roll(200)));
            }
        }
        // Keys that end shortly have ended on both sides.
        std::thread::sleep(Duration::from_millis(400));
        let report = copying.ask(MARKED).unwrap();
        assert_eq!(report.watch.unwrap().marked, 0, "round {round}");
        contents::assert_same(
            &source,
            &target,
            Depth::Whole,
            &format!("HOT_SEED={seed} round {round}"),
        );
        if dice.roll(3) == 0 {
            fill(&mut app);
        }
    }
    assert_eq!(unread(), Vec::<&str>::new(), "no member was read by these");
}
