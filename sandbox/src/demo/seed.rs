//! Fills a Redis with keys of all types. The same seed gives the same keys.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use redis::Pipeline;
use serde::Serialize;

use super::keys;
use crate::connect::Target;

/// The keys to fill in.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// How many keys, in all databases together.
    pub keys: u64,
    /// One database, or two.
    pub databases: u32,
    pub seed: u64,
}

/// Counts the keys that were filled in.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Seeded {
    pub keys: u64,
    pub by_type: BTreeMap<&'static str, u64>,
    pub with_expiry: u64,
    pub seconds: f64,
}

/// Keys that are sent at once.
const BATCH: u64 = 500;
/// One key in this number is big.
const BIG_EVERY: u64 = 20_000;

impl Seed {
    /// Writes all keys. What stood under their names is replaced, so that it can be repeated.
    pub async fn fill(self, target: &Target) -> Result<Seeded> {
        let start = Instant::now();
        let [first, second] = keys::DATABASES;
        if self.databases == 1 {
            let mut seeded = self.fill_database(target, first).await?;
            seeded.seconds = seconds_since(start);
            return Ok(seeded);
        }
        let (one, other) = tokio::join!(self.fill_database(target, first), self.fill_database(target, second));
        let mut seeded = one?;
        let other = other?;
        seeded.keys += other.keys;
        seeded.with_expiry += other.with_expiry;
        for (kind, count) in other.by_type {
            *seeded.by_type.entry(kind).or_default() += count;
        }
        seeded.seconds = seconds_since(start);
        Ok(seeded)
    }

    async fn fill_database(self, target: &Target, database: i64) -> Result<Seeded> {
        let doing = || format!("fill database {database} of {}", target.address());
        let mut connection = target
            .connect(database, Duration::from_secs(60))
            .await
            .with_context(doing)?;
        let mut seeded = Seeded::default();
        // A quarter of the keys goes to the second database.
        let is_here = |number: &u64| self.databases == 1 || (number % 4 == 3) == (database == keys::DATABASES[1]);
        let mut batch = redis::pipe();
        let mut in_batch = 0;
        for number in (0..self.keys).filter(is_here) {
            let mut random = Random(self.seed.wrapping_mul(0x9E37_79B9) ^ number);
            let kind = put_key(&mut batch, &mut random, number);
            seeded.with_expiry += u64::from(put_expiry(&mut batch, &mut random, kind, number));
            *seeded.by_type.entry(kind).or_default() += 1;
            seeded.keys += 1;
            in_batch += 1;
            if in_batch == BATCH {
                batch.exec_async(&mut connection.commands).await.with_context(doing)?;
                batch.clear();
                in_batch = 0;
            }
        }
        if in_batch > 0 {
            batch.exec_async(&mut connection.commands).await.with_context(doing)?;
        }
        Ok(seeded)
    }
}

fn seconds_since(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 100.0).round() / 100.0
}

/// Returns a key's name. Most are plain; some are no text at all, which Redis allows.
fn name(kind: &str, number: u64) -> Vec<u8> {
    match number % 97 {
        13 => format!("seed:{kind}:{number}:naïve ключ\n").into_bytes(),
        57 => [format!("seed:{kind}:{number}:").as_bytes(), &[0, 255, 10, 128]].concat(),
        _ => format!("seed:{kind}:{number}").into_bytes(),
    }
}

