use super::super::effect::effect;
use super::*;
use crate::effects::redis::testing::{TestServer, command};
use ::redis::{Pipeline, cmd};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sandbox::addon::Engine;
use std::collections::BTreeSet;

fn words_of(text: &str) -> Vec<Argument> {
    text.split(' ').map(|word| Argument::Kept(word.into())).collect()
}

fn strings(words: &[&str]) -> Value {
    Value::Array(words.iter().map(|word| Value::SimpleString((*word).into())).collect())
}

/// A flat list of names and values, as RESP2 has it.
fn flat(pairs: Vec<(&str, Value)>) -> Value {
    let each = pairs.into_iter();
    Value::Array(
        each.flat_map(|(name, value)| [Value::BulkString(name.into()), value])
            .collect(),
    )
}

fn part(kind: &str, numbers: &[(&str, i64)]) -> Value {
    let numbers = numbers
        .iter()
        .map(|(name, number)| (*name, Value::Int(*number)))
        .collect();
    flat(vec![("type", Value::BulkString(kind.into())), ("spec", flat(numbers))])
}

fn spec(flags: &[&str], begin: Value, find: Value) -> Value {
    flat(vec![
        ("flags", strings(flags)),
        ("begin_search", begin),
        ("find_keys", find),
    ])
}

fn entry(name: &str, flags: &[&str], specs: Vec<Value>, subcommands: Vec<Value>) -> Value {
    Value::Array(vec![
        Value::BulkString(name.into()),
        Value::Int(-2),
        strings(flags),
        Value::Int(0),
        Value::Int(0),
        Value::Int(0),
        strings(&["@write"]),
        strings(&[]),
        Value::Array(specs),
        Value::Array(subcommands),
    ])
}

fn one(index: i64) -> (Value, Value) {
    (
        part("index", &[("index", index)]),
        part("range", &[("lastkey", 0), ("keystep", 1), ("limit", 0)]),
    )
}

/// Commands that came with Redis 8.2, 8.4 and Valkey 9, as those engines list them.
fn newest() -> CommandTable {
    let write_one = |name: &str| {
        let (begin, find) = one(1);
        entry(
            name,
            &["write", "fast"],
            vec![spec(&["RW", "delete"], begin, find)],
            vec![],
        )
    };
    let msetex = spec(
        &["OW", "update"],
        part("index", &[("index", 1)]),
        part("keynum", &[("keynumidx", 0), ("firstkey", 1), ("keystep", 2)]),
    );
    let (begin, find) = one(1);
    let reads = spec(&["RO", "access"], begin, find);
    let (begin, find) = one(2);
    let both = spec(&["RW"], begin, find);
    let incomplete = spec(
        &["RW", "incomplete"],
        part("index", &[("index", 1)]),
        part("range", &[("lastkey", 0), ("keystep", 1), ("limit", 0)]),
    );
    CommandTable::parse(Value::Array(vec![
        write_one("xdelex"),
        write_one("xackdel"),
        write_one("delex"),
        write_one("delifeq"),
        entry("msetex", &["write", "denyoom", "movablekeys"], vec![msetex], vec![]),
        entry("digest", &["readonly", "fast"], vec![reads.clone()], vec![]),
        entry("mixed", &["write"], vec![reads, both], vec![]),
        entry("partly", &["write"], vec![incomplete], vec![]),
        entry("scripted", &["may_replicate"], vec![], vec![]),
        entry("dropall", &["write"], vec![], vec![]),
        entry(
            "holder",
            &[],
            vec![],
            vec![
                write_one("holder|put"),
                entry("holder|show", &["readonly"], vec![], vec![]),
            ],
        ),
    ]))
}

fn of(table: &CommandTable, text: &str) -> Effect {
    effect(&words_of(text), table).unwrap()
}

fn names(effect: &Effect) -> Vec<String> {
    let keys = match effect {
        Effect::Write(keys) | Effect::Removal(keys) => keys.clone(),
        Effect::FieldRemoval(key, _) => vec![key.clone()],
        other => panic!("{other:?} names no keys"),
    };
    keys.iter()
        .map(|key| String::from_utf8_lossy(&key.name).into_owned())
        .collect()
}

#[test]
fn commands_that_are_not_listed_write_the_keys_that_the_engine_tells() {
    let table = newest();
    for (command, keys) in [
        ("XDELEX s KEEPREF IDS 1 1-1", vec!["s"]),
        ("xackdel s g KEEPREF IDS 1 1-1", vec!["s"]),
        ("DELEX k IFEQ v", vec!["k"]),
        ("DELIFEQ k v", vec!["k"]),
        ("MSETEX 2 a 1 b 2 PX 5", vec!["a", "b"]),
        ("MIXED read written", vec!["written"]),
        ("HOLDER put x", vec!["put"]),
    ] {
        assert_eq!(names(&of(&table, command)), keys, "{command}");
    }
    for command in ["DIGEST k", "HOLDER SHOW x"] {
        assert_eq!(of(&table, command), Effect::Nothing, "{command}");
    }
    for command in [
        "PARTLY k",
        "SCRIPTED k",
        "DROPALL",
        "HOLDER other",
        "NEVERHEARD k",
        "MSETEX many a 1",
        "MSETEX 9 a 1",
        "MSETEX 9223372036854775807 a 1",
        "MIXED read",
        "FLUSHALL",
    ] {
        assert_eq!(of(&table, command), Effect::Everything, "{command}");
    }
    assert_eq!(of(&CommandTable::default(), "DELIFEQ k v"), Effect::Everything);
}

