//! The names that outlive a version of the program: keys of its JSON, objects in the bucket, files on hosts, entries of the journal, points at which tests kill it. Scripts,
//! environments that stand and older versions rely on them, so a change shows here as a changed snapshot.

use infra::effects::cloud::s3::Bucket;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use testkit::access;
use testkit::world::World;
use tokio::runtime::Runtime;

/// Checks what the world has printed, stored and reached so far against the snapshots.
pub fn is_kept(world: &World) {
    let mut shapes: BTreeMap<String, Value> = BTreeMap::new();
    for (command, code, json) in world.json_answers() {
        let shape = shape(&json);
        let command = format!("{command}, exit code {code}");
        shapes
            .entry(command)
            .and_modify(|known| *known = merged(known, &shape))
            .or_insert(shape);
    }
    assert_shapes("keys of json", &serde_json::to_value(shapes).unwrap());

    let points = std::fs::read_to_string(world.fault_log()).unwrap();
    insta::assert_snapshot!("fault points", normal_lines(points.lines()));

    let runtime = Runtime::new().unwrap();
    let (cloud, names) = runtime.block_on(access::environment());
    let bucket = Bucket::new(&cloud, names.bucket());
    let listed = runtime.block_on(bucket.list("")).unwrap();
    let keys: Vec<String> = listed.into_iter().map(|object| object.key).collect();
    insta::assert_snapshot!(
        "objects",
        keys.iter()
            .map(|key| object(key))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join("\n")
    );
    let read = |key: &str| runtime.block_on(bucket.get(key)).unwrap().unwrap().body;
    let mut stored = BTreeMap::new();
    for key in keys.iter().filter(|key| key.ends_with(".json")) {
        let shape = shape(&serde_json::from_slice(&read(key)).unwrap());
        stored
            .entry(object(key))
            .and_modify(|known| *known = merged(known, &shape))
            .or_insert(shape);
    }
    assert_shapes("stored json", &serde_json::to_value(stored).unwrap());

    let engine = world.engine();
    let folders = format!("/etc/infra /etc/{engine} /usr/local/sbin /usr/local/lib/infra /etc/systemd/system");
    let script = format!("find {folders} -type f ! -name infra-sandbox-* -exec stat -c %A:%U:%G:%n {{}} +");
    for host in ["master", "replica"] {
        let found = world
            .infra(&["ssh", host, "--", "sudo", "sh", "-c", &format!("'{script}'")])
            .exits(0);
        // The sandbox has a unit of its own there, for a knob. The snapshot has the names of Redis; those of Valkey differ in nothing else.
        let found = found.output().replace("valkey", "redis");
        insta::assert_snapshot!(format!("files on the {host}"), normal_lines(found.lines()));
    }
}

/// Holds shapes against a snapshot. One of them may know more than the other: in one run a list may be empty, or a field null.
fn assert_shapes(name: &str, found: &Value) {
    let file = format!("tests/journey/snapshots/journey__contract__{name}.snap");
    let snapshot = std::fs::read_to_string(file).unwrap_or_default();
    let known = snapshot
        .split_once("\n---\n")
        .map(|(_, known)| known)
        .unwrap_or_default();
    let known = serde_json::from_str(known).unwrap_or_default();
    let mut shapes = with_known(found, &known);
    // The order of the runs would decide the order of keys otherwise.
    shapes.sort_all_objects();
    insta::assert_json_snapshot!(name, shapes);
}

/// Keys that only some runs see: a server has an error while it does not answer, as after a reboot, and only Redis
/// counts keys whose fields expire.
const SOMETIMES: &[&str] = &["error", "expiring_fields"];

/// Returns the shape that was found, with what is known wherever the two do not contradict each other.
fn with_known(found: &Value, known: &Value) -> Value {
    match (found, known) {
        (Value::Object(found), Value::Object(known)) => {
            let filled = found.iter().map(|(key, value)| {
                let value = known
                    .get(key)
                    .map_or_else(|| value.clone(), |known| with_known(value, known));
                (key.clone(), value)
            });
            let unseen = known
                .iter()
                .filter(|(key, _)| SOMETIMES.contains(&key.as_str()) && !found.contains_key(*key));
            filled
                .chain(unseen.map(|(key, value)| (key.clone(), value.clone())))
                .collect()
        }
        (Value::Array(found), Value::Array(known)) => match (found.first(), known.first()) {
            (Some(found), Some(known)) => Value::Array(vec![with_known(found, known)]),
            _ => Value::Array(known.clone()),
        },
        (found, known) if !known.is_null() && (found == "null" || known == "null") => known.clone(),
        (Value::String(found), Value::String(known))
            if found
                .split(" or ")
                .all(|kind| known.split(" or ").any(|other| other == kind)) =>
        {
            known.clone().into()
        }
        (found, _) => found.clone(),
    }
}