fn put_key(batch: &mut Pipeline, random: &mut Random, number: u64) -> &'static str {
    let big = number % BIG_EVERY;
    let kind = match (big, random.below(100)) {
        (0, _) | (_, 0..60) => "string",
        (1, _) | (_, 60..68) => "list",
        (2, _) | (_, 68..76) => "set",
        (4, _) | (_, 76..86) => "hash",
        (5, _) | (_, 86..96) => "zset",
        _ => "stream",
    };
    let name = name(kind, number);
    let count = if big < 6 { 2000 } else { 1 + random.below(12) };
    if kind != "string" {
        batch.cmd("UNLINK").arg(&name).ignore();
    }
    match kind {
        "string" => {
            let value = if big == 0 {
                vec![b'x'; 512 * 1024]
            } else {
                random.value()
            };
            batch.cmd("SET").arg(&name).arg(value).ignore();
        }
        "list" => {
            let items: Vec<Vec<u8>> = (0..count).map(|_| random.value()).collect();
            batch.cmd("RPUSH").arg(&name).arg(items).ignore();
        }
        "set" => {
            // Sets of numbers are kept differently from sets of text.
            let numbers = random.below(2) == 0;
            let members: Vec<Vec<u8>> = (0..count)
                .map(|member| {
                    if numbers {
                        (member * 7).to_string().into_bytes()
                    } else {
                        [&random.value()[..], b" ", &member.to_le_bytes()].concat()
                    }
                })
                .collect();
            batch.cmd("SADD").arg(&name).arg(members).ignore();
        }
        "hash" => {
            let mut command = redis::cmd("HSET");
            command.arg(&name);
            for field in 0..count {
                command.arg(format!("field:{field}")).arg(random.value());
            }
            batch.add_command(command).ignore();
        }
        "zset" => {
            let mut command = redis::cmd("ZADD");
            command.arg(&name);
            for member in 0..count {
                let score = match random.below(20) {
                    0 => "inf".to_owned(),
                    1 => "-inf".to_owned(),
                    2 => "0.1".to_owned(),
                    other => format!("{}", other as f64 * 1.37 - 9.0),
                };
                command.arg(score).arg(format!("member:{member}"));
            }
            batch.add_command(command).ignore();
        }
        _ => put_stream(batch, random, &name, count),
    }
    kind
}

/// Adds a stream with a deleted entry, two groups, and delivered entries without acknowledgement.
fn put_stream(batch: &mut Pipeline, random: &mut Random, name: &[u8], count: u64) {
    let count = count.max(3);
    for entry in 1..=count {
        batch
            .cmd("XADD")
            .arg(name)
            .arg(format!("{}-{entry}", 1_700_000_000_000 + entry))
            .arg("field");
        batch.arg(random.value()).ignore();
    }
    for group in ["mailers", "auditors"] {
        batch.cmd("XGROUP").arg("CREATE").arg(name).arg(group).arg("0").ignore();
    }
    batch
        .cmd("XREADGROUP")
        .arg("GROUP")
        .arg("mailers")
        .arg("consumer-1")
        .arg("COUNT")
        .arg(2);
    batch.arg("STREAMS").arg(name).arg(">").ignore();
    batch
        .cmd("XACK")
        .arg(name)
        .arg("mailers")
        .arg(format!("{}-1", 1_700_000_000_001u64))
        .ignore();
    batch
        .cmd("XDEL")
        .arg(name)
        .arg(format!("{}-3", 1_700_000_000_003u64))
        .ignore();
}

/// A tenth of the keys expires within a week, and one in a hundred within minutes.
fn put_expiry(batch: &mut Pipeline, random: &mut Random, kind: &str, number: u64) -> bool {
    let milliseconds = match random.below(100) {
        0 => 60_000 + random.below(540_000),
        1..=10 => 3_600_000 + random.below(7 * 86_400_000),
        _ => return false,
    };
    batch.cmd("PEXPIRE").arg(name(kind, number)).arg(milliseconds).ignore();
    true
}

/// SplitMix64 (Steele, Lea and Flood, 2014): enough to vary values, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Returns numbers, nothing, text or bytes: Redis stores each in its own way.
    fn value(&mut self) -> Vec<u8> {
        match self.below(10) {
            0 => Vec::new(),
            1 | 2 => self.below(1_000_000).to_string().into_bytes(),
            3 => (0..=self.below(40)).map(|_| self.below(256).to_le_bytes()[0]).collect(),
            4 => format!("{:0>120}", self.next()).into_bytes(),
            _ => format!("value {:x}", self.next()).into_bytes(),
        }
    }
}