#[test]
fn replies_of_any_form_are_read_without_harm() {
    for reply in [
        Value::Nil,
        Value::Array(vec![
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![Value::Int(1)]),
        ]),
        // As servers before Redis 7 answer: no key specifications.
        Value::Array(vec![Value::Array(vec![
            Value::BulkString(b"delifeq".to_vec()),
            Value::Int(3),
            strings(&["write"]),
            Value::Int(1),
            Value::Int(1),
            Value::Int(1),
        ])]),
    ] {
        let table = CommandTable::parse(reply);
        assert_eq!(of(&table, "DELIFEQ k v"), Effect::Everything);
    }
}

/// Whatever an engine can be asked to write, our effect has the keys that the engine itself finds in it. Arguments are drawn from words of which some mean something.
async fn every_write_is_covered(server: &TestServer) {
    let mut connection = server.connect(0).await;
    let table = CommandTable::of(&mut connection).await;
    let writes: Vec<Vec<u8>> = connection
        .query(&command("COMMAND LIST FILTERBY ACLCAT write"))
        .await
        .unwrap();
    assert!(writes.len() > 80, "{}", writes.len());
    let word = proptest::sample::select(vec![
        "1",
        "2",
        "3",
        "a",
        "b",
        "c",
        "d",
        "e",
        "STORE",
        "STOREDIST",
        "DB",
        "FIELDS",
        "KEYS",
        "AND",
        "CREATE",
        "EX",
        "LIMIT",
    ]);
    let drawn = proptest::collection::vec(word, 0..8);
    let mut runner = TestRunner::deterministic();
    let mut uncovered = BTreeSet::new();
    for name in writes {
        let name = String::from_utf8(name).unwrap();
        let mut asked = Pipeline::new();
        let mut lines: Vec<Vec<String>> = Vec::new();
        for _ in 0..60 {
            // A subcommand is listed as `xgroup|create`.
            let mut words: Vec<String> = name.split('|').map(Into::into).collect();
            words.extend(
                drawn
                    .new_tree(&mut runner)
                    .unwrap()
                    .current()
                    .iter()
                    .map(|word| (*word).to_string()),
            );
            asked.add_command(cmd("COMMAND").arg("GETKEYSANDFLAGS").arg(&words).to_owned());
            lines.push(words);
        }
        let mut has_keys = false;
        for (words, answer) in lines.into_iter().zip(connection.ask_all(&asked).await.unwrap()) {
            // An error: these arguments are none for this command.
            let Value::Array(found) = answer else { continue };
            has_keys = true;
            let arguments: Vec<Argument> = words.iter().map(|word| Argument::Kept(word.clone().into())).collect();
            let effect = effect(&arguments, &table).unwrap();
            if effect == Effect::Everything {
                continue;
            }
            let ours = names(&effect);
            for key in found {
                let parts = list(key).unwrap();
                let (key, flags) = (text(&parts[0]).unwrap(), self::words(parts[1].clone()));
                // COPY and MOVE name a database that the engine does not tell of.
                if !flags.contains(&"RO".to_string()) && !ours.contains(&key) {
                    uncovered.insert(format!("{}: {key} is not in {ours:?}", words.join(" ")));
                }
            }
        }
        // One that names no key changes whole databases, or none: it must not pass for less.
        let plain: Vec<Argument> = name.split('|').map(|word| Argument::Kept(word.into())).collect();
        if !has_keys && !matches!(effect(&plain, &table).unwrap(), Effect::Everything | Effect::Message) {
            uncovered.insert(format!("{name}: no arguments were found for it"));
        }
    }
    assert!(uncovered.is_empty(), "{uncovered:#?}");
}

#[tokio::test]
async fn every_write_of_redis_7_is_covered() {
    every_write_is_covered(&TestServer::start(&[]).await).await;
}

#[tokio::test]
async fn every_write_of_redis_8_is_covered() {
    if let Some(server) = TestServer::start_engine(Engine::Redis8, &[]).await {
        every_write_is_covered(&server).await;
    }
}

#[tokio::test]
async fn every_write_of_valkey_8_is_covered() {
    if let Some(server) = TestServer::start_engine(Engine::Valkey8, &[]).await {
        every_write_is_covered(&server).await;
    }
}