/// Returns the kind of value under each key; elements of a list count as one.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "boolean".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "text".into(),
        Value::Array(elements) => {
            let shapes = elements.iter().map(shape);
            Value::Array(shapes.reduce(|one, other| merged(&one, &other)).into_iter().collect())
        }
        Value::Object(object) => {
            let mut shapes = Map::new();
            for (key, value) in object {
                let shape = shape(value);
                let known = shapes.entry(normal(key)).or_insert_with(|| shape.clone());
                *known = merged(known, &shape);
            }
            Value::Object(shapes)
        }
    }
}

fn merged(one: &Value, other: &Value) -> Value {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut all = one.clone();
            for (key, shape) in other {
                let known = all.entry(key).or_insert_with(|| shape.clone());
                *known = merged(known, shape);
            }
            Value::Object(all)
        }
        (Value::Array(one), Value::Array(other)) => {
            let elements = one.iter().chain(other).cloned();
            Value::Array(elements.reduce(|one, other| merged(&one, &other)).into_iter().collect())
        }
        (Value::Array(_) | Value::Object(_), Value::String(null)) if null == "null" => one.clone(),
        (Value::String(null), Value::Array(_) | Value::Object(_)) if null == "null" => other.clone(),
        (one, other) => {
            let words = |value: &Value| -> BTreeSet<String> {
                let text = value.as_str().map_or_else(|| value.to_string(), String::from);
                text.split(" or ").map(String::from).collect()
            };
            let all: Vec<String> = words(one).union(&words(other)).cloned().collect();
            all.join(" or ").into()
        }
    }
}

fn normal_lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines: BTreeSet<String> = lines.map(normal).collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

/// An object's name; a base that is kept for ever has a class of its own, which only some runs see. An id that happens
/// to have no letters is an id too.
fn object(key: &str) -> String {
    normal(key)
        .replace("/kept/", "/CLASS/")
        .replace("-master-N/", "-master-ID/")
}

/// Replaces what differs from run to run: words of digits, ids in hexadecimal, addresses.
fn normal(text: &str) -> String {
    text.split_inclusive(|at: char| !(at.is_alphanumeric() || matches!(at, '-' | '.' | '_')))
        .map(|word| {
            let name = word.trim_end_matches(|at: char| !(at.is_alphanumeric() || matches!(at, '-' | '.' | '_')));
            let parts: Vec<String> = name
                .split(['-', '.', '_'])
                .map(|part| normal_part(part).into())
                .collect();
            let separators: Vec<&str> = name.matches(['-', '.', '_']).collect();
            let mut normal = String::new();
            for (at, part) in parts.iter().enumerate() {
                normal.push_str(part);
                normal.push_str(separators.get(at).copied().unwrap_or_default());
            }
            normal + &word[name.len()..]
        })
        .collect()
}

fn normal_part(part: &str) -> &str {
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    let is_hexadecimal = part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_time = part.len() > 8 && digits * 3 > part.len() * 2;
    match () {
        () if digits > 0 && digits == part.trim_end_matches('Z').len() => "N",
        // The class of a base depends on the time of day.
        () if matches!(part, "hourly" | "daily" | "monthly") => "CLASS",
        () if (is_hexadecimal && digits > 0 && part.len() >= 8) || is_time => "ID",
        () => part,
    }
}

#[test]
fn what_differs_from_run_to_run_is_left_out() {
    assert_eq!(normal("before POST /apps/demo/dynos"), "before POST /apps/demo/dynos");
    assert_eq!(
        normal("backups/production/20261129T010203Z-0a1b2c3d4e5f/base.00001.zst"),
        "backups/production/ID-ID/base.N.zst"
    );
    assert_eq!(normal("after ec2 i-0f123456789abcdef"), "after ec2 i-ID");
    let (one, other) = (
        shape(&serde_json::json!({"a": [1], "b": null})),
        shape(&serde_json::json!({"a": ["x"], "b": {"c": 1}})),
    );
    assert_eq!(
        merged(&one, &other),
        serde_json::json!({"a": ["number or text"], "b": {"c": "number"}})
    );
    let known = serde_json::json!({"a": ["number"], "b": "null or number", "c": "text"});
    let found = |text: &str| with_known(&serde_json::from_str(text).unwrap(), &known);
    assert_eq!(found(r#"{"a": [], "b": "null", "c": "text"}"#), known);
    assert_ne!(found(r#"{"a": [], "b": "text", "c": "text"}"#), known);
    assert_ne!(found(r#"{"a": [], "b": "null"}"#), known);
}
