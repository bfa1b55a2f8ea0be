use super::*;
use crate::effect::effect;

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
        // Neither key specifications nor places.
        Value::Array(vec![Value::Array(vec![
            Value::BulkString(b"delifeq".to_vec()),
            Value::Int(3),
            strings(&["write"]),
        ])]),
    ] {
        let table = CommandTable::parse(reply);
        assert_eq!(of(&table, "DELIFEQ k v"), Effect::Everything);
    }
}

#[test]
fn a_server_before_redis_7_tells_the_places_of_keys_alone() {
    let old = |name: &str, flags: &[&str], positions: [i64; 3]| {
        let mut parts = vec![Value::BulkString(name.into()), Value::Int(-2), strings(flags)];
        parts.extend(positions.map(Value::Int));
        parts.push(strings(&["@write"]));
        Value::Array(parts)
    };
    let table = CommandTable::parse(Value::Array(vec![
        old("all", &["write"], [1, -1, 1]),
        old("two", &["write"], [1, 2, 1]),
        old("moving", &["write", "movablekeys"], [1, 1, 1]),
        old("none", &["write"], [0, 0, 0]),
        old("reads", &["readonly"], [1, 1, 1]),
    ]));
    let of = |text: &str| table.effect(text.split(' ').next().unwrap(), &words_of(text)).unwrap();
    let here = |names: &[&str]| {
        let touched = |name: &&str| Touched {
            place: Place::Selected,
            name: (*name).into(),
        };
        Effect::Write(names.iter().map(touched).collect())
    };
    assert_eq!(of("all a b c"), here(&["a", "b", "c"]));
    assert_eq!(of("two a b c"), here(&["a", "b"]));
    assert_eq!(of("moving a"), Effect::Everything);
    assert_eq!(of("none a"), Effect::Everything);
    assert_eq!(of("reads a"), Effect::Nothing);
}
