//! Random values of every type, small and large, over every way of copying. They are read again by
//! other means, and have to be the same.

use super::contents::{self, Depth};
use super::rig::{Copying, Redis};
use redis::{Connection, Pipeline, cmd, pipe};
use sandbox::addon::Engine;
use std::time::SystemTime;

const KEYS: u64 = 60;

/// A sequence of numbers that a seed repeats.
struct Random(u64);

impl Random {
    fn seeded() -> Random {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seed = std::env::var("COPY_SEED").map_or(now.as_nanos() as u64, |seed| seed.parse().unwrap());
        eprintln!("COPY_SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// Returns some bytes: mostly text, sometimes any.
    fn bytes(&mut self, length: u64) -> Vec<u8> {
        let any = self.below(4) == 0;
        let byte = |random: &mut Random| {
            let byte = random.below(256) as u8;
            if any { byte } else { b'a' + byte % 26 }
        };
        (0..length).map(|_| byte(self)).collect()
    }

    /// Returns how many elements a value has: few, around the limits of small encodings, or so many
    /// that it is copied in parts.
    fn count(&mut self) -> u64 {
        match self.below(8) {
            0 => 20_000 + self.below(20_000),
            1 => 120 + self.below(20),
            2 => 500 + self.below(30),
            _ => 1 + self.below(20),
        }
    }
}

fn fill(connection: &mut Connection, random: &mut Random, fields_end: bool) {
    for number in 0..KEYS {
        let name = format!("key:{number}:\u{e9}\r\n");
        let key = name.as_bytes();
        let mut batch = pipe();
        match number % 6 {
            0 => {
                let length = [0, 1, 20, 1000, 100_000, 3 << 20][random.below(6) as usize] + random.below(3);
                batch.cmd("SET").arg(key).arg(random.bytes(length)).ignore();
            }
            1 => (0..random.count()).for_each(|_| {
                let length = 1 + random.below(60);
                batch.cmd("RPUSH").arg(key).arg(random.bytes(length)).ignore();
            }),
            2 => {
                let numbers = random.below(2) == 0;
                (0..random.count()).for_each(|at| {
                    let member = if numbers {
                        at.to_string().into_bytes()
                    } else {
                        random.bytes(40)
                    };
                    batch.cmd("SADD").arg(key).arg(member).ignore();
                });
            }
            3 => scores(&mut batch, key, random),
            4 => fields(&mut batch, key, random, fields_end),
            _ => entries(&mut batch, key, random),
        }
        if number % 5 == 0 {
            batch
                .cmd("PEXPIRE")
                .arg(key)
                .arg(600_000 + random.below(100_000))
                .ignore();
        }
        batch.exec(connection).unwrap();
    }
    cmd("PFADD")
        .arg("visitors")
        .arg(random.bytes(9))
        .arg("b")
        .exec(connection)
        .unwrap();
}

fn scores(batch: &mut Pipeline, key: &[u8], random: &mut Random) {
    for score in [
        "inf",
        "-inf",
        "-0",
        "0.1",
        "1.7976931348623157e308",
        "5e-324",
        "0.30000000000000004",
    ] {
        batch.cmd("ZADD").arg(key).arg(score).arg(format!("m{score}")).ignore();
    }
    for at in 0..random.count() {
        let score = random.below(1 << 31) as f64 / (1 + random.below(1 << 20)) as f64;
        batch
            .cmd("ZADD")
            .arg(key)
            .arg(score)
            .arg(format!("member:{at}:{}", "x".repeat(30)))
            .ignore();
    }
}

fn fields(batch: &mut Pipeline, key: &[u8], random: &mut Random, fields_end: bool) {
    for at in 0..random.count() {
        let length = random.below(70);
        batch
            .cmd("HSET")
            .arg(key)
            .arg(format!("field:{at}"))
            .arg(random.bytes(length))
            .ignore();
        if fields_end && random.below(3) == 0 {
            let end = 600_000 + random.below(5) * 1000;
            let field = format!("field:{at}");
            batch
                .cmd("HPEXPIRE")
                .arg(key)
                .arg(end)
                .arg("FIELDS")
                .arg(1)
                .arg(field)
                .ignore();
        }
    }
}

/// Adds a stream with deleted entries, groups, consumers, and entries that are pending though deleted.
fn entries(batch: &mut Pipeline, key: &[u8], random: &mut Random) {
    let count = random.count();
    let id = |at: u64| format!("{}-{}", 1 + at / 3, at % 3);
    for at in 1..=count {
        let length = random.below(80);
        batch
            .cmd("XADD")
            .arg(key)
            .arg(id(at))
            .arg("f")
            .arg(random.bytes(length))
            .arg("g")
            .arg(at)
            .ignore();
    }
    for group in 0..random.below(4) {
        let start = if group == 2 {
            "$".to_string()
        } else {
            id(random.below(count))
        };
        batch
            .cmd("XGROUP")
            .arg("CREATE")
            .arg(key)
            .arg(format!("group:{group}"))
            .arg(start)
            .ignore();
        batch
            .cmd("XGROUP")
            .arg("CREATECONSUMER")
            .arg(key)
            .arg(format!("group:{group}"))
            .arg("idle")
            .ignore();
        for consumer in 0..3 {
            let read = 1 + random.below(1500);
            batch
                .cmd("XREADGROUP")
                .arg("GROUP")
                .arg(format!("group:{group}"))
                .arg(format!("c{consumer}"));
            batch.arg("COUNT").arg(read).arg("STREAMS").arg(key).arg(">").ignore();
        }
    }
    match random.below(4) {
        0 => {
            batch.cmd("XTRIM").arg(key).arg("MAXLEN").arg(0).ignore();
        }
        1 => {}
        _ => (0..1 + random.below(20)).for_each(|_| {
            let gone = id(1 + random.below(count));
            batch.cmd("XDEL").arg(key).arg(gone).ignore();
        }),
    }
}

#[test]
fn every_value_is_the_same_over_every_way_between_all_engines() {
    let mut random = Random::seeded();
    for (from, to) in [
        (Engine::Redis7, Engine::Redis7),
        (Engine::Redis8, Engine::Redis8),
        (Engine::Redis62, Engine::Valkey8),
        // Formats that the target does not know.
        (Engine::Redis8, Engine::Redis7),
        (Engine::Redis8, Engine::Valkey8),
        (Engine::Valkey8, Engine::Redis7),
    ] {
        let (source, target) = (Redis::start(from), Redis::start(to));
        fill(
            &mut source.connection(),
            &mut random,
            from == Engine::Redis8 && to == Engine::Redis8,
        );
        let copying = Copying::start(&source, &target);
        let what = format!("{from:?} to {to:?}");
        let report = copying.sweep();
        assert_eq!(
            (report.keys, report.refused, report.held),
            (KEYS + 1, 0, 0),
            "{what}: {report:?}"
        );
        assert!(report.in_parts > 0, "{what}: {report:?}");
        let is_foreign =
            from == Engine::Redis8 && to != Engine::Redis8 || (from, to) == (Engine::Valkey8, Engine::Redis7);
        assert_eq!(report.by_type > 0, is_foreign, "{what}: {report:?}");
        let depth = if from == Engine::Redis62 {
            Depth::Old
        } else {
            Depth::Whole
        };
        // Before anybody looks at the values: a look may move members within the source's table, and DUMP
        // gives an equal value in another order then.
        let again = copying.sweep();
        assert_eq!((again.changed, again.keys), (0, KEYS + 1), "{what}: {again:?}");
        contents::assert_same(&source, &target, depth, &what);
        let again = copying.sweep();
        assert_eq!((again.refused, again.keys), (0, KEYS + 1), "{what}: {again:?}");
        contents::assert_same(&source, &target, depth, &what);
    }
}

#[test]
fn a_source_without_dump_and_without_sizes_is_read_by_types() {
    let mut random = Random::seeded();
    let (source, target) = (Redis::start(Engine::Redis8), Redis::start(Engine::Redis8));
    fill(&mut source.connection(), &mut random, true);
    source.script("ACL SETUSER default -dump -memory -object -client -debug");
    let copying = Copying::start(&source, &target);
    let report = copying.sweep();
    assert_eq!((report.keys, report.refused), (KEYS + 1, 0), "{report:?}");
    assert!(report.by_type > 0 && report.in_parts > 0, "{report:?}");
    contents::assert_same(&source, &target, Depth::Whole, "by types alone");
}
