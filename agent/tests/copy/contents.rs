//! Everything that a server has, read by other means than the copy has.

use super::rig::Redis;
use redis::{Connection, Value, cmd};
use std::collections::BTreeMap;

/// How much a text about a key says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Type, value, all times and counters.
    Whole,
    /// As much as Redis 6.2 knows.
    Old,
}

/// All that is said about a key. Without PEXPIRETIME its end is known about, in milliseconds since 1970.
#[derive(Debug)]
pub struct Said {
    text: String,
    about: Option<i64>,
    /// When each pending entry was delivered: two clocks were read for each.
    delivered: Vec<i64>,
}

impl PartialEq for Said {
    fn eq(&self, other: &Said) -> bool {
        let near = |one: i64, another: i64| (one - another).abs() < 1000;
        let ends = match (self.about, other.about) {
            (Some(one), Some(another)) => near(one, another),
            (one, another) => one == another,
        };
        let mut both = self.delivered.iter().zip(&other.delivered);
        ends && self.text == other.text && both.all(|(one, another)| near(*one, *another))
    }
}

/// Returns what is said about each database and key.
pub fn of(redis: &Redis, depth: Depth) -> BTreeMap<String, Said> {
    let mut connection = redis.connection();
    let mut found = BTreeMap::new();
    for database in 0..16 {
        cmd("SELECT").arg(database).exec(&mut connection).unwrap();
        let keys: Vec<Vec<u8>> = cmd("KEYS").arg("*").query(&mut connection).unwrap();
        for key in keys {
            let name = format!("{database} {}", String::from_utf8_lossy(&key));
            found.insert(name, text_of(&mut connection, &key, depth));
        }
    }
    found
}

/// Fails with the first keys that differ.
pub fn assert_same(source: &Redis, target: &Redis, depth: Depth, what: &str) {
    let (source, target) = (of(source, depth), of(target, depth));
    let keys = source.keys().chain(target.keys());
    let short = |said: Option<&Said>| said.map(|said| (said.text.chars().take(600).collect::<String>(), said.about));
    let wrong: Vec<_> = keys
        .filter(|key| source.get(*key) != target.get(*key))
        .take(3)
        .map(|key| (key, short(source.get(key)), short(target.get(key))))
        .collect();
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
}

fn ask(connection: &mut Connection, words: &[&[u8]]) -> Option<Value> {
    let mut command = cmd(std::str::from_utf8(words[0]).unwrap());
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query(connection).ok()
}

/// Returns milliseconds since 1970 by the server's clock.
fn now(connection: &mut Connection) -> i64 {
    let (seconds, micros): (i64, i64) = cmd("TIME").query(connection).unwrap();
    seconds * 1000 + micros / 1000
}

fn text_of(connection: &mut Connection, key: &[u8], depth: Depth) -> Said {
    let kind: String = cmd("TYPE").arg(key).query(connection).unwrap();
    let whole: &[&[u8]] = match kind.as_str() {
        "string" => &[b"GET", key],
        "list" => &[b"LRANGE", key, b"0", b"-1"],
        "set" => &[b"SMEMBERS", key],
        "zset" => &[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"],
        "hash" => &[b"HGETALL", key],
        "stream" => &[b"XRANGE", key, b"-", b"+"],
        other => panic!("no key has the type {other}"),
    };
    let value = ask(connection, whole).unwrap();
    let (end, about) = match depth {
        Depth::Whole => (ask(connection, &[b"PEXPIRETIME", key]), None),
        Depth::Old => match ask(connection, &[b"PTTL", key]) {
            Some(Value::Int(left @ 0..)) => (None, Some(now(connection) + left)),
            Some(never) => (Some(never), None),
            None => panic!("no answer to PTTL"),
        },
    };
    let mut delivered = Vec::new();
    let value = match (kind.as_str(), value) {
        ("set", Value::Array(mut members)) => {
            members.sort_by_key(|member| format!("{member:?}"));
            format!("{members:?}")
        }
        ("zset", Value::Array(members)) => scores(&members),
        ("hash", Value::Array(flat)) => fields(connection, key, &flat),
        ("hash", Value::Map(pairs)) => {
            let flat: Vec<Value> = pairs.into_iter().flat_map(|(field, value)| [field, value]).collect();
            fields(connection, key, &flat)
        }
        ("stream", entries) => stream(connection, key, &entries, depth, &mut delivered),
        (_, value) => format!("{value:?}"),
    };
    Said {
        text: format!("{kind} ends {end:?}: {value}"),
        about,
        delivered,
    }
}

/// Engines write one score with more or fewer digits.
fn scores(members: &[Value]) -> String {
    let pairs = members.chunks(2).map(|pair| {
        let score: f64 = wire::reply::text(&pair[1]).unwrap().parse().unwrap();
        format!("{:?} {score:?} {:x}", pair[0], score.to_bits())
    });
    pairs.collect::<Vec<_>>().join("; ")
}

fn fields(connection: &mut Connection, key: &[u8], flat: &[Value]) -> String {
    let mut fields = Vec::new();
    for pair in flat.chunks(2) {
        let Value::BulkString(field) = &pair[0] else {
            panic!("a field is a string")
        };
        let end = match ask(connection, &[b"HPEXPIRETIME", key, b"FIELDS", b"1", field]) {
            Some(Value::Array(ends)) => format!("{ends:?}"),
            // Without such fields none of them ends.
            _ => "[int(-1)]".into(),
        };
        fields.push(format!("{pair:?} ends {end}"));
    }
    fields.sort();
    fields.join("; ")
}

fn stream(connection: &mut Connection, key: &[u8], entries: &Value, depth: Depth, delivered: &mut Vec<i64>) -> String {
    let named = |value: Option<Value>, names: &[&str]| -> String {
        let fields = value.and_then(wire::reply::pairs).unwrap_or_default();
        let shown = names.iter().map(|name| format!("{name}={:?}", fields.get(*name)));
        shown.collect::<Vec<_>>().join(" ")
    };
    let all = |names: &'static [&'static str], old: usize| if depth == Depth::Old { &names[..old] } else { names };
    let counters = all(
        &["length", "last-generated-id", "max-deleted-entry-id", "entries-added"],
        2,
    );
    let mut text = named(ask(connection, &[b"XINFO", b"STREAM", key]), counters);
    text += &format!(" {entries:?}");
    let groups = ask(connection, &[b"XINFO", b"GROUPS", key]).and_then(wire::reply::array);
    for group in groups.unwrap_or_default() {
        let fields = wire::reply::pairs(group.clone()).unwrap();
        let Some(Value::BulkString(name)) = fields.get("name") else {
            panic!("a group has a name")
        };
        let told = all(
            &["name", "consumers", "pending", "last-delivered-id", "entries-read"],
            4,
        );
        text += &format!("\n{}", named(Some(group), told));
        let consumers = ask(connection, &[b"XINFO", b"CONSUMERS", key, name]).and_then(wire::reply::array);
        for consumer in consumers.unwrap_or_default() {
            text += &format!("\n  {}", named(Some(consumer), &["name", "pending"]));
        }
        let now = now(connection);
        let pending = ask(connection, &[b"XPENDING", key, name, b"-", b"+", b"100000"]).and_then(wire::reply::array);
        for entry in pending.unwrap_or_default() {
            let Value::Array(mut entry) = entry else {
                panic!("a pending entry is a list")
            };
            let Value::Int(idle) = entry.remove(2) else {
                panic!("an idle time is a number")
            };
            delivered.push(now - idle);
            text += &format!("\n  {entry:?}");
        }
    }
    text
}
